"""What FROM names: a recipe, a transport, an image or stage. Told by its form alone, once its variables are
expanded.
"""

from __future__ import annotations

from grammar.node import Node

TRANSPORTS = ("mmdebstrap", "oci-layout", "oci-archive", "docker-archive", "docker-image")


class Base(Node):
    """What FROM names. `kind` is one of

    - scratch: nothing; - recipe: `location` is a path relative to the recipe's own directory, `stage` what
    stands after `#` (empty: none); - transport: `transport` is what stands before `://`, `location` what
    stands after it; - name: `location` names an earlier stage, or else a named context or an image: only
    planning knows.
    """

    kind: str
    location: str = ""
    transport: str = ""
    stage: str = ""


def parse_base(text: str) -> Base:
    """Return what `text`, the expanded word after FROM, names. An unknown transport is one too: its user says
    so.
    """
    if text == "scratch":
        return Base("scratch")
    head, separator, rest = text.partition("://")
    if separator and head.replace("-", "").isalnum():
        return Base("transport", rest, head)
    path, _, stage = text.partition("#")
    if path.startswith(("./", "../", "/")):
        return Base("recipe", path, "", stage)
    return Base("name", text)
