"""Where a case takes place: a context, a base, a store, and beside them what must stay as it is."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
from typing import Any

from tests.build_fixtures.project import APPLETS, GROUP, PASSWD

SECRET = "only-the-host-may-read-this"
"""In a file that no recipe can name: it must come up in no output, and nowhere in the store."""

_OCI = "application/vnd.oci.image"


class Place:
    """`directory` holds `context/`, `base/` with base.rec, `store/`, and `outside/`, which is not theirs."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.context, self.base, self.store, self.outside, self.home = (
            os.path.join(directory, name) for name in ("context", "base", "store", "outside", "home")
        )
        self.root = os.path.join(self.base, "root")
        for path in (self.context, self.outside, self.home):
            os.makedirs(path)
        self._fill_outside()
        self._fill_base()

    def _fill_outside(self) -> None:
        os.makedirs(f"{self.outside}/directory")
        self.write(f"{self.outside}/secret", SECRET, 0o600)
        self.write(f"{self.outside}/directory/inner", SECRET)
        self.write(f"{self.outside}/passwd", f"{PASSWD}mole:x:0:0:{SECRET}:/:/bin/sh\n")
        self.write(f"{self.outside}/shadow", f"root:$6${SECRET}:19000:0:99999:7:::\n", 0o600)
        os.chown(f"{self.outside}/directory", 7, 7)

    def _fill_base(self) -> None:
        for name in ("bin", "etc", "tmp", "home/app"):
            os.makedirs(f"{self.root}/{name}")
        os.chmod(f"{self.root}/tmp", 0o1777)
        busybox = shutil.which("busybox")
        assert busybox is not None, "the escape suite needs busybox (apt-get install busybox-static)"
        shutil.copy(busybox, f"{self.root}/bin/busybox")
        for applet in (*APPLETS, "cut", "grep", "head", "id", "mknod", "printf", "setfattr", "sleep"):
            if os.path.lexists(f"{self.root}/bin/{applet}"):
                continue
            os.symlink("busybox", f"{self.root}/bin/{applet}")
        self.write(f"{self.root}/etc/passwd", PASSWD)
        self.write(f"{self.root}/etc/group", GROUP)
        self.write(f"{self.base}/base.rec", "FROM scratch\nCOPY root/ /\nENV PATH=/bin\n")

    def write(self, path: str, data: str | bytes = "", mode: int = 0o644) -> str:
        """Write a file, below the context unless the path is absolute."""
        path = os.path.join(self.context, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        return path

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, below the context unless the path is absolute, in place of what is there."""
        path = os.path.join(self.context, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    def fill(self, text: str) -> str:
        """Return `text` with the names of directories in it."""
        text = text.replace("OUTSIDE", self.outside).replace("PLACE", self.directory)
        return re.sub(r"FROM base\b", "FROM ../base/base.rec", text)

    def give(self, uid: int) -> None:
        """Make everything a user's, what is outside, too: then it is not the kernel that guards it."""
        # chown(2) takes set-user-ID away.
        find = ["find", self.directory, "-type", "f", "-perm", "/6000", "-printf", "%m %p\\0"]
        marked = subprocess.run(find, check=True, capture_output=True).stdout.split(b"\0")[:-1]
        subprocess.run(["chown", "-hR", f"{uid}:{uid}", self.directory], check=True)
        for line in marked:
            mode, _, path = line.partition(b" ")
            os.chmod(path, int(mode, 8))

    # Images

    def base_layer(self) -> bytes:
        """Return the base's files as a layer."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(self.root, ".")
        return out.getvalue()

    def layout(
        self, *layers: bytes, config: dict[str, Any] | None = None, compress: bool = True, name: str = "image"
    ) -> str:
        """Make an OCI layout with an image of these tars, and what `config` says of containers; return it."""
        path = os.path.join(self.directory, name)
        blobs = [gzip.compress(layer, 1, mtime=0) if compress else layer for layer in layers]
        suffix = "+gzip" if compress else ""
        document = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
        data = json.dumps(document).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": descriptor(f"{_OCI}.config.v1+json", data),
            "layers": [descriptor(f"{_OCI}.layer.v1.tar{suffix}", blob) for blob in blobs],
        }
        self.layout_of(path, json.dumps(manifest).encode(), data, *blobs)
        return path

    def layout_of(self, path: str, manifest: bytes, *blobs: bytes, index: bytes | None = None) -> None:
        """Write a layout of these documents, as they are."""
        for blob in (manifest, *blobs):
            self.write(f"{path}/blobs/sha256/{digest(blob)[7:]}", blob)
        self.write(f"{path}/oci-layout", '{"imageLayoutVersion": "1.0.0"}')
        if index is None:
            named = descriptor(f"{_OCI}.manifest.v1+json", manifest)
            named["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
            index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
        self.write(f"{path}/index.json", index)

    # What must not have happened

    def snapshot(self) -> dict[str, tuple[Any, ...]]:
        """Return what is outside, attributes, contents and times and all."""
        found: dict[str, tuple[Any, ...]] = {}
        for above, names, files in os.walk(self.outside):
            for path in (above, *(os.path.join(above, name) for name in (*names, *files))):
                status = os.lstat(path)
                found[path] = (
                    *(status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_nlink),
                    *(status.st_size, status.st_mtime_ns, status.st_ctime_ns),
                    tuple(os.listxattr(path, follow_symlinks=False)),
                    open(path, "rb").read() if stat.S_ISREG(status.st_mode) else b"",  # noqa: SIM115
                )
        return found

    def leaks(self) -> list[str]:
        """Return the files of the store, and of outputs, that have the secret in them."""
        places = [each for each in (self.store, f"{self.directory}/out") if os.path.exists(each)]
        # Python would not get as deep as what some of them make.
        find = ["find", *places, "-type", "f", "-size", "-64M"]
        done = subprocess.run(
            [*find, "-exec", "grep", "-lF", SECRET, "{}", "+"], capture_output=True, check=False
        )
        return os.fsdecode(done.stdout).splitlines() if places else []

    def left(self) -> list[str]:
        """Return what is unfinished in the store."""
        try:
            return os.listdir(f"{self.store}/tmp")
        except FileNotFoundError:
            return []


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}
