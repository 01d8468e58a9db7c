"""What a build can be written out as: one module for each output type, and here the way to them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.config import Config
    from builder.events import Emit
    from builder.exporters.base import Exporter, Group, Output
    from builder.exporters.output_spec import OutputSpec
    from cache.compression import Compression
    from cache.oci.digest import Digest
    from cache.registry.endpoints import Registries
    from cache.store import Store

_MODULES = {
    "oci": "oci_archive",
    "oci-layout": "oci_layout",
    "docker": "docker_archive",
    "tar": "rootfs_tar",
    "dir": "directory",
}


def parse_outputs(
    texts: Iterable[str], config: Config | None = None, *, several: bool = False
) -> tuple[OutputSpec, ...]:
    """Return what each `--output` describes, after a look at whether it can be written at all, for an image
    for `several` platforms.

    To be called before a build, so that it does not fail in the end for a typing mistake. Raises UsageError.
    """
    from builder.errors import UsageError
    from builder.exporters.destination import check
    from builder.exporters.output_spec import STDOUT, OutputSpec

    default = None if config is None else default_compression(config)
    specs = tuple(OutputSpec.parse(text, default=default) for text in texts)
    for spec in specs:
        check(spec)
    if several and any(spec.type == "docker" for spec in specs):
        raise UsageError(
            "a Docker archive holds an image for one platform only",
            code="usage/output",
            hint="type=oci holds all of them, and Docker, podman and skopeo read it",
        )
    if sum(spec.dest == STDOUT for spec in specs) > 1:
        raise UsageError("only one output can go to standard output", code="usage/output")
    return specs


def export(
    group: Group, spec: OutputSpec, store: Store, emit: Emit, registries: Registries | None = None
) -> Output:
    """Write one output of the image that `group` is for its platforms, and say so; `registries` are for an
    image that is pushed. Raises OutputError, StoreError, RegistryError.
    """
    from builder.events import OutputWritten

    if spec.type == "registry":
        from builder.exporters.registry import export as push
        from builder.lookup import familiar

        assert registries is not None, "a session hands them in"
        output = push(group, spec, store, emit, registries)
        emit(OutputWritten(spec.type, ", ".join(map(familiar, group[0].names)), output.size))
        return output
    module = import_module(f"builder.exporters.{_MODULES[spec.type]}")
    output = cast("Exporter", module.export)(group, spec, store, emit)
    emit(OutputWritten(spec.type, spec.dest, output.size))
    return output


def export_several(groups: Sequence[Group], spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write several images into one archive (oci, docker), and say so. Raises OutputError, StoreError."""
    from builder.events import OutputWritten

    module = import_module(f"builder.exporters.{_MODULES[spec.type]}")
    output = cast("Output", module.export_several(groups, spec, store, emit))
    emit(OutputWritten(spec.type, spec.dest, output.size))
    return output


def export_all(
    store: Store,
    image_id: Digest,
    names: Sequence[str],
    outputs: Sequence[str],
    config: Config | None,
    emit: Emit,
) -> tuple[Output, ...]:
    """Write the image `image_id` out as each of `outputs` says, under `names` and those that the output adds.

    A layer that several outputs compress alike is compressed once. Raises UsageError, OutputError,
    StoreError.
    """
    from builder.exporters.base import Source

    specs = parse_outputs(outputs, config)
    return tuple(
        export([Source.load(store, image_id, (*names, *spec.names))], spec, store, emit) for spec in specs
    )


def default_compression(config: Config) -> Compression | None:
    """How layers are compressed where an output does not say it. Raises UsageError."""
    from builder.errors import UsageError
    from cache.compression import Compression
    from cache.errors import CacheError

    if config.compression is None and config.compression_level is None:
        return None
    try:
        return Compression.parse(config.compression or "gzip", config.compression_level)
    except CacheError as error:
        raise UsageError(f"pybuild.toml: {error.message}", hint=error.hint, code="usage/output") from None
