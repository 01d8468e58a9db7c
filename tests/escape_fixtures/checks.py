"""A case, run, and everything that must hold after it."""

from __future__ import annotations

import os
import re
import socket
import subprocess

from tests.escape_fixtures.arena import Arena, Done
from tests.escape_fixtures.case import Case
from tests.escape_fixtures.place import SECRET, Place
from tests.escape_fixtures.ways import Way

MOST_MEMORY = 400 << 10
"""KiB: of the largest process of a command, whatever it was given."""

_HOST = ("/etc/hostname", "/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/resolv.conf")
_KERNEL = ("core_pattern", "modprobe", "hostname", "panic")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CODE = re.compile(r"\[([a-z0-9-]+/[a-z0-9-]+)\]")
# What rich draws with: colours, moves, clearing, the cursor itself, synchronised updates.
_DRAWN = re.compile(r"\x1b\[[0-9;]*[ABCDGHJKmr]|\x1b\[\?(?:25|2026|7)[hl]|\r")
_BUILT = "built"


def try_case(case: Case, arena: Arena, place: Place) -> str:
    """Run a case and see what comes of it. Returns how its builds ended. Raises AssertionError."""
    _lay(case, arena, place)
    outside, host = place.snapshot(), _host()
    ends: list[str] = []
    for number in range(len(case.recipes)):
        name = f"try{number}.rec"
        words = [place.fill(word) for word in case.words]
        done = _run(arena, place, ["build", name, "--root", place.store, *words], case.terminal)
        ends.append(_see(case, place, done, arena.way))
        assert (place.snapshot(), _host()) == (outside, host), "something outside was changed"
    for command in case.commands:
        done = _run(
            arena, place, [place.fill(word) for word in command], case.terminal, place.fill(case.stdin)
        )
        ended = _ended(done, _harmless(case, place, done))
        if not case.recipes:
            ends.append(ended)
        assert (place.snapshot(), _host()) == (outside, host), f"{command}: something outside was changed"
    if os.path.exists(place.store):  # else set-user-ID files of an image are anybody's on the host
        assert os.stat(place.store).st_mode & 0o077 == 0, "others get into the store"
    assert not place.leaks(), "a secret of the host's is in the store"
    return ", ".join(dict.fromkeys(ends))


def _lay(case: Case, arena: Arena, place: Place) -> None:
    """Make all files, and give them to who builds."""
    case.scene(place)
    for number, text in enumerate(case.recipes):
        place.write(f"try{number}.rec", place.fill(text))
    place.write(f"{place.home}/.config/pybuild/pybuild.toml", f'snapshotter = "{arena.way.snapshotter}"\n')
    if arena.user is not None:
        place.give(arena.user.uid)


def _run(arena: Arena, place: Place, words: list[str], terminal: bool, stdin: str = "") -> Done:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": place.home,
        "TMPDIR": place.home,
        "PYBUILD_ROOT": place.store,
        "TERM": "xterm" if terminal else "dumb",
    }
    data = b""
    if stdin:
        with open(stdin, "rb") as file:
            data = file.read()
    return arena.run(words, place.context, env, stdin=data, terminal=terminal)


def _see(case: Case, place: Place, done: Done, way: Way) -> str:
    text = _harmless(case, place, done)
    ended = _ended(done, text)
    codes = case.codes_of(way)
    if codes:
        assert ended in [code or _BUILT for code in codes], f"it ended with {ended}, not {codes}:\n{text}"
    if not {way.who, way.snapshotter} & set(case.otherwise):
        assert case.says in text, f"it does not say {case.says!r}:\n{text}"
    return ended


def _ended(done: Done, text: str) -> str:
    codes = _CODE.findall(text)
    return _BUILT if done.code == 0 else codes[-1] if codes else "no code"


def _harmless(case: Case, place: Place, done: Done) -> str:
    """See to what must hold however a command ends. Return what it showed."""
    raw = done.out + done.err
    text = raw.decode("utf-8", "surrogateescape")
    assert SECRET not in text, f"a secret of the host's was shown:\n{text}"
    assert "ESCAPED:" not in text, text
    assert "Traceback" not in text and "internal error" not in text.lower(), text
    assert "[host/sandbox]" not in text and "[host/os]" not in text, text
    assert done.code in (0, 1, 2, 3, 4, 125), f"exit code {done.code}:\n{text}"
    assert not done.left, f"processes were left: {done.left}"
    assert not place.left(), f"left in tmp/: {place.left()}"
    assert done.peak < MOST_MEMORY, f"{done.peak >> 10} MiB of memory"
    shown = _DRAWN.sub("", text) if case.terminal else text
    found = _CONTROL.search(shown)
    assert found is None, f"a control character: {shown[max(0, found.start() - 60) : found.end() + 60]!r}"
    return text


def _host() -> dict[str, object]:
    """Return what an attack on the host would change first."""
    found: dict[str, object] = {"name": socket.gethostname()}
    for path in (*_HOST, *(f"/proc/sys/kernel/{name}" for name in _KERNEL)):
        if os.path.exists(path):
            with open(path, "rb") as file:
                found[path] = file.read()
    found["/etc"] = sorted(os.listdir("/etc"))
    found["/"] = sorted(os.listdir("/"))
    found["/dev"] = sorted(os.listdir("/dev"))
    return found


def forget(place: Place) -> None:
    """Remove the place, however deep its files are."""
    subprocess.run(["rm", "-rf", place.directory], check=True)
