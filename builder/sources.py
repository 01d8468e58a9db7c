"""What COPY reads, and the digest of it: the context by its files, stages and images by their ChainID."""

from __future__ import annotations

import json
import os
import re
import stat
from threading import Lock
from typing import TYPE_CHECKING

from builder.errors import PlanError, UsageError
from builder.fingerprint import FileDigests, Fingerprint, fingerprint
from builder.keys import VERSION, Part
from builder.patterns import IgnoreRules, has_wildcard, read_ignore_file
from builder.steps import ContextTree, CopyStep, Directory, LocalTree
from builder.tree import Entry, Selection, Tree
from cache import idmap
from cache.oci.digest import ChainID
from cache.records import encode_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.placement import Source
    from builder.remotes.added import Added
    from builder.remotes.address import Address
    from builder.remotes.fetching import Remotes
    from builder.sharedcache import Facts
    from builder.steps import Tree as StepTree
    from cache.merged import Merged
    from cache.scratch import Staging
    from cache.store import Store

EMPTY = ChainID("")
"""The root filesystem of a stage or image without layers. None would mean the context."""


class Sources:
    """The trees that the COPYs of one recipe read. Close it to release their mounts and descriptors."""

    def __init__(
        self, store: Store, context: str, recipe: str, *, origin: str = "", remotes: Remotes | None = None
    ) -> None:
        """`origin` says where a context came from that is no directory of this machine's. `remotes` fetches
        what is elsewhere.
        """
        self._store = store
        self._remotes = remotes
        self._added: Added | None = None
        self._adding = Lock()
        self._origin = origin
        self._directory = context
        self._recipe = recipe
        self._opened: dict[Directory, tuple[Tree, FileDigests]] = {}
        self._stages: dict[ChainID, Tree] = {}
        self._merged: list[Merged] = []
        self._archives: list[Tree] = []
        self._views: dict[tuple[Directory, str], str] = {}
        self._stagings: list[Staging] = []

    def looked_at(self) -> dict[str, Entry | None]:
        """Return every path of the context, and of the directories that have names, that an answer depends
        on.
        """
        found: dict[str, Entry | None] = {}
        for which, (tree, _) in self._opened.items():
            directory = os.path.abspath(self._place(which))
            # Its own place may be a symbolic link: what counts is the directory that it leads to.
            found.update((os.path.join(directory, path or "."), e) for path, e in tree.seen.items())
        return found

    def ignore_files(self) -> tuple[str, ...]:
        """Return where the ignore files of the directories that were read may be."""
        return tuple(place for which in self._opened for place in self._ignore_files(which))

    def close(self) -> None:
        """Release everything; write the stat cache."""
        for _, digests in self._opened.values():
            digests.save()
        for tree in (*(t for t, _ in self._opened.values()), *self._stages.values(), *self._archives):
            tree.close()
        for staging in self._stagings:
            staging.discard()
        if self._added is not None:
            self._added.close()
        for merged in self._merged:
            merged.close()
        self._opened = {}
        self._stages = {}
        self._archives = []
        self._merged = []
        self._views = {}
        self._stagings = []

    @property
    def context(self) -> Tree:
        """The build context, through its ignore file."""
        return self.directory(ContextTree())

    def directory(self, which: Directory) -> Tree:
        """The build context, or a directory that has a name, through its own ignore file. Raises
        UsageError.
        """
        return self._open(which)[0]

    def _open(self, which: Directory) -> tuple[Tree, FileDigests]:
        opened = self._opened.get(which)
        if opened is None:
            place = self._place(which)
            if isinstance(which, ContextTree):
                tree = open_context(place, self._recipe, self._origin)
            else:
                tree = open_named(which)
            # What was unpacked for this build alone will never be found unchanged.
            lasting = None if self._origin_of(which) else self._store.stats
            opened = tree, FileDigests(tree, lasting, os.path.realpath(place))
            self._opened[which] = opened
        return opened

    def _origin_of(self, which: Directory) -> str:
        return self._origin if isinstance(which, ContextTree) else which.origin

    def _place(self, which: Directory) -> str:
        return self._directory if isinstance(which, ContextTree) else which.path

    def _ignore_files(self, which: Directory) -> tuple[str, ...]:
        return ignore_files(self._place(which), self._recipe if isinstance(which, ContextTree) else None)

    def stage(self, chain_id: ChainID) -> Tree:
        """The root filesystem `chain_id`, read-only."""
        tree = self._stages.get(chain_id)
        if tree is None:
            name = "the stage or image that --from names"
            owner = self._recorded_owner(chain_id)
            tree = self._stages[chain_id] = Tree(self._open_stage(chain_id), name=name, owner=owner)
        return tree

    def _recorded_owner(self, chain_id: ChainID) -> Callable[[str], tuple[int, int]] | None:
        """Return what tells the owners in a root filesystem, where the file system does not."""
        if not idmap.confined() or chain_id == EMPTY:
            return None
        from cache.merged import Merged

        merged = Merged(self._store.layers.lowerdirs(chain_id))
        self._merged.append(merged)
        return lambda path: merged.owner(os.fsencode(path))

    def _open_stage(self, chain_id: ChainID) -> int:
        if chain_id == EMPTY:
            with self._store.stage() as staging:
                # It is gone from tmp/ at once, and stays what it is for whoever has it open.
                return os.open(staging.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        from builder.overlay import Overlay, detached

        return detached(Overlay(self._store.layers.lowerdirs(chain_id)))

    def parts(self, step: CopyStep, chain_id: ChainID | None, facts: Facts | None = None) -> tuple[Part, ...]:
        """Return the key parts of what `step` copies: for each source, a digest. `chain_id`: of the stage
        it reads from, None if that is a directory. What `facts` know of a stage needs no look at it.
        """
        elsewhere = dict(step.remote)
        parts = [
            self.remote_part(elsewhere[index])
            if index in elsewhere
            else (source, self._digest(step.tree, source, chain_id, step.parents, step.exclude, facts))
            for index, source in enumerate(step.sources)
        ]
        return (*parts, *((f"<<{name}", _document_digest(data)) for name, data in step.documents))

    def asks(self, step: CopyStep) -> bool:
        """Return whether it takes a question to somebody elsewhere to know what `step` copies."""
        return any(self.added.known_part(address) is None for _, address in step.remote)

    def fetch(self, step: CopyStep, *, content: bool) -> None:
        """Have what `step` takes from elsewhere at hand: what it is, with `content` all of it. Other stages
        go on meanwhile: nothing else here is touched. Raises FetchError, HostError.
        """
        for _, address in step.remote:
            if content:
                self.added.fetch(address)
            else:
                self.added.part(address)

    def remote_part(self, address: Address) -> Part:
        """Return the key part of something elsewhere, fetched as far as that takes it. Raises FetchError."""
        return self.added.part(address)

    @property
    def added(self) -> Added:
        """What ADD takes from elsewhere."""
        with self._adding:
            if self._added is None:
                from builder.remotes.added import Added
                from builder.remotes.fetching import Remotes

                remotes = self._remotes or Remotes(self._store, lambda event: None)
                self._added = Added(self._store, remotes, self._remember)
            return self._added

    def select(self, step: CopyStep, chain_id: ChainID | None, staging: Staging) -> list[Source]:
        """Return what `step` reads, source by source. Archives that ADD unpacks are unpacked below
        `staging`.
        """
        tree = self._tree(step.tree, chain_id)
        # Who owns a file in the context is nobody in the image.
        owner = (0, 0) if chain_id is None else None
        found: list[Source] = []
        elsewhere = dict(step.remote)
        for index, source in enumerate(step.sources):
            if index in elsewhere:
                found.append(self.added.source(elsewhere[index], step, staging, len(found)))
                continue
            self._select(step, tree, source, owner, staging, found)
        return found

    def _select(
        self,
        step: CopyStep,
        tree: Tree,
        source: str,
        owner: tuple[int, int] | None,
        staging: Staging,
        found: list[Source],
    ) -> None:
        """Append what one source of `step` stands for in `tree`."""
        from builder.archive import is_archive, unpack_archive
        from builder.placement import Source

        for selection in tree.select(source, parents=step.parents, exclude=step.exclude):
            if step.unpack and is_archive(tree, selection):
                unpacked = unpack_archive(tree, selection, staging, len(found))
                self._archives.append(unpacked)
                found.append(Source(unpacked, unpacked.select(".", exclude=step.exclude), unpacked=True))
            else:
                found.append(Source(tree, (selection,), owner))

    def mounted(
        self, which: StepTree, source: str, chain_id: ChainID | None, facts: Facts | None = None
    ) -> str:
        """Return the digest of what a mount of `source`, an absolute path, shows: the digest of files, the
        mode of a directory, its owner. Of a whole stage or image it is the ChainID: nothing has to be read.

        Raises PlanError if it is not there.
        """
        if chain_id is not None and source == "/":
            return chain_id or "nothing"
        key = json.dumps([VERSION, chain_id, source])
        known = self._known("mounted", key, chain_id, facts) if chain_id is not None else None
        if known is not None:
            return known
        digest = self._digest(which, literal(source), chain_id)
        top = self.shown(which, source, chain_id)[1].entries[0]
        if stat.S_ISDIR(top.mode) and top.path:  # the context's own mode is that of a checkout
            digest += f" {stat.S_IMODE(top.mode):o}"
            digest += f" {top.uid}:{top.gid}" if chain_id is not None else ""
        if chain_id is not None:
            self._store.memo.put("mounted", key, digest.encode())
            if facts is not None:
                facts.tell("mounted", key, digest)
        return digest

    def shown(self, which: StepTree, source: str, chain_id: ChainID | None) -> tuple[Tree, Selection]:
        """Return what a mount of `source` shows. Raises PlanError if it is not there."""
        tree = self._tree(which, chain_id)
        found = tree.select(literal(source))
        if not found:
            raise PlanError(f"{source!r} is not in {tree.name}", code="copy/missing")
        return tree, found[0]

    def view(self, which: Directory, source: str) -> str:
        """Return the path of a copy of what a mount of `source` shows, which is kept until `close`."""
        found = self._views.get((which, source))
        if found is None:
            from builder.views import make_view

            staging = self._store.stage()
            self._stagings.append(staging)
            found = make_view(*self.shown(which, source, None), (0, 0), staging.upper)
            self._views[which, source] = found
        return found

    def _tree(self, which: StepTree, chain_id: ChainID | None) -> Tree:
        if chain_id is not None:
            return self.stage(chain_id)
        assert isinstance(which, Directory)
        return self.directory(which)

    def _digest(
        self,
        which: StepTree,
        source: str,
        chain_id: ChainID | None,
        parents: bool = False,
        exclude: tuple[str, ...] = (),
        facts: Facts | None = None,
    ) -> str:
        if chain_id is None:
            assert isinstance(which, Directory)
            files, digests = self._open(which)
            selections = files.select(source, parents=parents, exclude=exclude)
            return self._remember(fingerprint(files, selections, digests, owners=False))
        # A stage's files never change under its ChainID: what was worked out once holds for ever.
        key = json.dumps([VERSION, chain_id, source, *([parents, exclude] if parents or exclude else [])])
        known = self._known("tree", key, chain_id, facts)
        if known is not None:
            return known
        tree = self.stage(chain_id)
        selections = tree.select(source, parents=parents, exclude=exclude)
        digest = self._remember(fingerprint(tree, selections, FileDigests(tree), owners=True))
        self._store.memo.put("tree", key, digest.encode())
        if facts is not None:
            facts.tell("tree", key, digest)
        return digest

    def _known(self, kind: str, key: str, chain_id: ChainID, facts: Facts | None) -> str | None:
        """Return the answer to a question that was asked before, here or elsewhere. One from elsewhere is not
        kept: another build may not believe it.
        """
        known = self._store.memo.get(kind, key)
        if facts is None:
            return None if known is None else known.decode()
        if known is not None:
            facts.tell(kind, key, known.decode())
            return known.decode()
        here = chain_id == EMPTY or self._store.layers.get(chain_id) is not None
        return None if here else facts.get(kind, key)

    def _remember(self, found: Fingerprint) -> str:
        """Keep which files a digest stands for, so that the next miss can name the one that changed."""
        if self._store.memo.get("files", found.digest) is None:
            self._store.memo.put("files", found.digest, encode_parts(found.files))
        return found.digest


def literal(path: str) -> str:
    """Return the pattern that matches `path` and nothing else."""
    if not has_wildcard(path):
        return path
    return re.sub(r"[*?[]", lambda match: f"[{match[0]}]", path.replace("\\", "\\\\"))


def open_context(directory: str, recipe: str, origin: str = "") -> Tree:
    """Open the context directory, with the rules of `NAME.dockerignore` beside the recipe, else of
    `.dockerignore`. `origin` is where it came from, if it is no directory of this machine's.
    """
    shown = origin or f"the context {directory}"
    return Tree(
        _open_directory(directory, shown),
        name=shown,
        rules=ignore_rules(directory, recipe, confined=bool(origin)),
        hint="sources are relative to the context (the recipe's own directory, unless one is given), "
        "and .. leads no further than to its top",
    )


def open_named(which: LocalTree) -> Tree:
    """Open a directory that `--build-context` gives a name, with the rules of its `.dockerignore`; of one
    that was fetched, as with BuildKit, none count.
    """
    shown = f"the context {which.name} ({which.origin or which.path})"
    rules = None if which.origin else ignore_rules(which.path, None)
    return Tree(_open_directory(which.path, shown), name=shown, rules=rules)


def _open_directory(path: str, shown: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot open {shown}: {error.strerror}", code="context/unreadable") from None


def ignore_files(directory: str, recipe: str | None) -> tuple[str, ...]:
    """Return where the ignore file may be; the first that is there counts. With `recipe`, beside it first."""
    beside = () if recipe is None else (recipe + ".dockerignore",)
    return (*beside, os.path.join(directory, ".dockerignore"))


def ignore_rules(directory: str, recipe: str | None, *, confined: bool = False) -> IgnoreRules:
    """Return the ignore rules for a recipe in a context, or for a directory that has a name. `confined`: no
    link in the directory may lead out of it. Raises UsageError for a malformed pattern.
    """
    for path in ignore_files(directory, recipe):
        try:
            if confined and path.startswith(f"{directory}/") and os.path.lexists(path):
                _refuse_outside(path, directory)
            return read_ignore_file(_read(path))
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"the ignore file {path}: {reason}", code="context/ignore") from None
    return IgnoreRules(())


def _refuse_outside(path: str, directory: str) -> None:
    from builder.contexts import is_inside

    if not is_inside(path, directory):
        name = os.path.relpath(path, directory)
        raise UsageError(f"the ignore file {name} is out of the context", code="recipe/outside")


def _read(path: str) -> str:
    # O_NONBLOCK: opening a fifo must not wait for somebody who writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no regular file")
        return file.read()


def _document_digest(data: bytes) -> str:
    from blake3 import blake3

    return blake3(data).hexdigest()
