"""The pipelines of docs/ci: their files are what their systems read, and their scripts run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from builder.cli import parser
from tests.ci_fixtures.pipelines import CI, SYSTEMS, Event, Script, jenkins_pod, read, tekton_task
from tests.command_fixtures.pybuild import ARGV, ROOT, Pybuild
from tests.registry_fixtures.registry import PASSWORD, USER, Registry

RECIPE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
RUN echo one > /one
RUN echo two > /two
TEST grep one /one
"""
STEPS = 5
KEPT = 3
"""Of them, those that a change leaves as they were."""
CHANGED = RECIPE.replace("echo two", "echo another")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a job ended, and what the summary says: how many of how many steps were cached."""

    code: int
    output: str
    cached: int
    steps: int


class Project:
    """A repository with a recipe, main's public key in it, and a registry that wants a login."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        self._directory = directory
        self._registry = registry
        self._count = 0
        self.work = directory / "work"
        (self.work / "ci").mkdir(parents=True)
        self._tools = directory / "bin"
        self._tools.mkdir()
        program = self._tools / "pybuild"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(ARGV)} "$@"\n')
        program.chmod(0o755)
        keys = directory / "keys"
        keys.mkdir()
        pybuild = Pybuild(str(directory / "none"), str(keys))
        for name in ("main", "change"):
            pybuild("cache", "keygen", name, PYBUILD_CACHE_KEY_PASSWORD=f"of {name}")
        shutil.copy(keys / "main.pub", self.work / "ci")
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox-static is not on this machine (make test installs it)"
        shutil.copy(busybox, self.work)
        for command in (("init", "-q"), ("config", "user.email", "a@b"), ("config", "user.name", "a")):
            self._git(*command)
        self.commit(RECIPE)

    def commit(self, recipe: str) -> None:
        (self.work / "app.rec").write_text(recipe)
        self._git("add", "-A")
        self._git("commit", "-q", "-m", "a change")

    def _git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.work, check=True, stdin=subprocess.DEVNULL)

    def run(self, system: str, change: str = "", *, cache_to: str = "") -> Ran:
        """Run the job for main, or for a pull request, on a machine that has never built.

        `cache_to`: the repository of the cache that somebody has changed the pipeline to write to.
        """
        self._count += 1
        job = self._directory / f"job{self._count}"
        (job / "home").mkdir(parents=True)
        key = "change" if change else "main"
        event = Event(
            change, str(job), self._registry.address, USER, PASSWORD,
            str(self._directory / f"keys/{key}.key"), f"of {key}",
        )  # fmt: skip
        scripts, summary = SYSTEMS[system]
        code, output = 0, ""
        for script in scripts(event):
            if code == 0 or script.last:
                done = self._shell(script, job, cache_to)
                code, output = code or done.returncode, output + done.stdout
        found = [path for path in (job / summary, self.work / summary) if path.exists()]
        assert found, output
        told = found[0].read_text()
        (self.work / "cache.md").unlink(missing_ok=True)
        return Ran(code, output, *counted(told))

    def _shell(self, script: Script, job: Path, cache_to: str) -> subprocess.CompletedProcess[str]:
        text = script.text
        if cache_to:
            text = re.sub(r"(--cache-to \"type=registry,ref=\$CACHE)/[^,\"]+", rf"\1/{cache_to}", text)
        path = job / "script"
        path.write_text(text)
        more = os.environ.get("PYTHONPATH")
        environment = {
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, more))),
            "PYBUILD_ROOT": str(job / "store"),
            "HOME": str(job / "home"),
            "LANG": "C.UTF-8",
            **dict(script.environment),
        }
        return subprocess.run(
            [*script.shell, str(path)], cwd=self.work, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def counted(summary: str) -> tuple[int, int]:
    """Return how many of how many steps were cached, as the Markdown says it, or the text."""
    found = re.search(r"^(\d+) of (\d+) steps were cached", summary, re.M)
    if found is not None:
        assert re.search(rf"^\| run \| {int(found[2]) - int(found[1])} \|", summary, re.M)
        return int(found[1]), int(found[2])
    steps = re.search(r": (\d+) steps? in ", summary)
    hits = re.search(r"^  hits +(\d+) ", summary, re.M)
    assert steps and hits, summary
    return int(hits[1]), int(steps[1])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Registry(str(tmp_path / "registry"), login=True) as registry:
        yield Project(tmp_path, registry)


@pytest.mark.peer("busybox", "docker-registry", "git")
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_main_has_run_neither_main_nor_a_pull_request_runs_again(system: str, project: Project) -> None:
    """Each on a machine that has never built; the summary says so."""
    first = project.run(system)
    assert (first.code, first.cached, first.steps) == (0, 0, STEPS), first.output
    second = project.run(system)
    assert (second.code, second.cached, second.steps) == (0, STEPS, STEPS), second.output
    project.commit(CHANGED)
    change = project.run(system, "7")
    assert (change.code, change.cached, change.steps) == (0, KEPT, STEPS), change.output


@pytest.mark.peer("busybox", "docker-registry", "git")
def test_what_a_pull_request_has_run_it_takes_itself_and_main_does_not(project: Project) -> None:
    assert project.run("gitlab").code == 0
    project.commit(CHANGED)
    assert project.run("gitlab", "7").cached == KEPT
    assert project.run("gitlab", "7").cached == STEPS
    assert project.run("gitlab", "8").cached == KEPT, "another one has a repository of its own"
    # A pull request can change the pipeline; it cannot have main's key.
    attack = project.run("gitlab", "9", cache_to="main")
    assert (attack.code, attack.cached) == (0, KEPT), attack.output
    merged = project.run("gitlab")
    assert (merged.code, merged.cached) == (0, KEPT), merged.output
    assert "which is not trusted here" in merged.output


@pytest.mark.peer("busybox", "docker-registry", "git", "skopeo")
def test_main_pushes_what_it_has_built_and_a_pull_request_does_not(project: Project, tmp_path: Path) -> None:
    """And Tekton's results name what was pushed, by its digest; a step that fails fails the job."""
    assert project.run("tekton", "7").code == 0
    assert (tmp_path / "job1/IMAGE_URL").read_text() == (tmp_path / "job1/IMAGE_DIGEST").read_text() == ""
    assert project.run("tekton").code == 0
    url, digest = ((tmp_path / "job2" / name).read_text() for name in ("IMAGE_URL", "IMAGE_DIGEST"))
    pushed = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", f"docker://{url}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert yaml.safe_load(pushed.stdout)["Digest"] == digest
    project.commit(RECIPE.replace("grep one", "grep two"))
    failed = project.run("tekton")
    assert (failed.code, failed.cached) == (1, STEPS - 1)
    assert not (tmp_path / "job3/IMAGE_URL").read_text()


@pytest.mark.peer("busybox", "docker-registry", "git")
def test_a_pull_request_from_a_fork_reads_without_a_key(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.run("github").code == 0
    (tmp_path / "keys/change.key").write_text("")
    project.commit(CHANGED)
    for _ in range(2):
        done = project.run("github", "7")
        assert (done.code, done.cached) == (0, KEPT), done.output


def event(tmp_path: Path, change: str) -> Event:
    key = tmp_path / "key"
    key.write_text("")
    return Event(change, str(tmp_path), "registry.example.org", "ada", "secret", str(key), "")


@pytest.mark.parametrize("change", ["", "7"], ids=["main", "change"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_scripts_are_those_of_their_shells(system: str, change: str, tmp_path: Path) -> None:
    scripts = SYSTEMS[system][0](event(tmp_path, change))
    assert len([each for each in scripts if "pybuild build" in each.text]) == 1
    for each in scripts:
        subprocess.run([each.shell[0], "-n"], input=each.text, text=True, check=True)


def pages() -> list[str]:
    return sorted(os.listdir(CI))


@pytest.mark.parametrize("name", pages())
def test_every_command_line_is_one_that_pybuild_takes(name: str) -> None:
    """Of the pipelines and of the page that explains them; variables stand for themselves."""
    text = read(name).replace("\\\n", "")
    start = r"^\$ " if name == "README.md" else r"(?:^ *(?:- )?|[|;'] ?)"
    found = re.findall(rf"{start}(pybuild [a-z][^|>'\n]*)", text, re.M)
    assert found
    for line in found:
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "${options[@]}"]
        parser().parse_args(words)


def test_the_pods_are_those_of_the_page_on_building_without_root() -> None:
    with open(os.path.join(ROOT, "docs", "rootless.md"), encoding="utf-8") as file:
        found = re.search(r"```yaml\n(.*?)```", file.read(), re.S)
    assert found is not None
    (documented,) = yaml.safe_load(found[1])["spec"]["containers"]
    context = {**documented["securityContext"], "runAsNonRoot": True, "runAsGroup": 1000}
    (step,) = tekton_task()["steps"]
    (container,) = jenkins_pod()["spec"]["containers"]
    for each in (step, container):
        assert each["securityContext"] == context
        assert each["image"].endswith("/pybuild:0.1.0")
        assert {"name": "store", "mountPath": "/var/lib/pybuild"} in each["volumeMounts"]
    with open(os.path.join(CI, "README.md"), encoding="utf-8") as file:
        settings = re.search(r"```toml\n(.*?)```", file.read(), re.S)
    assert settings is not None
    runner = tomllib.loads(settings[1])["runners"][0]["kubernetes"]
    (patch,) = runner["pod_spec"]
    (build,) = yaml.safe_load(patch["patch"])["containers"]
    pod = runner["pod_security_context"]
    assert (pod["run_as_non_root"], pod["run_as_user"], pod["run_as_group"]) == (True, 1000, 1000)
    assert build["securityContext"].items() < context.items()
    assert runner["volumes"]["empty_dir"] == [{"name": "store", "mount_path": "/var/lib/pybuild"}]
