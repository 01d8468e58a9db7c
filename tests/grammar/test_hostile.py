"""Recipes that want to do harm by their size: refused, or read in bounded memory, by every command that
reads one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEGA = 1_000_000
BYTES = 3 << 29
"""Of address space, for the interpreter, its libraries and all that it makes of a recipe."""
SECONDS = 60
"""Of processor time for one command: no measure of speed, but the end of what would never end."""

CASES: dict[str, Callable[[], str]] = {
    "deep nesting": lambda: "ENV A=" + "${a:-" * 100_000 + "x" + "}" * 100_000,
    "deep nesting, unclosed": lambda: "COPY <<E /x\n" + "${a:-" * 100_000 + "\nE",
    "deep commands": lambda: "RUN " + "$(" * 100_000 + ")" * 100_000,
    "deep JSON": lambda: "CMD " + "[" * 100_000 + "]" * 100_000,
    "deep ONBUILD": lambda: "ONBUILD " * 100_000 + "RUN x",
    "a million continuations": lambda: "RUN x" + " \\\n x" * MEGA,
    "many continuations": lambda: "RUN x" + " \\\n x" * 200_000,
    "a million comments in an instruction": lambda: "RUN x \\\n" + "# c\n" * MEGA + "y",
    "a heredoc of 100 MB": lambda: "RUN <<E\n" + ("y" * 99 + "\n") * MEGA + "E",
    "a large heredoc": lambda: "COPY <<E /x\n" + ("$y" * 49 + "\n") * 30_000 + "E",
    "a million heredocs": lambda: "COPY <<E /x\nE\n" * MEGA,
    "many heredocs in a line": lambda: "COPY " + "<<E " * 30_000 + "/x/\n" + "E\n" * 30_000,
    "a line of 100 MB": lambda: "RUN " + "x" * 100 * MEGA,
    "a long line": lambda: "RUN " + "x " * 5 * MEGA,
    "five million words": lambda: "COPY " + "x " * 5 * MEGA + "/x/",
    "four million strings": lambda: "CMD [" + ",".join(['""'] * 4 * MEGA) + "]",
    "a million stages": lambda: "FROM scratch\n" * MEGA,
    "many stages": lambda: "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(5000)),
    "a million arguments": lambda: "".join(f"ARG a{n}\n" for n in range(MEGA)),
    "a million arguments in a line": lambda: "ARG" + "".join(f" a{n}" for n in range(MEGA)),
    "each variable of the one before": lambda: "".join(f"ENV a{n}=$a{n - 1}\n" for n in range(4000)),
    "every RUN has all variables": lambda: "".join(f"ARG a{n}={n}\nRUN x\n" for n in range(2500)),
    "a value that doubles": lambda: "ENV a=" + "x" * 99 + "\nENV a=$a$a" * 60,
    "a long value, used often": lambda: "ENV a=" + "x" * 9 * MEGA + "\nCOPY " + "$a " * 10_000 + "/x/",
    "a long value, in many documents": lambda: "ENV a=" + "x" * 9 * MEGA + "\nCOPY <<E /x\n$a\nE" * 1000,
    "a hundred thousand flags": lambda: "COPY " + "--exclude=x " * 100_000 + "a /x/",
    "a hundred thousand options": lambda: "RUN --mount=" + "type=bind," * 100_000 + "target=/x true",
    "all ports, often": lambda: "EXPOSE " + "1-65535 " * 1000,
    "all ports, in many lines": lambda: "EXPOSE 1-65535\n" * 3000,
    "a pattern of stars": lambda: f"ENV a={'a' * 20_000}\nENV b=${{a//{'*a' * 10_000}b/x}}",
    "a hundred thousand commands": lambda: "RUN " + "a | b && " * 20_000 + "c",
    "a million lines of nonsense": lambda: "x\n" * (MEGA - 5),
    "comments that skip": lambda: "# pybuild: skip=NoSuchRule\n" * 20_000 + "RUN sudo x",
    "a lone surrogate": lambda: "RUN echo \udc80\udcff",
    "a NUL byte": lambda: "RUN echo \0",
}
RUNNER = """
import json, resource, sys
from builder.cli import run
for arguments in json.loads(sys.argv[1]):
    try:
        code = run(arguments)
    except SystemExit as error:
        code = error.code
    print(f"\\n=== {arguments[0]}: {code}", flush=True)
"""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_or_read_in_bounded_memory(case: str, tmp_path: Path) -> None:
    """`check`, `fmt`, `plan` and `build` say what is wrong in a few lines, or do it; none of them ends in
    a traceback.
    """
    recipe = tmp_path / "Dockerfile"
    text = CASES[case]()
    recipe.write_bytes(f"FROM scratch AS s0\n{text}\n".encode("utf-8", "surrogateescape"))
    (tmp_path / "context").mkdir()
    path, context, root = str(recipe), str(tmp_path / "context"), f"--root={tmp_path}/store"
    commands = [["check", path], ["fmt", "--check", path], ["plan", root, path, context]]
    commands.append(["build", root, "--progress=quiet", path, context])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(commands)],
        preexec_fn=limited,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
    )
    shown = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, shown[-3000:]
    for command in commands:
        assert any(f"=== {command[0]}: {code}" in shown for code in (0, 1, 2)), shown[-3000:]
    for word in ("Traceback", "RecursionError", "MemoryError", "internal error"):
        assert word not in shown, shown[-3000:]
    assert max(map(len, shown.split("\n"))) < 2000
