"""Who we are to a registry: what `docker login`, `podman login` and credential helpers have stored.

Sources: Docker's config.json (docker/cli, cli/config), containers-auth.json(5), and the protocol of
docker-credential-helpers.
A secret is never logged, never in an error, and never in a repr.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cache.errors import RegistryError
from cache.oci.reference import DEFAULT_REGISTRY

HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
"""What Docker Hub's login may stand under; Docker itself looks under the first alone."""

AUTH_FILES = "containers-auth.json"
"""What registries.conf calls the files, among credential helpers."""

_HELPER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or (`identity_token`) what a token server takes in a password's stead."""

    username: str
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")


class Credentials(Protocol):
    """Finds the credential for a registry and, where it matters, a repository in it."""

    def find(self, registry: str, repository: str) -> Credential | None: ...


class Anonymous:
    """Nobody."""

    def find(self, registry: str, repository: str) -> Credential | None:
        return None


class StoredCredentials:
    """The credentials in the files that Docker's and containers' tools share.

    `environ` names them: $REGISTRY_AUTH_FILE alone, if it is set; else $XDG_RUNTIME_DIR/containers/auth.json
    (or /run/containers/UID/auth.json), $XDG_CONFIG_HOME/containers/auth.json and $DOCKER_CONFIG/config.json
    (~/.docker/config.json); the first that knows the registry wins. Files are read when first needed.

    `helpers` are the credential helpers that registries.conf names, for all registries, and AUTH_FILES where
    the files come among them; else these come last. With $REGISTRY_AUTH_FILE nobody but that file is asked.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        helpers: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        self._environ = environ
        self._helpers = helpers
        self._files: tuple[Mapping[str, Any], ...] | None = None

    def find(self, registry: str, repository: str) -> Credential | None:
        """Return the credential for `registry`/`repository`, or None.

        Raises RegistryError (registry/credentials) if a file is not JSON or a credential helper fails,
        (registry/config) if it cannot be said which helpers there are.
        """
        for helper in self._order():
            if helper == AUTH_FILES:
                found = self._in_files(registry, repository)
            else:
                found = _ask_helper(helper, registry, self._environ)
            if found is not None:
                return found
        return None

    def _order(self) -> tuple[str, ...]:
        if self._helpers is None or self._environ.get("REGISTRY_AUTH_FILE"):
            return (AUTH_FILES,)
        return tuple(dict.fromkeys((*self._helpers(), AUTH_FILES)))

    def _in_files(self, registry: str, repository: str) -> Credential | None:
        if self._files is None:
            self._files = tuple(_read(path) for path in auth_files(self._environ))
        for content in self._files:
            found = _find(content, registry, repository, self._environ)
            if found is not None:
                return found
        return None


def auth_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The files that may hold credentials, in the order of their precedence."""
    explicit = environ.get("REGISTRY_AUTH_FILE")
    if explicit:
        return (explicit,)
    home = environ.get("HOME") or os.path.expanduser("~")
    run = environ.get("XDG_RUNTIME_DIR")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    docker = environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
    return (
        os.path.join(run, "containers/auth.json") if run else f"/run/containers/{_uid()}/auth.json",
        os.path.join(config, "containers/auth.json"),
        os.path.join(docker, "config.json"),
    )


def _uid() -> int:
    """The user's id as podman has it: outside of the user namespace that a build without root is in
    (user_namespaces(7), uid_map).
    """
    uid = os.getuid()
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            maps = [tuple(map(int, line.split())) for line in file]
    except (OSError, ValueError):
        return uid
    return next((out + uid - inside for inside, out, count in maps if inside <= uid < inside + count), uid)


def _read(path: str) -> Mapping[str, Any]:
    import json

    try:
        with open(path, "rb") as file:
            content = json.loads(file.read() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, PermissionError) and not os.path.lexists(path):
            return {}  # podman as root has made /run/containers, which nobody else may look into
        reason = error.strerror if isinstance(error, OSError) else "it is not valid JSON"
        raise _error(f"the credentials in {path} cannot be read: {reason}") from None
    return content if isinstance(content, dict) else {}


def _find(
    content: Mapping[str, Any], registry: str, repository: str, environ: Mapping[str, str]
) -> Credential | None:
    helpers = _mapping(content, "credHelpers")
    for key in _keys(registry, ""):
        if isinstance(helper := helpers.get(key), str) and helper:
            return _ask_helper(helper, key, environ)
    auths = {normalise(key): value for key, value in _mapping(content, "auths").items()}
    for key in _keys(registry, repository):
        entry = auths.get(normalise(key))
        if isinstance(entry, dict) and (found := _decode(entry, key)) is not None:
            return found
    store = content.get("credsStore")
    if isinstance(store, str) and store:
        server = HUB_KEYS[0] if registry == DEFAULT_REGISTRY else registry
        return _ask_helper(store, server, environ)
    return None


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _keys(registry: str, repository: str) -> tuple[str, ...]:
    """Under which keys a credential may stand, the most specific first (containers-auth.json, FORMAT)."""
    parts = repository.split("/") if repository else []
    nested = ["/".join((registry, *parts[:count])) for count in range(len(parts), 0, -1)]
    return (*nested, *((*HUB_KEYS,) if registry == DEFAULT_REGISTRY else (registry,)))


def normalise(key: str) -> str:
    """Docker once wrote URLs as keys; it still reads them."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        bare = bare.removesuffix(version)
    return bare


def _decode(entry: Mapping[str, Any], key: str) -> Credential | None:
    import base64
    import binascii

    token = entry.get("identitytoken")
    auth = entry.get("auth")
    username, password = entry.get("username"), entry.get("password")
    if isinstance(auth, str) and auth:
        try:
            username, _, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _error(f"the stored credential for {key} is damaged") from None
    if isinstance(token, str) and token:
        return Credential(username if isinstance(username, str) else "", identity_token=token)
    if isinstance(username, str) and username and isinstance(password, str):
        return Credential(username, password)
    return None


def _ask_helper(helper: str, server: str, environ: Mapping[str, str]) -> Credential | None:
    """Ask a helper for the credential of `server`; it answers in JSON."""
    import json

    said = run_helper(helper, "get", server.encode(), environ)
    if said is None:
        return None
    try:
        answer = json.loads(said)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise _error(f"the credential helper docker-credential-{helper} answers nonsense") from None
    return Credential("", identity_token=secret) if username == "<token>" else Credential(username, secret)


def run_helper(helper: str, verb: str, said: bytes, environ: Mapping[str, str]) -> bytes | None:
    """Run `docker-credential-HELPER VERB`, which reads what it is told on standard input; return its answer,
    None if it says that nothing is stored. Raises RegistryError (registry/credentials).
    """
    import subprocess

    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise _error(f"{helper!r} is not the name of a credential helper")
    try:
        done = subprocess.run(
            [program, verb],
            input=said,
            capture_output=True,
            timeout=_HELPER_SECONDS,
            env=dict(environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer in {_HELPER_SECONDS} s"
        raise _error(f"the credential helper {program} cannot be used: {reason}") from None
    if done.returncode != 0:
        words = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        if "not found" in words.lower():  # the protocol's way to say: nothing is stored
            return None
        if verb == "store":
            words = f"status {done.returncode}"  # it may repeat what it was told
        raise _error(f"the credential helper {program} failed: {words[:200]}")
    return done.stdout


def _error(message: str) -> RegistryError:
    return RegistryError(message, code="registry/credentials", hint="log in again, or remove the entry")
