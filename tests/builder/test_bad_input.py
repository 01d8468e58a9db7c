"""Whatever is wrong is told in one message with code, place and hint; and the store stays sound.

Through the command itself, as users meet it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.build_fixtures.project import REPOSITORY, Project

BUSYBOX = shutil.which("busybox") or "busybox"


@dataclass(frozen=True)
class Told:
    """What the command said."""

    exit_code: int
    text: str

    @property
    def code(self) -> str:
        found = re.search(r"^error: .*\[([a-z]+/[a-z-]+)\]$", self.text, re.M)
        assert found, self.text
        return found[1]

    @property
    def place(self) -> str:
        found = re.search(r"^ +at (?:.*/)?([^/:]+:\d+):\d+$", self.text, re.M)
        return found[1] if found else ""

    @property
    def hint(self) -> str:
        found = re.search(r"^ +hint: (.*)$", self.text, re.M)
        return found[1] if found else ""


def told(done: subprocess.CompletedProcess[str]) -> Told:
    text = done.stderr
    assert "Traceback" not in text, text
    assert text.count("\nerror: ") + text.startswith("error: ") == 1, f"one message: {text}"
    return Told(done.returncode, text)


def build(project: Project, *words: str) -> Told:
    return told(project.command(*words, "--progress=plain"))


def sound(project: Project) -> None:
    """The store holds only whole layers, nothing unfinished, and builds."""
    if os.path.exists(os.path.join(project.store_root, "pybuild.db")):
        assert project.unsound() == []
    assert project.build("FROM base\nRUN echo sound\n", name="sound.rec").outcomes[-1] in (
        "ran",
        "same",
        "cached",
    )


RECIPES = [
    # text, exit code, code, line of the place, what the hint or message says
    ("this is no recipe at all\n", "recipe/unknown-instruction", 1, ""),
    ("", "recipe/empty", 1, ""),
    ("# only a comment\n\n", "recipe/empty", 3, ""),
    (b"\x00\x01\xff\xfe\x80binary", "recipe/not-text", 1, ""),
    ("FROM base\nCOPPY a b\n", "recipe/unknown-instruction", 2, "Did you mean COPY?"),
    ("FROM base\nRUN echo ${unclosed\nCOPY a ${b\n", "recipe/expansion", 3, ""),
    ("FROM base\nCOPY onlyone\n", "recipe/syntax", 2, ""),
    ("RUN true\nFROM base\n", "recipe/no-stage", 1, ""),
    ("FROM base\nCOPY --chwon=1 a b\n", "recipe/unknown-flag", 2, "Did you mean --chown?"),
    ("FROM base\nRUN <<EOF\nnever closed\n", "recipe/heredoc", 2, ""),
    ("FROM base\nCOPY --from=7 a b\n", "recipe/unknown-stage", 2, "one stage"),
    ("FROM base\nCOPY missing /x\n", "copy/missing", 2, "relative to the context"),
    ("FROM base\nCOPY ../../outside /x\n", "copy/missing", 2, "no further than to its top"),
    ("FROM base\nCOPY hidden /x\n", "copy/ignored", 2, "with !"),
    ("FROM base\nCOPY [ab /x\n", "copy/pattern", 2, ""),
    ("FROM base\nCOPY there /bin\nCOPY . /bin/sh/\n", "copy/onto-file", 3, ""),
    ("FROM base\nEXPOSE 99999999\n", "recipe/port", 2, ""),
    ("FROM base\nSTOPSIGNAL SIGNOTHING\n", "recipe/signal", 2, ""),
    ("FROM ./nowhere.rec\n", "recipe/unreadable", 1, ""),
    ("FROM ./app.rec\n", "recipe/cycle", 1, ""),
    ("FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nCOPY --from=x / /\n", "recipe/cycle", 4, ""),
    ("FROM $EMPTY\n", "from/empty", 1, "--build-arg"),
    ("FROM nonsense://x\n", "recipe/transport", 1, "Known are"),
    ("FROM UPPER/Case:x\n", "from/name", 1, "lower case"),
    ("FROM base\nTEST --testinfra=nowhere.py\n", "test/missing", 2, "relative to the recipe"),
]


@pytest.mark.parametrize(
    ("text", "code", "line", "says"), RECIPES, ids=[f"{r[1]}-{n}" for n, r in enumerate(RECIPES)]
)
def test_a_recipe_that_is_wrong(project: Project, text: str | bytes, code: str, line: int, says: str) -> None:
    project.write("there")
    project.write("hidden")
    project.write(".dockerignore", "hidden\n")
    recipe = project.write("app.rec", text) if isinstance(text, bytes) else project.recipe(text)
    found = build(project, recipe)
    assert (found.exit_code, found.code) == (2, code), found.text
    assert found.place == f"app.rec:{line}", found.text
    assert says in found.text
    sound(project)


STEPS = [
    ("RUN exit 42\n", "step/failed", "exit code 42"),
    ('RUN ["/no/such/program"]\n', "step/not-found", "/no/such/program"),
    ("RUN no-such-program\n", "step/failed", "exit code 127"),
    ('SHELL ["/bin/bash", "-c"]\nRUN true\n', "step/not-found", "/bin/bash"),
    ('RUN ["/etc/passwd"]\n', "step/not-executable", "/etc/passwd"),
    ("USER nobody-here\nRUN true\n", "step/user", "nobody-here"),
    ("COPY --chown=nobody-here there /x\n", "step/user", "nobody-here"),
    ("WORKDIR /x\nTEST --name=it exit 7\n", "test/failed", "exit code 7"),
]


@pytest.mark.parametrize(("lines", "code", "says"), STEPS, ids=[f"{s[1]}-{n}" for n, s in enumerate(STEPS)])
def test_a_step_that_fails(project: Project, lines: str, code: str, says: str) -> None:
    project.write("there")
    recipe = project.recipe(f"FROM base\nRUN echo before\n{lines}")
    found = build(project, recipe, "-t", "named")
    assert (found.exit_code, found.code) == (1, code), found.text
    assert says in found.text
    assert found.place == f"app.rec:{2 + lines.count(chr(10))}", found.text
    assert "named" not in project.command("images").stdout
    sound(project)


def test_a_failing_command_s_output_is_shown(project: Project) -> None:
    recipe = project.recipe("FROM base\nRUN echo to-out; echo to-err >&2; exit 3\n")
    found = build(project, recipe)
    assert "to-out" in found.text
    assert "to-err" in found.text
    assert "2 | RUN" in found.text


@pytest.mark.parametrize("made", ["missing", "directory", "fifo", "socket", "unreadable link", "device"])
def test_a_recipe_that_is_no_file(project: Project, made: str) -> None:
    path = project.path("app.rec")
    if made == "directory":
        os.mkdir(path)
    elif made == "fifo":
        os.mkfifo(path)
    elif made == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
    elif made == "unreadable link":
        os.symlink("app.rec", path)
    elif made == "device":
        os.symlink("/dev/zero", path)
    found = build(project, "-f", path, project.context)
    assert (found.exit_code, found.code) == (2, "recipe/unreadable")
    assert "app.rec" in found.text


COMMANDS = [
    (["--no-such-option", "app.rec"], "usage/error"),
    (["app.rec", "--no-cahce"], "usage/error"),
    (["bulid"], "usage/command"),
    (["app.rec", "there"], "context/unreadable"),
    (["app.rec", "/no/such/context"], "context/unreadable"),
    (["app.rec", ".", "more"], "usage/error"),
    (["app.rec", "--target", "nothing"], "stage/unknown"),
    (["app.rec", "--platform", "a/b/c/d"], "usage/platform"),
    (["app.rec", "--build-arg", "=x"], "usage/build-arg"),
    (["app.rec", "--timestamps", "yesterday"], "usage/timestamps"),
    (["app.rec", "-t", "UPPER"], "usage/name"),
    (["app.rec", "--label", "=x"], "usage/pair"),
    (["app.rec", "--output", "type=what"], "usage/output"),
    (["app.rec", "--iidfile", "/no/such/dir/file"], "usage/write"),
]


@pytest.mark.parametrize(("words", "code"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_a_command_line_that_is_wrong(project: Project, words: Sequence[str], code: str) -> None:
    project.write("there")
    project.recipe("FROM base\nCOPY there /there\n")
    found = build(project, *words)
    assert (found.exit_code, found.code) == (2, code), found.text
    if code == "usage/error" and "cahce" in " ".join(words):
        assert found.hint == "Did you mean --no-cache?"
    sound(project)


# Hosts that cannot do it


def in_namespace(project: Project, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in mounts of its own: whatever it mounts is gone with it."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script],
        cwd=project.context,
        env={
            **project.environment,
            "PYBUILD": f"{sys.executable} -m builder.main",
            "HOME": project.directory,
            "DIR": project.directory,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_privileges_and_without_user_namespaces(somebodys: str) -> None:
    found = told(without_privileges(somebodys, 0))
    assert found.exit_code == 4, found.text
    assert found.code == "host/user-namespace", found.text
    assert found.hint, found.text


def test_without_privileges_but_with_user_namespaces(somebodys: str) -> None:
    """Nothing but a single id: what needs no step is built."""
    done = without_privileges(somebodys, 100)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def somebodys() -> Iterator[str]:
    """A directory with a recipe, and a store in it that is somebody else's than root's."""
    with tempfile.TemporaryDirectory() as directory:
        # pytest's own directories are for root alone.
        os.chmod(directory, 0o755)
        with open(f"{directory}/app.rec", "w") as file:
            file.write("FROM scratch\nCOPY app.rec /there\n")
        os.mkdir(f"{directory}/store")
        os.chown(f"{directory}/store", 65534, 65534)
        yield directory


def without_privileges(directory: str, user_namespaces: int) -> subprocess.CompletedProcess[str]:
    """Build as somebody else than root, without capabilities.

    The limit is that of a user namespace that is made for the test, and that all of this host's users are in.
    """
    drop = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all"
    script = f"""
        echo {user_namespaces} > /proc/sys/user/max_user_namespaces
        exec {drop} {sys.executable} -m builder.main app.rec --root store --progress=plain
    """
    holder = subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE)
    try:
        here = os.readlink("/proc/self/ns/user")
        while os.readlink(f"/proc/{holder.pid}/ns/user") == here:
            time.sleep(0.01)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{holder.pid}/{name}", "w") as file:
                file.write("0 0 65536")
        return subprocess.run(
            ["nsenter", "--user", "--target", str(holder.pid), "sh", "-euc", script],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": REPOSITORY, "HOME": directory, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        holder.communicate()


def test_a_store_on_what_cannot_be_an_upperdir(project: Project) -> None:
    """An overlay as the store's file system, as in many containers."""
    recipe = project.recipe("FROM base\nRUN echo x > /x\n")
    done = in_namespace(
        project,
        f"""
        mkdir $DIR/l $DIR/u $DIR/w $PYBUILD_ROOT
        mount -t overlay overlay -o lowerdir=$DIR/l,upperdir=$DIR/u,workdir=$DIR/w $PYBUILD_ROOT
        exec $PYBUILD {recipe} --progress=plain
        """,
    )
    found = told(done)
    assert found.exit_code == 4, found.text
    assert found.code.startswith(("store/", "host/")), found.text
    assert found.hint, found.text


@pytest.mark.parametrize("full", ["in a command", "in a copy", "already"])
def test_a_full_disk(project: Project, full: str) -> None:
    project.write("big", b"x" * (40 << 20) if full == "in a copy" else b"")
    text = "FROM base\nCOPY big /big\n" if full == "in a copy" else "FROM base\nRUN cat /dev/zero > /big\n"
    recipe = project.recipe(text)
    fill = (
        "dd if=/dev/zero of=$PYBUILD_ROOT/filler bs=64k >/dev/null 2>&1 || true"
        if full == "already"
        else "true"
    )
    small = project.recipe("FROM base\nRUN echo fits > /x\n", "small.rec")
    done = in_namespace(
        project,
        f"""
        mkdir -p $PYBUILD_ROOT
        mount -t tmpfs -o size=24m tmpfs $PYBUILD_ROOT
        $PYBUILD {small} --progress=quiet >/dev/null
        {fill}
        code=0; $PYBUILD {recipe} --progress=plain || code=$?
        rm -f $PYBUILD_ROOT/filler
        echo "code $code"
        $PYBUILD {small} --progress=plain 2>/dev/null
        ls -A $PYBUILD_ROOT/tmp
        """,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "error: " in done.stderr, done.stderr
    code, image = done.stdout.splitlines()[0], done.stdout.splitlines()[1:]
    # A command that meets a full disk fails as a command: its own message says so.
    assert code == ("code 1" if full == "in a command" else "code 4"), done.stdout + done.stderr
    assert "No space left" in done.stderr or "[store/full]" in done.stderr, done.stderr
    assert len(image) == 1, "the small recipe builds again, and nothing is left in tmp/"
    assert image[0].startswith("sha256:")


# Stores that were damaged


def layers(project: Project) -> list[str]:
    top = os.path.join(project.store_root, "overlay2")
    return [os.path.join(top, name) for name in os.listdir(top) if name != "l"]


BUILT = "FROM base\nRUN echo one > /one\nRUN echo two > /two; cat /one\n"


@pytest.mark.parametrize("damage", ["gone", "half", "diff gone", "changed"])
def test_a_layer_that_is_damaged(project: Project, damage: str) -> None:
    """What is missing is made again; or the error says what is wrong, and what to do."""
    project.command(project.recipe(BUILT), check=True)
    for layer in layers(project):
        if damage == "gone":
            shutil.rmtree(layer)
        elif damage == "half":
            os.unlink(os.path.join(layer, "committed"))
        elif damage == "diff gone":
            shutil.rmtree(os.path.join(layer, "diff"))
        elif os.path.exists(f"{layer}/diff/one"):
            with open(f"{layer}/diff/one", "w") as file:
                file.write("tampered with")
    again = project.command(project.recipe(BUILT + "RUN cat /two\n"), "--progress=plain")
    assert "Traceback" not in again.stderr
    if damage in ("gone", "half", "changed"):
        assert again.returncode == 0, again.stderr
    else:
        found = told(again)
        assert found.exit_code == 4, found.text
        assert found.code.startswith(("store/", "host/")), found.text
    if damage == "changed":
        verified = [fault for fault in project.unsound() if "does not" in fault or "hash" in fault or fault]
        assert len(verified) == 1, "a layer that was tampered with is found by its digest"


@pytest.mark.parametrize("damage", ["garbage", "empty", "gone"])
def test_a_layerdb_entry_that_is_damaged(project: Project, damage: str) -> None:
    recipe = project.recipe(BUILT)
    project.command(recipe, check=True)
    top = os.path.join(project.store_root, "layerdb/sha256")
    for name in os.listdir(top):
        for part in ("diff", "cache-id"):
            path = os.path.join(top, name, part)
            if damage == "gone":
                os.unlink(path)
            else:
                with open(path, "w") as file:
                    file.write("" if damage == "empty" else "../../../etc")
    again = project.command(recipe, "--progress=plain")
    assert "Traceback" not in again.stderr
    assert again.returncode in (0, 4), again.stderr
    if again.returncode == 4:
        assert told(again).hint


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_database_that_is_damaged(project: Project, damage: bytes) -> None:
    """It is an index of what is there: the build goes on with a new one, and says so."""
    recipe = project.recipe(BUILT)
    first = project.command(recipe, "--timestamps=5", check=True).stdout
    for name in os.listdir(project.store_root):
        if name.startswith("pybuild.db-"):
            os.unlink(os.path.join(project.store_root, name))
    with open(os.path.join(project.store_root, "pybuild.db"), "wb") as file:
        file.write(damage)
    again = project.command(recipe, "--timestamps=5", "--progress=plain")
    assert "Traceback" not in again.stderr
    assert again.returncode == 0, again.stderr
    assert again.stdout == first
    with sqlite3.connect(os.path.join(project.store_root, "pybuild.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_store_that_is_none(project: Project) -> None:
    recipe = project.recipe(BUILT)
    project.write("file")
    for root, code in {project.path("file"): 4, "/proc/nowhere": 4}.items():
        found = told(project.command(recipe, "--root", root, "--progress=plain"))
        assert found.exit_code == code, found.text
    os.makedirs(os.path.join(project.directory, "mine"))
    project.write("../mine/precious", "x")
    found = told(
        project.command(recipe, "--root", os.path.join(project.directory, "mine"), "--progress=plain")
    )
    assert found.exit_code == 4
    assert os.listdir(os.path.join(project.directory, "mine")) == ["precious"]


def test_an_ignore_file_that_is_wrong(project: Project) -> None:
    project.write("there")
    project.write(".dockerignore", "a[\n")
    found = build(project, project.recipe("FROM base\nCOPY there /there\n"))
    assert (found.exit_code, found.code) == (2, "context/ignore")
    assert ".dockerignore" in found.text


def test_a_fifo_in_the_context_makes_nobody_wait(project: Project) -> None:
    os.mkfifo(project.path("fifo"))
    recipe = project.recipe("FROM base\nCOPY fifo /f\nCOPY . /all/\n")
    assert project.command(recipe).returncode == 0
    os.mkfifo(project.path(".dockerignore"))
    done: list[subprocess.CompletedProcess[str]] = []
    waiting = threading.Thread(target=lambda: done.append(project.command(recipe)))
    waiting.start()
    waiting.join(60)
    assert done, "it waits for somebody who writes to the ignore file"
    assert told(done[0]).code == "context/ignore"
