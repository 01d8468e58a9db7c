"""pip, npm, apk, dnf."""

from __future__ import annotations

from grammar.ast import Env
from grammar.rules.installs import Call, calls, named
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.ast import Stage
    from grammar.rules.rule import Finding, Script, Subject

_PIP = ("pip", "pip2", "pip3")
_PIP_VALUED = (
    *(
        "-r",
        "-c",
        "-i",
        "-f",
        "-t",
        "-e",
        "--requirement",
        "--constraint",
        "--index-url",
        "--extra-index-url",
    ),
    *(
        "--find-links",
        "--target",
        "--editable",
        "--root",
        "--prefix",
        "--timeout",
        "--retries",
        "--trusted-host",
    ),
)
_DNF = ("dnf", "yum", "microdnf")


def _pip(script: Script) -> Iterator[Call]:
    for call in calls(script, _PIP, _PIP_VALUED):
        if call.verb == "install":
            yield call


@rule("PipNoCacheDir", "warning", "pip's cache should not stay in the layer")
def pip_no_cache_dir(subject: Subject) -> Iterator[Finding]:
    configured = [stage.index for stage in subject.stages if _configures_cache(stage)]
    for script in subject.scripts:
        if script.stage.index in configured or script.mounts("/root/.cache/pip"):
            continue
        for call in _pip(script):
            if not call.has("--no-cache-dir"):
                yield (
                    call.span,
                    "what pip downloads stays in the layer twice",
                    "Add --no-cache-dir, or mount a cache: --mount=type=cache,target=/root/.cache/pip.",
                )


def _configures_cache(stage: Stage) -> bool:
    return any(
        pair.key.text in ("PIP_NO_CACHE_DIR", "PIP_CACHE_DIR")
        for instruction in stage.instructions
        if isinstance(instruction, Env)
        for pair in instruction.pairs
    )


@rule("PipPinVersions", "info", "pip install should name versions")
def pip_pin_versions(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in _pip(script):
            if call.has("-c", "--constraint") or any(
                o.startswith(("-c ", "--constraint ")) for o in call.options
            ):
                continue
            unpinned = [
                each
                for each in named(call.packages)
                if not {"==", "===", "@"} & {each[i : i + n] for n in (1, 2, 3) for i in range(len(each))}
                and not each.endswith((".whl", ".tar.gz", ".zip"))
            ]
            if unpinned:
                yield (
                    call.span,
                    f"{', '.join(unpinned[:5])}: in whatever version there is",
                    f"Write {unpinned[0]}==VERSION, or pip install -r a file with versions.",
                )


@rule("NpmPinVersions", "info", "npm install should name versions")
def npm_pin_versions(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in calls(script, ("npm",), ("--prefix", "--registry", "-w", "--workspace")):
            if call.verb not in ("install", "i", "add"):
                continue
            unpinned = [each for each in _npm_names(call.packages) if "@" not in each[1:]]
            if unpinned:
                yield (
                    call.span,
                    f"{', '.join(unpinned[:5])}: in whatever version there is",
                    f"Write {unpinned[0]}@VERSION, or use npm ci with a package-lock.json.",
                )


def _npm_names(packages: tuple[str, ...]) -> list[str]:
    """Scoped names have a slash: @scope/name."""
    return [each for each in packages if named((each,)) or (each.startswith("@") and "$" not in each)]


@rule("ApkNoCache", "warning", "apk's index should not stay in the layer")
def apk_no_cache(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if script.mounts("/var/cache/apk", "/etc/apk/cache"):
            continue
        removed = any(
            c.program == "rm" and any("/var/cache/apk" in word for word in c.arguments)
            for c in script.commands
        )
        for call in calls(script, ("apk",), ("-t", "--virtual", "-X", "--repository")):
            if call.verb == "add" and not call.has("--no-cache") and not removed:
                yield (
                    call.span,
                    "apk's index stays in the layer",
                    "Write apk add --no-cache, without apk update.",
                )


@rule("ApkPinVersions", "info", "apk add should name versions")
def apk_pin_versions(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in calls(script, ("apk",), ("-t", "--virtual", "-X", "--repository")):
            unpinned = [each for each in named(call.packages) if not set("=<>~") & set(each)]
            if call.verb == "add" and unpinned:
                yield (
                    call.span,
                    f"{', '.join(unpinned[:5])}: in whatever version there is",
                    f"Write {unpinned[0]}=VERSION; or use PACKAGES apk, whose versions are in the lock file.",
                )


@rule("DnfAssumeYes", "warning", "dnf install should not ask")
def dnf_assume_yes(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in calls(script, _DNF):
            if call.verb in ("install", "upgrade", "update", "remove") and not call.has("-y", "--assumeyes"):
                yield call.span, f"{call.program} {call.verb} asks, and nobody answers", "Add -y."


@rule("DnfCleanAll", "info", "dnf's cache should not stay in the layer")
def dnf_clean_all(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if script.mounts("/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"):
            continue
        found = list(calls(script, _DNF))
        cleaned = any(call.verb == "clean" for call in found) or any(
            c.program == "rm" and any("/var/cache/" in word for word in c.arguments) for c in script.commands
        )
        installs = [call for call in found if call.verb == "install"]
        if installs and not cleaned:
            yield (
                installs[0].span,
                f"{installs[0].program}'s cache stays in the layer",
                f"End the RUN with && {installs[0].program} clean all.",
            )
