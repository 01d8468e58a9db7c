"""The shared caches of a build, as command line and pybuild.toml have them: whom they believe, how they are
opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from builder.cachespec import CacheSpec, merged
from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.config import Config
    from cache.compression import Compression
    from cache.registry.endpoints import Registries
    from cache.remote import RemoteCache
    from cache.signing import PrivateKey, PublicKey
    from cache.trust import Trust

PASSWORD = "PYBUILD_CACHE_KEY_PASSWORD"
KEY = "PYBUILD_CACHE_KEY"
ANYBODY = "any"


class CacheTier:
    """One shared cache. Keys are read when they are needed: a build that hits throughout needs none."""

    def __init__(
        self, spec: CacheSpec, trusted: Mapping[str, Sequence[str]], environ: Mapping[str, str]
    ) -> None:
        """`trusted` are the files of keys that `[cache.trust]` gives a name."""
        self.spec = spec
        self._trusted = trusted
        self._environ = environ

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.spec.name

    @property
    def place(self) -> str:
        """What opens it again, for reading its layers."""
        return self.spec.place

    @cached_property
    def repository(self) -> str:
        """The repository (`host/path`) that it is, "" if it is none."""
        return self.spec.repository

    @property
    def reads(self) -> bool:
        return self.spec.reads

    @property
    def writes(self) -> bool:
        return self.spec.writes

    @property
    def claims(self) -> bool:
        return self.spec.claims

    @property
    def ttl(self) -> int | None:
        return self.spec.ttl

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files that say whose entries are believed, and what they are signed with."""
        own = (self.key_file,) if self.key_file else ()
        return (*(path for path in self._public_files()), *own)

    @property
    def key_file(self) -> str:
        """The file of the key that entries are signed with, "" for none."""
        return self.spec.key or self._environ.get(KEY, "")

    def compression(self, images: Compression) -> Compression:
        """Return how layers are compressed that go there; `images`: how those of images are."""
        from cache.compression import Compression

        return Compression.parse(self.spec.compression) if self.spec.compression else images

    @cached_property
    def trust(self) -> Trust:
        """Whose entries are believed: of the keys that are named, else of those in `[cache.trust]`, and one's
        own. Raises UsageError if that is nobody, KeyFileError.
        """
        from cache.trust import Trust

        if self.spec.trust == (ANYBODY,):
            return Trust()
        keys = [_public(path) for path in self._public_files()]
        own = self.private_key() if self.key_file else None
        if own is not None:
            keys.append(own.public)
        return Trust(tuple({key.id: key for key in keys}.values()))

    def check(self) -> None:
        """Raise UsageError if it is not said whose entries are to be believed."""
        if self.reads and self.spec.trust != (ANYBODY,) and not self.files:
            raise UsageError(
                f"nobody is named whose entries in the shared cache {self.name} are to be believed",
                code="cache/trust",
                hint="trust=NAME with [cache.trust] in pybuild.toml, trust=FILE, key=FILE, or trust=any",
            )

    def private_key(self) -> PrivateKey | None:
        """Return what entries are signed with. Raises KeyFileError."""
        return self._private

    @cached_property
    def _private(self) -> PrivateKey | None:
        return _private(self.key_file, self._environ) if self.key_file else None

    def with_key(self, path: str) -> PrivateKey:
        """Return another key of one's own. Raises KeyFileError."""
        return _private(path, self._environ)

    def _public_files(self) -> tuple[str, ...]:
        if self.spec.trust == (ANYBODY,):
            return ()
        found: list[str] = []
        for name in self.spec.trust or tuple(self._trusted):
            if "/" in name:
                found.append(name)
            elif name in self._trusted:
                found += self._trusted[name]
            else:
                raise UsageError(
                    f"trust={name}: [cache.trust] in pybuild.toml has no key of that name",
                    code="cache/trust",
                    hint=f"it has {', '.join(self._trusted)}"
                    if self._trusted
                    else "a file is written with a /",
                )
        return tuple(dict.fromkeys(found))


def tiers(
    cache_from: Sequence[str],
    cache_to: Sequence[str],
    config: Config,
    environ: Mapping[str, str] = os.environ,
) -> tuple[CacheTier, ...]:
    """Return the shared caches that are asked for; where the command line says nothing, those of
    pybuild.toml. Raises UsageError.
    """
    texts = [("--cache-from", text, ".") for text in cache_from]
    texts += [("--cache-to", text, ".") for text in cache_to]
    if not texts:
        texts += [("--cache-from", *each) for each in config.cache.from_]
        texts += [("--cache-to", *each) for each in config.cache.to]
    specs = [CacheSpec.parse(text, option=option, directory=directory) for option, text, directory in texts]
    found = tuple(CacheTier(spec, config.cache.trust, environ) for spec in merged(specs))
    for tier in found:
        tier.check()
    return found


def open_cache(spec: CacheSpec, registries: Registries) -> RemoteCache:
    """Open a shared cache. Raises CacheError."""
    if spec.kind == "dir":
        from cache.remotes.directory import DirectoryCache

        return DirectoryCache(spec.location, name=spec.name)
    if spec.kind == "registry":
        from builder.registries import cache_client
        from cache.remotes.registry import RegistryCache

        return RegistryCache(cache_client(registries, spec.timeout), spec.location, name=spec.name)
    from cache.remotes.object import ObjectCache

    return ObjectCache(spec.location, dict(spec.options), name=spec.name, timeout=spec.timeout)


def open_place(place: str, registries: Registries) -> RemoteCache:
    """Open a shared cache by the place that the origins of its layers have. Raises CacheError, UsageError."""
    return open_cache(CacheSpec.parse(place), registries)


def _private(path: str, environ: Mapping[str, str]) -> PrivateKey:
    from cache.signing import PrivateKey, read_key_file

    password = environ.get(PASSWORD)
    return PrivateKey.from_pem(read_key_file(path), password.encode() if password else None, path)


def _public(path: str) -> PublicKey:
    from cache.signing import PublicKey, read_key_file

    return PublicKey.from_pem(read_key_file(path), path)
