"""The wheel, in an environment that has nothing else: what `pipx install` gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the wheel from a copy: setuptools leaves things beside its sources."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("builder", "cache", "grammar", "pybuild_testinfra"):
        shutil.copytree(os.path.join(ROOT, name), copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(os.path.join(ROOT, "docs"), copy / "docs", ignore=shutil.ignore_patterns("*.py", "*.svg"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(os.path.join(ROOT, name), copy)
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy))
    (path,) = out.glob("*.whl")
    return str(path)


@pytest.fixture(scope="module")
def installed(wheel: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the directory of the programs of an environment that the wheel is installed into."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", str(environment))
    programs = str(environment / "bin")
    run(f"{programs}/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", wheel)
    yield programs


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYBUILD", "VIRTUAL"))
    }
    done = subprocess.run(argv, capture_output=True, text=True, env={**kept, **environment}, cwd="/")
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
    return done


def test_the_wheel_holds_the_three_rooms_and_the_grammar(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entries,) = [name for name in names if name.endswith("/entry_points.txt")]
        assert "[pytest11]\npybuild_testinfra = pybuild_testinfra\n" in archive.read(entries).decode()
    assert {name.partition("/")[0] for name in names if not re.search(r"\.(dist-info|data)/", name)} == {
        "builder",
        "cache",
        "pybuild_testinfra",
        "grammar",
    }
    assert "grammar/recipe.lark" in names
    for room in ("builder", "cache", "grammar", "pybuild_testinfra"):
        for directory, _, files in os.walk(os.path.join(ROOT, room)):
            for name in files:
                if name.endswith(".py") or directory.endswith("view/web"):
                    assert os.path.relpath(os.path.join(directory, name), ROOT) in names


def test_the_language_server_links_to_pages_that_the_wheel_brings(installed: str) -> None:
    program = (
        "import sys\nfrom grammar.rules import all_rules\n"
        "from builder.lsp.problems import documentation, page\n"
        "for rule in (*all_rules(), 'recipe/syntax'):\n"
        "    path = page(rule, documentation())\n"
        "    assert path and path.startswith(sys.prefix), (rule, path)\n"
    )
    run(f"{installed}/python", "-c", program)
    done = subprocess.run(
        [f"{installed}/pybuild", "lsp"], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 4 and "pip install 'pybuild[lsp]'" in done.stderr


def test_without_plotly_it_says_what_a_page_takes(installed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [f"{installed}/pybuild", "view", "any", "--root", str(tmp_path / "store")],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 4 and "pip install 'pybuild[view]'" in done.stderr


def test_it_brings_nothing_that_only_tests_need(installed: str) -> None:
    listed = run(f"{installed}/python", "-m", "pip", "list", "--format=freeze").stdout.lower()
    assert "pybuild==" in listed
    for name in ("pytest", "mypy", "ruff", "hypothesis", "pexpect", "plotly", "pygls"):
        assert f"{name}==" not in listed


@pytest.mark.peer("busybox")
def test_it_builds_an_image_and_runs_it(installed: str, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(busybox, context / "busybox")
    (context / "hello.rec").write_text(
        "FROM scratch\n"
        "COPY busybox /bin/busybox\n"
        'SHELL ["/bin/busybox", "sh", "-c"]\n'
        "RUN echo built > /made\n"
        "TEST grep -q built /made\n"
        'ENTRYPOINT ["/bin/busybox", "cat", "/made"]\n'
    )
    pybuild = f"{installed}/pybuild"
    store = str(tmp_path / "store")
    first = run(pybuild, f"{context}/hello.rec", "-t", "hello", PYBUILD_ROOT=store)
    again = run(pybuild, f"{context}/hello.rec", "-t", "hello", PYBUILD_ROOT=store)
    assert first.stdout.startswith("sha256:")
    assert again.stdout == first.stdout
    assert run(pybuild, "run", "--rm", "hello", PYBUILD_ROOT=store).stdout == "built\n"
    assert run(pybuild, "doctor", "--root", store).stdout.endswith("Builds can run on this host.\n")
    assert run(pybuild, "images", "--names", PYBUILD_ROOT=store).stdout == "hello:latest\n"
