"""Where a build reads: a directory, or a context that comes from elsewhere, as docker build takes it.

`-` is a tar on standard input, plain or compressed (a recipe there has no archive's beginning, and is a
recipe); a git URL is a checkout of that commit; an http(s) URL is a tar, or a recipe alone. What comes from
elsewhere is unpacked into a directory of the store's tmp/ that is gone in the end, whatever happens. A recipe
that comes along with it is a stranger's: nothing that it names may lead out of its context, and no code of it
is run on this host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import FetchError, UsageError
from builder.namedcontexts import NamedContext, NamedContexts, RemoteContext
from builder.remotes.address import GitAddress, HttpAddress, parse_address, redact
from builder.steps import LocalTree

if TYPE_CHECKING:
    import argparse

    from builder.events import Emit
    from builder.remotes.fetching import Remotes
    from builder.remotes.http import Download
    from cache.changeset import Input
    from cache.store import Store

_HEAD = 1024
KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
"""BuildKit's build argument that keeps the `.git` of a context."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a build reads. `recipe` is the recipe's path, or `-`; `directory` is what COPY reads.

    `origin` says where it came from, "" for a directory of this machine. `confined` is the directory that
    nothing in the recipe may lead out of, "" where that is no stranger's. `commit_time` is that of a git
    commit, in seconds since 1970.
    """

    recipe: str
    directory: str
    origin: str = ""
    confined: str = ""
    commit_time: int | None = None


def is_elsewhere(text: str | None) -> bool:
    """Return whether a context that was typed is no directory. Raises PlanError for a malformed URL."""
    if text is None or os.path.isdir(text):
        return False
    return text == "-" or parse_address(text, context=True) is not None


def words(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the recipe and the context as they were typed. Raises UsageError."""
    recipe, context = args.recipe, args.context_
    if args.file is not None:
        if context is not None:
            raise UsageError(
                f"with --file there is one more argument than a context: {context!r}", code="usage/arguments"
            )
        recipe, context = args.file, recipe
    if args.context is not None:
        if context is not None:
            raise UsageError("the context is given twice", code="usage/arguments")
        context = args.context
    return recipe, context


@contextlib.contextmanager
def open_context(args: argparse.Namespace, store: Store, emit: Emit) -> Iterator[BuildContext]:
    """Open what the command line of `build` means; yield it. Raises UsageError, FetchError, HostError,
    StoreError.
    """
    from builder.commands.build import find_recipe

    recipe, context = words(args)
    if context is None and args.file is None and is_elsewhere(recipe) and not _is_recipe(recipe):
        recipe, context = None, recipe
    if context is None or not is_elsewhere(context):
        yield BuildContext(*find_recipe(args))
        return
    if recipe == context == "-":
        raise UsageError("standard input is either the recipe or the context", code="usage/arguments")
    with store.scratch.directory("context") as staging:
        opened = _Opening(store, emit, staging.path, args)
        directory, time = opened.open(context)
        origin = redact(context) if context != "-" else "the context on standard input"
        if recipe is None or (args.file is not None and recipe != "-"):
            yield BuildContext(_recipe_in(directory, recipe, origin), directory, origin, directory, time)
        else:
            yield BuildContext(recipe, directory, origin, "", time)


def fetch_named(
    contexts: NamedContexts,
    store: Store,
    emit: Emit,
    args: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> NamedContexts:
    """Return `contexts` with those that are elsewhere fetched, into directories that are gone when `stack` is
    closed. Raises as `open_context`.
    """
    found: list[tuple[str, NamedContext]] = []
    for name, value in contexts:
        if isinstance(value, RemoteContext):
            staging = stack.enter_context(store.scratch.directory("context"))
            directory, _ = _Opening(store, emit, staging.path, args).open(value.url)
            found.append((name, LocalTree(directory, name, redact(value.url))))
        else:
            found.append((name, value))
    return tuple(found)


class _Opening:
    """Brings a context into the directory `target`."""

    def __init__(self, store: Store, emit: Emit, target: str, args: argparse.Namespace) -> None:
        self._store = store
        self._emit = emit
        self._target = target
        self._args = args

    def open(self, context: str) -> tuple[str, int | None]:
        """Return the directory, and the time of its commit if it is one."""
        if context == "-":
            from builder import standardinput

            return self._unpack(standardinput, "the archive on standard input"), None
        from builder.remotes.fetching import Remotes

        address = parse_address(context, context=True)
        remotes = Remotes(self._store, self._emit)
        remotes.give(*self._credentials())
        try:
            if isinstance(address, GitAddress):
                return self._check_out(remotes, address)
            assert isinstance(address, HttpAddress)
            return self._download(remotes, address), None
        finally:
            remotes.close()

    def _check_out(self, remotes: Remotes, address: GitAddress) -> tuple[str, int]:
        from builder.events import Notice

        if address.keep_git_dir is None:
            address = replace(address, keep_git_dir=_keeps_git_dir(self._args.build_arg))
        commit = remotes.commit(address)
        self._emit(Notice("info", "context/commit", f"{address.reference} is the commit {commit.id}"))
        found = remotes.check_out(address, commit, self._target)
        return found.path, found.time

    def _credentials(self) -> tuple[Callable[[str], bytes | None], str]:
        """Return the secrets, and the default ssh agent's socket, that the command line gives."""
        from builder.secrets import Secrets, parse_secret
        from builder.ssh import parse_ssh

        secrets = Secrets([parse_secret(text) for text in self._args.secret])
        agents = [parse_ssh(text) for text in self._args.ssh]
        agent = next((source.agent for source in agents if source.id == "default"), "")
        return lambda name: secrets.get(name, required=False), agent

    def _download(self, remotes: Remotes, address: HttpAddress) -> str:
        from builder.archive import begins_archive

        download = remotes.file(address)
        with remotes.open(download) as file:
            head = file.read(_HEAD)
            file.seek(0)
            if begins_archive(head):
                return self._unpack(file, address.shown)
            return self._recipe_alone(file, download)

    def _recipe_alone(self, file: Input, download: Download) -> str:
        from builder.recipes import MAX_BYTES

        if download.size > MAX_BYTES:
            raise UsageError(
                "it is neither a tar nor a recipe: it is too large for one", code="recipe/too-large"
            )
        directory = f"{self._target}/alone"
        os.mkdir(directory, 0o755)
        with open(f"{directory}/Dockerfile", "xb") as out:
            while data := file.read(1 << 20):
                out.write(data)
        return directory

    def _unpack(self, archive: Input, name: str) -> str:
        directory = f"{self._target}/tree"
        os.mkdir(directory, 0o755)
        unpack_context(archive, directory, name)
        return directory


def unpack_context(archive: Input, directory: str, name: str) -> None:
    """Unpack a tar, plain or compressed, into the empty `directory`; nothing is written outside of it.

    Names of whiteouts mean nothing here, owners are ours. Raises FetchError (context/archive) for a tar that
    is malformed, or holds what is no content of a context (devices, names that lead out of it), StoreError.
    """
    from cache.decompression import decompress
    from cache.errors import FormatError
    from cache.merged import Merged
    from cache.tar_reader import Reader, Stream
    from cache.unpack import about, add_entry
    from cache.unpack_target import Target

    try:
        stream = Stream(decompress(archive))
        reader = Reader(stream)
        with Merged(()) as lowers, Target(directory, lowers) as place:
            for member in reader:
                # Who owns a file in the context is nobody in the image.
                member.uid, member.gid = os.geteuid(), os.getegid()
                try:
                    add_entry(place, member, reader, layer=False)
                except (FormatError, OSError) as error:
                    raise about(error, member.name, "entry") from error
            try:
                place.finish()
            except OSError as error:
                raise about(error, b"/", "entry") from error
        stream.finish()
    except FormatError as error:
        raise FetchError(f"cannot unpack {name}: {error.message}", code="context/archive") from None


def _is_recipe(recipe: str | None) -> bool:
    """Whether what stands in the recipe's place is standard input, and a recipe is there."""
    if recipe != "-":
        return False
    from builder import standardinput
    from builder.archive import begins_archive

    return not begins_archive(standardinput.peek(_HEAD))


def _recipe_in(directory: str, name: str | None, origin: str) -> str:
    """Return the path of the recipe in a context from elsewhere. Raises UsageError."""
    if name is None:
        from builder.commands.build import recipe_in

        return recipe_in(directory, origin)
    path = os.path.normpath(os.path.join(directory, name.lstrip("/")))
    if not os.path.isfile(path) or not is_inside(path, directory):
        raise UsageError(f"there is no {name} in {origin}", code="recipe/unreadable")
    return path


def is_inside(path: str, directory: str) -> bool:
    """Return whether `path` leads to something in `directory`, symbolic links followed."""
    return os.path.realpath(path).startswith(os.path.realpath(directory) + "/")


def _keeps_git_dir(build_args: list[str]) -> bool:
    given = dict(text.partition("=")[::2] for text in build_args)
    return given.get(KEEP_GIT_DIR, "").lower() in ("1", "t", "true")
