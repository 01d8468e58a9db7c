"""What is under way when a registry is killed, and how it is judged afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import scene

sys.path.insert(0, scene.REPOSITORY)

from cache.errors import CacheError
from cache.store import Store
from tests.command_fixtures.pybuild import Done, Pybuild
from tests.registry_fixtures.counting import CountingProxy
from tests.registry_fixtures.registry import Registry

_EPOCH = "1700000000"
_RUN = 'RUN ["/bin/busybox", "sh", "-c", "{}"]\n'
_APP = "FROM scratch\nCOPY busybox /bin/busybox\n" + "".join(
    f"COPY data{number} /data{number}\n" for number in range(4)
) + _RUN.format("echo made > /made") + 'CMD ["/bin/busybox"]\n'  # fmt: skip
_SIZES = (900_000, 400_000, 150_000, 10_000)
_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(slots=True)
class Place:
    """A registry behind a counting proxy, and the machines that use it."""

    directory: str
    registry: Registry
    proxy: CountingProxy
    maker: Pybuild
    """Whose store has the images: `old`, one layer, and `new`, six."""
    ids: dict[str, str]
    number: int = 0
    machine: Pybuild | None = None
    """An empty store at first, for one point."""

    @classmethod
    @contextmanager
    def made(cls, directory: str) -> Iterator[Place]:
        """Make the place in an empty directory."""
        context = os.path.join(directory, "context")
        os.mkdir(context)
        busybox = shutil.which("busybox") or sys.exit("busybox is missing: apt-get install busybox-static")
        shutil.copy(busybox, f"{context}/busybox")
        numbers = random.Random(1)
        for number, size in enumerate(_SIZES):
            with open(f"{context}/data{number}", "wb") as file:
                file.write(numbers.randbytes(size))  # nothing that could be compressed
        maker = Pybuild(os.path.join(directory, "maker"), context)
        maker.write("old.rec", "FROM scratch\nCOPY old.rec /old.rec\n")
        maker.write("new.rec", _APP)
        with (
            Registry(os.path.join(directory, "registry")) as registry,
            CountingProxy(registry.port) as proxy,
        ):
            ids = {
                name: maker("build", f"{name}.rec", "-t", name, "--quiet", SOURCE_DATE_EPOCH=_EPOCH).strip()
                for name in ("old", "new")
            }
            yield cls(directory, registry, proxy, maker, ids)

    @property
    def storage(self) -> str:
        return os.path.join(self.directory, "registry", "storage")

    @property
    def name(self) -> str:
        """The image's name, through the proxy."""
        return f"{self.proxy.address}/team/app:1"

    def fresh(self, seed: str) -> None:
        """Let the registry have what was kept as `seed`, and a machine have an empty store."""
        self.registry.stop()
        shutil.rmtree(self.storage, ignore_errors=True)
        if os.path.exists(kept := os.path.join(self.directory, seed)):
            shutil.copytree(kept, self.storage)
        self.registry.start()
        self.proxy.reopen()
        self.empty_machine()

    def empty_machine(self) -> Pybuild:
        """Return a machine with an empty store, the one that is used from now on."""
        if self.machine is not None:
            shutil.rmtree(self.machine.root, ignore_errors=True)
        self.number += 1
        self.machine = Pybuild(os.path.join(self.directory, f"store-{self.number}"), self.maker.cwd)
        return self.machine

    def keep(self, seed: str) -> None:
        """Keep what the registry has as `seed`."""
        shutil.copytree(self.storage, os.path.join(self.directory, seed))

    def has(self, seed: str) -> bool:
        return os.path.exists(os.path.join(self.directory, seed))

    def left_over(self) -> list[str]:
        """Return what is wrong with the stores: unfinished files, layers that are not what they are
        called.
        """
        faults = []
        for each in (self.maker, self.machine):
            if each is None or not os.path.exists(each.root):
                continue
            if left := os.listdir(os.path.join(each.root, "tmp")):
                faults.append(f"left in tmp/: {left}")
            if each is self.machine:
                faults += _unsound(each.root)
        return faults

    def get(self, path: str) -> bytes:
        """Return what the registry itself answers; b"" if it has no such thing."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.registry.port}/v2/{path}", headers={"Accept": _ACCEPT}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                found: bytes = answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return b""
        return found

    def blobs(self, repository: str) -> set[str]:
        """Return the blobs that a repository has, whole, by the files of the registry."""
        links = os.path.join(self.storage, "docker/registry/v2/repositories", repository, "_layers/sha256")
        found = set()
        for name in os.listdir(links) if os.path.exists(links) else []:
            data = os.path.join(self.storage, "docker/registry/v2/blobs/sha256", name[:2], name, "data")
            link = os.path.join(links, name, "link")
            if os.path.exists(data) and os.path.exists(link) and os.path.getsize(link):
                with open(data, "rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() == name:
                        found.add(f"sha256:{name}")
        return found


class Scene(Protocol):
    """Something that is under way when the registry dies."""

    name: str

    def prepare(self, place: Place) -> None:
        """Bring the registry and the machine to where it begins."""

    def act(self, place: Place) -> Done:
        """Do it."""

    def judge(self, place: Place, done: Done, struck: bool) -> list[str]:
        """Return what is wrong with what it said, and with what the registry has, started again."""

    def is_new(self, place: Place) -> bool:
        """Return whether all of it has come about."""

    def whole(self, place: Place) -> set[str]:
        """Return the digests of the blobs that had arrived."""

    def moved(self, place: Place) -> set[str]:
        """Return the digests of the blobs that went through the proxy when it was done again."""

    def confirm(self, place: Place, done: Done) -> list[str]:
        """Return what is wrong with what there is when it was done in peace."""


class Push:
    """An image of six layers goes to a tag under which there is another."""

    name = "push"

    def prepare(self, place: Place) -> None:
        if not place.has("old-only"):
            place.fresh("nothing")
            place.maker("push", "old", f"docker://{place.name}")
            place.keep("old-only")
        place.fresh("old-only")

    def act(self, place: Place) -> Done:
        return place.maker.try_("push", "new", f"docker://{place.name}")

    def judge(self, place: Place, done: Done, struck: bool) -> list[str]:
        found = _tagged(place)
        faults = _ended(done, 3, struck)
        if found not in place.ids.values():
            faults.append(f"the tag is {found}")
        if done.code == 0 and found != place.ids["new"]:
            faults.append("it says that it has pushed, and has not")
        return faults

    def is_new(self, place: Place) -> bool:
        return _tagged(place) == place.ids["new"]

    def whole(self, place: Place) -> set[str]:
        return place.blobs("team/app")

    def moved(self, place: Place) -> set[str]:
        return {digest for digest, _ in place.proxy.uploaded()}

    def confirm(self, place: Place, done: Done) -> list[str]:
        found = _tagged(place)
        return [] if found == place.ids["new"] else [f"pushed, the tag is {found}"]


class Pull:
    """An image of six layers comes into an empty store."""

    name = "pull"

    def prepare(self, place: Place) -> None:
        if not place.has("pushed"):
            place.fresh("nothing")
            place.maker("push", "new", f"docker://{place.name}")
            place.keep("pushed")
        place.fresh("pushed")

    def act(self, place: Place) -> Done:
        assert place.machine is not None
        return place.machine.try_("pull", place.name)

    def judge(self, place: Place, done: Done, struck: bool) -> list[str]:
        faults = _ended(done, 3, struck)
        if self.is_new(place):
            return faults + self.confirm(place, done)
        return faults + ["it succeeded, and there is no image"] * (done.code == 0)

    def is_new(self, place: Place) -> bool:
        assert place.machine is not None
        return place.machine.try_("inspect", place.name).code == 0

    def whole(self, place: Place) -> set[str]:
        assert place.machine is not None
        directory = os.path.join(place.machine.root, "blobs/blobs/sha256")
        return {f"sha256:{each}" for each in os.listdir(directory)} if os.path.exists(directory) else set()

    def moved(self, place: Place) -> set[str]:
        return {digest for digest, _ in place.proxy.downloaded()}

    def confirm(self, place: Place, done: Done) -> list[str]:
        assert place.machine is not None
        found = place.machine.json("inspect", place.name)[0]["Id"]
        return [] if found == place.ids["new"] else [f"pulled, it is {found}"]


class Fetch(Pull):
    """A build runs a step on that image: its layers are fetched then."""

    name = "fetch"

    def __init__(self) -> None:
        self._id = ""

    def act(self, place: Place) -> Done:
        assert place.machine is not None
        place.machine.write(
            "fetch.rec", f"FROM {place.name}\n" + _RUN.format("/bin/busybox cat /data* > /all; echo x > /x")
        )
        return place.machine.try_("build", "fetch.rec", "-t", "fetched", SOURCE_DATE_EPOCH=_EPOCH)

    def is_new(self, place: Place) -> bool:
        assert place.machine is not None
        return place.machine.try_("inspect", "fetched").code == 0

    def confirm(self, place: Place, done: Done) -> list[str]:
        assert place.machine is not None
        found = place.machine.json("inspect", "fetched")[0]["Id"]
        self._id = self._id or found
        return [] if found == self._id else [f"built, it is {found}"]


class Tell:
    """A build tells a shared cache what it ran."""

    name = "cache-to"

    def prepare(self, place: Place) -> None:
        place.fresh("nothing")

    def act(self, place: Place) -> Done:
        return _build(place.empty_machine(), "--cache-to", f"type=registry,ref={place.proxy.address}/cache")

    def judge(self, place: Place, done: Done, struck: bool) -> list[str]:
        faults = _warned(place, done, struck)
        return faults + _entries(place)

    def is_new(self, place: Place) -> bool:
        return len(_tags(place)) == 7  # six steps, and their line of descent

    def whole(self, place: Place) -> set[str]:
        return place.blobs("cache")

    def moved(self, place: Place) -> set[str]:
        return {digest for digest, _ in place.proxy.uploaded()}

    def confirm(self, place: Place, done: Done) -> list[str]:
        faults = _warned(place, done, False) + _entries(place)
        told = _build(place.empty_machine(), *_believing(place))
        if told.code != 0 or told.err.count("from team") != 6:
            faults.append(f"another machine is not told of all steps: {told.err}")
        return faults


class Told:
    """A build is told by a shared cache, and reads the layers."""

    name = "cache-from"

    def prepare(self, place: Place) -> None:
        if not place.has("told"):
            place.fresh("nothing")
            _build(place.empty_machine(), "--cache-to", f"{place.proxy.address}/cache")
            place.keep("told")
        place.fresh("told")

    def act(self, place: Place) -> Done:
        assert place.machine is not None
        out = os.path.join(place.directory, "out")
        shutil.rmtree(out, ignore_errors=True)
        return _build(place.machine, *_believing(place), "-o", f"type=dir,dest={out}")

    def judge(self, place: Place, done: Done, struck: bool) -> list[str]:
        return _warned(place, done, struck) + _written(place)

    def is_new(self, place: Place) -> bool:
        return True

    def whole(self, place: Place) -> set[str]:
        return set(Pull().whole(place))

    def moved(self, place: Place) -> set[str]:
        return {digest for digest, _ in place.proxy.downloaded()}

    def confirm(self, place: Place, done: Done) -> list[str]:
        return _warned(place, done, False) + _written(place)


SCENES: tuple[Scene, ...] = (Push(), Pull(), Fetch(), Tell(), Told())


def _build(machine: Pybuild, *options: str) -> Done:
    return machine.try_(
        "build", "new.rec", "--progress", "plain", "--explain", *options, SOURCE_DATE_EPOCH=_EPOCH
    )


def _believing(place: Place) -> tuple[str, str]:
    return "--cache-from", f"type=registry,ref={place.proxy.address}/cache,trust=any,name=team"


def _ended(done: Done, failure: int, struck: bool) -> list[str]:
    return [] if done.code in ((0, failure) if struck else (0,)) else [f"its exit code is {done.code}"]


def _warned(place: Place, done: Done, struck: bool) -> list[str]:
    """Return what is wrong with a build that a cache must not make fail."""
    faults = [] if done.code == 0 else [f"the build's exit code is {done.code}"]
    if done.out.strip() != place.ids["new"]:
        faults.append(f"the build gives {done.out.strip()}, not {place.ids['new']}")
    if "warning" in done.err.lower() and not struck:
        faults.append("a warning")
    return faults


def _written(place: Place) -> list[str]:
    out = os.path.join(place.directory, "out")
    with open(f"{out}/made") as file:
        made = file.read()
    same = subprocess.run(["cmp", f"{out}/data0", f"{place.maker.cwd}/data0"], check=False).returncode == 0
    return [] if same and made == "made\n" else ["the output is not what was built"]


def _tagged(place: Place) -> str:
    """Return the id of the image under the tag, all of whose blobs are there: skopeo has copied and verified
    them."""
    target = os.path.join(place.directory, "copied")
    shutil.rmtree(target, ignore_errors=True)
    name = f"docker://{place.registry.address}/team/app:1"
    done = subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", name, f"dir:{target}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return done.stderr
    with open(f"{target}/manifest.json", "rb") as file:
        found: str = json.load(file)["config"]["digest"]
    return found


def _tags(place: Place) -> dict[str, bytes]:
    """Return what there is under the tags of the cache: docker-registry lists those, too, that it was killed
    over before there was anything."""
    found = json.loads(place.get("cache/tags/list") or b"{}")
    under = {tag: place.get(f"cache/manifests/{tag}") for tag in found.get("tags") or []}
    return {tag: data for tag, data in under.items() if data}


def _entries(place: Place) -> list[str]:
    """Return what is wrong with the entries of a cache: each names a layer that is there, whole."""
    faults = []
    for tag, data in _tags(place).items():
        try:
            manifest: dict[str, Any] = json.loads(data)
        except ValueError:
            faults.append(f"under {tag} there is {data[:100]!r}")
            continue
        for blob in (manifest["config"], *manifest["layers"]):
            found = place.get(f"cache/blobs/{blob['digest']}")
            if f"sha256:{hashlib.sha256(found).hexdigest()}" != blob["digest"]:
                faults.append(f"{tag} names {blob['digest']}, which is not there")
    return faults


def _unsound(root: str) -> list[str]:
    """Return what is wrong with the layers of a store: each is hashed anew."""
    faults = []
    with Store.open(root) as store:
        for layer in store.layers.all():
            try:
                store.layers.verify(layer.chain_id)
            except CacheError as error:
                faults.append(str(error))
    return faults
