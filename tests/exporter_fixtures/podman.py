"""podman with a storage of its own, on a machine that may deny it to raise limits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class Podman:
    """Images and containers below `directory`, run by runc on the host's network. `close` removes them."""

    def __init__(self, directory: str) -> None:
        os.mkdir(directory)
        # Below a long path podman 4.3 does not see that a container has ended, and waits 20 seconds. And it
        # is this one's own: another's `system reset` would take the exit codes of its containers away.
        self._run = tempfile.mkdtemp(prefix="podman-", dir="/tmp")
        with open("/proc/sys/kernel/pid_max") as file:
            processes = min(
                int(file.read()), resource.getrlimit(resource.RLIMIT_NPROC)[1]
            )  # podman sets it so
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ulimits = [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]
        configuration = {
            "containers.conf": f"[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n"
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
            f'tmp_dir = "{self._run}/tmp"\n',
            "storage.conf": '[storage]\ndriver = "overlay"\n'
            f'graphroot = "{directory}/graph"\nrunroot = "{self._run}/run"\n',
        }
        for name, text in configuration.items():
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": f"{directory}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
        }

    def __call__(self, *arguments: str) -> str:
        """Run podman, which must succeed, and return what it wrote to its standard output."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"podman {arguments}: {done.stderr}"
        return done.stdout

    def run(self, image: str, *command: str) -> str:
        """Run a container, and return its output."""
        return self("run", "--rm", "--network", "host", image, *command)

    @contextmanager
    def mounted(self, image: str) -> Iterator[str]:
        """Give the directory at which the image's root filesystem is mounted."""
        try:
            yield self("image", "mount", image).strip()
        finally:
            self("image", "unmount", image)

    def close(self) -> None:
        self("system", "reset", "--force")
        shutil.rmtree(self._run, ignore_errors=True)
