"""apt and apt-get."""

from __future__ import annotations

from grammar.rules.installs import Call, calls, named
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.rules.rule import Finding, Script, Subject

_LISTS = "/var/lib/apt/lists"
_VALUED = ("-o", "-t", "-c", "--option", "--target-release", "--default-release", "--config-file")


def _calls(script: Script, *verbs: str) -> Iterator[Call]:
    for call in calls(script, ("apt", "apt-get", "aptitude"), _VALUED):
        if call.verb in verbs:
            yield call


def _yes(call: Call) -> bool:
    return call.has("-y", "--yes", "--assume-yes") or any(
        (option.startswith("-") and not option.startswith("--") and option.count("q") > 1)
        or "Assume-Yes" in option
        for option in call.options
    )


@rule("AptInsteadOfAptGet", "warning", "Scripts should use apt-get: apt is for people")
def apt_instead_of_apt_get(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in calls(script, ("apt",), _VALUED):
            yield call.span, "apt's command line may change at any time", f"Write apt-get {call.verb}."
            break


@rule("AptInstallWithoutUpdate", "warning", "apt-get install should come with apt-get update in the same RUN")
def apt_install_without_update(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if script.mounts(_LISTS, "/var/lib/apt"):
            continue
        updates = [call.at for call in _calls(script, "update")]
        for call in _calls(script, "install"):
            local = call.packages and not named(call.packages) and all("/" in each for each in call.packages)
            if not local and not any(at < call.at for at in updates):
                yield (
                    call.span,
                    "apt-get install with whatever lists there are: none, or old ones from the cache",
                    "Write RUN apt-get update && apt-get install … in one instruction.",
                )
                break


@rule("AptUpdateAlone", "warning", "apt-get update should not be a layer of its own")
def apt_update_alone(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        updates = list(_calls(script, "update"))
        others = list(
            _calls(script, "install", "upgrade", "dist-upgrade", "full-upgrade", "build-dep", "download")
        )
        if updates and not others and len(script.commands) <= len(updates) + 1 and not script.run.mounts:
            yield (
                updates[0].span,
                "the lists of this apt-get update grow old in the cache",
                "Write RUN apt-get update && apt-get install … in one instruction.",
            )


@rule("AptAssumeYes", "warning", "apt-get install should not ask")
def apt_assume_yes(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in _calls(
            script, "install", "upgrade", "dist-upgrade", "full-upgrade", "remove", "purge", "autoremove"
        ):
            if not _yes(call):
                yield call.span, f"{call.program} {call.verb} asks, and nobody answers", "Add -y."


@rule("AptNoInstallRecommends", "info", "apt-get install should leave out what is only recommended")
def apt_no_install_recommends(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in _calls(script, "install"):
            if not call.has("--no-install-recommends") and not any("Recommends" in o for o in call.options):
                yield call.span, "recommended packages are installed too", "Add --no-install-recommends."


@rule("AptPinVersions", "info", "apt-get install should name versions")
def apt_pin_versions(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in _calls(script, "install"):
            unpinned = [each for each in named(call.packages) if "=" not in each]
            if unpinned:
                yield (
                    call.span,
                    f"{', '.join(unpinned[:5])}: in whatever version there is",
                    f"Write {unpinned[0]}=VERSION; or use PACKAGES apt, whose versions are in the lock file.",
                )


@rule("AptListsKept", "info", "The package lists should not stay in the layer")
def apt_lists_kept(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if script.stage.index not in subject.bases or script.mounts(_LISTS, "/var/lib/apt"):
            continue
        updates = list(_calls(script, "update"))
        removed = any(
            command.program == "rm" and any(_LISTS in word for word in command.arguments)
            for command in script.commands
        )
        if updates and not removed and list(_calls(script, "install", "upgrade", "dist-upgrade")):
            yield (
                updates[0].span,
                "the package lists stay in the layer",
                f"End the RUN with && rm -rf {_LISTS}/*, or use --mount=type=cache,target={_LISTS}.",
            )


@rule("AptDistUpgrade", "warning", "A base should be upgraded by its maker")
def apt_dist_upgrade(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for call in _calls(script, "dist-upgrade", "full-upgrade"):
            yield (
                call.span,
                f"{call.verb} makes another base of it, a different one each day",
                "Take a newer base image instead.",
            )
