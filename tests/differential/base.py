"""The images that the cases start FROM, as archives that every builder can load."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import Any

TIME = 1_500_000_000
PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\nalone:x:77:88::/:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1000:\nextra:x:50:app\nwheel:x:10:app\n"
DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/app": 0o700,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o2775,
    "srv/data": 0o750,
    "srv/data/deep": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var": 0o755,
}
FILES = {
    # What a runtime mounts over is there, so that no builder has to make it.
    "dev/console": b"",
    "etc/hosts": b"",
    "etc/hostname": b"",
    "etc/resolv.conf": b"",
    "etc/passwd": PASSWD,
    "etc/group": GROUP,
    "srv/data/one": b"one\n",
    "srv/data/deep/two": b"two\n",
    "srv/file": b"file\n",
}
LINKS = {"srv/link": "data", "srv/dangling": "nowhere", "srv/absolute": "/srv/data", "srv/tofile": "file"}

CONFIGS: dict[str, dict[str, Any]] = {
    "base": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
    "rich": {
        "Env": ["PATH=/bin", "FROM_BASE=yes", "SPACED=a b"],
        "Entrypoint": ["/bin/env"],
        "Cmd": ["sh", "-c", "true"],
        "User": "app",
        "WorkingDir": "/home/app",
        "Labels": {"kept": "base", "changed": "base"},
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 4},
        "Shell": ["/bin/sh", "-ec"],
    },
}


def write(path: str, name: str) -> None:
    """Write the docker-archive of the image localhost/NAME."""
    layer = _layer()
    diff_id = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "os": "linux",
        "created": "2017-07-14T02:40:00Z",
        "config": CONFIGS[name],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": "2017-07-14T02:40:00Z", "created_by": name}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"localhost/{name}:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for member, data in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _layer() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    with open(busybox, "rb") as file:
        program = file.read()
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(
            name: str,
            mode: int,
            kind: bytes = tarfile.REGTYPE,
            data: bytes = b"",
            target: str = "",
            owner: int = 0,
        ) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, len(data), target, TIME
            info.uid = info.gid = owner
            tar.addfile(info, io.BytesIO(data))

        for name, mode in DIRECTORIES.items():
            add(name, mode, tarfile.DIRTYPE, owner=1000 if name == "home/app" else 0)
        for name, data in FILES.items():
            add(name, 0o644, data=data)
        add("bin/busybox", 0o755, data=program)
        for name in applets:
            if name != "busybox":
                add(f"bin/{name}", 0o777, tarfile.SYMTYPE, target="busybox")
        for name, target in LINKS.items():
            add(name, 0o777, tarfile.SYMTYPE, target=target)
        add("srv/hard", 0o644, tarfile.LNKTYPE, target="srv/file")
    return out.getvalue()
