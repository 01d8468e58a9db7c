"""Logins, tried out: does a registry take these credentials?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.errors import RegistryError
from cache.oci.reference import DEFAULT_REGISTRY, Reference
from cache.registry.credentials import HUB_KEYS, Credential, normalise
from cache.registry.failures import TransportFailure
from cache.registry.refusals import Attempt, refusal, summary
from cache.registry.retry import RetryPolicy
from cache.registry.session import Session

if TYPE_CHECKING:
    from cache.registry.endpoints import Registries
    from cache.registry.transport import Transport


_ANY = "login"
"""A repository that is never asked for: the settings of a registry go by names in it."""


class Given:
    """Credentials that are one, whatever the registry. `asked`: whether a registry wanted them."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self.asked = False

    def find(self, registry: str, repository: str) -> Credential | None:
        """Return it."""
        self.asked = True
        return self._credential


def login_key(text: str | None) -> str:
    """Return what a login for `text` is kept under: `registry`, or `registry/the beginning of names` as
    podman has it. None is Docker Hub. A URL is taken, as docker takes one. Raises FormatError.
    """
    if text is None:
        return DEFAULT_REGISTRY
    bare = normalise(text.strip())
    if not bare or bare in {normalise(key) for key in HUB_KEYS}:
        return DEFAULT_REGISTRY
    host, _, rest = bare.partition("/")
    # The grammar of names says what a registry is; `x.` makes one of a host without a dot.
    if "." not in host and ":" not in host and host != "localhost":
        Reference.parse(f"x.{host}/{rest or 'x'}")
    else:
        Reference.parse(f"{host}/{rest or 'x'}")
    return bare


def verify(transport: Transport, registries: Registries, key: str, credential: Credential) -> bool:
    """Try `credential` out on the registry of `key`; return False if that one asks nobody for a login.

    Raises RegistryError if it is refused (registry/unauthorized), or nobody answers.
    """
    registry = key.partition("/")[0]
    endpoint = registries.origin(registry, Reference(registry, _ANY, "latest"))
    given = Given(credential)
    session = Session(transport, given, RetryPolicy())
    try:
        # A login may have /v2/, and nobody else (distribution-spec, end-1).
        with session.send(endpoint, "GET", "", scope="") as response:
            if response.status not in (200, 401, 403):
                raise summary(f"registry {registry}", [Attempt(endpoint, refusal(endpoint, response))])
            accepted = response.status == 200
    except TransportFailure as failure:
        raise summary(f"registry {registry}", [Attempt(endpoint, failure)]) from None
    except RegistryError as error:
        if error.code != "registry/unauthorized":
            raise
        accepted = False
    if not accepted:
        raise RegistryError(
            f"{registry} refuses this login: it is not stored",
            code="registry/unauthorized",
            hint="check user and password; where two factors are asked for, that is an access token",
        )
    return given.asked
