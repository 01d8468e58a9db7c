"""A run of mmdebstrap, from verified Release files to a layer in the store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.bases.apt import apt_settings
from builder.bases.base import format_time
from builder.bases.debian import host_mirrors, plan_sources
from builder.bases.debian_cleanup import clean, has_file, write_file
from builder.bases.keyring import load_keyring
from builder.bases.release import fetch_releases
from builder.errors import BaseError, HostError
from builder.events import TransferFinished, TransferStarted
from builder.executor import ExecRequest, Mount
from builder.version import VERSION
from cache import idmap
from cache.changeset import measure
from cache.oci.spec import ContainerConfig, History, ImageConfig

if TYPE_CHECKING:
    from builder.bases.base import BaseImage, Surroundings
    from builder.bases.release import Release
    from builder.bases.wish import Wish
    from builder.executor import Stream
    from cache.layers import Layer
    from cache.oci.platform import Platform
    from cache.scratch import Staging

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TARGET = "/mnt"
"""Where the result is made, in the sandbox: apt's own user can read it, which it could not below the store.
"""

_KEYS = "/tmp/keyrings"
"""Where a keyring is that was given: for the same reason."""

_HOST_DEVICES = ("--skip=chroot/mount/dev", '--extract-hook=[ ! -d "$1/dev" ] || mount --rbind /dev "$1/dev"')
"""mmdebstrap mounts a devpts that is group tty's, whom a user namespace with a single id does not have."""

_LAST_LINES = 20
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY")
_IMAGE_KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"


class Bootstrap:
    """Makes one base. Raises HostError at once if mmdebstrap is missing. `version` is mmdebstrap's,
    `keyring` what the suite has to be signed with."""

    def __init__(self, around: Surroundings, wish: Wish, platform: Platform) -> None:
        self._around = around
        self._wish = wish
        self._platform = platform.normalised()
        self._program = find_program(around.environ)
        self.keyring = load_keyring(wish.keyring)
        self._apt = apt_settings(around.environ)
        self._environ = {**self._apt.proxies, **around.environ}
        self.version = _version(self._program)

    def releases(self) -> tuple[Release, ...]:
        """Fetch the Release files of the suite, and of its updates where there are any. Raises BaseError."""
        from cache.registry.transport import UrllibTransport

        wish = self._wish
        sources = plan_sources(wish.suite, wish.mirrors, *host_mirrors())
        transport = UrllibTransport(user_agent=f"pybuild/{VERSION}", environ=self._environ)
        try:
            found = fetch_releases(sources, self.keyring, transport, self._environ)
        finally:
            transport.close()
        known = [name for name in found[0].architectures if name != "all"]
        if wish.architecture not in known:
            hint = f"it is for {', '.join(known)}"
            raise BaseError(
                f"{wish.suite} is not made for {wish.architecture}", code="base/platform", hint=hint
            )
        return tuple(item for item in found if wish.architecture in item.architectures)

    def run(
        self, releases: Sequence[Release], previous: BaseImage | None
    ) -> tuple[bytes, ImageConfig] | None:
        """Make the base of `releases`; return its image config as bytes and as a value, its layer published.

        None if the mirror has moved on meanwhile. If nothing but times differs from the base `previous`, it
        is that one again. Raises BaseError, HostError, StoreError.
        """
        store, report = self._around.store, _Report(self._around, self._wish)
        with store.stage() as staging:
            self._bootstrap(staging, releases, report)
            report.tell("committing")
            if used_releases(staging.upper) != {release.digest for release in releases}:
                return None
            self._finish(staging.upper, releases)
            epoch = max(release.date for release in releases)
            if previous is not None and self._is_same(previous, staging, epoch):
                report.finish(0)
                return store.images.get(previous.image_id), previous.config
            layer = store.layers.publish(None, staging, measure(staging.upper, clamp=epoch))
        report.finish(layer.size)
        config = self._config(layer, epoch)
        return config.to_json(), config

    def _bootstrap(self, staging: Staging, releases: Sequence[Release], report: _Report) -> None:
        """Run mmdebstrap into the staging's empty upper directory. Raises BaseError if it fails."""
        mounts = [Mount("bind", _TARGET, source=staging.upper)]
        if not self.keyring.is_default:
            keys = staging.path + "/keyrings"
            os.mkdir(keys)
            os.chmod(keys, 0o755)
            write_file(keys, self.keyring.file_name, self.keyring.data)
            mounts.append(Mount("bind", _KEYS, source=keys, read_only=True))
        request = ExecRequest(
            argv=self._argv(releases),
            root="host",
            privileged=True,
            env=self._step_environ(releases),
            mounts=tuple(mounts),
            platform=self._platform,
        )
        result = self._around.executor().run(request, report.output)
        if result.status != 0:
            raise BaseError(
                f"mmdebstrap failed with exit code {result.status}; its last lines:\n{report.last_lines()}",
                code="base/mmdebstrap",
            )

    def _step_environ(self, releases: Sequence[Release]) -> tuple[tuple[str, str], ...]:
        """SOURCE_DATE_EPOCH, which gets into /etc/shadow, is the date of the suite alone.

        That of stable moves at point releases only, while its security updates are signed anew several times
        a day.
        """
        environ = {name: self._environ[name] for name in _PROXIES if name in self._environ}
        environ |= {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
        return (*environ.items(), ("SOURCE_DATE_EPOCH", str(releases[0].date)))

    def _argv(self, releases: Sequence[Release]) -> tuple[str, ...]:
        wish, keyring = self._wish, self.keyring
        more = () if self._apt.check_valid_until else ("check-valid-until=no",)
        include = (f"--include={','.join(wish.include)}",) if wish.include else ()
        path = keyring.path if keyring.is_default else f"{_KEYS}/{keyring.file_name}"
        return (
            self._program,
            "--mode=root",
            "--format=directory",
            f"--variant={wish.variant}",
            f"--architectures={wish.architecture}",
            *include,
            "--skip=cleanup/apt/lists",  # they say what was read; `clean` removes them
            "--skip=check/qemu",  # it asks arch-test, and the executor has seen to that
            *(_HOST_DEVICES if idmap.single() else ()),
            wish.suite,
            _TARGET,
            *(_line(release, path, *more) for release in releases),
        )

    def _finish(self, root: str, releases: Sequence[Release]) -> None:
        """Clean up, and leave sources behind that are right in an image, whatever they were on this host."""
        clean(root)
        path = _IMAGE_KEYRING
        if not self.keyring.is_default:
            path = f"etc/apt/keyrings/{self.keyring.file_name}"
            write_file(root, path, self.keyring.data)
        lines = [_line(release, f"/{path}" if has_file(root, path) else "") for release in releases]
        write_file(root, "etc/apt/sources.list", "".join(f"{line}\n" for line in lines).encode())

    def _is_same(self, previous: BaseImage, staging: Staging, epoch: int) -> bool:
        """Whether a run gave what is known: generated files differ in their times, which are those of the
        epoch.
        """
        from cache.compare import same_result

        layers = self._around.store.layers
        if previous.chain_id is None or len(previous.config.diff_ids) != 1:
            return False
        known = layers.diff_path(layers.chain(previous.chain_id)[0])
        return same_result(known, staging.upper, since=min(epoch, previous.created))

    def _config(self, layer: Layer, epoch: int) -> ImageConfig:
        created = format_time(epoch)
        return ImageConfig(
            architecture=self._platform.architecture,
            os=self._platform.os,
            variant=self._platform.variant,
            created=created,
            config=ContainerConfig(env=(f"PATH={_PATH}",), cmd=("bash",)),
            diff_ids=(layer.diff_id,),
            history=(History(created=created, created_by=f"FROM {self._wish.name}", comment="pybuild"),),
        )


class _Report:
    """Tells what mmdebstrap is at, and remembers its last lines."""

    def __init__(self, around: Surroundings, wish: Wish) -> None:
        self._emit = around.emit
        self._title = f"mmdebstrap {wish.suite}"
        self._lines: list[str] = []
        self._rest = b""
        self.tell("starting")

    def output(self, stream: Stream, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())

    def finish(self, size: int) -> None:
        """Say that it is done, and how many bytes the new layer has."""
        self._emit(TransferFinished(self._title, size))

    def last_lines(self) -> str:
        """What mmdebstrap said last, indented."""
        lines = [*self._lines, self._rest.decode("utf-8", "replace").rstrip()]
        return "\n".join(f"  {line}" for line in lines if line)

    def _line(self, line: str) -> None:
        self._lines = [*self._lines[1 - _LAST_LINES :], line]
        if line.startswith("I: ") and not line.startswith(("I: skipping", "I: success")):
            self.tell(line.removeprefix("I: ").rstrip("."))

    def tell(self, what: str) -> None:
        """Say what is going on now."""
        self._emit(TransferStarted(self._title, f"{self._title}: {what}", None))


def find_program(environ: Mapping[str, str]) -> str:
    """Return the path of mmdebstrap. Raises HostError if it is missing."""
    program = shutil.which("mmdebstrap", path=environ.get("PATH", os.defpath))
    if program is None:
        raise HostError(
            "mmdebstrap is missing, which makes Debian's root filesystem of packages",
            code="host/mmdebstrap",
            hint="apt-get install mmdebstrap",
        )
    return program


def used_releases(root: str) -> set[str]:
    """The sha256 digests (hex) of the Release files that apt has left in the root filesystem `root`."""
    import hashlib

    from cache.openat2 import open_directory

    found = set()
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        lists = open_directory(top, b"var/lib/apt/lists")
        try:
            for name in os.listdir(lists):
                if name.endswith("InRelease"):
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=lists)
                    with open(fd, "rb") as file:
                        found.add(hashlib.sha256(file.read()).hexdigest())
        finally:
            os.close(lists)
    finally:
        os.close(top)
    return found


def _line(release: Release, keyring: str, *more: str) -> str:
    """The line of sources.list, with the keyring to verify it by, unless the source names one itself."""
    own = not keyring or any(option.startswith("signed-by=") for option in release.source.options)
    return release.source.line(*(() if own else (f"signed-by={keyring}",)), *more)


def _version(program: str) -> str:
    import subprocess

    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"{program} does not run: {done.stderr.strip()[-200:]}", code="host/mmdebstrap")
    return done.stdout.strip()
