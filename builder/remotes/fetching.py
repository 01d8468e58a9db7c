"""What one build takes from elsewhere: files and repositories under one roof.

It keeps the list of what was fetched, for a lock file, and heeds what is pinned: then nobody is asked what a
name stands for, and what does not agree is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Literal

from builder.remotes.address import GitAddress, HttpAddress, is_commit

if TYPE_CHECKING:
    from io import FileIO

    from builder.events import Emit
    from builder.parallel import Cancellation
    from builder.remotes.git_checkout import Checkout, Checkouts
    from builder.remotes.git_command import Secrets
    from builder.remotes.git_repository import Commit, Repositories
    from builder.remotes.http import Download, Downloads
    from cache.oci.digest import Digest
    from cache.store import Store

Kind = Literal["http", "git"]

Pinned = Callable[[Kind, str], "str | None"]
"""From what is asked for (its kind and its `reference`) to the pin that `Fetched` had for it; None where
there is none.
"""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a name elsewhere stood for. `reference` has no credentials. `pin` is the sha256 digest of a file;
    of a repository the commit, and, where `.git` is kept, what it was found by: `COMMIT[ REF[ TAG]]`.

    `fixed`: the recipe itself says so (a checksum, a commit): nobody need ask again whether it is that still.
    """

    kind: Kind
    reference: str
    pin: str
    fixed: bool


class Remotes:
    """Fetches for one build, whose stages may ask at the same time. Close it when done."""

    def __init__(
        self,
        store: Store,
        emit: Emit,
        *,
        pinned: Pinned | None = None,
        secrets: Secrets | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._store = store
        self._emit = emit
        self._pinned = pinned
        self._secrets = secrets
        self._environ = environ
        self._files: Downloads | None = None
        self._git: tuple[Repositories, Checkouts] | None = None
        self._found: dict[tuple[Kind, str], Fetched] = {}
        self._cancellation: Cancellation | None = None
        self._lock = Lock()

    def give(
        self,
        secrets: Secrets,
        agent: str = "",
        *,
        emit: Emit | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Take what a build has: its secrets, the socket of an ssh agent ("" for that of the environment),
        where events go, and what ends it. Before anything is fetched.
        """
        self._secrets = secrets
        self._emit = emit or self._emit
        self._cancellation = cancellation
        if agent:
            self._environ = {**self._environ, "SSH_AUTH_SOCK": agent}

    @property
    def fetched(self) -> tuple[Fetched, ...]:
        """Return what was asked for so far, each once, in order: also what was found without a network."""
        return tuple(self._found.values())

    # Files

    def known_file(self, address: HttpAddress) -> Digest | None:
        """Return the digest of a file as far as it is known without looking, None where it is not."""
        return self._downloads().known(self._with_checksum(address))

    def file_digest(self, address: HttpAddress) -> Digest:
        """Return the digest of a file; without a checksum or pin, it is fetched, or asked for again.
        Raises FetchError.
        """
        digest = self.known_file(address) or self.file(address).digest
        self._note(Fetched("http", address.reference, digest, bool(address.checksum)))
        return digest

    def file(self, address: HttpAddress) -> Download:
        """Return a file, in the store by then. Raises FetchError."""
        wanted = self._with_checksum(address)
        says = "--checksum" if address.checksum else "the lock file"
        return self._downloads().fetch(wanted, says=says)

    def open(self, download: Download) -> FileIO:
        """Return a file that was fetched, open for reading. Raises FetchError."""
        return self._downloads().open(download)

    # Repositories

    def known_commit(self, address: GitAddress) -> Commit | None:
        """Return the commit of `address` as far as it is known without asking, None where it is not.

        A ref that once was the commit that the checksum says is not asked for again; another ref is.
        """
        from builder.remotes.git_repository import Commit

        pin = self._pin("git", address.reference)
        if pin is not None:
            return Commit(*pin.split(" "))
        if is_commit(address.ref):
            return Commit(address.ref)
        seen = self._store.receipts.get(_checked(address)) if is_commit(address.checksum) else None
        return None if seen is None else Commit(*seen.decode().split(" "))

    def commit(self, address: GitAddress) -> Commit:
        """Return the commit that `address` names, which is asked for unless it is known. Raises FetchError,
        HostError."""
        from builder.remotes.git_repository import check

        found = self.known_commit(address)
        if found is None:
            found = self._repositories()[0].resolve(address)
        check(address, found)
        pin = " ".join(filter(None, (found.id, found.ref, found.tag)))
        if is_commit(address.checksum) and not is_commit(address.ref):
            self._store.receipts.put(_checked(address), pin.encode())
        told = pin if address.keep_git_dir else found.id
        self._note(Fetched("git", address.reference, told, bool(address.commit)))
        return found

    def check_out(self, address: GitAddress, commit: Commit, directory: str) -> Checkout:
        """Check out `commit` below the empty `directory`. Raises FetchError, HostError."""
        return self._repositories()[1].check_out(address, commit, directory)

    def close(self) -> None:
        """Let go of connections."""
        if self._files is not None:
            self._files.close()

    def _with_checksum(self, address: HttpAddress) -> HttpAddress:
        pin = None if address.checksum else self._pin("http", address.reference)
        return address if pin is None else replace(address, checksum=pin)

    def _pin(self, kind: Kind, reference: str) -> str | None:
        return self._pinned(kind, reference) if self._pinned is not None else None

    def _note(self, fetched: Fetched) -> None:
        self._found[fetched.kind, fetched.reference] = fetched

    def _downloads(self) -> Downloads:
        with self._lock:
            if self._files is None:
                from builder.remotes.http import Downloads

                self._files = Downloads(
                    self._store,
                    self._emit,
                    environ=self._environ,
                    authorization=self._authorization,
                    cancellation=self._cancellation,
                )
            return self._files

    def _repositories(self) -> tuple[Repositories, Checkouts]:
        with self._lock:
            if self._git is None:
                from builder.remotes.git_checkout import Checkouts
                from builder.remotes.git_command import Git
                from builder.remotes.git_repository import Repositories

                git = Git(self._environ, self._cancellation)
                repositories = Repositories(self._store, self._emit, git, self._secrets)
                self._git = (repositories, Checkouts(repositories, git))
            return self._git

    def _authorization(self, host: str) -> str | None:
        """BuildKit's secrets for a host: HTTP_AUTH_HEADER_host, HTTP_AUTH_TOKEN_host."""
        if self._secrets is None:
            return None
        for name, form in (("HTTP_AUTH_HEADER_", "{}"), ("HTTP_AUTH_TOKEN_", "Bearer {}")):
            value = self._secrets(name + host)
            if value:
                return form.format(value.decode("utf-8", "replace").strip())
        return None


def _checked(address: GitAddress) -> str:
    return f"git-checked {address.reference} {address.checksum}"
