"""What all exporters share: what they are given, and how they fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from builder.annotations import NOTHING, Annotations
from builder.errors import BuildError

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.output_spec import OutputSpec
    from cache.layers import Layer
    from cache.oci.digest import ChainID, Digest
    from cache.store import Store


class OutputError(BuildError):
    """An output could not be written: the disk is full, the place is not writable, the reader has gone."""

    code = "output/error"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class Source:
    """An image of the store that is to go out: `names` are the canonical ones to go with it, `layers` the
    lowest first; () where they were not to be fetched."""

    image_id: Digest
    config: bytes
    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    annotations: Annotations = NOTHING

    @classmethod
    def load(
        cls,
        store: Store,
        image_id: Digest,
        names: Iterable[str] = (),
        annotations: Annotations | None = None,
        *,
        fetch: bool = True,
    ) -> Source:
        """Return the image `image_id`; layers that are not here are fetched, if `fetch`. Raises StoreError
        (store/missing), StoreCorrupt, FormatError."""
        from cache.oci.reference import Reference

        config = store.images.get(image_id)
        chain_ids = chain_ids_of(config) if fetch else ()
        layers = store.layers.chain(chain_ids[-1]) if chain_ids else ()
        canonical = dict.fromkeys(str(Reference.parse(name)) for name in names)
        return cls(image_id, config, tuple(canonical), layers, annotations or NOTHING)


def chain_ids_of(config: bytes) -> tuple[ChainID, ...]:
    """Return the ChainIDs of an image's layers, the lowest first, by its config. Raises FormatError."""
    from cache.oci.digest import ChainID
    from cache.oci.spec import ImageConfig

    found: list[ChainID] = []
    for diff_id in ImageConfig.from_json(config).diff_ids:
        found.append(ChainID.extend(found[-1] if found else None, diff_id))
    return tuple(found)


Group = Sequence[Source]
"""An image: for one platform, or for several, with the same names."""


def directory_of(source: Source) -> str:
    """Return the name of the directory for an image's platform among several, as Docker's buildx has it:
    `linux_arm64`.
    """
    from cache.oci.spec import ImageConfig

    return str(ImageConfig.from_json(source.config).platform).replace("/", "_")


@dataclass(frozen=True, slots=True)
class Output:
    """What was written: `size` in bytes, and the digest of the image's manifest, or index, where there is
    one.
    """

    spec: OutputSpec
    size: int
    manifest: Digest | None = None


class Exporter(Protocol):
    """Writes an image as `spec` says. Raises OutputError, StoreError; then nothing is left of it."""

    def __call__(self, group: Group, spec: OutputSpec, store: Store, emit: Emit, /) -> Output: ...


@contextmanager
def writing(dest: str) -> Iterator[None]:
    """Context in which an OSError becomes the OutputError that says what is wrong with `dest`."""
    try:
        yield
    except OSError as error:
        raise output_error(error, dest) from error


def output_error(error: OSError, dest: str) -> OutputError:
    """Return the OutputError for an OSError met while writing to `dest`."""
    shown = "standard output" if dest == "-" else dest
    where = error.filename2 or error.filename
    detail = (
        f" ({os.fsdecode(where)})" if isinstance(where, (str, bytes)) and os.fsdecode(where) != dest else ""
    )
    hint = None
    code = "output/error"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint, code = "free some space, or name another dest", "output/full"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        code = "output/denied"
    elif error.errno == errno.EPIPE:
        hint, code = "the program that reads it has ended", "output/pipe"
    elif error.errno == errno.EFBIG:
        hint = "a limit on file sizes (ulimit -f), or of that file system"
    return OutputError(f"cannot write to {shown}: {error.strerror or error}{detail}", hint=hint, code=code)


def lowerdirs(store: Store, source: Source) -> tuple[str, ...]:
    """Return the image's changesets, the topmost first."""
    return store.layers.lowerdirs(source.layers[-1].chain_id) if source.layers else ()
