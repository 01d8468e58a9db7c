"""A real overlay of upperdirs, in a mount namespace of its own; and umoci, which applies layers in a way of
its own.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from tempfile import mkdtemp

OPTIONS = "index=off,metacopy=off,redirect_dir=off,xino=off"


def look(lowerdirs: Sequence[str], scratch: str) -> str:
    """Return a copy of what an overlay of `lowerdirs` (top first) shows, made below `scratch`."""
    copy = mkdtemp(dir=scratch)
    if len(lowerdirs) == 1:
        subprocess.run(["cp", "-a", f"{lowerdirs[0]}/.", copy], check=True)
        return copy
    _mounted(f"ro,lowerdir={':'.join(lowerdirs)},{OPTIONS}", f"cp -a . {copy}", scratch)
    return copy


def change(lowerdirs: Sequence[str], script: str, scratch: str) -> str:
    """Run `script` in an overlay of `lowerdirs` (top first), and return the upperdir that it leaves."""
    upper, work = mkdtemp(dir=scratch), mkdtemp(dir=scratch)
    os.chmod(upper, 0o755)
    _mounted(f"lowerdir={':'.join(lowerdirs)},upperdir={upper},workdir={work},{OPTIONS}", script, scratch)
    return upper


def _mounted(options: str, script: str, scratch: str) -> None:
    merged = mkdtemp(dir=scratch)
    command = f"mount -t overlay overlay -o {options} {merged} && cd {merged} && {{ {script}\n}}"
    subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", command], check=True)


def umoci(layers: Sequence[bytes], scratch: str) -> str:
    """Return the root filesystem that umoci makes of the layer tars `layers`, bottom first."""
    layout = mkdtemp(dir=scratch)
    os.makedirs(f"{layout}/blobs/sha256")

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer, 1), "layer.v1.tar+gzip") for layer in layers],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    with open(f"{layout}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    bundle = mkdtemp(dir=scratch)
    command = ["umoci", "unpack", "--image", f"{layout}:it", f"{bundle}/bundle"]
    subprocess.run(command, check=True, capture_output=True)
    return f"{bundle}/bundle/rootfs"
