"""FROM oci-layout://PATH[:tag][@digest]: an OCI image layout in a directory."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from builder.bases.base import BaseImage, BaseRequest, Surroundings, refuse_options
from builder.bases.layouts import Files, Layout, Selector
from builder.bases.local import LocalLayer, LocalSupply, split_location
from builder.errors import BaseError

if TYPE_CHECKING:
    from builder.bases.arrivals import Readable


class OciLayoutTransport:
    """Bases from OCI layouts in directories. A layout may change at any time, so its index is always read."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the image. Raises BaseError, FormatError, StoreError."""
        refuse_options(request, "an OCI layout")
        path, tag, digest = split_location(request)
        if not os.path.isdir(path):
            hint = f"write oci-archive://{request.location}" if os.path.isfile(path) else None
            raise BaseError(f"{path} is not a directory", code="base/not-found", hint=hint)
        selector = Selector(tag, digest)
        return take(self._around, Directory(path), path, f"oci-layout://{path}", selector, request)

    def close(self) -> None: ...


class Directory:
    """The files below a directory of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: str) -> tuple[Readable, int] | None:
        """Links are followed (build tools make layouts of them): what they lead to has to have the right
        digest.
        """
        try:
            fd = os.open(os.path.join(self._path, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            os.close(fd)
            return None
        return open(fd, "rb", buffering=0), facts.st_size

    def close(self) -> None: ...


def take(
    around: Surroundings, files: Files, name: str, reference: str, selector: Selector, request: BaseRequest
) -> BaseImage:
    """Get an image of the layout in `files` into the store; return it as the base `reference`."""
    from builder.bases.images import keep_unnamed, read_config
    from builder.bases.ingest import ingest

    layout = Layout(files, name)
    image = layout.image(selector, request.platform)
    config = read_config(image.config, len(image.manifest.layers), name)
    layers = [LocalLayer(partial(layout.open_blob, each), each.digest) for each in image.manifest.layers]
    supply = LocalSupply(around, name, layers)
    ingest(around.store, around.emit, name, config.diff_ids, supply)
    return keep_unnamed(around, image.config, config, reference, request.platform, image.digest)
