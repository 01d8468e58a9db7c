"""--secret: what a step may know and no image, cache or log must. Values are read when the first step runs,
and kept in memory alone.

What the option takes is as with `docker build` (buildx, util/buildflags/secrets.go; BuildKit,
session/secrets/secretsprovider).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 500 << 10
"""BuildKit's MaxSecretSize, in bytes."""

_NAMES = {"src": "source"}


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where the secret `id` comes from: the file `path`, or the environment variable `variable`."""

    id: str
    path: str = ""
    variable: str = ""


def parse_secret(text: str) -> SecretSource:
    """Return what the value of a --secret option describes. Raises UsageError (usage/secret)."""
    given: dict[str, str] = {}
    for field in _fields(text):
        name, mark, value = field.partition("=")
        name = _NAMES.get(name.strip().lower(), name.strip().lower())
        if not mark or name not in ("id", "source", "env", "type"):
            raise _malformed(text)
        given[name] = value
    name, path, variable = given.get("id", ""), given.get("source", ""), given.get("env", "")
    if not name or given.get("type", "file") not in ("file", "env") or (path and variable):
        raise _malformed(text)
    if given.get("type") == "env" and not variable:
        path, variable = "", path or name
    hint = None
    if not path and not variable:
        path, variable = ("", name) if name in os.environ and "type" not in given else (name, "")
        hint = f"say where it comes from: --secret id={name},src=FILE or --secret id={name},env=VARIABLE"
    if path:
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.exists(path):
            raise UsageError(f"--secret id={name}: there is no file {path}", code="usage/secret", hint=hint)
    return SecretSource(name, path, variable)


def _fields(text: str) -> list[str]:
    """Split at commas; a field that holds one stands in double quotes, as with docker."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration):
        raise _malformed(text) from None


def _malformed(text: str) -> UsageError:
    return UsageError(
        f"--secret {text!r} is malformed",
        code="usage/secret",
        hint="write id=NAME,src=FILE or id=NAME,env=VARIABLE",
    )


class Secrets:
    """The secrets of one build. Every method is safe from several threads at once."""

    def __init__(self, sources: Sequence[SecretSource] = ()) -> None:
        self.mask = Mask()
        self._sources = {source.id: source for source in sources}
        self._values: dict[str, bytes] = {}
        self._lock = Lock()

    def get(self, name: str, *, required: bool) -> bytes | None:
        """Return the secret, None if none of that name was given. Raises UsageError (secret/missing if it is
        `required`, secret/unreadable, secret/too-large).
        """
        source = self._sources.get(name)
        if source is None or (source.variable and source.variable not in os.environ):
            if required:
                raise _missing(name, source)
            # A variable that is not set is an empty secret, as with docker.
            return None if source is None else b""
        with self._lock:
            if name not in self._values:
                value = _read(source)
                self._values[name] = value
                self.mask.add(value)
            return self._values[name]

    def learn(self) -> Mask:
        """Return what has to be masked, all that is known of it before a command prints: a secret that an
        earlier build has left in a layer can be shown by a step that does not ask for it. A pipe is read only
        if a step asks for it.
        """
        if not self._sources:
            return self.mask
        _keep_out_of_dumps()
        for source in self._sources.values():
            try:
                if source.variable or stat.S_ISREG(os.stat(source.path).st_mode):
                    self.get(source.id, required=False)
            except (OSError, UsageError):
                continue  # it is told when a step asks for it
        return self.mask


def _read(source: SecretSource) -> bytes:
    if source.variable:
        value = os.environb.get(os.fsencode(source.variable), b"")
    else:
        try:
            with open(source.path, "rb") as file:
                value = file.read(LARGEST + 1)
        except OSError as error:
            raise UsageError(
                f"cannot read the secret {source.id} from {source.path}: {error.strerror}",
                code="secret/unreadable",
            ) from None
    if len(value) > LARGEST:
        raise UsageError(
            f"the secret {source.id} is larger than {LARGEST >> 10} KiB",
            code="secret/too-large",
            hint="what is that large is rather a file for a bind mount",
        )
    return value


def _missing(name: str, source: SecretSource | None) -> UsageError:
    if source is not None:
        return UsageError(
            f"the secret {name} is required, and {source.variable}, where it comes from, is not set",
            code="secret/missing",
        )
    return UsageError(
        f"the secret {name} is required, and was not given",
        code="secret/missing",
        hint=f"give it: --secret id={name},src=FILE or --secret id={name},env=VARIABLE",
    )


def _keep_out_of_dumps() -> None:
    """Leave no core of this process, from now on: RLIMIT_CORE does not count for handlers (core(5))."""
    from builder import linux

    linux.prctl(linux.PR_SET_DUMPABLE, 0)
