"""Words that a fuzzer would take long to hit on."""

from __future__ import annotations

from grammar.lexer import FLAGS, KEYWORDS
from grammar.mounts import _KEYS, SHARING, TYPES

_RECIPE = r"""
    <<EOF <<-'E' ${a:- ${a# ${a// && || $( $(( ["a","b"] apt-get install update set -e case in if then fi
    scratch ./a.rec#b mmdebstrap:// debian:12 check=skip=all escape=` syntax=
    b.rec c.rec
"""

WORDS = {
    "recipe": [
        *sorted(KEYWORDS),
        *(f"{flag}=" for flag in sorted(FLAGS)),
        *(f",{key}=" for key in _KEYS),
        *TYPES,
        *SHARING,
        *_RECIPE.split(),
        *(
            "FROM scratch\n",
            "\nRUN ",
            "\nEOF\n",
            "\\\n",
            " \\ \n",
            "\r\n",
            "\n# ",
            " AS x",
            "\u2028",
            "\ufeff",
        ),
    ],
    "tar": [
        *(
            "ustar\0" + "00",
            "ustar  \0",
            ".wh.",
            ".wh..wh..opq",
            "../",
            "SCHILY.xattr.user.",
            "path=",
            "linkpath=",
        ),
        *("GNU.sparse.major=1\n", "GNU.sparse.map=", "mtime=1.5\n", "size=", "linkpath="),
    ],
    "ignore": ["**", "/**/", "!", "[^", "[a-z]", "\\", "\r\n", "\n#", "../", "\0"],
    "document": [
        *(
            f'"{name}":'
            for name in ("mediaType", "digest", "size", "config", "layers", "manifests", "platform")
        ),
        *(
            f'"{name}":'
            for name in ("architecture", "os", "rootfs", "diff_ids", "history", "annotations", "data")
        ),
        *('"schemaVersion":2', "linux/arm64/v8", "docker.io/library/", "sha256:" + "0" * 64, "@sha256:"),
    ],
}
"""By target."""
