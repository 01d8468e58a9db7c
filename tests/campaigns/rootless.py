"""Build all recipes as root, as a user with subordinate ids and as one with a single id, and compare the
images: `tests/campaigns/rootless.py [RECIPE…] [--OPTION…]`, as root; options are those of `pybuild build`.

One SOURCE_DATE_EPOCH; a store for each. Bases are made of packages anew each time, so it takes a mirror of
Debian and some minutes. A mirror that moves on meanwhile makes a difference, too: then run it again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from tests.command_fixtures.pybuild import Pybuild  # noqa: E402
from tests.recipe_fixtures import clone  # noqa: E402
from tests.rootless_fixtures.user import User  # noqa: E402

EPOCH = "1700000000"
_OPTIONS = [word for word in sys.argv[1:] if word.startswith("--")]
_RECIPES = [word for word in sys.argv[1:] if not word.startswith("--")]


def builders(directory: str) -> dict[str, Pybuild]:
    """Return who builds, each in a directory with the recipes."""
    os.chmod(directory, 0o755)
    found: dict[str, Pybuild] = {}
    for name in ("subordinate", "single"):
        found[name] = User(os.path.join(directory, name), subordinate=name == "subordinate")
    found["root"] = Pybuild(os.path.join(directory, "store"), os.path.join(directory, "root"))
    for name, each in found.items():
        shutil.copytree(os.path.join(ROOT, "recipes"), each.cwd, dirs_exist_ok=True)
        clone.write(os.path.join(each.cwd, "clone"))
        if isinstance(each, User):
            subprocess.run(["chown", "-R", f"{each.uid}:{each.uid}", each.cwd], check=True)
            if each.processes():
                sys.exit(f"somebody has the ids that {name} is to have")
    return found


def compare(directory: str, recipes: list[str]) -> list[str]:
    """Build `recipes`; return what went wrong."""
    faults = []
    everybody = builders(directory)
    for recipe in recipes:
        images = {}
        for name, each in everybody.items():
            argv = each.command(*_argv(recipe)) if isinstance(each, User) else [*_argv(recipe)]
            done = subprocess.run(
                argv, env=each.environment(SOURCE_DATE_EPOCH=EPOCH) if not isinstance(each, User) else None,
                cwd=each.cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            images[name] = done.stdout.strip()
            print(f"{recipe} {name}: {images[name] or done.stderr[-2000:]}", flush=True)
            if isinstance(each, User) and (left := each.leftovers()):
                faults.append(f"{recipe} {name}: left: {left}")
        if len({*images.values()}) != 1 or not images["root"]:
            faults.append(f"{recipe}: {images}")
    return faults


def _argv(recipe: str) -> tuple[str, ...]:
    from tests.command_fixtures.pybuild import ARGV

    context = ("--context", "clone") if recipe == "pybuild.rec" else ()
    options = (*context, "-t", recipe.partition(".")[0], "--timestamps", EPOCH, *_OPTIONS)
    return (*ARGV, "build", recipe, *options)


def main() -> int:
    """Compare, and return the exit code."""
    own = sorted(name for name in os.listdir(os.path.join(ROOT, "recipes")) if name.endswith(".rec"))
    with tempfile.TemporaryDirectory(prefix="pybuild-rootless-") as directory:
        faults = compare(directory, _RECIPES or own)
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("rootless.py: run this as root, which can become any user")
    sys.exit(main())
