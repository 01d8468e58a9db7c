"""What the values of a recipe mean that have names of their own: mounts, variables, directives."""

from __future__ import annotations

from grammar.node import Node

MOUNT_TYPES = {
    "bind": (
        "Files of the build context, or with `from` of a stage or image. Read-only; with `readwrite` what "
        "is written is thrown away."
    ),
    "cache": (
        "A directory that the store keeps between builds, for compilers and package managers. It is no "
        "part of the image, and a build must succeed without what is in it."
    ),
    "tmpfs": "An empty directory in memory.",
    "secret": (
        "A secret that the command line hands over (`--secret id=…`), as a file in memory or with `env` as "
        "a variable. It never reaches a layer."
    ),
    "ssh": "The socket of an ssh agent (`--ssh`): the command can authenticate with keys that it never sees.",
}


class Option(Node):
    """An option of `--mount`: the types that take it (empty: all), and what it means. `switch`: it may stand
    without a value."""

    types: tuple[str, ...]
    text: str
    switch: bool = False


_OWNED = ("cache", "secret", "ssh")

MOUNT_OPTIONS = {
    "target": Option(
        (), "Where it is mounted; a relative path begins at WORKDIR. Also `dst`, `destination`."
    ),
    "source": Option((), "What is mounted: a path in `from`, or in the build context. Also `src`."),
    "from": Option(
        (), "A stage (name or number), an image or a named context to take it from. No variables."
    ),
    "id": Option(
        (),
        "Its name: caches with one id are one; secrets and agents are asked for by it. Else the target's "
        "path.",
    ),
    "readonly": Option((), "It cannot be written to. Also `ro`.", switch=True),
    "readwrite": Option((), "It can be written to. Also `rw`.", switch=True),
    "sharing": Option(
        ("cache",),
        "What several builds do with one cache: use it at once (`shared`, if not given), one after another "
        "(`locked`), or each one of its own (`private`).",
    ),
    "size": Option(("tmpfs",), "The most that it may hold: `64m`, `1g`."),
    "env": Option(("secret",), "The variable that holds the secret, in place of a file or beside it."),
    "required": Option(
        ("secret", "ssh"), "The build fails if it is not handed over; else it is left out.", switch=True
    ),
    "mode": Option(
        _OWNED, "Its mode, octal. Without it, 0755 for a cache, 0400 for a secret, 0600 for a socket."
    ),
    "uid": Option(_OWNED, "The number of its owner. Without it, 0."),
    "gid": Option(_OWNED, "The number of its group. Without it, 0."),
}
"""All options but `type`."""

MOUNT_SYNONYMS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}

_PLATFORM = {
    "PLATFORM": "the platform {}, such as `linux/arm64`",
    "OS": "the operating system {}, such as `linux`",
    "ARCH": "the architecture {}, such as `amd64`",
    "VARIANT": "the variant of the architecture {}, such as `v7`; often empty",
    "OSVERSION": "the version of the operating system {}; empty for Linux",
}
_BUILT_FOR = {"TARGET": "that the image is built for", "BUILD": "that the build runs on"}

PLATFORM_ARGUMENTS = {
    prefix + name: text.format(whose)
    for prefix, whose in _BUILT_FOR.items()
    for name, text in _PLATFORM.items()
}
"""Variables that FROM lines see; a stage sees those that an ARG without a default declares."""

DIRECTIVES = {
    "syntax": "Which frontend BuildKit is to fetch. pybuild notes it, and fetches none.",
    "escape": "The character that continues lines and escapes: `\\` or a backquote.",
    "check": "What `pybuild check` leaves out or adds: `skip=RULE,…;error=true;experimental=RULE`.",
}

FLAG_VALUES = {
    "--network": ("default", "none", "host"),
    "--security": ("sandbox", "insecure"),
    "--link": ("true", "false"),
    "--parents": ("true", "false"),
    "--keep-git-dir": ("true", "false"),
    "--unpack": ("true", "false"),
    "--platform": ("$BUILDPLATFORM", "$TARGETPLATFORM", "linux/amd64", "linux/arm64", "linux/arm/v7"),
}
"""Flags whose values are few, or customarily so."""
