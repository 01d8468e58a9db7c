"""What PACKAGES installed is in the lock file, and is what is installed from then on.

The image's package manager is a script of this test, with the command line of apk: it installs from a
repository that can move on and go away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomli

from tests.command_fixtures.pybuild import Pybuild
from tests.remote_fixtures.http_server import HttpServer

APK = """\
#!/bin/sh
case $1 in
--print-arch) echo x86_64; exit ;;
info) cat /lib/apk-installed; exit ;;
esac
while [ "$1" != add ]; do shift; done
shift
for package; do
    name=${package%%=*} version=${package#*=}
    if [ "$name" = "$version" ]; then
        ! grep -q "^$name-" /lib/apk-installed || continue
        version=$(wget -q -O - "$REPOSITORY/latest-$name") || exit 1
    fi
    wget -q -O - "$REPOSITORY/$name-$version" > "/lib/$name" || exit 1
    grep -q "^$name-" /lib/apk-installed || echo "$name-$version" >> /lib/apk-installed
done
"""


class Repository:
    """Serves packages to APK."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.publish("tool", "1.0-r0")
        self.publish("other", "5-r1")

    def publish(self, name: str, version: str) -> None:
        self.server.serve(f"/latest-{name}", version.encode())
        self.server.serve(f"/{name}-{version}", f"{name} {version}".encode())


@pytest.fixture
def repository(pybuild: Pybuild) -> Iterator[Repository]:
    with HttpServer() as server:
        pybuild.write("apk", APK, 0o755)
        pybuild.write("world")
        base = "FROM box\nCOPY apk /bin/apk\nCOPY world /etc/apk/world\nCOPY world /lib/apk-installed\n"
        pybuild.build(f"{base}ENV REPOSITORY={server.url}\n", "-t", "withapk")
        pybuild.write("app.rec", "FROM withapk\nPACKAGES apk tool\nRUN cat /lib/tool > /told\n")
        yield Repository(server)


def packages(pybuild: Pybuild) -> list[dict[str, Any]]:
    with open(f"{pybuild.cwd}/app.rec.lock", "rb") as file:
        found: list[dict[str, Any]] = tomli.load(file)["packages"]
    return found


def told(pybuild: Pybuild, *options: str) -> str:
    image = pybuild("build", "app.rec", *options).strip()
    return pybuild("run", "--rm", image, "cat", "/told")


def test_what_a_line_installs_is_learnt_by_building_and_then_needs_no_repository(
    pybuild: Pybuild, repository: Repository
) -> None:
    done = pybuild.try_("lock", "app.rec")
    assert (done.code, "what PACKAGES installs is known when it has run: building" in done.err) == (0, True)
    assert "  + stage-0 apk tool linux/amd64 tool=1.0-r0" in done.out
    assert packages(pybuild) == [
        {"line": "apk tool", "stage": "stage-0", "platform": "linux/amd64", "installed": ["tool=1.0-r0"]}
    ]
    repository.server.stop()
    assert told(pybuild, "--locked") == told(pybuild) == "tool 1.0-r0"
    assert "2 cached" in pybuild("plan", "app.rec", "--locked")
    assert pybuild("lock", "app.rec") == "app.rec.lock is as it was\n"


def test_builds_install_what_is_locked_until_it_is_asked_for_anew(
    pybuild: Pybuild, repository: Repository
) -> None:
    pybuild("lock", "app.rec")
    repository.publish("tool", "2.0-r0")
    assert told(pybuild, "--no-cache") == "tool 1.0-r0"
    assert told(pybuild, "--no-lock", "--no-cache") == "tool 2.0-r0"
    assert told(pybuild, "--locked") == "tool 1.0-r0"
    assert "~ stage-0 apk tool linux/amd64 tool=1.0-r0 -> tool=2.0-r0" in pybuild(
        "lock", "app.rec", "--update=tool"
    )
    assert told(pybuild, "--locked") == "tool 2.0-r0"


def test_a_line_that_is_not_locked_is_an_error_with_locked(pybuild: Pybuild, repository: Repository) -> None:
    pybuild("lock", "app.rec")
    text = "FROM withapk\nPACKAGES apk other\nPACKAGES apk tool\nRUN cat /lib/tool /lib/other > /told\n"
    pybuild.write("app.rec", text)
    for command in ("build", "plan"):
        done = pybuild.try_(command, "app.rec", "--locked")
        assert (done.code, "PACKAGES apk other is not in app.rec.lock [lock/missing]" in done.err) == (
            2,
            True,
        )
        assert "at app.rec:2:1" in done.err
    done = pybuild.try_("lock", "app.rec", "--check")
    assert (done.code, done.out) == (1, "app.rec.lock: missing: PACKAGES apk other\n")
    pybuild("lock", "app.rec")
    assert [pin["installed"] for pin in packages(pybuild)] == [["other=5-r1"], ["tool=1.0-r0"]]
    assert told(pybuild, "--locked") == "tool 1.0-r0other 5-r1"


def test_the_lock_file_cannot_put_words_on_a_command_line(pybuild: Pybuild, repository: Repository) -> None:
    pybuild("lock", "app.rec")
    path = f"{pybuild.cwd}/app.rec.lock"
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("tool=1.0-r0", "--root=/x"))
    done = pybuild.try_("build", "app.rec")
    assert (done.code, "[packages/name]" in done.err) == (2, True)
