"""The language server as an editor has it: a process that speaks the protocol on its standard streams."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures.pybuild import ROOT
from tests.lsp_fixtures.client import SECONDS, Client, Refusal, Server

TEXT = """\
ARG VERSION=12
FROM debian:${VERSION} AS build
ARG VERSION
RUN --mount=type=cache,target=/c make V=$VERSION
FROM debian:12
COPY --from=build /a /b
COPY --from=0 /a /c
RUN --mount=from=BUILD,target=/t true
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(str(tmp_path_factory.mktemp("lsp"))) as running:
        running.client.initialize()
        yield running
        code, out, err = running.end()
        assert (code, out, err) == (0, b"", b"")


@pytest.fixture
def client(server: Server) -> Client:
    server.client.notes.clear()
    return server.client


@pytest.fixture
def opened(client: Client, tmp_path: Path) -> Iterator[str]:
    uri = (tmp_path / "app.rec").as_uri()
    client.open(uri, TEXT)
    yield uri
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert client.note("textDocument/publishDiagnostics") == {"uri": uri, "diagnostics": []}


def span(line: int, start: int, end: int, last: int | None = None) -> dict[str, Any]:
    return {
        "start": {"line": line, "character": start},
        "end": {"line": line if last is None else last, "character": end},
    }


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """Return `text` (all ASCII) with edits applied, as an editor does."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(place: dict[str, int]) -> int:
        return starts[place["line"]] + place["character"]

    for edit in sorted(edits, key=lambda e: offset(e["range"]["start"]), reverse=True):
        where = edit["range"]
        text = text[: offset(where["start"])] + edit["newText"] + text[offset(where["end"]) :]
    return text


def test_it_says_what_it_can_do(tmp_path: Path) -> None:
    with Server(str(tmp_path), "--stdio") as server:
        answer = server.client.initialize()
        can = answer["capabilities"]
        assert answer["serverInfo"]["name"] == "pybuild"
        assert can["positionEncoding"] == "utf-16"
        for name in (
            *("hover", "definition", "references", "documentHighlight", "documentFormatting"),
            *("rename", "documentSymbol", "foldingRange", "codeAction", "completion"),
        ):
            assert can[f"{name}Provider"], name
        assert {"$", "=", "-", ","} <= set(can["completionProvider"]["triggerCharacters"])
        assert server.end() == (0, b"", b"")
    assert os.listdir(tmp_path) == [], "it makes no store"


def test_diagnostics_are_those_of_check_with_links_and_hints(client: Client, tmp_path: Path) -> None:
    uri = (tmp_path / "Dockerfile").as_uri()
    text = "FROM debian:12\nRUNN true\nRUN sudo make\n# pybuild: skip=SudoUsed\nRUN sudo x\nMAINTAINER me\n"
    unknown, sudo, maintainer = client.open(uri, text)
    assert unknown == {
        "range": span(1, 0, 4),
        "severity": 1,
        "code": "recipe/unknown-instruction",
        "source": "pybuild",
        "message": "unknown instruction: RUNN\nDid you mean RUN?",
        "codeDescription": {"href": Path(ROOT, "docs", "errors.md").as_uri()},
    }
    assert (sudo["code"], sudo["severity"], sudo["range"]) == ("SudoUsed", 2, span(2, 4, 13))
    assert sudo["codeDescription"] == {"href": Path(ROOT, "docs", "rules", "SudoUsed.md").as_uri()}
    assert maintainer["tags"] == [2], "it is struck through"
    checked = subprocess.run(
        [sys.executable, "-m", "builder.main", "check", "--format", "json", "-"],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])},
    )
    assert [line for line in checked.stdout.splitlines() if '"rule"' in line] == [
        f'      "rule": "{found["code"]}",' for found in (unknown, sudo, maintainer)
    ]


def test_diagnostics_follow_what_is_typed_and_go_when_it_is_closed(client: Client, tmp_path: Path) -> None:
    uri = (tmp_path / "Dockerfile").as_uri()
    assert client.open(uri, "FROM debian:12\n") == []

    def change(version: int, text: str) -> None:
        client.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": [{"text": text}]},
        )

    change(2, "FROM debian:12\nRUNN a\n")
    change(3, "FROM debian:12\nCOPPY a b\n")
    found = client.note("textDocument/publishDiagnostics")
    if found["version"] == 2:  # on a machine that is slower than a typist
        found = client.note("textDocument/publishDiagnostics")
    assert found["version"] == 3
    assert [each["message"] for each in found["diagnostics"]] == [
        "unknown instruction: COPPY\nDid you mean COPY?"
    ]
    change(4, "# check=skip=BaseImageUntagged\nFROM debian\n")
    assert client.note("textDocument/publishDiagnostics")["diagnostics"] == []
    change(5, "FROM debian\n")
    assert len(client.note("textDocument/publishDiagnostics")["diagnostics"]) == 1
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert client.note("textDocument/publishDiagnostics") == {"uri": uri, "diagnostics": []}
    assert client.ask("hover", uri) is None


def test_who_includes_a_file_is_looked_at_again_when_that_is_saved(client: Client, tmp_path: Path) -> None:
    uri, part = (tmp_path / "app.rec").as_uri(), tmp_path / "part.rec"
    part.write_text("RUNN x\n")
    (found,) = client.open(uri, "FROM a:1\nINCLUDE part.rec\n")
    assert found["message"].startswith("part.rec:1: unknown instruction: RUNN")
    client.open(part.as_uri(), "RUN x\n")
    part.write_text("RUN x\n")
    client.notify("textDocument/didSave", {"textDocument": {"uri": part.as_uri()}})
    assert client.note("textDocument/publishDiagnostics") == {"uri": uri, "diagnostics": [], "version": 1}


def test_hover(client: Client, opened: str) -> None:
    answer = client.ask("hover", opened, 3, 1)
    assert answer["contents"]["kind"] == "markdown"
    assert "Runs a command in the stage" in answer["contents"]["value"]
    assert answer["range"] == span(3, 0, 3)
    assert (
        "Value, unless `--build-arg` sets another: `12`"
        in (client.ask("hover", opened, 3, 43)["contents"]["value"])
    )
    assert client.ask("hover", opened, 8, 0) is None


def test_completion(client: Client, opened: str) -> None:
    items = client.ask("completion", opened, 5, 12)
    assert [(item["label"], item["detail"]) for item in items] == [
        ("build", "FROM debian:${VERSION} AS build")
    ]
    assert items[0]["textEdit"] == {"range": span(5, 12, 12), "newText": "build"}
    items = client.ask("completion", opened, 3, 8)
    assert [item["label"] for item in items] == ["--mount", "--network", "--security", "--timeout"]
    assert items[0]["textEdit"] == {"range": span(3, 4, 8), "newText": "--mount="}
    assert [item["sortText"] for item in items] == sorted(item["sortText"] for item in items)


def test_definition_references_and_highlights(client: Client, opened: str, tmp_path: Path) -> None:
    stage = {"uri": opened, "range": span(1, 26, 31)}
    for line, character in ((5, 13), (6, 12), (7, 19)):
        assert client.ask("definition", opened, line, character) == stage
    uses = [span(1, 26, 31), span(5, 12, 17), span(6, 12, 13), span(7, 17, 22)]
    found = client.ask("references", opened, 5, 13, context={"includeDeclaration": True})
    assert [each["range"] for each in found] == uses
    found = client.ask("references", opened, 5, 13, context={"includeDeclaration": False})
    assert [each["range"] for each in found] == uses[1:]
    marks = client.ask("documentHighlight", opened, 1, 27)
    assert [(mark["range"], mark["kind"]) for mark in marks] == [
        (uses[0], 3),
        *[(use, 2) for use in uses[1:]],
    ]
    assert client.ask("definition", opened, 3, 44)["range"] == span(2, 4, 11)

    (tmp_path / "base.rec").write_text("FROM a:1 AS one\nFROM b:1 AS two\n")
    other = (tmp_path / "on-base.rec").as_uri()
    client.open(other, "FROM ./base.rec#two\nFROM ./missing.rec\n")
    assert client.ask("definition", other, 0, 9) == {
        "uri": (tmp_path / "base.rec").as_uri(),
        "range": span(1, 12, 15),
    }
    assert client.ask("definition", other, 1, 9) is None


def test_rename_of_a_stage(client: Client, opened: str) -> None:
    assert client.ask("prepareRename", opened, 7, 18) == span(7, 17, 22)
    edits = client.ask("rename", opened, 7, 18, newName="compile")["changes"][opened]
    assert applied(TEXT, edits) == TEXT.replace("AS build", "AS compile").replace(
        "--from=build", "--from=compile"
    ).replace("from=BUILD", "from=compile")
    assert client.ask("prepareRename", opened, 0, 1) is None
    for name, said in (("1x", "cannot name a stage"), ("scratch", "means something else")):
        with pytest.raises(Refusal, match=said):
            client.ask("rename", opened, 1, 27, newName=name)
    with pytest.raises(Refusal, match="number"):
        client.ask("prepareRename", opened, 6, 12)
    assert client.notes == [], "a refusal is no fault"


def test_formatting(client: Client, opened: str, tmp_path: Path) -> None:
    options = {"tabSize": 4, "insertSpaces": True}
    assert client.ask("formatting", opened, options=options) == []
    uri = (tmp_path / "Dockerfile").as_uri()
    text = "from   debian:12\nRUN a\n\n\nRUN b   && \\\n c\n"
    client.open(uri, text)
    edits = client.ask("formatting", uri, options=options)
    formatted = subprocess.run(
        [sys.executable, "-m", "builder.main", "fmt", "-"],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])},
    ).stdout
    assert applied(text, edits) == formatted != text
    client.open(uri, "from   debian:12\nRUNN a\n")
    assert client.ask("formatting", uri, options=options) == []


def test_outline_and_folding(client: Client, opened: str) -> None:
    symbols = client.ask("documentSymbol", opened)
    assert [(s["name"], s["detail"]) for s in symbols] == [
        ("ARG", "VERSION=12"),
        ("build", "debian:${VERSION}"),
        ("stage 1", "debian:12"),
    ]
    assert [child["name"] for child in symbols[2]["children"]] == ["COPY", "COPY", "RUN"]
    assert symbols[1]["range"] == span(1, 0, 48, 3)
    assert symbols[1]["selectionRange"] == span(1, 26, 31)
    folds = client.ask("foldingRange", opened)
    assert [(fold["startLine"], fold["endLine"]) for fold in folds] == [(1, 3), (4, 7)]


def test_quick_fixes(client: Client, tmp_path: Path) -> None:
    uri = (tmp_path / "Dockerfile").as_uri()
    text = "FROM debian:12\nRUN --mont=type=tmpfs,target=/t sudo x\n  RUN sudo y\n"
    client.open(uri, text)
    (fix,) = client.ask("codeAction", uri, range=span(1, 5, 5), context={"diagnostics": []})
    assert fix["isPreferred"] and fix["kind"] == "quickfix"
    assert applied(text, fix["edit"]["changes"][uri]) == text.replace("--mont", "--mount")
    (skip,) = client.ask("codeAction", uri, range=span(2, 6, 6), context={"diagnostics": []})
    assert skip["title"] == "Skip SudoUsed here"
    assert "  # pybuild: skip=SudoUsed\n  RUN sudo y" in applied(text, skip["edit"]["changes"][uri])


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["utf-8", "utf-16"], "utf-8"), (["utf-32"], "utf-32"), (None, "utf-16")]
)
def test_positions_count_as_was_agreed(tmp_path: Path, offered: list[str] | None, chosen: str) -> None:
    with Server(str(tmp_path)) as server:
        general = {"positionEncodings": offered} if offered else {}
        assert server.client.initialize(**general)["capabilities"]["positionEncoding"] == chosen
        uri = (tmp_path / "Dockerfile").as_uri()
        (found,) = server.client.open(uri, "\ufeffFROM debian:12\r\n\tRUN '\U0001f980' && sudo x\r\n")
        begin = len("\tRUN '' && ") + {"utf-8": 4, "utf-16": 2, "utf-32": 1}[chosen]
        assert found["range"] == span(1, begin, begin + len("sudo x"))
        text = server.client.ask("hover", uri, 1, 2)
        assert text["range"] == span(1, 1, 4)
        assert server.end()[0] == 0


def test_a_fault_inside_is_logged_and_the_server_stays(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import builder.lsp.hover, builder.lsp.problems\n"
        "def fault(*_): raise RuntimeError('a fault of ours')\n"
        "builder.lsp.hover.hover = builder.lsp.problems.problems = fault\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), ROOT, os.environ.get("PYTHONPATH"))))
    with Server(str(tmp_path), PYTHONPATH=path) as server:
        server.client.initialize()
        uri = "file:///x/Dockerfile"
        assert server.client.open(uri, "FROM a\n") == []
        assert "a fault of ours" in server.client.note("window/logMessage")["message"]
        assert server.client.ask("hover", uri, 0, 1) is None
        logged = server.client.note("window/logMessage")
        assert logged["type"] == 1 and "a fault of ours" in logged["message"]
        assert server.client.ask("definition", uri, 0, 1) is None
        assert server.end() == (0, b"", b"")


def test_messages_that_are_none_do_not_end_it(tmp_path: Path) -> None:
    with Server(str(tmp_path)) as server:
        server.client.initialize()
        server.client.send_bytes(b"Content-Length: 4\r\n\r\n{{{{")
        server.client.send({"method": "textDocument/didOpen", "params": {"nothing": 1}})
        server.client.notify("workspace/didChangeConfiguration", {"settings": {}})
        with pytest.raises(Refusal):
            server.client.request("textDocument/unheardOf", {})
        assert server.client.open("untitled:Untitled-1", "FROM a:1\n") == []
        assert server.client.ask("hover", "untitled:Untitled-1", 0, 1) is not None
        assert server.end()[0] == 0


def test_an_editor_that_vanishes_takes_it_along(tmp_path: Path) -> None:
    with Server(str(tmp_path)) as server:
        server.client.initialize()
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(SECONDS) == 1
    with Server(str(tmp_path)) as server:
        server.client.initialize()
        server.process.terminate()
        assert server.process.wait(SECONDS) == -signal.SIGTERM


def test_tcp_listens_on_loopback_alone(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Server(str(tmp_path), "--tcp", str(port)) as server:
        client = server.connect(port)
        client.initialize()
        with open("/proc/net/tcp", encoding="ascii") as table:
            listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
        assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
        assert client.open("file:///x/Dockerfile", "FROM a:1\n") == []
        client.request("shutdown", None)
        client.notify("exit", None)
        assert server.process.wait(SECONDS) == 0


def lsp(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (environment.pop("FIRST", ""), ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "builder.main", "lsp", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def test_without_pygls_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pygls").mkdir()
    (tmp_path / "pygls" / "__init__.py").write_text("raise ModuleNotFoundError('no pygls', name='pygls')\n")
    done = lsp(FIRST=str(tmp_path))
    assert done.returncode == 4
    assert "[host/pygls]" in done.stderr and "pip install 'pybuild[lsp]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv", [("--tcp", "0"), ("--tcp", "x"), ("--tcp", "65536"), ("--tcp", "1", "--stdio")]
)
def test_wrong_arguments_are_refused(argv: tuple[str, ...]) -> None:
    done = lsp(*argv)
    assert done.returncode == 2
    assert "[usage/arguments]" in done.stderr
