"""Log out of a registry: its login is taken out of every file, and every credential helper, that logins are
read from.

REGISTRY is Docker Hub unless it is given.
"""

from __future__ import annotations

import argparse
import os

from builder.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("registry", nargs="?", metavar="REGISTRY", help="as it was logged in to")
    parser.add_argument("-a", "--all", action="store_true", help="log out of all registries")
    parser.add_argument("--authfile", metavar="FILE", help="forget logins in FILE alone")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from cache.errors import RegistryError
    from cache.registry.authfile import known_files
    from cache.registry.login import login_key

    if args.all and args.registry is not None:
        raise UsageError("--all is every registry: none is to be named", code="usage/arguments")
    key = None if args.all else login_key(args.registry)
    gone = [(name, file.path) for file in known_files(os.environ, args.authfile) for name in file.erase(key)]
    for name, path in gone:
        print(f"Logged out of {name}: {path}")
    if not gone and key is not None:
        raise RegistryError(f"not logged in to {key}", code="registry/unauthorized")
    return 0
