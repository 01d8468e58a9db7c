"""mmdebstrap:// for real: on a repository of a few kilobytes, and once on Debian's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.bases import open_transport
from builder.bases.base import BaseImage, BaseRequest, Surroundings
from builder.errors import BaseError, BuildError, HostError
from builder.events import Event, TransferStarted
from builder.sandbox import Sandbox
from cache.oci.platform import Platform
from cache.store import Store
from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures.debian import SUITE, DebianRepository
from tests.registry_fixtures.images import unfinished
from tests.rootless_fixtures.user import User

pytestmark = pytest.mark.peer("mmdebstrap", "gpgv", "gpg", "dpkg-deb")

AMD64 = Platform("linux", "amd64")
DATE = 1_600_000_000
HELLO = {"hello": {"usr/bin/hello": b"hi\n", "etc/hello/conf": b"x\n"}}
Make = Callable[..., BaseImage]


@pytest.fixture
def repository(tmp_path: os.PathLike[str]) -> Iterator[DebianRepository]:
    with DebianRepository(os.path.join(tmp_path, "repository")) as running:
        running.publish(HELLO, DATE)
        yield running


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store.open(os.path.join(tmp_path, "store")) as opened:
        yield opened


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


class Maker:
    """Makes bases of the tiny repository, and counts the runs of mmdebstrap."""

    def __init__(self, store: Store, sandbox: Sandbox, repository: DebianRepository) -> None:
        self.store = store
        self.events: list[Event] = []
        self._sandbox = sandbox
        self._repository = repository
        self.runs = 0

    def executor(self) -> Sandbox:
        self.runs += 1
        return self._sandbox

    def __call__(
        self, *options: tuple[str, str], pull: bool = False, environ: dict[str, str] | None = None
    ) -> BaseImage:
        fixed = [("mirror", self._repository.mirror), ("variant", "extract"), ("include", "hello")]
        if not any(name == "keyring" for name, _ in options):
            fixed.append(("keyring", self._repository.keyring))
        around = Surroundings(
            self.store, self.events.append, self.executor, environ=os.environ if environ is None else environ
        )
        transport = open_transport("mmdebstrap", around)
        return transport.resolve(BaseRequest(SUITE, AMD64, (*fixed, *options), pull=pull))

    def path(self, base: BaseImage, name: str) -> str:
        assert base.chain_id is not None
        return os.path.join(self.store.layers.lowerdirs(base.chain_id)[0], name)


@pytest.fixture
def maker(store: Store, sandbox: Sandbox, repository: DebianRepository) -> Maker:
    return Maker(store, sandbox, repository)


def test_a_base_is_made_of_packages(maker: Maker, repository: DebianRepository) -> None:
    base = maker()
    with open(maker.path(base, "usr/bin/hello"), "rb") as file:
        assert file.read() == b"hi\n"
    with open(maker.path(base, "etc/apt/sources.list")) as file:
        assert file.read() == (
            f"deb [signed-by=/etc/apt/keyrings/tiny-keyring.gpg] {repository.mirror} {SUITE} main\n"
        )
    assert os.listdir(maker.path(base, "dev")) == []
    assert os.listdir(maker.path(base, "var/lib/apt/lists")) == []
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap", "var/log/dpkg.log"):
        assert not os.path.lexists(maker.path(base, name))
    assert base.config.created == "2020-09-13T12:26:40Z"
    assert base.created == DATE
    assert base.config.config.cmd == ("bash",)
    assert base.config.architecture == "amd64"
    assert any(
        isinstance(event, TransferStarted) and "apt-get update" in event.label for event in maker.events
    )


def test_no_time_in_it_is_later_than_the_release(maker: Maker) -> None:
    base = maker()
    found = subprocess.run(
        ["find", maker.path(base, "."), "-mindepth", "1", "-newermt", f"@{DATE}"],
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_it_stands_in_the_store_until_it_is_asked_for_again(
    maker: Maker, repository: DebianRepository
) -> None:
    first = maker()
    requests: list[str] = []
    repository.on_request = requests.append
    assert maker() == first
    assert not requests, "a base that is there needs no network"
    repository.publish({"hello": {"usr/bin/hello": b"changed\n"}}, DATE + 100)
    assert maker() == first
    second = maker(pull=True)
    assert second.chain_id != first.chain_id
    assert second.created == DATE + 100
    assert maker() == second
    assert maker.runs == 2


def test_the_same_release_files_are_not_built_again(maker: Maker, repository: DebianRepository) -> None:
    first = maker()
    requests: list[str] = []
    repository.on_request = requests.append
    assert maker(pull=True) == first
    assert maker.runs == 1
    assert all(path.endswith("InRelease") for path in requests)


def test_a_release_signed_again_over_the_same_packages_gives_the_same_base(
    maker: Maker, repository: DebianRepository
) -> None:
    first = maker()
    repository.publish(HELLO, DATE + 86_400)
    assert maker(pull=True) == first
    assert maker.runs == 2


def test_two_stores_get_the_same_image(
    maker: Maker, tmp_path: os.PathLike[str], sandbox: Sandbox, repository: DebianRepository
) -> None:
    mask = os.umask(0o077)
    try:
        with Store.open(os.path.join(tmp_path, "other")) as other:
            first = Maker(other, sandbox, repository)()
    finally:
        os.umask(mask)
    second = maker()
    assert (first.image_id, first.chain_id) == (second.image_id, second.chain_id)


def test_a_mirror_that_moves_on_meanwhile_is_read_again(maker: Maker, repository: DebianRepository) -> None:
    """What counts is the Release file that mmdebstrap has read, not the one that was fetched before."""
    seen: list[str] = []

    def move(path: str) -> None:
        if path.endswith("/InRelease"):
            seen.append(path)
            if len(seen) == 4:  # the suite, its two absent companions, then mmdebstrap's own request
                repository.publish({"hello": {"usr/bin/hello": b"newer\n"}}, DATE + 1000)

    repository.on_request = move
    base = maker()
    with open(maker.path(base, "usr/bin/hello"), "rb") as file:
        assert file.read() == b"newer\n"
    assert base.created == DATE + 1000
    assert maker.runs == 2


def test_an_armored_keyring_will_do(maker: Maker, repository: DebianRepository) -> None:
    base = maker(("keyring", repository.keyring.replace(".gpg", ".asc")))
    assert os.path.exists(maker.path(base, "etc/apt/keyrings/tiny-keyring.asc"))


def _failure(make: Callable[[], BaseImage], kind: type[BuildError] = BaseError) -> BuildError:
    with pytest.raises(kind) as caught:
        make()
    return caught.value


def test_an_altered_release_file_is_refused(maker: Maker, repository: DebianRepository) -> None:
    with open(repository.release, "rb+") as file:
        data = file.read().replace(b"Origin: Tiny", b"Origin: Evil")
        file.seek(0)
        file.write(data)
    error = _failure(maker)
    assert error.code == "base/signature"
    assert "altered" in error.message


@pytest.mark.parametrize("addition", [b"Evil: yes\n", b"\n-----BEGIN PGP SIGNED MESSAGE-----\n"])
def test_nothing_unsigned_is_read(maker: Maker, repository: DebianRepository, addition: bytes) -> None:
    with open(repository.release, "rb+") as file:
        data = file.read()
        file.seek(0)
        file.write(addition + data)
    assert _failure(maker).code == "base/signature"


def test_keys_that_did_not_sign_it_are_not_enough(maker: Maker) -> None:
    error = _failure(lambda: maker(("keyring", "/usr/share/keyrings/debian-archive-keyring.gpg")))
    assert error.code == "base/signature"
    assert "lacks the key" in error.message
    assert "--keyring" in (error.hint or "")


def test_the_release_file_of_another_suite_is_refused(maker: Maker, repository: DebianRepository) -> None:
    other = repository.release.replace(f"/{SUITE}/", "/other/")
    os.makedirs(os.path.dirname(other))
    os.link(repository.release, other)
    transport = open_transport("mmdebstrap", Surroundings(maker.store, maker.events.append, maker.executor))
    options = (("mirror", repository.mirror), ("keyring", repository.keyring))
    error = _failure(lambda: transport.resolve(BaseRequest("other", AMD64, options)))
    assert error.code == "base/signature"


def test_a_missing_suite_is_said(maker: Maker, repository: DebianRepository) -> None:
    os.unlink(repository.release)
    error = _failure(maker)
    assert error.code == "base/mirror"
    assert "404" in error.message


def test_a_missing_architecture_is_said(maker: Maker, repository: DebianRepository) -> None:
    transport = open_transport("mmdebstrap", Surroundings(maker.store, maker.events.append, maker.executor))
    options = (("mirror", repository.mirror), ("keyring", repository.keyring))
    error = _failure(lambda: transport.resolve(BaseRequest(SUITE, Platform("linux", "s390x"), options)))
    assert error.code == "base/platform"
    assert error.hint == "it is for amd64"


def test_a_missing_mmdebstrap_is_said_with_the_remedy(maker: Maker) -> None:
    error = _failure(lambda: maker(environ={"PATH": "/nonexistent"}), HostError)
    assert error.code == "host/mmdebstrap"
    assert error.hint == "apt-get install mmdebstrap"


def test_a_missing_keyring_is_said(maker: Maker) -> None:
    assert _failure(lambda: maker(("keyring", "/nonexistent/keys.gpg")), HostError).code == "host/keyring"


def test_a_failing_mmdebstrap_shows_its_last_lines_and_leaves_nothing(maker: Maker) -> None:
    error = _failure(lambda: maker(("include", "no-such-package")))
    assert error.code == "base/mmdebstrap"
    assert "no-such-package" in error.message
    assert unfinished(maker.store) == []
    assert maker.store.layers.all() == ()
    assert maker.store.images.all() == ()


def test_a_mirror_that_is_down_is_said(maker: Maker, repository: DebianRepository) -> None:
    mirror = repository.mirror
    repository.__exit__()
    error = _failure(maker)
    assert error.code == "base/unreachable"
    assert mirror in error.message


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize("ids", ["subordinate", "single"])
def test_a_user_gets_the_base_that_root_gets(tmp_path: Path, repository: DebianRepository, ids: str) -> None:
    user = User(str(tmp_path / "user"), subordinate=ids == "subordinate")
    shutil.copy(repository.keyring, user.cwd)
    text = f"FROM --variant=extract --include=hello --mirror={repository.mirror} "
    text += f"--keyring={os.path.basename(repository.keyring)} mmdebstrap://{SUITE}\n"
    root = Pybuild(str(tmp_path / "root"), user.cwd)
    layers = []
    for each in (user, root):  # the image says where the keyring was, which is not the same for both
        each.build(text, "-t", "hello")
        layers.append([row["DiffID"] for row in each.json("layers", "hello", "--json")])
    assert layers[0] == layers[1]
    assert user.leftovers() == []


@pytest.mark.peer("mmdebstrap")
def test_debian_itself(store: Store, sandbox: Sandbox) -> None:
    """The real suite, by the host's own mirror: its packages are whole, and its sources are all three."""
    around = Surroundings(store, lambda event: None, lambda: sandbox)
    base = open_transport("mmdebstrap", around).resolve(BaseRequest("bookworm", AMD64))
    assert base.chain_id is not None
    root = store.layers.lowerdirs(base.chain_id)[0]
    with open(os.path.join(root, "etc/apt/sources.list")) as file:
        suites = [line.split()[3] for line in file]
    assert suites == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert os.listdir(os.path.join(root, "dev")) == []
    done = subprocess.run(["chroot", root, "dpkg", "--audit"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
