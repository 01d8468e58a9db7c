"""Where Debian's packages come from: mirrors, and the host's own sources. Text in, values out.

Sources: sources.list(5), deb822(5), and what the official Debian images have in their /etc/apt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from builder.errors import BaseError

MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
ROLLING = frozenset(("sid", "unstable", "experimental", "rc-buggy"))
"""Suites without -updates and -security: what is new goes right into them."""

_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A suite of a repository. `options` are apt's, as between the brackets of sources.list.

    With `optional`, a mirror need not have it.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[str, ...] = ()
    optional: bool = False

    def line(self, *more: str) -> str:
        """The line of sources.list; `more` are further options."""
        options = " ".join((*self.options, *more))
        parts = ("deb", f"[{options}]" if options else "", self.uri, self.suite, *self.components)
        return " ".join(part for part in parts if part)


def plan_sources(suite: str, mirrors: tuple[str, ...], default: str, security: str) -> tuple[Source, ...]:
    """Return the sources to make `suite` of, the first of which is the suite itself.

    Without `mirrors`: the suite, its updates and its security updates, from the mirrors `default` and
    `security`. A mirror is a URL, for the suite and those of its updates that it has, or a whole `deb …`
    line, taken as it is. Raises BaseError for one that is neither.
    """
    if not mirrors:
        main = Source(default, suite, ("main",))
        if suite in ROLLING:
            return (main,)
        updates = Source(default, f"{suite}-updates", ("main",), optional=True)
        return (main, updates, Source(security, f"{suite}-security", ("main",), optional=True))
    found: list[Source] = []
    for mirror in mirrors:
        found += _mirror(mirror, suite)
    if not any(source.suite == suite for source in found):
        raise BaseError(f"no mirror is given for {suite} itself", code="base/mirror")
    return tuple(sorted(found, key=lambda source: source.suite != suite))


def _mirror(text: str, suite: str) -> list[Source]:
    match = _ONE_LINE.fullmatch(text.strip())
    if match is not None:
        options = tuple((match["options"] or "").split())
        return [Source(_uri(match["uri"]), match["suite"], tuple(match["components"].split()), options)]
    uri = _uri(text)
    if suite in ROLLING:
        return [Source(uri, suite, ("main",))]
    if _kind(uri) == "debian-security":
        return [Source(uri, f"{suite}-security", ("main",))]
    more = [Source(uri, f"{suite}-{kind}", ("main",), optional=True) for kind in ("updates", "security")]
    return [Source(uri, suite, ("main",)), *more]


def _uri(text: str) -> str:
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise BaseError(
            "a mirror's URL must not hold a login: it would stand in the image", code="base/mirror"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\[\]]", text):
        raise BaseError(
            f"{text[:200]!r} is not a mirror",
            code="base/mirror",
            hint=f"write a URL such as {MIRROR}, or a line such as 'deb {MIRROR} bookworm main'",
        )
    return text.rstrip("/")


def _kind(uri: str) -> str:
    """`debian` or `debian-security`, by the path of the mirror; snapshot.debian.org has a time behind it."""
    parts = [part for part in urlsplit(uri).path.split("/") if part]
    if len(parts) > 1 and re.fullmatch(r"\d{8}T\d{6}Z", parts[-1]):
        parts.pop()
    return parts[-1] if parts else ""


def host_mirrors(root: str = "/etc/apt") -> tuple[str, str]:
    """Return the mirrors for Debian and its security updates that this host's apt uses, or Debian's own."""
    uris = [uri for text, deb822 in _source_files(root) for uri in parse_uris(text, deb822=deb822)]
    web = [uri.rstrip("/") for uri in uris if uri.startswith(("http://", "https://"))]
    main = next((uri for uri in web if _kind(uri) == "debian"), MIRROR)
    security = next((uri for uri in web if _kind(uri) == "debian-security"), SECURITY_MIRROR)
    return main, security


def parse_uris(text: str, *, deb822: bool) -> Iterator[str]:
    """The URIs of the binary repositories in a file of apt's, in order."""
    if not deb822:
        for line in text.splitlines():
            match = _ONE_LINE.match(line.partition("#")[0].strip())
            if match is not None:
                yield match["uri"]
        return
    for stanza in re.split(r"\n\s*\n", text):
        fields = parse_stanza(stanza)
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off")
        if enabled and "deb" in fields.get("types", "").split():
            yield from fields.get("uris", "").split()


def parse_stanza(text: str) -> dict[str, str]:
    """The fields of one deb822 stanza, by their names in lower case; continued lines are joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += "\n" + line.strip()
            continue
        key, colon, value = line.partition(":")
        if colon:
            name = key.strip().lower()
            fields[name] = value.strip()
    return fields


def _source_files(root: str) -> Iterator[tuple[str, bool]]:
    directory = os.path.join(root, "sources.list.d")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for path in (os.path.join(root, "sources.list"), *(os.path.join(directory, name) for name in names)):
        if path.endswith((".list", ".sources")):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    yield file.read(), path.endswith(".sources")
            except OSError:
                continue
