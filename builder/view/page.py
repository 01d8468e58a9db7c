"""One HTML page that needs nothing else: the document, the style, the program and the plotting library in it.

*Nothing that it shows is trusted.* File names, recipe lines and labels are part of the document, which is
deflated and in base64, so that it has no character with a meaning in HTML; the program puts them into text
nodes only. A Content-Security-Policy (CSP level 3, w3.org/TR/CSP3) lets two programs run, named by their
digests, and nothing be loaded from or sent to anywhere.

*The plotting library* is plotly.js, as the Python package `plotly` brings it: deflated it takes a third, and
the page makes it a program again, which its digest allows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCRIPTS = ("data.js", "show.js", "table.js", "treemap.js", "files.js", "steps.js", "compare.js", "main.js")


def page(document: Mapping[str, Any], title: str) -> bytes:
    """Return the page as UTF-8. `title` is plain text. Raises HostError (host/plotly)."""
    from builder.progress.printable import printable

    library = plotly_js()
    program = "'use strict';\n(() => {\n" + "\n".join(map(_own, _SCRIPTS)) + "\n})();\n"
    policy = (
        "default-src 'none'; "
        f"script-src {_source(program)} {_source(library)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": escape(policy),
        "TITLE": escape(printable(title)),
        "STYLE": _own("view.css"),
        "DOCUMENT": _packed(json.dumps(document, separators=(",", ":"))),
        "LIBRARY": _packed(library),
        "PROGRAM": program,
    }
    return re.sub(r"@([A-Z]+)@", lambda match: parts[match[1]], _own("view.html")).encode()


def plotly_js() -> str:
    """Return the text of plotly.js. Raises HostError (host/plotly) if the package is not installed."""
    try:
        return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise HostError(
            "the page is drawn by plotly, which is not installed",
            code="host/plotly",
            hint="pip install 'pybuild[view]'",
        ) from None


def _own(name: str) -> str:
    return resources.files("builder.view").joinpath("web", name).read_text("utf-8")


def _source(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _packed(text: str) -> str:
    """Deflate as zlib's format, which browsers call "deflate" (w3.org/TR/compression), in base64."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
