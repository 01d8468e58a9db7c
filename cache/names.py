"""Image names: what `-t` gives, name -> image id."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cache.oci.digest import Digest

if TYPE_CHECKING:
    from cache.database import Database


class Names:
    """The table of names. A name is kept as it is given: whoever asks gives it in the canonical form, too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Digest | None:
        """Return the id of the image that bears `name`."""
        rows = self._database.read("SELECT image FROM names WHERE name = ?", (name,))
        return Digest(rows[0][0]) if rows else None

    def since(self, name: str) -> float | None:
        """Return since when `name` means its image, in seconds since 1970; None if nothing bears it."""
        rows = self._database.read("SELECT created FROM names WHERE name = ?", (name,))
        return float(rows[0][0]) if rows else None

    def put(self, name: str, image: Digest) -> None:
        """Let `name` mean `image`. On the disk on return, so sync the store before: a name must not
        outlive what it names."""
        if self.get(name) == image:
            return
        row = (name, image, time.time())
        self._database.write(
            lambda c: c.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", row), durable=True
        )

    def delete(self, name: str) -> bool:
        """Take `name` away. False if nothing had it."""
        return self._database.write(
            lambda c: c.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount > 0, durable=True
        )

    def of(self, image: Digest) -> tuple[str, ...]:
        """Return the names of `image`, sorted."""
        return tuple(
            row[0]
            for row in self._database.read("SELECT name FROM names WHERE image = ? ORDER BY name", (image,))
        )

    def all(self) -> dict[str, Digest]:
        """Return name -> image id, sorted by name."""
        return {
            name: Digest(image)
            for name, image in self._database.read("SELECT name, image FROM names ORDER BY name")
        }
