"""What this host's apt is configured to do, as far as a base made of packages should do the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_QUESTIONS = {
    "HTTP": "Acquire::http::Proxy",
    "HTTPS": "Acquire::https::Proxy",
    "VALID": "Acquire::Check-Valid-Until",
}


@dataclass(frozen=True, slots=True)
class AptSettings:
    """`proxies` are environment variables, as curl and apt read them.

    `check_valid_until`: whether an old Release file is refused, which a frozen mirror cannot do with.
    """

    proxies: Mapping[str, str]
    check_valid_until: bool = True


def apt_settings(environ: Mapping[str, str]) -> AptSettings:
    """Ask apt-config(8).

    mmdebstrap gives apt a configuration of its own, to which the host's does not belong.
    """
    import subprocess

    words = [word for pair in _QUESTIONS.items() for word in pair]
    try:
        done = subprocess.run(
            ["apt-config", "shell", *words], capture_output=True, text=True, check=False, env=dict(environ)
        )
    except OSError:
        return AptSettings({})
    return parse_settings(done.stdout if done.returncode == 0 else "")


def parse_settings(text: str) -> AptSettings:
    """Read what `apt-config shell` prints: assignments, quoted for a shell; what is not set is left out."""
    import shlex

    found = dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)
    proxies = {
        f"{scheme.lower()}_proxy": found[scheme]
        for scheme in ("HTTP", "HTTPS")
        if found.get(scheme, "DIRECT") not in ("DIRECT", "")
    }
    return AptSettings(
        proxies, found.get("VALID", "true").lower() not in ("false", "no", "0", "off", "without")
    )
