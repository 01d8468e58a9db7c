"""Make docs/view.png: the page of `pybuild view` for the image that recipes/java.rec builds.

Builds it into a store of its own, or takes what --root has. Run by `make screenshot`; needs root, chromium,
and pybuild's environment with the extra `dev`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(TOP)

from tests.view_fixtures.browser import Browser  # noqa: E402

WIDTH, HEIGHT = 1280, 940


def main() -> int:
    """Build the image, and take a picture of its page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="the store (default: one that goes when the picture is taken)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="screenshot-") as directory:
        root = args.root or directory + "/store"
        pybuild("recipes/java.rec", "-t", "notes:1.0", "--root", root)
        page = directory + "/notes.html"
        pybuild("view", "notes:1.0", "--output", page, "--root", root)
        with Browser() as browser:
            opened = browser.open("file://" + page, width=WIDTH, height=HEIGHT)
            opened.run("new Promise((done) => setTimeout(done, 500))")
            picture = opened.picture()
    with open(os.path.join(TOP, "docs", "view.png"), "wb") as file:
        file.write(picture)
    return 0


def pybuild(*arguments: str) -> None:
    """Run a command of this checkout."""
    environment = {**os.environ, "PYTHONPATH": TOP}
    command = [sys.executable, "-m", "builder.main", *arguments]
    subprocess.run(command, check=True, cwd=TOP, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
