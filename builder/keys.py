"""The one place where a step key is computed.

A key is the BLAKE3 of everything that a step's result can depend on, as labelled parts, the ChainID below
first. The parts are kept in the record, so that a miss can say which of them differs. Changing what goes in
means another VERSION, since a key must never mean two things. A part that only some instructions have is left
out where it would say nothing: so their like without it keep their keys.

Of what the command line asks for every command, ulimits, the size of /dev/shm and the names of --add-host are
in its key, and the addresses are not: as in BuildKit's ExecOp (solver/llbsolver/ops/exec.go, CacheMap), for a
mirror that moves is no other mirror. Limits of memory, processors, processes and time are in none: what a
command makes within them is what it makes without, and of one that they ended there is no record. Of mounts
there are the options; of a bind mount, and of what a cache mount begins with, the digest; never the value of
a secret, nor what a cache holds, nor how it is shared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from builder.steps import (
    BindMount,
    CacheMount,
    CopyStep,
    ExecStep,
    PackagesStep,
    SecretMount,
    StepMount,
    TestStep,
    TmpfsMount,
    WorkdirStep,
)
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


def exec_key(
    step: ExecStep, parent: ChainID | None, platform: str, mounted: tuple[Part, ...] = ()
) -> StepKey:
    """Return the key of a RUN. The proxies and the epoch are left out. `mounted` has, for each mount that
    shows files, its target and their digest.
    """
    return _key(
        "run",
        parent,
        ("command", _words(step.argv)),
        *_script_part(step.script),
        ("platform", platform),
        ("user", step.user),
        ("directory", step.workdir),
        ("network", _network(step.network)),
        *((("security", step.security),) if step.security else ()),
        *_asked(step),
        *((f"variable {name}", value) for name, value in sorted(step.env)),
        *(_mount(mount) for mount in step.mounts),
        *((f"mounted {target}", digest) for target, digest in mounted),
    )


def _network(name: str) -> str:
    """A private network has a way out, too: what a step makes with it is what it makes with the host's."""
    return "host" if name == "private" else name


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
        *((("--unpack", "true"),) if step.unpack_remote else ()),
        *((("--parents", "true"),) if step.parents else ()),
        *((("--exclude", _words(step.exclude)),) if step.exclude else ()),
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
        *((("network", step.network),) if step.network == "none" else ()),
        *_asked(step),
    )


def packages_key(step: PackagesStep, parent: ChainID | None, platform: str) -> StepKey:
    """Return the key of a PACKAGES. What its packages are by now is not asked for: as with a RUN, a hit is
    what was installed when it ran.
    """
    from builder.packagescripts import VERSION as SCRIPT

    pins = step.pins
    return _key(
        "packages",
        parent,
        ("package manager", step.manager),
        ("packages", " ".join(f"{n}={v}" if v else n for n, v in step.packages)),
        ("script", SCRIPT),
        ("platform", platform),
        ("network", _network(step.network)),
        *_asked(step),
        *((("locked", " ".join(f"{n}={v}" for n, v in pins)),) if pins is not None else ()),
        *((f"variable {name}", value) for name, value in sorted(step.env)),
    )


def base_key(kind: str, *parts: Part) -> StepKey:
    """Return the key under which a made base (mmdebstrap) is remembered."""
    return _key(kind, None, *parts)


def _asked(step: ExecStep | TestStep | PackagesStep) -> tuple[Part, ...]:
    """Return the parts of what the command line asks for every command."""
    parts: list[Part] = []
    if step.extra_hosts:
        parts.append(("--add-host", " ".join(sorted({name for name, _ in step.extra_hosts}))))
    parts += [(f"--ulimit {name}", f"{soft}:{hard}") for name, soft, hard in sorted(step.rlimits)]
    if step.shm_size is not None:
        parts.append(("--shm-size", str(step.shm_size)))
    if step.no_new_privileges:
        parts.append(("--security-opt", "no-new-privileges"))
    return tuple(parts)


def _mount(mount: StepMount) -> Part:
    """Return the part of a mount's options: as the recipe would say them, without those that are the
    default.
    """
    name = f"${mount.env}" if isinstance(mount, SecretMount) and not mount.target else mount.target
    return f"mount {name}", _words(tuple(word for word in _options(mount) if word))


def _options(mount: StepMount) -> tuple[str, ...]:
    if isinstance(mount, TmpfsMount):
        return "tmpfs", "" if mount.size is None else f"size={mount.size}"
    if isinstance(mount, BindMount):
        return "bind", _source(mount.source), "" if mount.read_only else "readwrite"
    owner = (f"uid={mount.uid}" if mount.uid else "", f"gid={mount.gid}" if mount.gid else "")
    if isinstance(mount, CacheMount):
        mode = _mode(mount.mode, None)
        read_only = "readonly" if mount.read_only else ""
        return "cache", f"id={mount.id}", _source(mount.source), read_only, *owner, mode
    required = "required" if mount.required else ""
    if isinstance(mount, SecretMount):
        env = f"env={mount.env}" if mount.env else ""
        return "secret", f"id={mount.id}", env, required, *owner, _mode(mount.mode, 0o400)
    return "ssh", f"id={mount.id}", required, *owner, _mode(mount.mode, 0o600)


def _source(path: str) -> str:
    return "" if path == "/" else f"source={path}"


def _mode(mode: int | None, default: int | None) -> str:
    return "" if mode is None or mode == default else f"mode={mode:04o}"


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


def descent_key(recipe: str, stage: str, platform: str, base: ChainID | None) -> str:
    """Return the name of a line of descent: what builds of one stage have in common, whatever was edited."""
    return _key("descent", base, ("recipe", recipe), ("stage", stage), ("platform", platform)).key


def fact_key(kind: str, question: str) -> str:
    """Return the name under which the answer to a question about root filesystems is shared."""
    return _key("fact", None, (kind, question)).key
