"""`pybuild test`, and `--hosts=pybuild://IMAGE` in a pytest that knows nothing of pybuild but the plugin."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import ARGV, ROOT, Pybuild

SERVICE = """\
FROM box
RUN echo port > /etc/kind
HEALTHCHECK --interval=50ms --retries=100 CMD test -e /ready
CMD ["sh", "-c", "sleep 0.3; touch /ready; exec nc -ll -p 8000 -e /bin/hostname"]
"""

SUITE = """\
def test_file_and_user(host):
    assert host.file("/etc/kind").content_string == "port\\n"
    assert host.user("app").uid == 1000
    assert not host.file("/made").exists
    host.check_output("echo x > /made")

def test_one_container_for_all(host):
    assert host.file("/made").exists
    assert host.check_output("cat /proc/1/comm") == "pybuild-init"
    host.check_output("sleep 1000 > /dev/null 2>&1 &")

def test_what_was_left_running_is_there(host):
    assert "sleep 1000" in host.check_output("ps")

def test_results(host):
    done = host.run("printf out; printf err >&2; exit 3")
    assert (done.rc, done.stdout, done.stderr) == (3, "out", "err")
"""

LISTENS = """\
def test_listens(host):
    assert host.file("/ready").exists
    assert host.socket("tcp://:::8000").is_listening
    assert host.check_output("nc 127.0.0.1 8000") == host.check_output("hostname")
"""


@pytest.fixture
def image(pybuild: Pybuild) -> Pybuild:
    """pybuild with an image `service`, and suites for it."""
    pybuild.build(SERVICE, "-t", "team/service:1")
    pybuild.write("test_x.py", SUITE)
    pybuild.write("test_listens.py", LISTENS)
    return pybuild


def test_a_suite_has_a_container_for_itself(image: Pybuild) -> None:
    for _ in range(2):  # nothing of the first run is there in the second
        done = image.try_("test", "team/service:1", "test_x.py", "-q", "-p", "no:cacheprovider")
        assert (done.code, "4 passed" in done.out) == (0, True), done.out
    assert image("ps", "-aq") == ""


def test_a_service_is_started_and_healthy(image: Pybuild) -> None:
    done = image.try_("test", "--start", "team/service:1", "test_listens.py", "-q")
    assert (done.code, "1 passed" in done.out) == (0, True), done.out
    assert image.try_("test", "team/service:1", "test_listens.py", "-q").code == 1


def test_a_service_that_ends_is_told_with_what_it_said(pybuild: Pybuild) -> None:
    pybuild.build(
        'FROM box\nCMD ["sh", "-c", "echo the reason >&2; exit 6"]\nHEALTHCHECK CMD false\n', "-t", "bad"
    )
    pybuild.write("test_x.py", "def test_x(host):\n    host.run('true')\n")
    done = pybuild.try_("test", "--start", "bad", "test_x.py", "-q")
    assert done.code == 1
    assert "has ended with exit code 6" in done.out
    assert "the reason" in done.out


def test_mistakes(image: Pybuild) -> None:
    assert "[image/unknown]" in image.try_("test", "none", "test_x.py").err
    assert "[usage/arguments]" in image.try_("test", "team/service:1").err
    assert image.try_("test", "team/service:1", "none.py").code == 2


def test_one_s_own_pytest(image: Pybuild, tmp_path: Path) -> None:
    """Names that pybuild's own packages have are the user's there."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "pybuild_testinfra").symlink_to(f"{ROOT}/pybuild_testinfra")
    for name in ("builder", "cache", "grammar"):
        image.write(f"mine/{name}.py", "MINE = True\n")
    own = "import sys\nimport builder, cache, grammar\n" + LISTENS + "\ndef test_mine():\n"
    own += "    assert builder.MINE and cache.MINE and grammar.MINE\n"
    own += "    assert not [name for name in sys.modules if name.startswith('builder.')]\n"
    image.write("mine/test_own.py", own)
    host = f"pybuild://team/service:1?start=1&root={image.root}"
    program = shlex.join(["env", f"PYTHONPATH={ROOT}", ARGV[0], "-P", *ARGV[1:]])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pybuild_testinfra", f"--hosts={host}", "test_own.py"],
        cwd=f"{image.cwd}/mine",
        env={**os.environ, "PYTHONPATH": str(plugins), "PYBUILD": program},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert image("ps", "-aq") == ""


def test_an_option_that_is_not_known_is_told(image: Pybuild) -> None:
    from pybuild_testinfra.backend import _options

    assert _options("x", "user=app&start=1") == ["--user=app", "--start"]
    with pytest.raises(ValueError, match="'usr' is not known"):
        _options("x", "usr=app")
