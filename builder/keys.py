"""The one place where a step key is computed.

A key is the BLAKE3 of everything that a step's result can depend on, as labelled parts, the ChainID below
first. The parts are kept in the record, so that a miss can say which of them differs. Changing what goes in
means another VERSION, since a key must never mean two things.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from builder.steps import CopyStep, ExecStep, TestStep, WorkdirStep
from cache.oci.digest import ChainID
from cache.oci.spec import ContainerConfig

VERSION = "1"

Part = tuple[str, str]
"""What it is, in words that `--explain` can show, and its value."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """A step key in hex, and the parts that it was made of, in order."""

    key: str
    parts: tuple[Part, ...]


def exec_key(step: ExecStep, parent: ChainID | None, platform: str) -> StepKey:
    """Return the key of a RUN. The proxies and the epoch are left out."""
    return _key(
        "run",
        parent,
        ("command", _words(step.argv)),
        *_script_part(step.script),
        ("platform", platform),
        ("user", step.user),
        ("directory", step.workdir),
        ("network", step.network),
        *((f"variable {name}", value) for name, value in sorted(step.env)),
    )


def copy_key(step: CopyStep, parent: ChainID | None, trees: tuple[Part, ...]) -> StepKey:
    """Return the key of a COPY or ADD. `trees` has, for each source, its name and the digest of what was
    selected.
    """
    return _key(
        "add" if step.unpack else "copy",
        parent,
        ("destination", step.dest + ("/" if step.into_directory else "")),
        ("--chown", step.chown),
        ("--chmod", step.chmod),
        *((("--link", "true"),) if step.link else ()),
        *((f"source {name}", digest) for name, digest in trees),
    )


def workdir_key(step: WorkdirStep, parent: ChainID | None) -> StepKey:
    """Return the key of a WORKDIR."""
    return _key("workdir", parent, ("path", step.path), ("user", step.user))


def check_key(step: TestStep, parent: ChainID | None, platform: str, suite: str) -> StepKey:
    """Return the key of a TEST. `suite` is the digest of its testinfra suite, "" where it has none."""
    return _key(
        "test",
        parent,
        ("command", _words(step.argv)),
        *_script_part(step.script),
        ("suite", suite),
        ("platform", platform),
        ("config", _config(step.config)),
    )


def base_key(kind: str, *parts: Part) -> StepKey:
    """Return the key under which a made base (mmdebstrap) is remembered."""
    return _key(kind, None, *parts)


def _config(config: ContainerConfig) -> str:
    return json.dumps(config.value(), sort_keys=True, ensure_ascii=False)


def _script_part(script: bytes | None) -> tuple[Part, ...]:
    return () if script is None else (("script", script.decode("utf-8", "surrogateescape")),)


def _words(words: tuple[str, ...]) -> str:
    return json.dumps(words, ensure_ascii=False)


def _key(kind: str, parent: ChainID | None, *parts: Part) -> StepKey:
    from blake3 import blake3

    labelled = (("state below", parent or "nothing"), *parts)
    hasher = blake3(f"pybuild step {VERSION} {kind}".encode())
    for label, value in labelled:
        for text in (label, value):
            data = text.encode("utf-8", "surrogateescape")
            # Lengths keep two different lists of parts from ever looking alike.
            hasher.update(len(data).to_bytes(8, "little") + data)
    return StepKey(hasher.hexdigest(), labelled)
