"""The pipelines of docs/ci, read as their systems read them: which scripts a job runs, in which shell, with
what in its environment.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tests.command_fixtures.pybuild import ROOT

CI = os.path.join(ROOT, "docs", "ci")
BASH = ("bash", "-e")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, slots=True)
class Event:
    """What a job is for: `change` is the number of a pull request, "" for main. `directory` is the job's own;
    `registry` is host[:port], `key` a file.
    """

    change: str
    directory: str
    registry: str
    user: str
    password: str
    key: str
    key_password: str
    epoch: str = "1700000000"

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)


@dataclass(frozen=True, slots=True)
class Script:
    """`last`: it runs however those before it have ended."""

    text: str
    shell: tuple[str, ...] = BASH
    environment: tuple[tuple[str, str], ...] = ()
    last: bool = False


def read(name: str, registry: str = "registry.example.org") -> str:
    """Return a pipeline's text, with another registry in the place of the one that it names."""
    with open(os.path.join(CI, name), encoding="utf-8") as file:
        return re.sub(r"registry\.example\.org|ghcr\.io", registry, file.read())


def filled(text: str, pattern: str, values: dict[str, str]) -> str:
    """Fill in a system's expressions. One that is none of `values` is a KeyError."""
    return re.sub(pattern, lambda found: values[found[1]], text)


def github(event: Event) -> list[Script]:
    """The steps of the job but for those that install, with GitHub's default shell."""
    workflow: dict[Any, Any] = yaml.safe_load(read("github.yml", event.registry))
    with open(event.key, encoding="utf-8") as file:
        key = file.read()
    values = {
        "github.actor": event.user,
        "github.event.pull_request.number": event.change,
        "secrets.GITHUB_TOKEN": event.password,
        "secrets.PYBUILD_CACHE_KEY": key,
        "secrets.PYBUILD_CACHE_KEY_PASSWORD": event.key_password,
    }
    given = {
        "GITHUB_SHA": COMMIT,
        "GITHUB_STEP_SUMMARY": event.path("summary"),
        "RUNNER_TEMP": event.directory,
    }
    scripts = []
    for step in workflow["jobs"]["image"]["steps"]:
        if "run" in step and step["name"] != "Install pybuild":
            own = {
                name: filled(text, r"\$\{\{ (\S+) \}\}", values) for name, text in step.get("env", {}).items()
            }
            environment = {**given, **workflow["env"], **own}
            scripts.append(Script(step["run"], BASH, tuple(environment.items()), "if" in step))
    return scripts


def gitlab(event: Event) -> list[Script]:
    """The job of a merge request, or of main; after_script has a shell of its own."""
    document: dict[str, Any] = yaml.safe_load(read("gitlab-ci.yml", event.registry))
    job = document[".image"] | document["change" if event.change else "main"]
    which = "CHANGE" if event.change else "MAIN"
    given = {
        "CI_REGISTRY": event.registry,
        "CI_REGISTRY_IMAGE": f"{event.registry}/team/app",
        "CI_REGISTRY_USER": event.user,
        "CI_REGISTRY_PASSWORD": event.password,
        "CI_MERGE_REQUEST_IID": event.change,
        "CI_COMMIT_SHA": COMMIT,
        "CI_COMMIT_REF_SLUG": "main",
        f"{which}_CACHE_KEY": event.key,
        f"{which}_CACHE_KEY_PASSWORD": event.key_password,
    }
    variables = {name: filled(text, r"\$(\w+)", given) for name, text in document["variables"].items()}
    environment = tuple({**given, **variables}.items())
    shell = (*BASH, "-o", "pipefail")
    return [
        Script("\n".join((*job["before_script"], *job["script"])), shell, environment),
        Script("\n".join(job["after_script"]), shell, environment, True),
    ]


def tekton_task(registry: str = "registry.example.org") -> dict[str, Any]:
    documents = list(yaml.safe_load_all(read("tekton.yaml", registry)))
    (task,) = [each for each in documents if each["kind"] == "Task"]
    found: dict[str, Any] = task["spec"]
    return found


def tekton(event: Event) -> list[Script]:
    """The task's one step, with what the pipeline's run for main says, or a pull request's would."""
    task = tekton_task(event.registry)
    (step,) = task["steps"]
    given = {
        "image": f"{event.registry}/team/app",
        "cache": f"{event.registry}/team/app-cache",
        "revision": COMMIT,
        "change": event.change,
        "epoch": event.epoch,
    }
    defaults = {each["name"]: each.get("default", "") for each in task["params"]}
    values = {f"params.{name}": text for name, text in (defaults | given).items()}
    values |= {f"results.{each['name']}.path": event.path(each["name"]) for each in task["results"]}
    secrets = {
        ("pybuild-cache", "password"): event.key_password,
        ("registry", "username"): event.user,
        ("registry", "password"): event.password,
    }
    environment = {}
    for each in step["env"]:
        if "value" in each:
            environment[each["name"]] = filled(each["value"], r"\$\(([\w.-]+)\)", values)
        else:
            reference = each["valueFrom"]["secretKeyRef"]
            environment[each["name"]] = secrets[reference["name"], reference["key"]]
    assert environment["PYBUILD_CACHE_KEY"] == "/keys/cache.key"
    environment["PYBUILD_CACHE_KEY"] = event.key
    own = step["script"].replace("/tmp/", event.path(""))
    text = filled(own, r"\$\(([a-z]+\.[\w.-]+)\)", values)
    return [Script(text, ("bash",), tuple(environment.items()))]


def jenkins_pod() -> dict[str, Any]:
    """The agent's pod."""
    found = re.search(r"yaml '''\n(.*?)'''", read("Jenkinsfile"), re.S)
    assert found is not None
    pod: dict[str, Any] = yaml.safe_load(found[1])
    return pod


def jenkins(event: Event) -> list[Script]:
    """The stages whose `when` is true, and what comes after them. `sh` is dash, as in the pods."""
    text = read("Jenkinsfile", event.registry)
    block = re.search(r"\n    environment \{\n(.*?)\n    \}\n", text, re.S)
    assert block is not None
    credentials = {
        "pybuild-cache-key": event.key,
        "pybuild-cache-key-password": event.key_password,
    }
    environment = {"CHANGE_ID": event.change, "GIT_COMMIT": COMMIT}
    for name, value, credential in re.findall(
        r"^ +(\w+) = (?:'([^']*)'|credentials\('([^']*)'\))$", block[1], re.M
    ):
        if credential == "registry":
            environment |= {f"{name}_USR": event.user, f"{name}_PSW": event.password}
        else:
            environment[name] = credentials[credential] if credential else value
    scripts = []
    before, _, after = text.partition("\n    post {\n")
    for stage in re.split(r"\n        stage\(", before)[1:]:
        when = re.search(r"when \{ (.*) \}", stage)
        if when is None or (when[1] == "changeRequest()") == bool(event.change):
            scripts += [Script(each, ("sh", "-e"), tuple(environment.items())) for each in shell_steps(stage)]
    return scripts + [
        Script(each, ("sh", "-e"), tuple(environment.items()), True) for each in shell_steps(after)
    ]


def shell_steps(groovy: str) -> list[str]:
    """Return what the `sh` steps have: a backslash at the end of a line joins it with the next."""
    found = re.findall(r"\bsh(?:\(script:)? (?:'''(.*?)'''|'([^'\n]*)')", groovy, re.S)
    return [textwrap.dedent(long or short).replace("\\\n", "") for long, short in found]


SYSTEMS: dict[str, tuple[Callable[[Event], list[Script]], str]] = {
    "github": (github, "summary"),
    "gitlab": (gitlab, "cache.md"),
    "tekton": (tekton, "CACHE"),
    "jenkins": (jenkins, "cache.md"),
}
"""By name: what gives the scripts, and the file with the cache's statistics, in the job's directory or the
sources'."""
