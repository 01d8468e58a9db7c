"""An ssh-agent of ours, with keys that were named on the command line."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from builder.errors import BuildError, HostError, UsageError
from builder.executor import ExecRequest, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.executor import Executor

_LARGEST_KEY = 1 << 20
_PATIENCE = 10.0  # seconds until it has to listen


@contextmanager
def run_agent(executor: Executor, directory: str) -> Iterator[str]:
    """Run ssh-agent as a step would be run: it dies with us. Yields the path of its socket."""
    path = directory + "/agent"
    place = Mount("bind", directory, source=directory)
    request = ExecRequest(
        ("ssh-agent", "-D", "-a", path),
        root="host",
        env=(("PATH", os.environ.get("PATH", os.defpath)),),
        mounts=(place,),
        network="none",
    )
    running = executor.start(request, lambda stream, data: None)
    failed: list[str] = []

    def wait() -> None:
        try:
            failed.append(f"it ended with exit code {running.wait().status}")
        except BuildError as error:
            failed.append(error.message)

    waiting = Thread(target=wait, name="ssh-agent", daemon=True)
    waiting.start()
    try:
        deadline = time.monotonic() + _PATIENCE
        while not os.path.exists(path):
            if failed or time.monotonic() > deadline:
                raise HostError(
                    f"--ssh: ssh-agent does not run: {failed[0] if failed else 'it does not listen'}",
                    code="ssh/agent",
                    hint="apt-get install openssh-client",
                )
            time.sleep(0.005)
        yield path
    finally:
        running.kill(9)
        waiting.join()


def add_key(agent: str, path: str) -> None:
    """Hand a private key to the agent, by a pipe: ssh-add minds the modes of files, which CI systems do
    not.
    """
    try:
        with open(path, "rb") as file:
            key = file.read(_LARGEST_KEY)
        search = os.environ.get("PATH", os.defpath)
        done = subprocess.run(
            ["ssh-add", "-q", "-"],
            input=key,
            env={"PATH": search, "SSH_AUTH_SOCK": agent, "SSH_ASKPASS_REQUIRE": "never"},
            capture_output=True,
            start_new_session=True,  # no terminal to ask for a passphrase
        )
    except OSError as error:
        raise UsageError(f"--ssh: {path}: {error.strerror}", code="ssh/key") from None
    if done.returncode:
        raise UsageError(
            f"--ssh: {path} is no private key that can be used without a passphrase",
            code="ssh/key",
            hint="add a key with a passphrase to your own agent (ssh-add), and give that: --ssh default",
        )
