"""`pybuild view` and `pybuild layers --tree` as commands: what they write, where, and to whom they show
it.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.events import Event, Notice, StepFinished, StepRunning, StepStarted
from builder.timeline import TimelineRecorder, recall
from cache.store import Store
from tests.command_fixtures.pybuild import Pybuild

APP = "FROM box\nRUN echo hello > /hello\nTEST grep -q hello /hello\nRUN echo more >> /hello\nCMD hello\n"


def document(html: bytes) -> Any:
    (data,) = re.findall(rb'id="document">([^<]*)</script>', html)
    return json.loads(zlib.decompress(base64.b64decode(data)))


def test_it_writes_a_page_named_like_the_image(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "registry.example/team/app:1.0")
    assert pybuild("view", "registry.example/team/app:1.0") == "app-1.0.html\n"
    assert pybuild("view", image_id, "box") == "app-1.0-and-box.html\n"
    html = Path(pybuild.cwd, "app-1.0.html").read_bytes()
    assert html.startswith(b"<!doctype html>")
    (image,) = document(html)["images"]
    assert (image["id"], image["base"], len(image["layers"])) == (image_id, 4, 6)
    assert sorted(os.listdir(pybuild.cwd)) == ["app-1.0-and-box.html", "app-1.0.html", "test.rec"]


def test_it_writes_where_it_is_told_to(pybuild: Pybuild, tmp_path: Path) -> None:
    target = tmp_path / "real.html"
    target.write_text("old")
    (tmp_path / "link.html").symlink_to(target)
    assert pybuild("view", "box", "--output", str(tmp_path / "link.html")) == f"{tmp_path}/link.html\n"
    assert target.read_text("utf-8") == pybuild("view", "box", "-o", "-")
    assert (tmp_path / "link.html").is_symlink()
    assert pybuild("view", "box", "-o", "/dev/null") == "/dev/null\n"
    done = pybuild.try_("view", "box", "-o", str(tmp_path / "no" / "page.html"))
    assert done.code == 2 and "usage/write" in done.err
    assert sorted(os.listdir(tmp_path)) == ["context", "link.html", "real.html", "store"]


def test_mistakes_are_told(pybuild: Pybuild) -> None:
    assert "image/unknown" in pybuild.try_("view", "bocks").err
    assert "--port is for --serve" in pybuild.try_("view", "box", "--port", "80").err
    assert "not a port" in pybuild.try_("view", "box", "--serve", "--port", "eighty").err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = pybuild.try_("view", "box", "--serve", "--port", str(taken.getsockname()[1]))
    assert (done.code, "host/port" in done.err) == (4, True)


def test_an_image_without_layers_and_one_without_bytes_have_pages(pybuild: Pybuild) -> None:
    pybuild.build("FROM scratch\nENV A=1\n", "-t", "none")
    pybuild.write("empty")
    pybuild.build("FROM scratch\nCOPY empty /\n", "-t", "empty")
    for name, layers in (("none", 0), ("empty", 1)):
        (image,) = document(pybuild("view", name, "-o", "-").encode())["images"]
        assert (len(image["layers"]), image["efficiency"]) == (layers, 1)
        assert f"{layers} layer" in pybuild("layers", "--tree", name)


@pytest.fixture
def served(pybuild: Pybuild) -> Iterator[tuple[subprocess.Popen[str], str, bytes]]:
    """`view --serve`, where it says it serves, and the page."""
    page = pybuild("view", "box", "-o", "-").encode()
    running = pybuild.start("view", "box", "--serve")
    assert running.stdout is not None
    yield running, running.stdout.readline().strip(), page
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)


def ask(address: str, path: str | None = None, **headers: str) -> tuple[int, bytes]:
    url = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=30)
    connection.putrequest("GET", url.path if path is None else path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_it_is_served_to_who_knows_the_address_on_loopback_alone(
    served: tuple[subprocess.Popen[str], str, bytes],
) -> None:
    running, address, page = served
    url = urllib.parse.urlsplit(address)
    assert url.hostname == "127.0.0.1" and len(url.path) > 20
    assert ask(address, Host=url.netloc) == (200, page)
    assert ask(address, Host=f"localhost:{url.port}") == (200, page)
    for host in (
        "evil.example",
        f"evil.example:{url.port}",
        "127.0.0.1",
        f"127.0.0.1:{url.port}.evil.example",
    ):
        assert ask(address, Host=host)[0] == 421
    assert ask(address)[0] == 421
    for path in ("/", "/etc/passwd", url.path + "x", url.path[:-2] + "/"):
        assert ask(address, path, Host=url.netloc)[0] == 404
    others = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert [each for each in others if each.endswith(f":{url.port:04X}")] == [f"0100007F:{url.port:04X}"]
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30) == ("", "ctrl-C ends it\n")
    assert running.returncode == 0


def test_ended_by_sigterm_it_says_so(served: tuple[subprocess.Popen[str], str, bytes]) -> None:
    running, _, _ = served
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGTERM


def timeline(pybuild: Pybuild, name: str) -> list[tuple[str, str]]:
    (image,) = document(pybuild("view", name, "-o", "-").encode())["images"]
    return [(step["text"].partition(" ")[0], step["outcome"]) for step in image["timeline"]["steps"]]


def test_the_timeline_is_that_of_the_last_build_in_which_a_step_ran(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    ran = [("RUN", "ran"), ("TEST", "passed"), ("RUN", "ran")]
    assert timeline(pybuild, "app") == ran
    pybuild.build(APP, "-t", "app")
    pybuild.build(APP, "-t", "app", "--label", "a=b")
    assert timeline(pybuild, "app") == [(keyword, "cached") for keyword, _ in ran]
    pybuild.build(APP.replace("more", "less"), "-t", "app")
    assert timeline(pybuild, "app") == [("RUN", "cached"), ("TEST", "cached"), ("RUN", "ran")]


def test_an_image_that_hits_throughout_keeps_how_it_was_made(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "app")
    for _ in range(3):
        assert pybuild.build(APP, "-t", "app", "--explain") == image_id
        assert timeline(pybuild, "app")[0] == ("RUN", "ran")


def test_what_waited_is_told_from_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("builder.timeline.time.monotonic", lambda: now)
    passed: list[Event] = []
    recorder = TimelineRecorder(passed.append)
    events: list[tuple[float, Event]] = [
        (1, StepStarted(7, "base", 1, 2, "RUN a", "r", 2)),
        (1, Notice("info", "step/waiting", "step 7: another build is running it; waiting")),
        (3.5, StepRunning(7, "no record")),
        (5, StepFinished(7, "ran", 4.0, "no record", "key")),
        (5, StepStarted(8, "base", 2, 2, "RUN b", "r", 3)),
        (5.5, Notice("info", "step/waiting", "step 8: another build is running it; waiting")),
        (6, StepFinished(8, "cached", 1.0, "another build ran it meanwhile", "key")),
    ]
    for at, event in events:
        now = 100.0 + at
        recorder(event)
    assert passed == [event for _, event in events]
    with Store.open(str(tmp_path / "store")) as store:
        recorder.keep(store, "sha256:a")
        found = recall(store, "sha256:a")
        assert recall(store, "sha256:b") is None
        store.memo.put("timeline", "sha256:c", b'{"steps": 1}')
        assert recall(store, "sha256:c") is None
    assert found is not None and found == recorder.timeline
    rows = [(step.at, step.waited, step.seconds, step.outcome) for step in found.steps]
    assert rows == [(1, 2.5, 4.0, "ran"), (5, 0.5, 1.0, "cached")]


def test_the_tree_tells_where_the_bytes_are_and_which_are_wasted(pybuild: Pybuild) -> None:
    pybuild.build(
        "FROM box\nRUN mkdir /d && head -c 3000 /dev/zero > /d/big && echo > '/d/evil\x1b[31m'\n"
        "RUN rm /d/big && head -c 500 /dev/zero > /d/new\n",
        "-t",
        "app",
    )
    out = pybuild("layers", "--tree", "app")
    lines = out.splitlines()
    assert re.fullmatch(r"app:latest  .* in 6 layers, 3kB wasted: 99\.\d% efficient", lines[0])
    assert [line for line in lines if "3kB  /d/big" in line and line.startswith("│")]
    assert "      +1 ~0 -1, hides 3kB" in lines
    assert lines[-1].split() == ["3kB", "/d/big", "(layer", "5→6)"]
    assert "\x1b" not in out and max(map(len, lines)) < 130
    whole = pybuild("layers", "--tree", "--no-trunc", "app")
    assert "head -c 500 /dev/zero > /d/new" in whole
