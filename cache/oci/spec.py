"""The image-spec's documents as values: descriptor, manifest, index, image config.

Source: image-spec v1.1 (descriptor.md, manifest.md, image-index.md, config.md), and Docker's image spec
v1.3 for what OCI does not have (Healthcheck, Shell, OnBuild). `from_json` reads both kinds and raises
FormatError; `to_json` is a pure function of the value. Unknown members are kept in `extra` and written back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import FormatError
from cache.oci.digest import DiffID, Digest
from cache.oci.document import Document, Extra, Pairs, dumps, loads, restore
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from typing import Any

MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_EMPTY = "application/vnd.oci.empty.v1+json"
MEDIA_TYPE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP = MEDIA_TYPE_LAYER + "+gzip"
MEDIA_TYPE_LAYER_ZSTD = MEDIA_TYPE_LAYER + "+zstd"
MEDIA_TYPE_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_V1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_MANIFEST_V1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

MANIFEST_TYPES = frozenset((MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST))
INDEX_TYPES = frozenset((MEDIA_TYPE_INDEX, DOCKER_MANIFEST_LIST))

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at content: its type, digest and size in bytes. `data` is base64, as written."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Pairs = ()
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    data: str = ""
    extra: Extra = ()

    @classmethod
    def read(cls, document: Document) -> Descriptor:
        """Return the descriptor that `document` is. Raises FormatError."""
        size = document.number("size")
        if size < 0:
            raise FormatError(f"descriptor: size {size} is negative")
        platform = document.document("platform")
        return cls(
            media_type=document.text("mediaType"),
            digest=Digest.parse(document.required_text("digest")),
            size=size,
            platform=None if platform is None else _read_platform(platform),
            annotations=document.pairs("annotations"),
            urls=document.texts("urls"),
            artifact_type=document.text("artifactType"),
            data=document.text("data"),
            extra=document.rest(),
        )

    @classmethod
    def from_json(cls, data: bytes) -> Descriptor:
        """Return the descriptor in `data`. Raises FormatError."""
        return cls.read(loads(data, "descriptor"))

    def value(self) -> dict[str, Any]:
        """The descriptor as a JSON object."""
        result = restore(self.extra)
        result.update(mediaType=self.media_type, digest=str(self.digest), size=self.size)
        _put(result, "platform", self.platform and _platform_value(self.platform))
        _put(result, "annotations", dict(self.annotations))
        _put(result, "urls", list(self.urls))
        _put(result, "artifactType", self.artifact_type)
        _put(result, "data", self.data)
        return result

    def to_json(self) -> bytes:
        return dumps(self.value())


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MEDIA_TYPE_MANIFEST
    annotations: Pairs = ()
    artifact_type: str = ""
    subject: Descriptor | None = None
    extra: Extra = ()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Return the manifest in `data`, OCI's or Docker's schema 2. Raises FormatError."""
        document = loads(data, "manifest")
        _check_schema(document, "manifest")
        config = document.document("config")
        if config is None:
            raise FormatError("manifest: config is missing", hint="is it an index, or Docker's schema 1?")
        subject = document.document("subject")
        return cls(
            config=Descriptor.read(config),
            layers=tuple(Descriptor.read(layer) for layer in document.documents("layers")),
            media_type=document.text("mediaType") or MEDIA_TYPE_MANIFEST,
            annotations=document.pairs("annotations"),
            artifact_type=document.text("artifactType"),
            subject=None if subject is None else Descriptor.read(subject),
            extra=document.rest(),
        )

    def to_json(self) -> bytes:
        result = restore(self.extra)
        result.update(schemaVersion=2, mediaType=self.media_type, config=self.config.value())
        result["layers"] = [layer.value() for layer in self.layers]
        _put(result, "annotations", dict(self.annotations))
        _put(result, "artifactType", self.artifact_type)
        _put(result, "subject", self.subject and self.subject.value())
        return dumps(result)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests under one name: an image for several platforms, or an OCI layout's contents."""

    manifests: tuple[Descriptor, ...]
    media_type: str = MEDIA_TYPE_INDEX
    annotations: Pairs = ()
    artifact_type: str = ""
    subject: Descriptor | None = None
    extra: Extra = ()

    @classmethod
    def from_json(cls, data: bytes) -> Index:
        """Return the index (or Docker's manifest list) in `data`. Raises FormatError."""
        document = loads(data, "index")
        _check_schema(document, "index")
        subject = document.document("subject")
        return cls(
            manifests=tuple(Descriptor.read(item) for item in document.documents("manifests")),
            media_type=document.text("mediaType") or MEDIA_TYPE_INDEX,
            annotations=document.pairs("annotations"),
            artifact_type=document.text("artifactType"),
            subject=None if subject is None else Descriptor.read(subject),
            extra=document.rest(),
        )

    def select(self, wanted: Platform) -> Descriptor | None:
        """The manifest that suits `wanted` best, or None. One that names no platform is a last resort."""
        best: tuple[int, Descriptor] | None = None
        for item in self.manifests:
            if item.media_type and item.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                continue
            rank = 1000 if item.platform is None else wanted.rank(item.platform)
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, item)
        return None if best is None else best[1]

    def to_json(self) -> bytes:
        result = restore(self.extra)
        result.update(schemaVersion=2, mediaType=self.media_type)
        result["manifests"] = [item.value() for item in self.manifests]
        _put(result, "annotations", dict(self.annotations))
        _put(result, "artifactType", self.artifact_type)
        _put(result, "subject", self.subject and self.subject.value())
        return dumps(result)


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How a container's health is tested. Durations in nanoseconds; 0 is the runtime's default.

    `test`: () inherits, ("NONE",) disables, ("CMD", …) is exec form, ("CMD-SHELL", line) is shell form.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    extra: Extra = ()

    @classmethod
    def read(cls, document: Document) -> Healthcheck:
        """Return the health check that `document` is. Raises FormatError."""
        return cls(
            test=document.texts("Test"),
            interval=document.number("Interval"),
            timeout=document.number("Timeout"),
            start_period=document.number("StartPeriod"),
            start_interval=document.number("StartInterval"),
            retries=document.number("Retries"),
            extra=document.rest(),
        )

    def value(self) -> dict[str, Any]:
        """The health check as a JSON object."""
        result = restore(self.extra)
        _put(result, "Test", list(self.test))
        _put(result, "Interval", self.interval)
        _put(result, "Timeout", self.timeout)
        _put(result, "StartPeriod", self.start_period)
        _put(result, "StartInterval", self.start_interval)
        _put(result, "Retries", self.retries)
        return result


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container of the image runs.

    None and () differ for `entrypoint`, `cmd` and `shell`: not set, and cleared. `env` holds "NAME=value"
    strings in order; `exposed_ports` ("80/tcp") and `volumes` are sets, whose order means nothing.
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Pairs = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False
    extra: Extra = ()

    @classmethod
    def read(cls, document: Document) -> ContainerConfig:
        """Return the container config that `document` is. Raises FormatError."""
        healthcheck = document.document("Healthcheck")
        return cls(
            user=document.text("User"),
            exposed_ports=document.keys("ExposedPorts"),
            env=document.texts("Env"),
            entrypoint=document.optional_texts("Entrypoint"),
            cmd=document.optional_texts("Cmd"),
            volumes=document.keys("Volumes"),
            working_dir=document.text("WorkingDir"),
            labels=document.pairs("Labels"),
            stop_signal=document.text("StopSignal"),
            healthcheck=None if healthcheck is None else Healthcheck.read(healthcheck),
            shell=document.optional_texts("Shell"),
            on_build=document.texts("OnBuild"),
            args_escaped=document.flag("ArgsEscaped"),
            extra=document.rest(),
        )

    def value(self) -> dict[str, Any]:
        """The container config as a JSON object."""
        result = restore(self.extra)
        _put(result, "User", self.user)
        _put(result, "ExposedPorts", {port: {} for port in self.exposed_ports})
        _put(result, "Env", list(self.env))
        for key, words in (("Entrypoint", self.entrypoint), ("Cmd", self.cmd), ("Shell", self.shell)):
            if words is not None:
                result[key] = list(words)
        _put(result, "Volumes", {path: {} for path in self.volumes})
        _put(result, "WorkingDir", self.working_dir)
        _put(result, "Labels", dict(self.labels))
        _put(result, "StopSignal", self.stop_signal)
        if self.healthcheck is not None:
            result["Healthcheck"] = self.healthcheck.value()
        _put(result, "OnBuild", list(self.on_build))
        _put(result, "ArgsEscaped", self.args_escaped)
        return result


@dataclass(frozen=True, slots=True)
class History:
    """How a layer, or with `empty_layer` a change of the config alone, came about. `created` is RFC 3339."""

    created: str | None = None
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False
    extra: Extra = ()

    @classmethod
    def read(cls, document: Document) -> History:
        """Return the history entry that `document` is. Raises FormatError."""
        return cls(
            created=document.optional_text("created"),
            created_by=document.text("created_by"),
            comment=document.text("comment"),
            author=document.text("author"),
            empty_layer=document.flag("empty_layer"),
            extra=document.rest(),
        )

    def value(self) -> dict[str, Any]:
        """The history entry as a JSON object."""
        result = restore(self.extra)
        _put(result, "created", self.created)
        _put(result, "created_by", self.created_by)
        _put(result, "comment", self.comment)
        _put(result, "author", self.author)
        _put(result, "empty_layer", self.empty_layer)
        return result


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image: platform, how its containers run, its layers' DiffIDs bottom first, its history."""

    architecture: str
    os: str
    variant: str = ""
    created: str | None = None
    author: str = ""
    config: ContainerConfig = ContainerConfig()
    diff_ids: tuple[DiffID, ...] = ()
    history: tuple[History, ...] = ()
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Extra = ()

    @classmethod
    def from_json(cls, data: bytes) -> ImageConfig:
        """Return the image config in `data`, OCI's or Docker's. Raises FormatError."""
        document = loads(data, "image config")
        rootfs = document.document("rootfs")
        if rootfs is None or rootfs.text("type") != "layers":
            raise FormatError("image config: rootfs is missing, or not of type layers")
        config = document.document("config")
        return cls(
            architecture=document.required_text("architecture"),
            os=document.required_text("os"),
            variant=document.text("variant"),
            created=document.optional_text("created"),
            author=document.text("author"),
            config=ContainerConfig() if config is None else ContainerConfig.read(config),
            diff_ids=tuple(DiffID(Digest.parse(text)) for text in rootfs.texts("diff_ids")),
            history=tuple(History.read(item) for item in document.documents("history")),
            os_version=document.text("os.version"),
            os_features=document.texts("os.features"),
            extra=document.rest(),
        )

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)

    def to_json(self) -> bytes:
        """The config as bytes, whose sha256 is the image id."""
        result = restore(self.extra)
        result.update(_platform_value(self.platform))
        _put(result, "created", self.created)
        _put(result, "author", self.author)
        result["config"] = self.config.value()
        result["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in self.diff_ids]}
        _put(result, "history", [item.value() for item in self.history])
        return dumps(result)


def _put(result: dict[str, Any], key: str, value: object) -> None:
    """Set what is not empty: Go's omitempty, which every other writer of these documents uses."""
    if value:
        result[key] = value


def _check_schema(document: Document, what: str) -> None:
    version = document.number("schemaVersion")
    if version != 2:
        raise FormatError(f"{what}: schema version {version} is not supported", hint="version 2 is")


def _read_platform(document: Document) -> Platform:
    return Platform(
        os=document.text("os"),
        architecture=document.text("architecture"),
        variant=document.text("variant"),
        os_version=document.text("os.version"),
        os_features=document.texts("os.features"),
    )


def _platform_value(platform: Platform) -> dict[str, Any]:
    result: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    _put(result, "variant", platform.variant)
    _put(result, "os.version", platform.os_version)
    _put(result, "os.features", list(platform.os_features))
    return result
