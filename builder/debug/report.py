"""A report about a build that failed: a directory that can be sent to somebody, or kept by a CI system.

It has no secret, as far as they are known here: what is written is masked as a step's output is. Where a
secret cannot be known (its source is gone), what files contain is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from builder.debug.description import as_json, masked_bytes
from builder.errors import UsageError
from builder.events import BuildFailed, Event
from builder.version import VERSION
from cache.failedsteps import held

if TYPE_CHECKING:
    from builder.masking import Mask
    from builder.session import Session
    from cache.failedsteps import FailedStep

DEFAULT = "pybuild-report"
_MARK = "README.md"
_HEAD = "# A build that failed\n"
_TELLING = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)KEY($|_)|(^|_)AUTH($|_)", re.I)
"""Names of variables whose values are left out, whatever they are."""
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_LARGEST_TEXT = 64 << 10
_MOST_TEXTS = 200
_LARGEST_PATCH = 4 << 20
_MOST_PATHS = 100_000


def write_report(
    session: Session,
    failed: FailedStep | None,
    directory: str,
    events: Iterable[tuple[float, Event]] | None,
    args: argparse.Namespace,
) -> None:
    """Write a report to `directory`, in place of an earlier one. `failed` is the step, None if the build
    failed elsewhere; `events` what it told, None for what was kept with the step. `args` are the build's.
    Raises UsageError.
    """
    secrets = _Secrets(args)
    files = _Files(directory, secrets.mask)
    told = tuple(events) if events is not None else ()
    error = next((event for _, event in told if isinstance(event, BuildFailed)), None)
    if events is not None:
        files.write("events.json", as_json(secrets.mask, told).encode())
    elif failed is not None:
        files.write("events.json", session.store.failed_steps.events(failed))
    if failed is not None:
        files.write("log.txt", session.store.failed_steps.log(failed))
        files.write("env.txt", _environment(failed).encode("utf-8", "surrogateescape"))
        with held(session.store.failed_steps, failed):
            _Changes(session, failed, files, texts=secrets.known).write()
    files.write("doctor.txt", _doctor(session).encode())
    files.write(_MARK, _readme(session, failed, error, files.names).encode("utf-8", "surrogateescape"))


class _Secrets:
    """The build's secrets, as far as they can be known now."""

    def __init__(self, args: argparse.Namespace) -> None:
        from builder.secrets import Secrets, parse_secret

        self.known = True
        sources = []
        for text in args.secret:
            try:
                source = parse_secret(text)
            except UsageError:
                self.known = False
                continue
            sources.append(source)
            regular = source.variable in os.environ if source.variable else os.path.isfile(source.path)
            self.known = self.known and regular
        self.mask: Mask = Secrets(sources).learn()


class _Files:
    """The report's directory."""

    def __init__(self, directory: str, mask: Mask) -> None:
        self._directory = directory
        self._mask = mask
        self.names: list[str] = []
        try:
            os.makedirs(directory, exist_ok=True)
            there = os.listdir(directory)
            if there and not self._is_report():
                raise UsageError(
                    f"{directory} is there, and no report: nothing is written to it",
                    code="usage/write",
                    hint="name another directory: --report DIR",
                )
            for name in there:
                os.unlink(os.path.join(directory, name))
        except OSError as error:
            raise UsageError(f"cannot write to {directory}: {error.strerror}", code="usage/write") from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, masked."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(os.path.join(self._directory, name), flags, 0o644)
            with open(fd, "wb") as file:
                file.write(masked_bytes(self._mask, data))
        except OSError as error:
            raise UsageError(
                f"cannot write {self._directory}/{name}: {error.strerror}", code="usage/write"
            ) from None
        self.names.append(name)

    def _is_report(self) -> bool:
        try:
            with open(os.path.join(self._directory, _MARK), encoding="utf-8") as file:
                return file.readline() == _HEAD
        except (OSError, UnicodeDecodeError):
            return False


def _environment(failed: FailedStep) -> str:
    """Return what the step's command saw, a line each."""
    step: dict[str, Any] = failed.more["step"]
    lines = [
        f"user: {step['user'] or 'root'}",
        f"directory: {step['workdir']}",
        f"network: {step['network']}",
        f"platform: {step['platform']}",
        f"below it: {failed.parent or 'nothing'}",
        *(f"mount: {' '.join(f'{k}={v}' for k, v in mount.items() if v)}" for mount in step["mounts"]),
        f"argv: {shlex.join(step['argv'])}",
        *(["script:", *(f"    {line}" for line in step["script"].split("\n"))] if step["script"] else []),
        "",
    ]
    for name, value in step["env"]:
        shown = "***" if _TELLING.search(name) else _USERINFO.sub("***", value)
        lines.append(f"{name}={shown}")
    return "\n".join(lines) + "\n"


class _Changes:
    """Writes which files the step had changed, and how those of text that are small."""

    def __init__(self, session: Session, failed: FailedStep, files: _Files, *, texts: bool) -> None:
        self._store = session.store
        self._failed = failed
        self._files = files
        self._texts = texts

    def write(self) -> None:
        """Write them."""
        from builder.progress.printable import printable
        from cache.compare import changes
        from cache.oci.digest import ChainID

        failed = self._failed
        lower = self._store.layers.lowerdirs(ChainID(failed.parent)) if failed.parent else ()
        upper = self._store.failed_steps.upper(failed)
        found = []
        with contextlib.suppress(OSError):  # somebody is in there, and changes it
            for kind, path in changes(upper, lower):
                found.append((kind, path))
                if len(found) == _MOST_PATHS:
                    break
        self._files.write("diff.txt", "".join(f"{k} {printable(p)}\n" for k, p in found).encode())
        if self._texts:
            patch = self._patch(upper, lower, found)
            self._files.write("diff.patch", patch.encode("utf-8", "surrogateescape"))

    def _patch(self, upper: str, lower: tuple[str, ...], found: list[tuple[Any, str]]) -> str:
        from builder.overlay import Overlay, detached

        roots = [detached(Overlay((upper, *lower)))]
        if lower:
            roots.append(detached(Overlay(lower)))
        try:
            parts, size = [], 0
            for _, path in found:
                for part in _text_difference(roots[1] if lower else None, roots[0], path):
                    parts.append(part)
                    size += len(part)
                if len(parts) > _MOST_TEXTS * 1000 or size > _LARGEST_PATCH:
                    parts.append("\n(and more)\n")
                    break
            return "".join(parts)
        finally:
            for root in roots:
                os.close(root)


def _text_difference(old: int | None, new: int, path: str) -> Iterator[str]:
    there = _text(old, path) if old is not None else ""
    here = _text(new, path)
    if there is None or here is None or there == here:
        return
    before, after = there.splitlines(keepends=True), here.splitlines(keepends=True)
    for line in difflib.unified_diff(before, after, "a" + path, "b" + path):
        yield line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _text(root: int, path: str) -> str | None:
    """Return a small file of text, "" if there is none; None for anything else."""
    from builder.mounts import open_in

    try:
        fd = open_in(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    with open(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_TEXT:
            return None
        data = file.read(_LARGEST_TEXT)
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _doctor(session: Session) -> str:
    from builder.commands.doctor import report

    out = io.StringIO()
    report(session.store.root, out, as_json=False)
    return out.getvalue()


def _without_values(word: str) -> str:
    """Return a word of a command line without what a telling variable is set to."""
    name, mark, _ = word.rpartition("=")
    telling = mark and _TELLING.search(name) and not name.startswith(("id", "--secret"))
    return f"{name}=***" if telling else _USERINFO.sub("***", word)


_FILES = {
    "log.txt": "what the step printed, the end of it",
    "diff.txt": "the files that it had added (A), changed (C) and deleted (D) by then",
    "diff.patch": "the changes of small text files",
    "env.txt": "user, directory, mounts, network and environment of its command",
    "events.json": "what the build told, as `--progress json` does",
    "doctor.txt": "what `pybuild doctor` says of the host",
}


def _readme(
    session: Session,
    failed: FailedStep | None,
    error: BuildFailed | None,
    names: list[str],
) -> str:
    from builder.progress.printable import printable

    lines = [_HEAD]
    if error is not None:
        lines += ["```", *map(printable, error.report.split("\n")), "```", ""]
    elif failed is not None:
        lines += [
            "```",
            *map(printable, failed.message.split("\n")),
            f"  at {failed.file}:{failed.line}",
            "```",
            "",
        ]
    lines += ["## How to see it again", "", "```console"]
    directory, words = (failed.directory, failed.more["words"]) if failed else (os.getcwd(), sys.argv[1:])
    lines += [f"$ cd {shlex.quote(directory)}", f"$ {shlex.join(['pybuild', *map(_without_values, words)])}"]
    if failed is not None:
        lines.append(f"$ pybuild debug {failed.id[:8]}")
    lines += ["```", "", f"pybuild {VERSION}, Linux {os.uname().release} {os.uname().machine}", ""]
    known = failed.more["bases"] if failed else [(name, base.image_id) for name, base in session.bases()]
    bases = [f"- {name}: {image_id}" for name, image_id in known]
    if bases:
        lines += ["It stood on", "", *bases, ""]
    lines += [
        "## What there is",
        "",
        *(f"- `{name}`: {_FILES[name]}" for name in names if name in _FILES),
        "",
    ]
    return "\n".join(lines)
