"""Log in to a registry. The login is tried out first, and then kept where docker, podman and pybuild find it.

It goes to a credential helper where one is configured; else to $REGISTRY_AUTH_FILE, podman's auth.json if it
is there, or docker's config.json. REGISTRY is Docker Hub unless it is given.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from cache.registry.credentials import Credential
    from cache.registry.endpoints import Registries
    from cache.registry.transport import Transport

_LARGEST = 64 * 1024


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "registry", nargs="?", metavar="REGISTRY", help="host[:port], or with the beginning of names below it"
    )
    parser.add_argument("-u", "--username", metavar="USER", help="who to log in as (default: asked for)")
    parser.add_argument(
        "-p", "--password", metavar="TEXT", help="the password; others on this host can see it there"
    )
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument(
        "--authfile", metavar="FILE", help="keep the login in FILE (default: $REGISTRY_AUTH_FILE, ...)"
    )
    parser.add_argument("--get-login", action="store_true", help="print who is logged in, and do nothing")
    parser.add_argument(
        "--list", action="store_true", help="print where somebody is logged in, and do nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.config import load
    from builder.registries import configured, registry_transport
    from cache.registry.login import login_key

    if args.list:
        return _list(args)
    key = login_key(args.registry)
    registries = configured(load(args.config))
    if args.get_login:
        return _show(key, args.authfile, registries)
    _check(args)
    transport = registry_transport()
    try:
        if not (args.username or args.password is not None) and _known(args, transport, registries, key):
            return 0
        credential = _asked(args, key)
        return _store(args, transport, registries, key, credential)
    finally:
        transport.close()


def _check(args: argparse.Namespace) -> None:
    if args.password_stdin and args.password is not None:
        raise UsageError("the password is given twice", code="usage/arguments")
    if (args.password_stdin or args.password is not None) and not args.username:
        raise UsageError("a password needs its user: --username", code="usage/arguments")
    if args.password is not None:
        print(
            "warning: a password on the command line is seen by others, and kept by the shell: "
            "use --password-stdin",
            file=sys.stderr,
        )


def _list(args: argparse.Namespace) -> int:
    from cache.registry.authfile import known_files

    if args.registry is not None:
        raise UsageError("--list is every registry: none is to be named", code="usage/arguments")
    keys = {key for file in known_files(os.environ, args.authfile) for key in file.known()}
    print("".join(f"{key}\n" for key in sorted(keys)), end="")
    return 0


def _show(key: str, authfile: str | None, registries: Registries) -> int:
    from cache.errors import RegistryError

    found = _stored(key, authfile, registries)
    if found is None:
        raise RegistryError(f"not logged in to {key}", code="registry/unauthorized")
    print(found.username or "<token>")
    return 0


def _stored(key: str, authfile: str | None, registries: Registries) -> Credential | None:
    from cache.registry.credentials import StoredCredentials

    environ = {**os.environ, "REGISTRY_AUTH_FILE": authfile} if authfile else os.environ
    registry, _, repository = key.partition("/")
    return StoredCredentials(environ, registries.credential_helpers).find(registry, repository)


def _known(args: argparse.Namespace, transport: Transport, registries: Registries, key: str) -> bool:
    """Whether the login that is stored still does; if not, another is asked for, as docker does."""
    from cache.errors import RegistryError
    from cache.registry.login import verify

    found = _stored(key, args.authfile, registries)
    if found is None:
        return False
    try:
        verify(transport, registries, key, found)
    except RegistryError as error:
        if error.code != "registry/unauthorized":
            raise
        print(f"warning: {key} does not take the stored login any more", file=sys.stderr)
        return False
    print(f"Logged in to {key} already, as {found.username or '<token>'}: the stored login does")
    return True


def _asked(args: argparse.Namespace, key: str) -> Credential:
    from cache.registry.credentials import Credential

    username, password = args.username, args.password
    if args.password_stdin:
        password = _from_stdin()
    elif password is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "no terminal to ask for the password on",
                code="usage/terminal",
                hint="pybuild login --username USER --password-stdin REGISTRY <FILE",
            )
        if not username:
            print(f"User of {key}: ", end="", file=sys.stderr, flush=True)
            username = sys.stdin.readline().strip()
        from getpass import getpass

        password = getpass("Password: ") if username else ""
    if not username or not password:
        raise UsageError("a login needs a user and a password", code="usage/arguments")
    if ":" in username:  # RFC 7617: the first colon ends it
        raise UsageError("a user's name cannot have a colon", code="usage/value")
    return Credential(username, password)


def _from_stdin() -> str:
    """Return what comes on standard input, without the line's end that `echo` gives it."""
    if sys.stdin.isatty():
        raise UsageError("--password-stdin reads a pipe or a file, not a terminal", code="usage/terminal")
    data = sys.stdin.buffer.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UsageError("what comes on standard input is no password: it is too long", code="usage/value")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password is not UTF-8", code="usage/value") from None


def _store(
    args: argparse.Namespace,
    transport: Transport,
    registries: Registries,
    key: str,
    credential: Credential,
) -> int:
    from cache.registry.authfile import login_file
    from cache.registry.login import verify

    asked = verify(transport, registries, key, credential)
    place = login_file(os.environ, args.authfile).store(key, credential)
    if not asked:
        print(f"warning: {key} asks nobody for a login: this one is not tried out", file=sys.stderr)
    print(f"Logged in to {key} as {credential.username}: kept in {place}")
    return 0
