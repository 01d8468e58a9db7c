"""PACKAGES: for each package manager the script that installs, and what it reports. Pure.

A script is POSIX sh and gets the packages as arguments, as `arguments` writes them. /run/pybuild/cache is
what the package manager keeps from one build to the next; in /run/pybuild/report it leaves what was installed
before and after. It ends with NO_MANAGER where the image has no such package manager.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cache.cachemounts import Sharing

Package = tuple[str, str]
"""A name, and a version; "" for whichever there is."""

VERSION = "1"
"""Part of the step key: to be raised when a script installs something else than before."""

CACHE = "/run/pybuild/cache"
REPORT = "/run/pybuild/report"
NO_MANAGER = 69
"""EX_UNAVAILABLE of sysexits.h."""

_APT = """\
command -v apt-get > /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-${VERSION_ID:-$VERSION_CODENAME}"; } 2> /dev/null) || os=linux
lists=/run/pybuild/cache/$os
archives=/run/pybuild/cache/archives
mkdir -p "$lists/partial" "$archives/partial"
export DEBIAN_FRONTEND=noninteractive

apt() {
    apt-get -q -y \\
        -o Dir::State::Lists="$lists" \\
        -o Dir::Cache::Archives="$archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \\
        -o Dir::Log::History=/dev/null -o Dir::Log::Terminal=/dev/null -o Dir::Log::Planner=/dev/null \\
        -o APT::Keep-Downloaded-Packages=true \\
        -o APT::Install-Recommends=false -o APT::Install-Suggests=false \\
        -o APT::Update::Error-Mode=any \\
        -o Acquire::Languages=none -o Acquire::Retries=3 \\
        ${SSL_CERT_FILE:+-o Acquire::https::CaInfo="$SSL_CERT_FILE"} \\
        -o Dpkg::Use-Pty=false -o Dpkg::Options::=--log=/dev/null -o Dpkg::Options::=--force-unsafe-io \\
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \\
        "$@"
}
query() {
    dpkg --print-architecture
    dpkg-query -W -f '${db:Status-Status}\\t${Package}\\t${Architecture}\\t${Version}\\n'
}

apt update
query > /run/pybuild/report/before
apt --allow-downgrades install -- "$@"
query > /run/pybuild/report/after
"""

_APK = """\
command -v apk > /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-$VERSION_ID"; } 2> /dev/null) || os=linux
cache=/run/pybuild/cache/$os-$(apk --print-arch)
mkdir -p "$cache"

apk info -v > /run/pybuild/report/before
apk --no-progress --cache-dir "$cache" --update-cache add "$@"
apk info -v > /run/pybuild/report/after
"""

_APK_PINNED = """\
# A constraint in the world would stay: there only what the recipe asks for may stand.
cp /etc/apk/world /run/pybuild/report/world
apk --no-progress --cache-dir "$cache" --update-cache add $PYBUILD_PINNED
cat /run/pybuild/report/world > /etc/apk/world
apk --no-progress --cache-dir "$cache" --no-network add "$@"
"""

_DNF = """\
dnf=$(command -v dnf || command -v microdnf) || exit 69
query() {
    rpm -qa --qf '%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n'
}

query > /run/pybuild/report/before
"$dnf" -y \\
    --setopt=install_weak_deps=0 --setopt=keepcache=1 --setopt=logdir=/tmp \\
    ${SSL_CERT_FILE:+--setopt=sslcacert="$SSL_CERT_FILE"} \\
    install "$@"
query > /run/pybuild/report/after
"""

_PIP = """\
python=$(command -v python3 || command -v python) || exit 69
"$python" -c 'import pip' 2> /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-$VERSION_ID"; } 2> /dev/null) || os=linux
export PIP_CACHE_DIR="/run/pybuild/cache/$os" PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1 PIP_PROGRESS_BAR=off
unset PIP_NO_CACHE_DIR
# Compiled modules are told apart by the hash of their source then, not by the time at which it was unpacked.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}"

"$python" -m pip list --format json > /run/pybuild/report/before
"$python" -m pip install "$@"
"$python" -m pip list --format json > /run/pybuild/report/after
"""

_NPM = """\
command -v npm > /dev/null || exit 69
export npm_config_cache=/run/pybuild/cache npm_config_logs_max=0 npm_config_update_notifier=false
export npm_config_fund=false npm_config_audit=false npm_config_progress=false npm_config_yes=true

npm ls --global --all --json > /run/pybuild/report/before || :
npm install --global "$@"
npm ls --global --all --json > /run/pybuild/report/after || :
"""

_HEAD = """\
set -eu
umask 022
export XDG_CACHE_HOME=/tmp
"""


@dataclass(frozen=True, slots=True)
class PackageManager:
    """What is known of one.

    `name` matches the names of packages. `installed` reads a report. `errors` matches, in what the package
    manager prints, what went wrong. `leftovers` are files below / that are put back as they were: logs,
    copies of what was rewritten, caches that hold times or inode numbers; `*` stands for any part of a file's
    name. `sharing` is that of its cache: of one whose locks would make builds wait, each gets its own.
    """

    script: str
    name: re.Pattern[str]
    installed: Callable[[str], dict[str, str]]
    errors: re.Pattern[str]
    leftovers: tuple[str, ...] = ()
    sharing: Sharing = "shared"
    cache: tuple[str, ...] = (CACHE,)


def script(manager: str, *, pinned: bool) -> str:
    """Return what /bin/sh is given. `pinned`: dependencies are to have the versions that `pin_file` and
    `pin_variables` tell.
    """
    text = _HEAD + MANAGERS[manager].script
    if manager == "pip" and pinned:
        text = text.replace("-m pip install", f"-m pip install --constraint {CONSTRAINTS}")
    if manager == "apk" and pinned:
        plain = 'apk --no-progress --cache-dir "$cache" --update-cache add "$@"\n'
        text = text.replace(plain, _APK_PINNED)
    return text


CONSTRAINTS = "/run/pybuild/constraints.txt"
PREFERENCES = "/etc/apt/preferences.d/00pybuild.pref"


def arguments(manager: str, packages: Iterable[Package]) -> list[str]:
    """Return packages as the package manager's command line has them."""
    sign = {"pip": "==", "npm": "@", "dnf": "-"}.get(manager, "=")
    return [f"{name}{sign}{version}" if version else name for name, version in packages]


def pin_file(manager: str, pins: Iterable[Package]) -> tuple[str, str] | None:
    """Return the path and the text of the file that makes dependencies have the versions `pins`, None for a
    package manager that knows none.
    """
    if manager == "apt":
        records = [f"Package: {name}\nPin: version {version}\nPin-Priority: 1000\n" for name, version in pins]
        return PREFERENCES, "\n".join(records)
    if manager == "pip":
        return CONSTRAINTS, "".join(f"{name}=={version}\n" for name, version in pins)
    return None


def pin_variables(manager: str, pins: Iterable[Package]) -> tuple[tuple[str, str], ...]:
    """Return the variables that tell a script of versions where no file does."""
    return (("PYBUILD_PINNED", " ".join(arguments(manager, pins))),) if manager == "apk" else ()


def changed(manager: str, before: str, after: str, wanted: Iterable[str]) -> tuple[Package, ...]:
    """Return what a step installed, sorted: what `after` reports and `before` does not, in that version; and
    what was `wanted`, even if it was there before. Raises ValueError for a report that makes no sense.
    """
    read = MANAGERS[manager].installed
    old, new = read(before), read(after)
    for text in (part for package in new.items() for part in package):
        if not text or not text.isprintable():
            raise ValueError(f"{text!r} is neither name nor version")
    names = {same_name(manager, name) for name in wanted}
    return tuple(
        (name, version)
        for name, version in sorted(new.items())
        if old.get(name) != version or same_name(manager, name) in names
    )


def same_name(manager: str, name: str) -> str:
    """Return what two spellings of a package's name have in common: for pip as of PEP 503, without extras."""
    if manager == "pip":
        return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
    return name


def _read_apt(report: str) -> dict[str, str]:
    """Return names and versions; the name has the architecture behind it where that is a foreign one."""
    native, _, rest = report.partition("\n")
    found: dict[str, str] = {}
    for line in rest.split("\n"):
        fields = line.split("\t")
        if len(fields) == 4 and fields[0] == "installed":
            _, name, architecture, version = fields
            found[name if architecture in (native, "all") else f"{name}:{architecture}"] = version
    return found


def _read_apk(report: str) -> dict[str, str]:
    """A line is name-version-rN."""
    split = [line.strip().rsplit("-", 2) for line in report.split("\n")]
    return {parts[0]: f"{parts[1]}-{parts[2]}" for parts in split if len(parts) == 3}


def _read_dnf(report: str) -> dict[str, str]:
    """Of packages that may be there several times (kernels, keys) all versions, as one text."""
    found: dict[str, str] = {}
    for line in sorted(report.split("\n")):
        fields = line.split("\t")
        if len(fields) == 2 and fields[0] != "gpg-pubkey":
            name, version = fields
            known = found.get(name)
            found[name] = version.removeprefix("0:") if known is None else f"{known} {version}"
    return found


def _read_pip(report: str) -> dict[str, str]:
    return {str(each["name"]): str(each["version"]) for each in json.loads(report)}


def _read_npm(report: str) -> dict[str, str]:
    """Every package in the tree: one that is installed by itself in its version, another one in all the
    versions that it is there in.
    """
    top = json.loads(report or "{}")
    found: dict[str, set[str]] = {}
    pending = [top]
    while pending:
        for name, each in pending.pop().get("dependencies", {}).items():
            if "version" in each:
                found.setdefault(name, set()).add(str(each["version"]))
            pending.append(each)
    for name, each in top.get("dependencies", {}).items():
        found[name] = {str(each["version"])} if "version" in each else set()
    return {name: " ".join(sorted(versions)) for name, versions in found.items() if versions}


MANAGERS = {
    "apt": PackageManager(
        _APT,
        re.compile(r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+](:[a-z0-9-]*[a-z0-9])?"),
        _read_apt,
        re.compile(r"E: (.*)"),
        (
            "var/log/alternatives.log",
            "var/log/dpkg.log",
            "var/log/fontconfig.log",
            "var/log/apt/*",
            "var/cache/apt/*.bin",
            "var/cache/debconf/*-old",
            "var/cache/ldconfig/aux-cache",
            "var/lib/dpkg/*-old",
        ),
        sharing="private",
    ),
    "apk": PackageManager(
        _APK,
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
        _read_apk,
        re.compile(r"ERROR: (.*)"),
        ("var/log/apk.log",),
        sharing="private",
    ),
    "dnf": PackageManager(
        _DNF,
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
        _read_dnf,
        re.compile(r"(?:Error|error|Failed to resolve the transaction): (.*)|(No match for argument: .*)"),
        ("var/log/dnf*", "var/log/hawkey.log", "var/cache/ldconfig/aux-cache"),
        sharing="private",
        cache=("/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum"),
    ),
    "pip": PackageManager(
        _PIP,
        re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9._,-]+\])?"),
        _read_pip,
        re.compile(r"ERROR: (.*)|(The user requested \(constraint\) .*)"),
    ),
    "npm": PackageManager(
        _NPM,
        re.compile(r"(?:@[A-Za-z0-9~][A-Za-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*"),
        _read_npm,
        re.compile(r"npm (?:ERR!|error) (?:code )?(.*)"),
    ),
}
