"""The image-spec's documents: read, written, and nothing lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import FormatError
from cache.oci.digest import DiffID, Digest
from cache.oci.platform import Platform
from cache.oci.spec import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    ContainerConfig,
    Descriptor,
    Healthcheck,
    History,
    ImageConfig,
    Index,
    Manifest,
)

DIGEST = Digest("sha256:" + "12" * 32)

DOCKER_CONFIG = {
    "architecture": "arm",
    "variant": "v7",
    "os": "linux",
    "os.version": "5",
    "os.features": ["b", "a"],
    "author": "someone",
    "created": "2024-01-02T03:04:05.678Z",
    "docker_version": "20.10",
    "container_config": {"Cmd": ["x"], "Nested": {"b": None, "a": [1, 2.5, "é"]}},
    "config": {
        "Hostname": "h",
        "AttachStdin": False,
        "User": "app:app",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/bin", "EMPTY=", "Z=1", "A=2"],
        "Cmd": ["-c", "run"],
        "Entrypoint": [],
        "Healthcheck": {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 30_000_000_000,
            "Timeout": 1_500_000_000,
            "StartPeriod": 1,
            "StartInterval": 2,
            "Retries": 3,
            "Other": 4,
        },
        "ArgsEscaped": True,
        "Image": "sha256:0",
        "Volumes": {"/b": {}, "/a": {}},
        "WorkingDir": "/srv",
        "OnBuild": ["RUN true"],
        "Labels": {"z": "1", "a": "<&>é\u2028"},
        "StopSignal": "SIGTERM",
        "StopTimeout": 5,
        "Shell": ["/bin/bash", "-c"],
    },
    "rootfs": {"type": "layers", "diff_ids": [str(DIGEST)]},
    "history": [
        {"created": "2024-01-02T03:04:05Z", "created_by": "RUN x", "comment": "c", "author": "a", "extra": 1},
        {"created_by": "ENV x", "empty_layer": True},
    ],
}


def test_a_docker_config_is_read_and_comes_back_whole() -> None:
    config = ImageConfig.from_json(json.dumps(DOCKER_CONFIG).encode())
    assert config.platform == Platform("linux", "arm", "v7", "5", ("b", "a"))
    assert config.diff_ids == (DiffID(DIGEST),)
    container = config.config
    assert container.env == ("PATH=/bin", "EMPTY=", "Z=1", "A=2")
    assert (container.entrypoint, container.cmd, container.shell) == ((), ("-c", "run"), ("/bin/bash", "-c"))
    assert container.exposed_ports == ("53/udp", "80/tcp")
    assert container.volumes == ("/a", "/b")
    assert container.labels == (("a", "<&>é\u2028"), ("z", "1"))
    assert container.healthcheck == Healthcheck(
        ("CMD-SHELL", "true"), 30 * 10**9, 1_500_000_000, 1, 2, 3, (("Other", "4"),)
    )
    assert [item.empty_layer for item in config.history] == [False, True]
    assert without_nothing(json.loads(config.to_json())) == without_nothing(DOCKER_CONFIG)
    assert ImageConfig.from_json(config.to_json()) == config
    assert hash(config) == hash(ImageConfig.from_json(config.to_json()))


def without_nothing(value: object) -> object:
    """`False` of what we know is left out, as with Go's omitempty."""
    if isinstance(value, dict):
        return {key: without_nothing(item) for key, item in value.items() if item is not False}
    return value


@pytest.mark.parametrize(("written", "read"), [(None, None), ([], ()), (["a", ""], ("a", ""))])
def test_unset_and_cleared_are_kept_apart(written: object, read: object) -> None:
    keys = {"Entrypoint": written, "Cmd": written, "Shell": written}
    document = DOCKER_CONFIG | {"config": keys}
    container = ImageConfig.from_json(json.dumps(document).encode()).config
    assert container.entrypoint == container.cmd == container.shell == read
    back = json.loads(replace(ImageConfig("amd64", "linux"), config=container).to_json())["config"]
    assert back == ({} if written is None else keys)


def test_the_bytes_depend_on_nothing_but_the_value() -> None:
    one = ImageConfig(
        "amd64", "linux", config=ContainerConfig(volumes=("/b", "/a"), labels=(("b", "1"), ("a", "2")))
    )
    other = ImageConfig(
        "amd64", "linux", config=ContainerConfig(volumes=("/a", "/b"), labels=(("a", "2"), ("b", "1")))
    )
    assert one.to_json() == other.to_json()
    assert one.to_json() == (
        b'{"architecture":"amd64","config":{"Labels":{"a":"2","b":"1"},"Volumes":{"/a":{},"/b":{}}},'
        b'"os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}'
    )


def test_bytes_that_are_no_utf_8_survive_as_json_escapes() -> None:
    container = ContainerConfig(env=("A=é\udcff",))
    data = ImageConfig("amd64", "linux", config=container).to_json()
    assert "A=é\\udcff".encode() in data
    assert ImageConfig.from_json(data).config == container


@given(
    st.builds(
        ContainerConfig,
        user=st.text(),
        env=st.lists(st.text()).map(tuple),
        entrypoint=st.none() | st.lists(st.text()).map(tuple),
        cmd=st.none() | st.lists(st.text()).map(tuple),
        labels=st.dictionaries(st.text(), st.text()).map(lambda labels: tuple(sorted(labels.items()))),
        healthcheck=st.none()
        | st.builds(Healthcheck, test=st.lists(st.text()).map(tuple), interval=st.integers()),
        args_escaped=st.booleans(),
    ),
    st.lists(st.builds(History, created=st.none() | st.text(min_size=1), created_by=st.text())).map(tuple),
)
def test_every_config_comes_back_as_it_was(container: ContainerConfig, history: tuple[History, ...]) -> None:
    config = ImageConfig("amd64", "linux", config=container, history=history, diff_ids=(DiffID(DIGEST),))
    assert ImageConfig.from_json(config.to_json()) == config


LAYER = Descriptor(MEDIA_TYPE_LAYER_GZIP, DIGEST, 5)


def test_manifests_come_back_as_they_were() -> None:
    manifest = Manifest(
        config=replace(LAYER, annotations=(("a", "b"),), data="e30="),
        layers=(LAYER, replace(LAYER, urls=("https://example.com/x",))),
        annotations=(("k", "v"),),
        artifact_type="application/x",
        subject=LAYER,
        extra=(("more", '{"a":1}'),),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert json.loads(manifest.to_json())["mediaType"] == MEDIA_TYPE_MANIFEST
    docker = replace(manifest, media_type=DOCKER_MANIFEST)
    assert Manifest.from_json(docker.to_json()) == docker


def test_an_index_gives_the_manifest_for_a_platform() -> None:
    def entry(platform: str | None, digest: str, kind: str = MEDIA_TYPE_MANIFEST) -> Descriptor:
        return Descriptor(
            kind, Digest("sha256:" + digest * 64), 1, (platform and Platform.parse(platform)) or None
        )

    arm, amd, attestation = entry("linux/arm64", "a"), entry("linux/amd64", "b"), entry(None, "c")
    unknown = replace(entry(None, "d"), platform=Platform("unknown", "unknown"))
    index = Index((arm, unknown, attestation, amd), DOCKER_MANIFEST_LIST)
    assert Index.from_json(index.to_json()) == index
    assert index.select(Platform.parse("linux/amd64")) == amd
    assert index.select(Platform.parse("linux/arm64/v8")) == arm
    assert Index((arm, unknown)).select(Platform.parse("linux/amd64")) is None
    assert Index((arm, attestation)).select(Platform.parse("linux/amd64")) == attestation
    assert Index((entry("linux/amd64", "e", "application/x"),)).select(Platform.parse("linux/amd64")) is None


def config_with(**members: object) -> bytes:
    return json.dumps(DOCKER_CONFIG | members).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"[" * 100_000, "JSON"),
        (b'{"a": NaN}', "JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "JSON"),
        (config_with(os=None), "os is missing"),
        (config_with(os=1), "os must be a string"),
        (config_with(architecture=""), "architecture is missing"),
        (config_with(rootfs=None), "rootfs"),
        (config_with(rootfs={"type": "other"}), "rootfs"),
        (config_with(rootfs={"type": "layers", "diff_ids": ["sha256:1"]}), "digest"),
        (config_with(rootfs={"type": "layers", "diff_ids": "x"}), "list of strings"),
        (config_with(history={}), "history must be a list"),
        (config_with(history=[1]), r"history\[0\]"),
        (config_with(history=[{"empty_layer": "yes"}]), "true or false"),
        (config_with(config=[]), "config"),
        (config_with(config={"Env": {"A": "b"}}), "Env must be a list of strings"),
        (config_with(config={"Env": [1]}), "Env must be a list of strings"),
        (config_with(config={"Labels": {"a": 1}}), "Labels must be an object of strings"),
        (config_with(config={"Labels": ["a"]}), "Labels must be an object of strings"),
        (config_with(config={"Volumes": ["/a"]}), "Volumes must be an object"),
        (config_with(config={"Healthcheck": {"Interval": 1.5}}), "Interval must be a whole number"),
        (config_with(config={"Healthcheck": {"Interval": True}}), "Interval must be a whole number"),
    ],
)
def test_a_damaged_config_is_one_clear_error(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ImageConfig.from_json(data)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"schemaVersion": 1}, "schema version 1"),
        ({"config": None}, "config is missing"),
        ({"config": {"size": 1}}, "digest is missing"),
        ({"config": {"digest": "x", "size": 1}}, "not a digest"),
        ({"config": {"digest": str(DIGEST), "size": -1}}, "negative"),
        ({"layers": {}}, "layers must be a list"),
    ],
)
def test_a_damaged_manifest_is_one_clear_error(members: dict[str, object], message: str) -> None:
    document = json.loads(Manifest(LAYER, (LAYER,)).to_json()) | members
    with pytest.raises(FormatError, match=message):
        Manifest.from_json(json.dumps(document).encode())


def test_null_counts_as_absent_as_in_go() -> None:
    document = json.loads(Manifest(LAYER, ()).to_json()) | {
        "layers": None,
        "annotations": None,
        "subject": None,
    }
    assert Manifest.from_json(json.dumps(document).encode()) == Manifest(LAYER, ())
