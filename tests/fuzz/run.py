"""Fuzz a target with atheris (libFuzzer for Python), from the kept corpus on: `make fuzz`.

    python tests/fuzz/run.py TARGET SECONDS [--keep]

What reaches new code is merged into tests/fuzz/corpus/TARGET with --keep: minimised, none twice, small. What
broke a property lies there as crash-…, slow-…, oom-… or timeout-…, whatever the options: fix the bug, and
leave the file, as found-WHAT, for test_corpus.py. Exit code 0: nothing was found.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LONGEST = 2048
"""Bytes of one input: what is wrong with a longer one is wrong with a short one, but for sizes
(test_hostile.py).
"""
KEPT = 96 * 1024
"""Bytes that are kept of one target's corpus."""
SECONDS_EACH = 10
MEGABYTES = 2048
MARKS = ("crash-", "slow-", "oom-", "timeout-", "leak-", "found-")
"""What files are called that are kept whatever they reach: libFuzzer's names for what it finds, and ours."""


def main() -> int:
    """Run the campaign for the target and the time that the command line names."""
    target, seconds, *options = sys.argv[1:]
    kept = os.path.join(HERE, "corpus", target)
    os.makedirs(kept, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pybuild-fuzz-") as room:
        found, merged = f"{room}/found", f"{room}/merged"
        for path in (found, merged):
            os.mkdir(path)
        fuzzer = _Fuzzer(room, target)
        words = _dictionary(f"{room}/words", target)
        code = fuzzer.run(f"-max_total_time={seconds}", words, f"-artifact_prefix={kept}/", found, kept)
        if code == 0 and "--keep" in options:
            code = fuzzer.run("-merge=1", merged, kept, found)
            if code == 0 and os.listdir(merged):
                _keep(merged, kept)
    return 1 if code else 0


class _Fuzzer:
    """The fuzzer of a target, as a program: libFuzzer starts itself anew to merge."""

    def __init__(self, room: str, target: str) -> None:
        self._path = f"{room}/fuzzer"
        words = (sys.executable, os.path.abspath(__file__), "--child", target, self._path)
        with open(self._path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        os.chmod(self._path, 0o755)

    def run(self, *arguments: str) -> int:
        """Run it with options of libFuzzer, and return its exit code."""
        limits = (f"-max_len={LONGEST}", f"-timeout={SECONDS_EACH}", f"-rss_limit_mb={MEGABYTES}")
        return subprocess.run([self._path, *limits, *arguments], check=False).returncode


def child(target: str, arguments: list[str]) -> None:
    """Be the fuzzer: libFuzzer takes `arguments`, the first of which is the program, and never comes back."""
    import atheris  # type: ignore[import-untyped, unused-ignore]

    sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
    with atheris.instrument_imports(include=["builder", "cache", "grammar"]):
        from tests.fuzz.targets import TARGETS

    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


def _dictionary(path: str, target: str) -> str:
    """Write the words of the target's language, and return the option that names them."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
    from tests.fuzz.words import WORDS

    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{_quoted(word)}\n" for word in WORDS[target])
    return f"-dict={path}"


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def _keep(merged: str, kept: str) -> None:
    """Make the minimised corpus the kept one, but for what broke something: that stays as it is."""
    for name in os.listdir(kept):
        if not name.startswith(MARKS):
            os.unlink(os.path.join(kept, name))
    size = 0
    for path in sorted((os.path.join(merged, name) for name in os.listdir(merged)), key=os.path.getsize):
        size += os.path.getsize(path)
        if size > KEPT:
            break
        with open(path, "rb") as file:
            name = hashlib.sha256(file.read()).hexdigest()[:16]
        shutil.copyfile(path, os.path.join(kept, name))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
