"""Users and groups as USER names them, looked up in an image's own files (moby/sys, user.GetExecUser;
passwd(5), group(5)).

Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import os
import stat

from builder.errors import StepFailed

_MAX_ID = (1 << 31) - 1
_MAX_FILE = 16 << 20  # an image may bring any file; memory must not depend on it

Identity = tuple[int, int, tuple[int, ...], str]
"""uid, gid, supplementary groups with gid first, home directory."""


def identify(spec: str, passwd: str, group: str) -> Identity:
    """Return who `spec` is: name, uid, name:group, uid:gid; empty for uid 0. passwd and group are the files'
    texts.

    A number needs no entry; its group is then 0 and its home /. Raises StepFailed (step/user) for an unknown
    name.
    """
    name, _, group_name = spec.partition(":")
    uid, gid, home, login = 0, 0, "/", ""
    entry = _entry(passwd, name or "0", 7)
    if entry is not None:
        login, uid, gid, home = entry[0], _number(entry[2]), _number(entry[3]), entry[5] or "/"
    elif name:
        uid = _numeric_id(name, "user", "passwd")
    if group_name:
        found = _entry(group, group_name, 4)
        gid = _number(found[2]) if found is not None else _numeric_id(group_name, "group", "group")
        return uid, gid, (gid,), home
    others = {_number(row[2]) for row in _rows(group, 4) if login and login in row[3].split(",")}
    return uid, gid, (gid, *sorted(others - {gid})), home


def read(path: str) -> str:
    """Return the text of a regular file of at most 16 MiB; empty where there is none.

    What says that it is empty is not read: with some files of /proc (a link leads there, /proc/kmsg) reading
    has effects.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return ""
        return file.read(_MAX_FILE).decode(errors="surrogateescape")


def _rows(text: str, fields: int) -> list[list[str]]:
    """Return the lines as fields, padded: a short line is an entry whose last fields are empty."""
    rows = (line.strip().split(":") for line in text.splitlines())
    return [row + [""] * (fields - len(row)) for row in rows if row[0] and not row[0].startswith("#")]


def _entry(text: str, key: str, fields: int) -> list[str] | None:
    """Return the first entry whose name is `key`, or its number: digits are a number, whoever is called
    so.
    """
    rows = _rows(text, fields)
    if not _is_id(key):
        return next((row for row in rows if row[0] == key), None)
    number = int(key)
    return next((row for row in rows if _is_id(row[2]) and int(row[2]) == number), None)


def _number(field: str) -> int:
    return int(field) if _is_id(field) else 0


def _numeric_id(name: str, what: str, file: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise StepFailed(
            f"unable to find {what} {name}: no matching entries in /etc/{file}",
            status=126,
            code="step/user",
            hint=f"create the {what} in an earlier step, or write its number",
        )
    if not _is_id(name):
        raise StepFailed(f"{what} id {name} is out of range", status=126, code="step/user")
    return int(name)


def _is_id(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 10 and int(field) <= _MAX_ID
