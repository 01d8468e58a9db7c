"""FROM oci-archive://FILE[:tag][@digest]: an OCI image layout in a tar archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.bases.archives import resolve_archive
from builder.bases.base import BaseImage, BaseRequest, Surroundings, refuse_options

if TYPE_CHECKING:
    from builder.bases.archive import Archive
    from cache.oci.digest import Digest


class OciArchiveTransport:
    """Bases from OCI archives. One that was read already, and is the same file still, is not read again."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the image. Raises BaseError, FormatError, StoreError."""
        refuse_options(request, "an OCI archive")

        def take_image(
            archive: Archive, path: str, reference: str, tag: str | None, digest: Digest | None
        ) -> BaseImage:
            from builder.bases.layouts import Selector
            from builder.bases.oci_layout import take

            return take(self._around, archive, path, reference, Selector(tag, digest), request)

        return resolve_archive(self._around, request, "oci-archive", take_image)

    def close(self) -> None: ...
