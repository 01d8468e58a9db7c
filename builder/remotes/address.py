"""What ADD, or a command line, names that is elsewhere: a URL, a git repository. Pure: nothing is asked here.

The forms are BuildKit's (dfgitutil, gitutil, sshutil): `https://HOST/PATH.git#REF:SUBDIR`, `git://…`,
`ssh://…`, `USER@HOST:PATH`, for a context also `github.com/OWNER/REPOSITORY`; and in place of the fragment,
or beside it, a query with ref, tag, branch, commit or checksum, subdir, keep-git-dir, submodules. An http(s)
URL is a repository if its path ends in `.git`, else a file.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from builder.errors import PlanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn
    from urllib.parse import SplitResult

UNNAMED = "__unnamed__"
"""What BuildKit calls a file whose URL ends in no name."""

HIDDEN = "xxxxx"
"""Stands where a credential stood, as in BuildKit."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9_-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_USERINFO = re.compile(r"://[^/@\s]*@")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*)|[0-9a-f:.]+(%[a-z0-9._-]+)?", re.IGNORECASE)
_BAD_REF = re.compile(r"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/$|\.$|\.lock(/|$)|(^|/)\.|^[-/]|^@$")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{1,64}", re.IGNORECASE)
_CHECKSUM = {"sha256": 64, "sha384": 96, "sha512": 128}
_QUERY = ("ref", "tag", "branch", "commit", "checksum", "subdir", "keep-git-dir", "submodules")
_TRUE = frozenset(("", "1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """A file behind a URL. `name` is what it is called, `checksum` what it has to have (`sha256:…`,
    `sha384:…`, `sha512:…`; "" for anything). Only `shown` may be shown or stored: `url` can hold
    credentials.
    """

    url: str = field(repr=False)
    shown: str
    name: str
    checksum: str = ""

    @property
    def reference(self) -> str:
        """What a lock file calls it."""
        return self.shown


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A place in a git repository.

    `ref` is a branch, a tag, a whole name (`refs/…`), or a commit; "" for the default branch. `subdir` has
    neither a leading slash nor `..`. `checksum` is the commit, or how it begins. `keep_git_dir`,
    `submodules`: as the URL says, None where it does not.
    """

    remote: str = field(repr=False)
    shown: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None

    @property
    def reference(self) -> str:
        """What a lock file calls it: the repository and the ref, as `URL#REF`."""
        return f"{self.shown}#{self.ref}" if self.ref else self.shown

    @property
    def name(self) -> str:
        """The repository's own name."""
        return (
            posixpath.basename(self.shown.rstrip("/").replace(":", "/")).removesuffix(".git") or "repository"
        )

    @property
    def commit(self) -> str:
        """The commit (or the annotated tag that leads to it) if it is known without asking anybody, else
        "".
        """
        return next((known for known in (self.ref, self.checksum) if is_commit(known)), "")


Address = HttpAddress | GitAddress


def parse_address(text: str, *, context: bool = False) -> Address | None:
    """Return what `text` names, None if that is nothing elsewhere. `context`: it stands for a build context,
    and so may be `github.com/…`.

    Raises PlanError (git/url, http/url) for what can only be meant so, but is malformed.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        if context and text.startswith("github.com/"):
            return _git_url("https://" + text, text)
        return _scp(text)
    kind = scheme[1].lower()
    if kind in ("git", "ssh"):
        return _git_url(text, text)
    if kind not in ("http", "https"):
        return None
    return _git_url(text, text) if _split(text, "http/url").path.endswith(".git") else _http(text)


def parse_repository(url: str) -> GitAddress | None:
    """Return the repository that a `.gitmodules` names by `url`, None if that is no place where git is asked:
    a path, another protocol. There it has neither ref nor query."""
    if "#" in url or "?" in url:
        return None
    try:
        scheme = _SCHEME.match(url)
        if scheme is None:
            return _scp(url)
        return _git_url(url, url) if scheme[1].lower() in ("https", "http", "git", "ssh") else None
    except PlanError:
        return None


def is_commit(text: str) -> bool:
    """Return whether `text` is a whole commit id (SHA-1 or SHA-256, lower case)."""
    return _COMMIT.fullmatch(text) is not None


def with_checksum(address: Address, checksum: str) -> Address:
    """Return `address` with what `--checksum` says. Raises PlanError if that is malformed, or the URL
    says something else.
    """
    from dataclasses import replace

    if isinstance(address, HttpAddress):
        algorithm, _, digits = checksum.partition(":")
        if len(digits) != _CHECKSUM.get(algorithm) or not re.fullmatch(r"[0-9a-f]+", digits):
            raise PlanError(
                f"--checksum={checksum}: no digest",
                code="add/checksum",
                hint="of a file it is sha256: (or sha384:, sha512:) and the digest in lower-case hex",
            )
        return replace(address, checksum=checksum)
    if _HEX.fullmatch(checksum) is None:
        raise PlanError(
            f"--checksum={checksum}: no commit",
            code="add/checksum",
            hint="of a git repository it is the commit's id in hex, or how that begins",
        )
    if address.checksum and address.checksum != checksum.lower():
        raise PlanError(f"the URL says {address.checksum}, --checksum says {checksum}", code="add/checksum")
    return replace(address, checksum=checksum.lower())


def redact(text: str) -> str:
    """Return `text` with the user and password of every URL in it hidden."""
    return _USERINFO.sub(f"://{HIDDEN}@", text)


def _http(text: str) -> HttpAddress:
    parts = _split(text, "http/url")
    from urllib.parse import unquote

    name = posixpath.basename(unquote(parts.path, errors="surrogateescape").rstrip("/"))
    if name in ("", ".", "..") or "\0" in name or len(name.encode("utf-8", "surrogateescape")) > 255:
        name = UNNAMED
    url = text.partition("#")[0]
    return HttpAddress(url, redact(url), name)


def _git_url(url: str, text: str) -> GitAddress:
    parts = _split(url, "git/url")
    if not parts.path.strip("/"):
        _refuse(text, "it names no repository")
    from urllib.parse import unquote

    remote = url.partition("#")[0].partition("?")[0]
    # ssh://git@host has a user who is no secret; what stands before @ elsewhere may be a token.
    open_user = parts.scheme == "ssh" and parts.password is None
    shown = remote if open_user else redact(remote)
    return _git(text, remote, shown, parts.query, unquote(parts.fragment))


def _scp(text: str) -> GitAddress | None:
    found = _SCP.fullmatch(text)
    if found is None:
        return None
    user, host, path, query, fragment = found.groups()
    if not path.strip("/") or path.startswith("-"):
        return None
    remote = f"{user}@{host}:{path}"
    return _git(text, remote, remote, query or "", fragment or "")


def _git(text: str, remote: str, shown: str, query: str, fragment: str) -> GitAddress:
    ref, _, subdir = fragment.partition(":")
    asked = _query(text, query)
    for key, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if key in asked:
            name = prefix + asked[key].removeprefix(prefix)
            if ref not in ("", name):
                _refuse(text, f"it asks for two refs: {ref} and {name}")
            ref = name
    if subdir and asked.get("subdir", subdir) != subdir:
        _refuse(text, f"it asks for two subdirectories: {subdir} and {asked['subdir']}")
    checksum = asked.get("checksum", asked.get("commit", "")).lower()
    if asked.get("commit", checksum).lower() != checksum:
        _refuse(text, "its commit and its checksum differ")
    if checksum and _HEX.fullmatch(checksum) is None:
        _refuse(text, f"{checksum} is no commit")
    if checksum and not ref:
        ref = checksum
    if ref and _BAD_REF.search(ref):
        _refuse(text, f"{ref!r} cannot be the name of a branch or tag")
    return GitAddress(
        remote,
        shown,
        ref.lower() if is_commit(ref.lower()) else ref,
        _subdir(text, asked.get("subdir", subdir)),
        checksum,
        _switch(text, asked, "keep-git-dir"),
        _switch(text, asked, "submodules"),
    )


def _query(text: str, query: str) -> dict[str, str]:
    from urllib.parse import parse_qsl

    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERY:
            _refuse(text, f"it asks for {key!r}", f"known are {', '.join(_QUERY)}")
        if key in found:
            _refuse(text, f"it asks twice for {key}")
        if not value and key not in ("keep-git-dir", "submodules"):
            _refuse(text, f"it has no value for {key}")
        found[key] = value
    return found


def _switch(text: str, asked: dict[str, str], key: str) -> bool | None:
    value = asked.get(key)
    if value is None:
        return None
    if value.lower() not in _TRUE | _FALSE:
        _refuse(text, f"{key} is either true or false, not {value!r}")
    return value.lower() in _TRUE


def _subdir(text: str, subdir: str) -> str:
    parts = [part for part in subdir.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in subdir:
        _refuse(text, f"the subdirectory {subdir!r} leads out of the repository")
    return "/".join(parts)


def _split(text: str, code: str) -> SplitResult:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        raise PlanError(f"{_hidden(text)} is no URL", code=code) from None
    if (
        _HOST.fullmatch(host) is None
        or re.search(r"[\0-\x20\x7f]", text)
        or (parts.username or "").startswith("-")
    ):
        raise PlanError(f"{_hidden(text)!r} is no URL", code=code)
    return parts


def _hidden(text: str) -> str:
    # Where a URL's parts end is not known if it is none: a password may be anywhere before the last @.
    return re.sub(r"://\S*@", f"://{HIDDEN}@", text)


def _refuse(text: str, why: str, hint: str | None = None) -> NoReturn:
    raise PlanError(f"{redact(text)}: {why}", code="git/url", hint=hint)
