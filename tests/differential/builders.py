"""The builders, each with a store of its own below one directory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Protocol

from tests.differential.case import Case

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Built:
    """What a build did: an archive was written, or it was refused."""

    archive: str | None
    output: str


class Builder(Protocol):
    """Builds cases into docker-archives."""

    name: str

    def load(self, archive: str) -> None:
        """Take a base image in, under the name that its archive gives it."""

    def build(self, case: Case, directory: str) -> Built:
        """Build the case that stands in `directory`."""

    def close(self) -> None:
        """Leave no mount and no process behind."""


def _environment(**more: str) -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | more


def _run(argv: list[str], environment: dict[str, str], cwd: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=120,
    )


def _must(argv: list[str], environment: dict[str, str], cwd: str) -> None:
    done = _run(argv, environment, cwd)
    assert done.returncode == 0, f"{argv}: {done.stdout}"


def _options(case: Case, recipe: str) -> list[str]:
    options = ["-f", recipe]
    for name, value in case.arguments.items():
        options += ["--build-arg", f"{name}={value}"]
    return [*options, *case.options, *(["--target", case.target] if case.target else [])]


class Pybuild:
    """pybuild as a user has it."""

    name = "pybuild"

    def __init__(self, directory: str) -> None:
        self._directory = directory
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        self._environment = _environment(PYBUILD_ROOT=f"{directory}/store", PYTHONPATH=path)
        self._argv = [sys.executable, "-m", "builder.main"]

    def load(self, archive: str) -> None:
        _must([*self._argv, "load", "--input", archive], self._environment, self._directory)

    def build(self, case: Case, directory: str) -> Built:
        archive = f"{directory}/pybuild.tar"
        options = ["--progress", "plain", "-o", f"type=docker,dest={archive}", *_options(case, "Dockerfile")]
        done = _run([*self._argv, "build", *options, "context"], self._environment, directory)
        return Built(None if done.returncode else archive, done.stdout)

    def close(self) -> None:
        """Nothing of a build outlives it."""


class Buildah:
    """Debian's buildah without its cache, which would leave different modes in layers. RUN is run by runc."""

    name = "buildah"

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # By default it raises the limits beyond those of this process: CAP_SYS_RESOURCE may be missing.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = f'default_ulimits = ["nofile={files}:{files}"]'
        roots = f'graphroot = "{directory}/graph"\nrunroot = "{directory}/run"'
        for name, text in {
            "containers": f'[containers]\n{limit}\n[engine]\nruntime = "runc"\n',
            "storage": f'[storage]\ndriver = "overlay"\n{roots}\n',
        }.items():
            with open(f"{directory}/{name}.conf", "w", encoding="utf-8") as file:
                file.write(text)
        self._environment = _environment(
            CONTAINERS_CONF=f"{directory}/containers.conf",
            CONTAINERS_STORAGE_CONF=f"{directory}/storage.conf",
            TMPDIR=directory,
        )

    def load(self, archive: str) -> None:
        _must(["buildah", "pull", "--quiet", f"docker-archive:{archive}"], self._environment, self._directory)

    def build(self, case: Case, directory: str) -> Built:
        archive = f"{directory}/buildah.tar"
        # Docker's format: that of OCI has no place for HEALTHCHECK, SHELL and ONBUILD.
        options = ["--layers=false", "--format", "docker", "--identity-label=false", "--pull-never"]
        options += ["--network", "host", "--isolation", "oci", "-t", f"docker-archive:{archive}:case:latest"]
        options += _options(case, case.recipe(self.name))
        done = _run(["buildah", "build", *options, "context"], self._environment, directory)
        return Built(None if done.returncode else archive, done.stdout)

    def close(self) -> None:
        # A failed build leaves its working container mounted.
        _run(["buildah", "rm", "--all"], self._environment, self._directory)
        _unmount_below(self._directory)


class Buildkit:
    """The BuildKit in Debian's docker.io, in a daemon of its own."""

    name = "buildkit"

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._environment = _environment(DOCKER_BUILDKIT="1", DOCKER_CONFIG=directory)
        # By its path: a newer docker in /usr/local wants buildx.
        self._argv = ["/usr/bin/docker", "-H", f"unix://{directory}/sock"]
        options = ["--iptables=false", "--bridge=none", "--data-root", f"{directory}/data"]
        options += [
            "--exec-root",
            f"{directory}/exec",
            "-p",
            f"{directory}/pid",
            "-H",
            f"unix://{directory}/sock",
        ]
        with open(f"{directory}/log", "wb") as log:
            self._daemon = subprocess.Popen(
                ["/usr/sbin/dockerd", *options], stdout=log, stderr=log, start_new_session=True
            )
        while _run([*self._argv, "version"], self._environment, directory).returncode:
            assert self._daemon.poll() is None, f"dockerd has ended: {directory}/log"
            time.sleep(0.2)

    def load(self, archive: str) -> None:
        _must([*self._argv, "load", "--input", archive], self._environment, self._directory)

    def build(self, case: Case, directory: str) -> Built:
        archive = f"{directory}/buildkit.tar"
        options = ["--progress", "plain", "--network", "host", "-t", f"case-{case.name}"]
        options += _options(case, case.recipe(self.name))
        done = _run([*self._argv, "build", *options, "context"], self._environment, directory)
        if done.returncode:
            return Built(None, done.stdout)
        _must([*self._argv, "save", f"case-{case.name}", "-o", archive], self._environment, directory)
        return Built(archive, done.stdout)

    def close(self) -> None:
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(60)
        _unmount_below(self._directory)


PEERS: dict[str, type[Buildah] | type[Buildkit]] = {"buildah": Buildah, "buildkit": Buildkit}


def _unmount_below(directory: str) -> None:
    """Unmount what stands mounted below `directory`, the last first."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split()[4] for line in file]
    for mount in reversed(mounts):
        if mount.startswith(directory + "/"):
            subprocess.run(["umount", mount], check=True)
