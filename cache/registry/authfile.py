"""The files that logins are kept in, changed: Docker's config.json and containers-auth.json(5).

What another program wrote there, and what this one does not know, stays. A secret is in a file of mode 0600
or with a credential helper, and nowhere else: not in an argument, not in a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cache.errors import RegistryError
from cache.oci.reference import DEFAULT_REGISTRY
from cache.registry.credentials import HUB_KEYS, Credential, auth_files, normalise, run_helper

Content = dict[str, Any]

_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A file of logins. `key` is what a login is kept under: a registry, or a registry and the beginning of
    its repositories' names.
    """

    path: str
    environ: Mapping[str, str]

    def store(self, key: str, credential: Credential) -> str:
        """Keep `credential`, in place of what was there; return where: the file, or a helper's program.

        Raises RegistryError (registry/credentials).
        """
        spelt = self.spelling(key)
        place = self.path
        with self._changing() as content:
            keeper = _helper(content, key)
            entry: Content = {}
            if keeper is not None:
                helper, server = keeper
                token = credential.identity_token
                secret = {
                    "ServerURL": server,
                    "Username": "<token>" if token else credential.username,
                    "Secret": token or credential.password,
                }
                run_helper(helper, "store", _json(secret), self.environ)
                place = f"docker-credential-{helper}"
            else:
                entry = _entry(credential)
            auths = _table(content, "auths", self.path)
            _drop(auths, key)
            # As docker login does, with a helper too: what is listed tells which registries are logged in to.
            auths[spelt] = entry
        return place

    def erase(self, key: str | None) -> list[str]:
        """Forget the login under `key`, None: all logins; return the keys that were there.

        Raises RegistryError (registry/credentials).
        """
        if not os.path.exists(self.path):
            return []
        with self._changing() as content:
            auths = _table(content, "auths", self.path)
            helpers = content.get("credHelpers")
            own = [name for name in helpers if isinstance(name, str)] if isinstance(helpers, dict) else []
            keys = list(dict.fromkeys((*auths, *own))) if key is None else [key]
            gone = []
            for each in keys:
                known = _drop(auths, each)
                keeper = _helper(content, each)
                if keeper is not None and self._erase_with(*keeper):
                    known = known or [self.spelling(each)]
                gone += known
            if not auths:
                del content["auths"]
        return gone

    def known(self) -> tuple[str, ...]:
        """Return what there are logins for. Raises RegistryError (registry/credentials)."""
        try:
            content = _parsed(_read(_target(self.path))[0], self.path)
        except OSError as error:
            raise _failed(self.path, "read", error) from None
        hub = {normalise(key) for key in HUB_KEYS}
        tables = (content.get("auths"), content.get("credHelpers"))
        names = [normalise(name) for table in tables if isinstance(table, dict) for name in table]
        return tuple(dict.fromkeys(DEFAULT_REGISTRY if name in hub else name for name in names))

    def spelling(self, key: str) -> str:
        """How a login for `key` is spelt here: Docker knows its Hub by the URL of its first index alone."""
        if key == DEFAULT_REGISTRY and os.path.basename(self.path) == "config.json":
            return HUB_KEYS[0]
        return key

    def _erase_with(self, helper: str, server: str) -> bool:
        if run_helper(helper, "get", server.encode(), self.environ) is None:
            return False
        run_helper(helper, "erase", server.encode(), self.environ)
        return True

    @contextmanager
    def _changing(self) -> Iterator[Content]:
        """Give the file's content, and put what was made of it in its place: whole, or not at all."""
        import fcntl

        path = _target(self.path)
        directory = os.path.dirname(path)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _failed(self.path, "written", error) from None
        try:
            # Two logins at once must not lose one; the lock leaves no file behind.
            fcntl.flock(parent, fcntl.LOCK_EX)
            before, owner = _read(path)
            content: Content = _parsed(before, self.path)
            yield content
            after = _json(content, indent="\t") + b"\n"
            if before is None or content != _parsed(before, self.path):
                _replace(parent, os.path.basename(path), after, owner)
        except OSError as error:
            raise _failed(self.path, "written", error) from None
        finally:
            os.close(parent)


def login_file(environ: Mapping[str, str], explicit: str | None = None) -> AuthFile:
    """Return the file that a login goes to.

    That is `explicit`, or $REGISTRY_AUTH_FILE; else the first of those that logins are read from which is
    there, so that no other hides what was stored; else Docker's.
    """
    candidates = _paths(environ, explicit)
    path = next((each for each in candidates if os.path.exists(each)), candidates[-1])
    return AuthFile(path, environ)


def known_files(environ: Mapping[str, str], explicit: str | None = None) -> tuple[AuthFile, ...]:
    """Return every file that logins are read from, in that order."""
    return tuple(AuthFile(path, environ) for path in _paths(environ, explicit))


def _paths(environ: Mapping[str, str], explicit: str | None) -> tuple[str, ...]:
    return (explicit,) if explicit else auth_files(environ)


def _target(path: str) -> str:
    """The file itself, where `path` is a link to it: those who keep their configuration elsewhere keep the
    link. Raises RegistryError for a link that somebody else has laid.
    """
    absolute = os.path.abspath(path)
    try:
        facts = os.lstat(absolute)
    except OSError:
        return absolute
    real = os.path.realpath(absolute)
    if real != absolute and facts.st_uid not in (0, os.geteuid()):
        raise RegistryError(
            f"{path} is a link of user {facts.st_uid}, who is neither you nor root: no login goes there",
            code="registry/credentials",
        )
    return real


def _read(path: str) -> tuple[bytes | None, tuple[int, int] | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None, None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        return file.read(_LARGEST + 1), (facts.st_uid, facts.st_gid)


def _parsed(data: bytes | None, path: str) -> Content:
    import json

    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise RegistryError(
            f"{path} is not valid JSON, and stays as it is",
            code="registry/credentials",
            hint="mend it, or move it away",
        )
    return content


def _replace(parent: int, name: str, data: bytes, owner: tuple[int, int] | None) -> None:
    temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            if owner is not None and owner[0] != os.geteuid():
                with suppress(PermissionError):  # with sudo, the file is still the user's
                    os.fchown(descriptor, *owner)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _entry(credential: Credential) -> Content:
    import base64

    pair = f"{credential.username}:{credential.password}".encode()
    entry: Content = {"auth": base64.b64encode(pair).decode("ascii")}
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    return entry


def _helper(content: Mapping[str, Any], key: str) -> tuple[str, str] | None:
    """The helper that keeps the login for `key`, and by what name: the one that it will be asked for. Helpers
    know registries, and not what is below them.
    """
    if "/" in normalise(key):
        return None
    helpers = content.get("credHelpers")
    same = _same(key)
    for name, helper in helpers.items() if isinstance(helpers, dict) else ():
        if same(name) and isinstance(helper, str) and helper:
            return helper, name
    store = content.get("credsStore")
    server = HUB_KEYS[0] if same(HUB_KEYS[0]) else key
    return (store, server) if isinstance(store, str) and store else None


def _drop(auths: Content, key: str) -> list[str]:
    """Take every spelling of `key` out of `auths`, and return those that were there."""
    same = _same(key)
    gone = [name for name in auths if same(name)]
    for name in gone:
        del auths[name]
    return gone


def _same(key: str) -> Callable[[str], bool]:
    hub = {normalise(each) for each in HUB_KEYS}
    names = hub if normalise(key) in hub else {normalise(key)}
    return lambda name: normalise(name) in names


def _table(content: Content, name: str, path: str) -> Content:
    table = content.setdefault(name, {})
    if not isinstance(table, dict):
        raise RegistryError(f"{path}: `{name}` is no table", code="registry/credentials")
    return table


def _json(value: object, indent: str | None = None) -> bytes:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False).encode()


def _failed(path: str, what: str, error: OSError) -> RegistryError:
    return RegistryError(
        f"the logins in {path} cannot be {what}: {error.strerror}",
        code="registry/credentials",
        hint="another file can be named: --authfile, or $REGISTRY_AUTH_FILE",
    )
