"""Images out of an archive, or an OCI layout, into the store, with the names that they bear (`pybuild load`).

The archives are those of `docker save`, podman, skopeo, BuildKit and our own exporters, compressed or not.
Reading them is builder/bases/: nothing is believed before its digest is verified.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import BaseError
from cache.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.bases.archive import Archive
    from builder.bases.base import BaseImage, Surroundings
    from builder.bases.layouts import Files
    from cache.oci.digest import Digest
    from cache.oci.platform import Platform
    from cache.oci.spec import Descriptor, Index

STDIN = "-"
_CHUNK = 1 << 20
_DOCKER, _OCI = "manifest.json", "index.json"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that stands in the store by now. `names` are canonical; an archive may give none."""

    image_id: Digest
    names: tuple[str, ...]


def load(around: Surroundings, source: str, platform: Platform) -> tuple[Loaded, ...]:
    """Bring all images of `source` into the store, and give them their names, which they may take from
    others.

    `source` is an archive, an OCI layout's directory, or `-` for an archive on standard input. Of an image
    for several platforms, that for `platform` is taken. Raises BaseError, FormatError, StoreError.
    """
    shown = "standard input" if source == STDIN else source
    try:
        if source != STDIN and os.path.isdir(source):
            from builder.bases.oci_layout import Directory

            found = _from_layout(around, Directory(source), source, platform)
        else:
            found = _from_archive(around, source, shown, platform)
    except FormatError as error:
        if not error.message.startswith(shown):
            error.message = f"{shown}: {error.message}"
        raise
    store = around.store
    store.sync()  # before the names: in a power cut, a name must not outlive what it names
    for image in found:
        for name in image.names:
            store.images.tag(name, image.image_id)
    return found


def _from_archive(around: Surroundings, source: str, shown: str, platform: Platform) -> tuple[Loaded, ...]:
    from builder.bases.archives import open_archive

    with open(_descriptor(around, source), "rb", buffering=0) as file:
        archive = open_archive(around, file, shown)
        try:
            if archive.open(_DOCKER) is not None:
                return _from_docker(around, archive, shown, platform)
            if archive.open(_OCI) is not None:
                return _from_layout(around, archive, shown, platform)
        finally:
            archive.close()
    raise FormatError(
        f"{shown} is no archive of images: it has neither {_DOCKER} nor {_OCI}",
        hint="a bare root filesystem is taken by a recipe: FROM scratch, then ADD",
    )


def _descriptor(around: Surroundings, source: str) -> int:
    """Open the archive; what can be read only once is copied to a file without a name first."""
    try:
        fd = os.dup(0) if source == STDIN else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BaseError(f"{source} cannot be read: {error.strerror}", code="base/not-found") from None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    if os.isatty(fd):
        os.close(fd)
        raise BaseError(
            "no archive on standard input", hint="name a file, or pipe one in", code="base/not-found"
        )
    from cache.disk import storing

    copy, path = around.store.scratch.file()
    try:
        os.unlink(path)
        with (
            storing("keeping an archive"),
            open(fd, "rb", buffering=0) as pipe,
            open(os.dup(copy), "wb") as out,
        ):
            shutil.copyfileobj(pipe, out, _CHUNK)
        os.lseek(copy, 0, os.SEEK_SET)
    except BaseException:
        os.close(copy)
        raise
    return copy


def _from_docker(
    around: Surroundings, archive: Archive, source: str, platform: Platform
) -> tuple[Loaded, ...]:
    from builder.bases.docker_archive import DockerArchive, take_image

    docker = DockerArchive(archive, source)
    found = [
        (take_image(around, docker, entry, source, platform), entry.texts("RepoTags"))
        for entry in docker.images
    ]
    return _united(found)


def _from_layout(around: Surroundings, files: Files, source: str, platform: Platform) -> tuple[Loaded, ...]:
    from builder.bases.base import BaseRequest
    from builder.bases.layouts import Layout, Selector
    from builder.bases.oci_layout import take

    chosen = _chosen(Layout(files, source).index(), platform)
    if not chosen:
        raise BaseError(f"{source} holds no image for {platform}", code="base/platform")
    request = BaseRequest(source, platform)
    found = [
        (take(around, files, source, source, Selector(digest=digest), request), names)
        for digest, names in chosen.items()
    ]
    return _united(found)


def _chosen(index: Index, platform: Platform) -> dict[Digest, list[str]]:
    """Return the images of a layout that suit `platform`, with their names."""
    from cache.oci.spec import INDEX_TYPES, MANIFEST_TYPES

    groups: dict[str, list[Descriptor]] = {}
    for item in index.manifests:
        if not item.media_type or item.media_type in MANIFEST_TYPES | INDEX_TYPES:
            groups.setdefault(_name(item) or item.digest, []).append(item)
    chosen: dict[Digest, list[str]] = {}
    for name, items in groups.items():
        best = replace(index, manifests=tuple(items)).select(platform)
        if best is not None:
            names = chosen.setdefault(best.digest, [])
            if name != best.digest:
                names.append(name)
    return chosen


def _name(item: Descriptor) -> str | None:
    """Return what an image of a layout is called; None for a bare tag, which says of what kind, but not of
    what."""
    from builder.bases.layouts import CONTAINERD_NAME
    from cache.oci.spec import ANNOTATION_REF_NAME

    annotations = dict(item.annotations)
    whole = annotations.get(CONTAINERD_NAME)
    if whole:
        return whole
    reference = annotations.get(ANNOTATION_REF_NAME, "")
    return reference if "/" in reference or ":" in reference else None


def _united(found: Iterable[tuple[BaseImage, Iterable[str]]]) -> tuple[Loaded, ...]:
    """Return each image once, with its names in their canonical form. Raises FormatError for one that is
    none."""
    from cache.oci.reference import Reference

    images: dict[Digest, dict[str, None]] = {}
    for base, names in found:
        canonical = images.setdefault(base.image_id, {})
        canonical.update(dict.fromkeys(str(Reference.parse(name)) for name in names))
    return tuple(Loaded(image_id, tuple(names)) for image_id, names in images.items())
