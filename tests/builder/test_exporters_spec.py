"""`--output`: what Docker's users type is understood, and what nobody can mean is refused before anything is
built."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from builder.config import Config
from builder.errors import UsageError
from builder.exporters import parse_outputs
from builder.exporters.output_spec import OutputSpec
from cache.compression import Compression

GZIP, ZSTD, NONE = (Compression.parse(kind) for kind in ("gzip", "zstd", "none"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("out", OutputSpec("dir", "out", NONE)),
        ("./a/b", OutputSpec("dir", "./a/b", NONE)),
        ("-", OutputSpec("tar", "-", NONE)),
        ("name with = and blank", OutputSpec("dir", "name with = and blank", NONE)),
        ("type=local,dest=out", OutputSpec("dir", "out", NONE)),
        ("type=dir,dest=out", OutputSpec("dir", "out", NONE)),
        ("type=tar,dest=a.tar", OutputSpec("tar", "a.tar", NONE)),
        ("type=tar,dest=a.tgz,compression=gzip", OutputSpec("tar", "a.tgz", GZIP)),
        ("type=oci,dest=a.tar", OutputSpec("oci", "a.tar", GZIP)),
        ("dest=a.tar,type=oci-archive", OutputSpec("oci", "a.tar", GZIP)),
        ("TYPE=oci,Dest=a.tar", OutputSpec("oci", "a.tar", GZIP)),
        ("type=oci,dest=-", OutputSpec("oci", "-", GZIP)),
        ("type=oci-layout,dest=d,compression=zstd", OutputSpec("oci-layout", "d", ZSTD)),
        ("type=oci,tar=false,dest=d", OutputSpec("oci-layout", "d", GZIP)),
        ("type=docker,dest=a.tar", OutputSpec("docker", "a.tar", NONE)),
        ("type=docker,dest=a.tar,compression=none", OutputSpec("docker", "a.tar", NONE)),
        (
            "type=oci,dest=a,compression=gzip,compression-level=9",
            OutputSpec("oci", "a", Compression("gzip", 9)),
        ),
        ("type=oci,dest=a,compression-level=6", OutputSpec("oci", "a", Compression("gzip", 6))),
        ('type=oci,"dest=a,b.tar"', OutputSpec("oci", "a,b.tar", GZIP)),
        ('type=oci,"dest=a""b.tar"', OutputSpec("oci", 'a"b.tar', GZIP)),
        ("type=oci,dest=a,name=app:1", OutputSpec("oci", "a", GZIP, ("app:1",))),
        ('type=oci,dest=a,"name=app:1,other"', OutputSpec("oci", "a", GZIP, ("app:1", "other"))),
    ],
)
def test_what_is_meant(text: str, wanted: OutputSpec) -> None:
    assert OutputSpec.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "type is missing", "type=oci"),
        ("dest=a.tar", "type is missing", "type=oci"),
        ("dest=a.tar,compression=gzip", "type is missing", "oci-layout"),
        ("type=,dest=a", "type is missing", "oci"),
        ("type=ocl,dest=a", "unknown type 'ocl'", "oci"),
        ("type=registries,dest=a", "unknown type 'registries'", "registry"),
        ("type=zip,dest=a", "unknown type 'zip'", "known are"),
        ("type=oci", "needs a dest", "dest="),
        ("type=oci,dest=", "needs a dest", "dest="),
        ("type=oci,dst=a", "unknown key 'dst'", "dest"),
        ("type=oci,dest=a,compresion=gzip", "unknown key 'compresion'", "compression"),
        ("type=oci,dest=a,gzip", "KEY=VALUE", "known are"),
        ("type=oci,dest=a,dest=b", "dest is given twice", None),
        ("type=oci,dest=a,compression=lz4", "unknown compression: 'lz4'", "zstd"),
        ("type=oci,dest=a,compression=gzip,compression-level=10", "levels 0 to 9", None),
        ("type=oci,dest=a,compression=zstd,compression-level=0", "levels 1 to 22", None),
        ("type=oci,dest=a,compression-level=fast", "is a number", None),
        ("type=oci,dest=a,compression=none,compression-level=1", "no levels", None),
        ("type=docker,dest=a,compression=gzip", "not compressed", None),
        ("type=dir,dest=a,compression-level=1", "not compressed", None),
        ("type=dir,dest=-", "standard output", None),
        ("type=oci-layout,dest=-", "standard output", None),
        ("type=tar,dest=a,name=x", "no place for a name", None),
        ("type=oci,dest=a,name=UPPER", "'UPPER' is not an image name", "lower case"),
        ("type=oci,dest=a,name=x@sha256:" + "0" * 64, "its digest", None),
        ("type=tar,dest=a,tar=false", "type=oci", None),
        ("type=oci,dest=a,tar=perhaps", "true or false", None),
        ('type=oci,"dest=a', "quotes do not match", None),
        ("type=oci,dest=a\n", "more than one line", None),
    ],
)
def test_what_is_refused(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        OutputSpec.parse(text)
    assert message in caught.value.message
    assert caught.value.code == "usage/output"
    if hint is not None:
        assert caught.value.hint and hint in caught.value.hint


def test_the_configuration_says_how_layers_are_compressed_by_default() -> None:
    texts = ["type=oci,dest=a", "type=oci-layout,dest=b,compression=gzip", "type=docker,dest=c", "d"]
    config = Config(compression="zstd", compression_level=7)
    wanted = [Compression("zstd", 7), GZIP, NONE, NONE]
    assert [spec.compression for spec in parse_outputs(texts, config)] == wanted
    with pytest.raises(UsageError, match=r"pybuild\.toml: zstd has the levels"):
        parse_outputs(texts, Config(compression="zstd", compression_level=99))
    leveled = parse_outputs(["type=oci,dest=a,compression-level=5"], config)
    assert leveled[0].compression == Compression("zstd", 5)


def test_only_one_output_can_be_standard_output(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(UsageError, match="only one output"):
        with_pipe_as_output(lambda: parse_outputs(["-", "type=oci,dest=-"]))


def with_pipe_as_output(action: object) -> None:
    read, send = os.pipe()
    with_output(send, action)
    os.close(read)


def with_output(descriptor: int, action: object) -> None:
    saved = os.dup(1)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    try:
        action()  # type: ignore[operator]
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_a_terminal_gets_no_archive() -> None:
    keep, terminal = pty.openpty()
    try:
        with pytest.raises(UsageError, match="terminal"):
            with_output(terminal, lambda: parse_outputs(["type=oci,dest=-"]))
    finally:
        os.close(keep)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=oci,dest={}/dir", "is a directory"),
        ("type=oci,dest={}/new/", "is a directory"),
        ("type=docker,dest={}/missing/a.tar", "there is no directory"),
        ("type=dir,dest={}/file", "is no directory"),
        ("type=oci-layout,dest={}/file", "is no directory"),
        ("type=oci,dest={}/file/a.tar", "there is no directory"),
        ("type=dir,dest={}/dangling", "is no directory"),
    ],
)
def test_a_destination_that_cannot_be_is_found_before_the_build(
    tmp_path: os.PathLike[str], text: str, message: str
) -> None:
    place = os.fspath(tmp_path)
    os.mkdir(place + "/dir")
    os.symlink("nowhere", place + "/dangling")
    with open(place + "/file", "w"):
        pass
    with pytest.raises(UsageError, match=message):
        parse_outputs([text.format(place)])
    assert sorted(os.listdir(place)) == ["dangling", "dir", "file"]


def test_a_destination_that_can_be_is_not_touched(tmp_path: os.PathLike[str]) -> None:
    place = os.fspath(tmp_path)
    parse_outputs([f"type=oci,dest={place}/a", f"{place}/b/c", f"type=oci-layout,dest={place}/d", place])
    parse_outputs(["type=tar,dest=/dev/null"])
    assert os.listdir(place) == []


@pytest.mark.parametrize("kind", ["dir", "oci-layout"])
def test_the_root_of_the_host_is_never_an_output(kind: str, tmp_path: Path) -> None:
    """Whatever it is called. Only what is asked for is looked at here: nothing is written."""
    link = tmp_path / "link"
    link.symlink_to("/")
    for name in ("/", "//", "/usr/..", str(link)):
        with pytest.raises(UsageError, match="the root of this host"):
            parse_outputs([f"type={kind},dest={name}"])
