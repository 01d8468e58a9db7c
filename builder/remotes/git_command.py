"""Running git on what strangers wrote: nothing of theirs, and nothing of this machine's configuration, is
run.

What git may talk is https, http, ssh and its own protocol: no `file`, no `ext` (which is a command), no other
helper. No configuration is read but that of the repository in the store, which we wrote; so there are no
hooks, no filters (large files of git-lfs stay the pointers that they are), no credential helpers, no file
system monitor. git never asks a person. Credentials come from the URL, from the secrets GIT_AUTH_TOKEN and
GIT_AUTH_HEADER (as with BuildKit), for ssh from the agent and the user's own keys and known hosts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import FetchError, HostError
from builder.remotes.http import ending

if TYPE_CHECKING:
    from builder.parallel import Cancellation
    from builder.remotes.address import GitAddress

Secrets = Callable[[str], "bytes | None"]
"""From a secret's id to its value, None where there is none."""

_SETTINGS = (
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.attributesFile=/dev/null",
    "core.askPass=",
    "core.autocrlf=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "safe.directory=*",
    "advice.detachedHead=false",
    # A server that says nothing for a minute has nothing to say.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)
_PASSED = (
    "PATH",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
)
# -F: what a user's ssh_config has (ProxyCommand, LocalCommand) are commands. Keys and known hosts are found
# without it.
_SSH = " ".join(
    (
        "ssh -F /dev/null",
        "-o BatchMode=yes",
        "-o StrictHostKeyChecking=yes",
        "-o ConnectTimeout=30",
        "-o ServerAliveInterval=20",
    )
)
_CREDENTIALS = 'printf "username=%s\\npassword=%s\\n" "$PYBUILD_GIT_USER" "$PYBUILD_GIT_PASSWORD"'
_HELPER = f'!f() {{ test "$1" = get && {_CREDENTIALS}; }}; f'
_LAST_LINES = 5


class GitFailed(Exception):
    """git ended with an error; `told` is what it said."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for one remote: settings and variables for git. None of them is in its command line."""

    settings: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


ANONYMOUS = Login()


class Git:
    """Runs git. Raises HostError at the first call if there is none."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, cancellation: Cancellation | None = None
    ) -> None:
        """`cancellation` ends a git that runs."""
        self._cancellation = cancellation
        self._environ = {name: environ[name] for name in _PASSED if environ.get(name)}
        self._environ |= {
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": _SSH,
            "GIT_OPTIONAL_LOCKS": "0",
        }
        self._program = ""

    def __call__(
        self,
        *arguments: str,
        directory: str,
        work_tree: str = "",
        index: str = "",
        login: Login = ANONYMOUS,
        feed: bytes = b"",
    ) -> bytes:
        """Run git on the repository `directory`; return what it prints. Raises GitFailed.

        `work_tree` is where it checks out, `index` the file that it notes in what is there.
        """
        import subprocess

        from builder import linux

        linux.load()
        environment = {**self._environ, **dict(login.environment), "GIT_DIR": directory}
        if work_tree:
            environment["GIT_WORK_TREE"] = work_tree
        if index:
            environment["GIT_INDEX_FILE"] = index
        process = subprocess.Popen(
            [self._find(), *_options((*_SETTINGS, *login.settings)), *arguments],
            cwd=work_tree or directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=0o022,
            # Whatever ends us ends git: what it fetches for nobody would go on.
            preexec_fn=lambda: linux.prctl(linux.PR_SET_PDEATHSIG, 9) and None,
        )
        with process:
            try:
                with ending(self._cancellation, process.kill):
                    out, told = process.communicate(feed)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise GitFailed(told.decode("utf-8", "replace").strip())
        return out

    def _find(self) -> str:
        if not self._program:
            import shutil

            found = shutil.which("git", path=self._environ.get("PATH", os.defpath))
            if found is None:
                raise HostError("git is missing", code="host/git", hint="apt-get install git")
            self._program = found
        return self._program


def login_for(address: GitAddress, secrets: Secrets | None, *, main: bool = True) -> tuple[str, Login]:
    """Return the remote without its credentials, and the credentials.

    `main`: it is the repository that was asked for, for which the secrets without a host's name are meant,
    and not a submodule.
    """
    from urllib.parse import unquote, urlsplit, urlunsplit

    if not address.remote.startswith(("http:", "https:")):
        return address.remote, ANONYMOUS
    parts = urlsplit(address.remote)
    userinfo, at, host = parts.netloc.rpartition("@")
    remote = urlunsplit(parts._replace(netloc=host))
    if at:
        user, _, password = userinfo.partition(":")
        return remote, _by_helper(f"{parts.scheme}://{host}", unquote(user), unquote(password))
    if secrets is None:
        return remote, ANONYMOUS
    for kind in ("HEADER", "TOKEN"):
        for name in (f"GIT_AUTH_{kind}.{host}", *((f"GIT_AUTH_{kind}",) if main else ())):
            value = secrets(name)
            if value:
                told = value.decode("utf-8", "replace").strip()
                if kind == "TOKEN":
                    return remote, _by_helper(f"{parts.scheme}://{host}", "x-access-token", told)
                return remote, _by_header(f"{parts.scheme}://{host}", told)
    return remote, ANONYMOUS


def _by_helper(origin: str, user: str, password: str) -> Login:
    # git asks it only when that very server wants to know, and the command line, which all users see, has no
    # secret in it.
    variables = (("PYBUILD_GIT_USER", user), ("PYBUILD_GIT_PASSWORD", password))
    return Login((f"credential.{origin}.helper={_HELPER}",), variables)


def _by_header(origin: str, value: str) -> Login:
    names = ("GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0")
    values = ("1", f"http.{origin}.extraheader", f"Authorization: {value}")
    return Login((), tuple(zip(names, values, strict=True)))


def _options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]


_HINTS = (
    (
        "Host key verification failed",
        "ssh-keyscan HOST >> ~/.ssh/known_hosts, and check what that prints",
    ),
    ("Permission denied (", "ssh-add the key for it to the agent, and see that SSH_AUTH_SOCK is passed on"),
    ("terminal prompts disabled", "if it is private: give the secret GIT_AUTH_TOKEN, or use ssh"),
    ("Authentication failed", "the credentials are not those that it wants"),
)
_UNREACHABLE = (
    "Could not resolve",
    "Failed to connect",
    "Connection refused",
    "timed out",
    "unable to connect",
    "Couldn't connect",
)


def failure(address: GitAddress, failed: GitFailed) -> FetchError:
    """Return the error that tells a user what git told us."""
    lines = [
        line
        for line in failed.told.split("\n")
        if line.strip() and not line.startswith(("hint:", "remote: Enum"))
    ]
    told = "\n".join(lines[-_LAST_LINES:]) or "it does not say why"
    hint = next((hint for text, hint in _HINTS if text in failed.told), None)
    unreachable = any(text in failed.told for text in _UNREACHABLE)
    return FetchError(
        f"git cannot fetch {address.shown}:\n{told}",
        code="fetch/unreachable" if unreachable else "git/refused",
        hint=hint,
    )
