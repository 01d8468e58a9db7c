"""--ssh: an ssh agent for steps. What a step gets is a socket of our own (builder/sshproxy.py): behind it is
the user's agent, or one of ours with the keys that were named (builder/sshagent.py).

What the option takes is as with `docker build` (BuildKit, session/sshforward/sshprovider).
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.executor import Executor
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class SshSource:
    """The agent `id`: the socket of one, or files with private keys."""

    id: str
    agent: str = ""
    keys: tuple[str, ...] = ()


def parse_ssh(text: str) -> SshSource:
    """Return what the value of a --ssh option describes: `default`, `ID=SOCKET` or `ID=KEY[,KEY]`. Raises
    UsageError (usage/ssh).
    """
    name, _, rest = text.partition("=")
    paths = [os.path.abspath(os.path.expanduser(path)) for path in rest.split(",") if path]
    if not name:
        raise UsageError(f"--ssh {text!r}: write default, ID=SOCKET or ID=KEY[,KEY]", code="usage/ssh")
    if not paths:
        agent = os.environ.get("SSH_AUTH_SOCK", "")
        if not agent:
            raise UsageError(
                f"--ssh {text}: SSH_AUTH_SOCK is not set",
                code="usage/ssh",
                hint=f"start an agent, keep the variable (sudo drops it), or name a key: --ssh {name}=KEY",
            )
        return SshSource(name, agent)
    agents = [path for path in paths if _is_socket(path)]
    if agents and len(paths) > 1:
        raise UsageError(f"--ssh {text}: an agent's socket must stand alone", code="usage/ssh")
    return SshSource(name, agents[0]) if agents else SshSource(name, keys=tuple(paths))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        raise UsageError(f"--ssh: {path}: {error.strerror}", code="usage/ssh") from None


class Agents:
    """The agents of one build. Every method is safe from several threads at once."""

    def __init__(self, sources: Sequence[SshSource], store: Store, executor: Callable[[], Executor]) -> None:
        self._sources = {source.id: source for source in sources}
        self._store = store
        self._executor = executor
        self._own: dict[str, str] = {}
        self._lock = Lock()
        self._closing = ExitStack()

    def close(self) -> None:
        """End the agents that were started."""
        with self._lock:
            self._own.clear()
            self._closing.close()

    @contextmanager
    def forward(
        self, name: str, directory: str, *, required: bool, owner: tuple[int, int], mode: int
    ) -> Iterator[str | None]:
        """Give a step a socket below `directory`, for the time of the `with`; None if no such agent was
        given.

        Raises UsageError (ssh/missing if it is `required`), HostError.
        """
        source = self._sources.get(name)
        if source is None:
            if required:
                raise UsageError(
                    f"the ssh agent {name} is required, and was not given",
                    code="ssh/missing",
                    hint=f"give it: --ssh {name}, or --ssh {name}=KEY",
                )
            yield None
            return
        from builder.sshproxy import Proxy, check

        agent = source.agent or self._agent_of(source)
        check(agent)
        with Proxy(agent, directory) as proxy:
            os.chown(proxy.path, *owner)
            os.chmod(proxy.path, mode)
            yield proxy.path

    def _agent_of(self, source: SshSource) -> str:
        """Return the socket of an agent that has the keys of `source`."""
        from builder.sshagent import add_key, run_agent

        with self._lock:
            path = self._own.get(source.id)
            if path is None:
                with ExitStack() as opened:
                    directory = opened.enter_context(self._store.scratch.directory("agent")).path
                    path = opened.enter_context(run_agent(self._executor(), directory))
                    for key in source.keys:
                        add_key(path, key)
                    self._closing.enter_context(opened.pop_all())
                self._own[source.id] = path
            return path
