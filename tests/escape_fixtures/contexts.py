"""What is read on the host for a recipe's sake: recipes, fragments, suites, contexts from elsewhere."""

from __future__ import annotations

import io
import tarfile

from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place


def _context_tar(**members: str) -> Scene:
    """Let there be a tar as a context: texts, or links where the text begins with `->`."""

    def scene(place: Place) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, text in members.items():
                info = tarfile.TarInfo(name.replace("__", "/"))
                text = place.fill(text)
                if text.startswith("->"):
                    info.type, info.linkname = tarfile.SYMTYPE, text[2:]
                    archive.addfile(info)
                else:
                    info.size = len(text)
                    archive.addfile(info, io.BytesIO(text.encode()))
        place.write(f"{place.directory}/context.tar", out.getvalue())

    return scene


_STRANGER = ("build", "-")


def _stranger(name: str, tried: str, instead: str, **members: str) -> Case:
    return Case(
        name,
        tried,
        instead,
        scene=_context_tar(**members),
        commands=(_STRANGER,),
        stdin="PLACE/context.tar",
    )


CONTEXTS = Group(
    "Files of the host that a recipe has read",
    (
        Case(
            "include-shadow",
            "INCLUDE, FROM and a recipe that is a link: a file that only root may read, which is no recipe",
            "an error that shows nothing of it",
            (
                "FROM base\nINCLUDE OUTSIDE/shadow\n",
                "FROM base\nINCLUDE ../outside/shadow\n",
                "FROM ./../outside/shadow\n",
                "FROM OUTSIDE/shadow\n",
                "FROM base\nINCLUDE linked\n",
            ),
            lambda place: (place.link("linked", f"{place.outside}/shadow"), None)[-1],
            code=None,
        ),
        Case(
            "recipe-is-a-link",
            "a context whose recipe is a link to such a file; shown by build, check, plan, fmt, lock",
            "an error that shows nothing of it",
            scene=lambda place: (
                place.link("Dockerfile", f"{place.outside}/shadow"),
                place.link("linked.rec", f"{place.outside}/shadow"),
                None,
            )[-1],
            commands=(
                ("build", "."),
                ("build", "linked.rec"),
                ("check", "linked.rec"),
                ("check", "--format", "json", "linked.rec"),
                ("plan", "linked.rec"),
                ("fmt", "--diff", "linked.rec"),
                ("lock", "linked.rec"),
                ("verify", "linked.rec"),
            ),
        ),
        Case(
            "settings-are-links",
            "pybuild.toml, .dockerignore and a lock file as links to such a file",
            "an error that shows nothing of it",
            ("FROM base\nCOPY . /x\n",),
            lambda place: (
                place.link("pybuild.toml", f"{place.outside}/shadow"),
                place.link(".dockerignore", f"{place.outside}/shadow"),
                place.link("try0.lock", f"{place.outside}/shadow"),
                place.link("try0.rec.dockerignore", f"{place.outside}/shadow"),
                None,
            )[-1],
            code=None,
        ),
        Case(
            "include-devices",
            "INCLUDE and FROM of a device, a fifo, a directory, /proc/self/environ",
            "an error; nobody waits",
            (
                "FROM base\nINCLUDE /dev/zero\n",
                "FROM base\nINCLUDE fifo\n",
                "FROM base\nINCLUDE /proc/self/fd\n",
                "FROM base\nINCLUDE /dev/stdin\n",
                "FROM ./fifo\n",
            ),
            lambda place: (__import__("os").mkfifo(f"{place.context}/fifo"), None)[-1],
            code=None,
        ),
        Case(
            "suite-out",
            "TEST --testinfra of a file of the host's, and of `..`",
            "an error: suites come from the context",
            (
                "FROM base\nTEST --testinfra OUTSIDE/secret\n",
                "FROM base\nTEST --testinfra ../outside/secret\n",
                "FROM base\nTEST --testinfra linked\n",
            ),
            lambda place: (place.link("linked", f"{place.outside}/secret"), None)[-1],
            code=None,
        ),
        _stranger(
            "stranger-recipe-link",
            "a context on standard input whose recipe is a link to a file of the host",
            "an error: what comes from elsewhere names what came with it",
            Dockerfile="->OUTSIDE/shadow",
        ),
        _stranger(
            "stranger-include",
            "such a context with INCLUDE and FROM of the host's files, directly and by links",
            "the same",
            Dockerfile="FROM scratch\nINCLUDE linked\nINCLUDE OUTSIDE/passwd\n",
            linked="->OUTSIDE/passwd",
        ),
        _stranger(
            "stranger-suite",
            "such a context with a testinfra suite, which would run on the host",
            "an error",
            Dockerfile="FROM scratch\nCOPY Dockerfile /\nTEST --testinfra suite.py\n",
            **{"suite.py": "import os\nos.system('touch OUTSIDE/escaped')\n"},
        ),
        _stranger(
            "stranger-names",
            "such a context with files whose names are links to directories before they are directories",
            "unpacked below a directory of its own, or refused",
            Dockerfile="FROM scratch\nCOPY . /x\n",
            d="->OUTSIDE",
            d__secret="overwritten",
        ),
        Case(
            "output-out",
            "names in an image's files that lead out, written by --output as a directory",
            "they are written below it",
            ("FROM base\nRUN ln -s OUTSIDE /l && mkdir /d && ln -s OUTSIDE/secret /d/s\n",),
            words=("--output", "type=dir,dest=PLACE/out"),
        ),
    ),
)
