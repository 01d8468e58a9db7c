"""What a base image is, and what every transport of base images takes and gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from builder.errors import BaseError
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.executor import Executor
    from builder.sharedcache import SharedCache
    from cache.oci.digest import DiffID, Digest
    from cache.oci.platform import Platform
    from cache.oci.spec import ImageConfig
    from cache.registry.endpoints import Registries
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A base that stands in the store, but for layers that can be had when they are needed.

    `image_id` is the digest of its config; `chain_id` is None if it has no layers; `reference` is what was
    asked for, in its complete form; `digest` is that of the manifest it came by, None where there was none.
    """

    image_id: Digest
    config: ImageConfig
    chain_id: ChainID | None
    reference: str
    digest: Digest | None = None

    @property
    def created(self) -> int:
        """When the image was made, by its own account, in seconds since 1970; 0 if it does not say."""
        return parse_time(self.config.created)


@dataclass(frozen=True, slots=True)
class BaseRequest:
    """A base to be had. `location` is what follows `transport://`; for registries, the image's name.

    `options` are the flags of FROM, without dashes, in order. `pull`: ask where it comes from again, even if
    it is in the store. Relative paths are meant from `directory`. `releases`: the signed Release files that
    an mmdebstrap base must be made of, () for those of today.
    """

    location: str
    platform: Platform
    options: tuple[tuple[str, str], ...] = ()
    pull: bool = False
    directory: str = "."
    releases: tuple[str, ...] = ()

    def path(self, text: str) -> str:
        """The absolute path that `text` means."""
        return os.path.normpath(os.path.join(os.path.abspath(self.directory), text))


class BaseTransport(Protocol):
    """One way to base images."""

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the base, in the store by then. Raises BaseError, UsageError, HostError, CacheError."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What transports work with. `registries` None: no configuration; `executor` starts one when called;
    `lazy`: layers of registries may stay there until somebody reads them; `shared` knows of bases that others
    made."""

    store: Store
    emit: Emit
    executor: Callable[[], Executor]
    registries: Registries | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    lazy: bool = False
    shared: SharedCache | None = None


def refuse_options(request: BaseRequest, transport: str) -> None:
    """Raise BaseError if FROM has flags, which only mmdebstrap:// knows what to do with."""
    for name, _ in request.options:
        raise BaseError(
            f"--{name} means nothing to {transport}",
            code="base/option",
            hint="--variant, --include, --mirror and --keyring belong to FROM mmdebstrap://SUITE",
        )


def chain_of(diff_ids: tuple[DiffID, ...]) -> ChainID | None:
    """The ChainID of a stack of layers, bottom first; None for none."""
    chain: ChainID | None = None
    for diff_id in diff_ids:
        chain = ChainID.extend(chain, diff_id)
    return chain


def parse_time(text: str | None) -> int:
    """Seconds since 1970 of an RFC 3339 time, rounded down; 0 if it is none, or before 1970."""
    if not text:
        return 0
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0, int(when.timestamp()))


def format_time(seconds: int) -> str:
    """The RFC 3339 form of seconds since 1970, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
