"""The image config that a build ends with: what it takes from the base, what it adds, and that nothing else
is in it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from builder.image import COMMENT, HistoryEntry, assemble, manifest, timestamp
from cache.blobs import LayerBlob
from cache.oci.digest import DiffID, Digest
from cache.oci.spec import ContainerConfig, History, ImageConfig

D1, D2, D3 = (DiffID(f"sha256:{digit * 64}") for digit in "123")
EMPTY = ImageConfig("amd64", "linux", config=ContainerConfig(env=("PATH=/bin",), working_dir="/"))
BASE = replace(
    EMPTY,
    created="2020-01-01T00:00:00.123456789Z",
    diff_ids=(D1,),
    history=(History("2020-01-01T00:00:00Z", "base layer"), History(None, "CMD", empty_layer=True)),
)


def test_times_are_rfc_3339_in_whole_seconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00Z"
    assert timestamp(1_700_000_000) == "2023-11-14T22:13:20Z"


def test_layers_and_history_lie_on_those_of_the_base() -> None:
    image = replace(BASE, author="me", config=replace(BASE.config, cmd=("x",)))
    entries = [
        HistoryEntry("RUN /bin/sh -c make # pybuild", 1_700_000_000, False),
        HistoryEntry('CMD ["x"]', 1_700_000_001, True),
    ]
    result = assemble(BASE, image, history=entries, diff_ids=[D2], created=1_700_000_001)
    assert result.diff_ids == (D1, D2)
    assert result.history == (
        *BASE.history,
        History("2023-11-14T22:13:20Z", "RUN /bin/sh -c make # pybuild", COMMENT),
        History("2023-11-14T22:13:21Z", 'CMD ["x"]', COMMENT, empty_layer=True),
    )
    assert (result.created, result.author, result.config.cmd) == ("2023-11-14T22:13:21Z", "me", ("x",))


def test_the_documents_are_those_of_the_image_spec() -> None:
    entries = [HistoryEntry("COPY a b # pybuild", 7, False), HistoryEntry("ENV A=b", 8, True)]
    config = assemble(None, EMPTY, history=entries, diff_ids=[D1], created=8).to_json()
    assert json.loads(config) == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:08Z",
        "config": {"Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [D1]},
        "history": [
            {"created": "1970-01-01T00:00:07Z", "created_by": "COPY a b # pybuild", "comment": "pybuild"},
            {
                "created": "1970-01-01T00:00:08Z",
                "created_by": "ENV A=b",
                "comment": "pybuild",
                "empty_layer": True,
            },
        ],
    }
    blobs = [
        LayerBlob("zstd", Digest(D1), 11),
        LayerBlob("none", Digest(D2), 12),
        LayerBlob("gzip", Digest(D3), 13),
    ]
    assert json.loads(manifest(config, blobs).to_json()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest.of(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": D1, "size": 11},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": D2, "size": 12},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": D3, "size": 13},
        ],
    }


def test_without_a_time_none_is_written() -> None:
    result = assemble(None, EMPTY, history=[HistoryEntry("X", None, True)], diff_ids=[], created=None)
    assert result.created is None
    assert b'created"' not in result.to_json()


def test_a_base_without_history_gets_an_entry_for_each_layer() -> None:
    base = replace(BASE, diff_ids=(D1, D2), history=())
    result = assemble(base, base, history=[HistoryEntry("RUN x", 1, False)], diff_ids=[D3], created=1)
    assert [entry.empty_layer for entry in result.history] == [False] * 3
    assert result.history[-1].created_by == "RUN x"


def test_what_speaks_of_the_base_alone_is_not_taken_over() -> None:
    document = json.loads(EMPTY.to_json())
    document.update(container="abc", container_config={"Cmd": ["x"]}, docker_version="20", id="1", parent="2")
    document["org.example.kept"] = {"a": 1}
    image = ImageConfig.from_json(json.dumps(document).encode())
    result = json.loads(assemble(image, image, history=[], diff_ids=[], created=1).to_json())
    assert result["org.example.kept"] == {"a": 1}
    assert not {"container", "container_config", "docker_version", "id", "parent"} & result.keys()


def test_a_layer_without_history_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        assemble(None, EMPTY, history=[], diff_ids=[D1], created=1)
