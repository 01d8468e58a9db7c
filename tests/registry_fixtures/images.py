"""Small images made by umoci, and their way into a registry by skopeo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from cache.store import Store
from tests.registry_fixtures.registry import Registry


def make_layout(
    directory: str, layers: Sequence[Mapping[str, bytes]], *, tag: str = "latest", architecture: str = "amd64"
) -> str:
    """Make the OCI layout `directory` with an image of `layers` (maps from paths to contents); return it.

    The image has /bin/tool, an environment, a user and a command.
    """
    if not os.path.exists(os.path.join(directory, "oci-layout")):
        _run("umoci", "init", "--layout", directory)
    image = f"{directory}:{tag}"
    _run("umoci", "new", "--image", image)
    for number, files in enumerate(layers):
        source = os.path.join(directory, f".source-{tag}-{number}")
        for path, content in files.items():
            full = os.path.join(source, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(content)
        # Of one time: the same files are the same layer, whenever they are made.
        for directory_, _, names in os.walk(source):
            for name in (".", *names):
                os.utime(os.path.join(directory_, name), (1_600_000_000, 1_600_000_000))
        _run("umoci", "insert", "--image", image, source, "/")
        shutil.rmtree(source)
    _run(
        *("umoci", "config", "--image", image, "--architecture", architecture, "--os", "linux"),
        *("--config.env", "GREETING=hello", "--config.user", "1000:1000", "--config.cmd", "/bin/tool"),
    )
    return directory


def push(layout: str, registry: Registry, name: str, *, tag: str = "latest", docker: bool = False) -> str:
    """Copy an image of `layout` to `name` in `registry`; return its complete name. `docker`: as schema 2."""
    complete = f"{registry.address}/{name}"
    form = ["--format=v2s2"] if docker else []
    _run("skopeo", "copy", *form, "--dest-tls-verify=false", f"oci:{layout}:{tag}", f"docker://{complete}")
    return complete


def skopeo(*words: str) -> str:
    return _run("skopeo", *words)


def read_blob(layout: str, digest: str) -> bytes:
    with open(os.path.join(layout, "blobs", *digest.split(":")), "rb") as file:
        return file.read()


def manifest_digest(layout: str, tag: str = "latest") -> str:
    with open(os.path.join(layout, "index.json"), "rb") as file:
        for item in json.load(file)["manifests"]:
            if item["annotations"]["org.opencontainers.image.ref.name"] == tag:
                digest: str = item["digest"]
                return digest
    raise KeyError(tag)


def _run(*command: str) -> str:
    assert shutil.which(command[0]), f"these tests need {command[0]}: apt-get install {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def unfinished(store: Store) -> list[str]:
    """What is left in a store's tmp/ when nothing is under way any more."""
    store.scratch.settle()
    return os.listdir(store.scratch.path)
