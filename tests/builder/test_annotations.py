"""--annotation: in what other tools read of OCI outputs."""

from __future__ import annotations

import json
import subprocess

import pytest

from builder.annotations import parse_annotations
from builder.errors import UsageError
from cache.oci.platform import Platform
from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures.images import skopeo

AMD64 = Platform("linux", "amd64")


@pytest.mark.peer("skopeo", "umoci", "jq")
def test_other_tools_see_them_in_archives_and_layouts(pybuild: Pybuild) -> None:
    given = ("--annotation", "org.example.team=core", "--annotation", "manifest,manifest-descriptor:both=x=y")
    more = (
        "--annotation",
        "index:of=index",
        "-o",
        "type=oci,dest=app.tar",
        "-o",
        "type=oci-layout,dest=layout",
    )
    image_id = pybuild.build("FROM box\n", *given, *more, "-t", "app:1")
    subprocess.run(["mkdir", "unpacked"], cwd=pybuild.cwd, check=True)
    subprocess.run(["tar", "-xf", "app.tar", "-C", "unpacked"], cwd=pybuild.cwd, check=True)
    for place in ("layout", "unpacked"):
        directory = f"{pybuild.cwd}/{place}"
        manifest = json.loads(skopeo("inspect", "--raw", f"oci:{directory}:1"))
        assert manifest["annotations"] == {"org.example.team": "core", "both": "x=y"}
        assert manifest["config"]["digest"] == image_id
        found = subprocess.run(
            ["jq", "-c", "[.annotations, .manifests[0].annotations]", f"{directory}/index.json"],
            capture_output=True,
            check=True,
        )
        index, entry = json.loads(found.stdout)
        assert index == {"of": "index"}
        assert (entry["both"], entry["org.opencontainers.image.ref.name"]) == ("x=y", "1")
    stat = ["umoci", "stat", "--image", f"{pybuild.cwd}/layout:1"]
    subprocess.run(stat, capture_output=True, check=True)


def test_an_output_without_a_place_for_them_says_so(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\n")
    done = pybuild.try_("build", "test.rec", "--annotation", "a=b", "-o", "type=docker,dest=app.tar")
    assert done.code == 0
    assert "warning: --annotation: outputs of type oci and oci-layout alone have annotations" in done.err


def test_an_image_is_the_same_with_and_without_them(pybuild: Pybuild) -> None:
    assert pybuild.build("FROM box\n", "--annotation", "a=b", "-o", "type=oci,dest=app.tar") == pybuild.build(
        "FROM box\n"
    )


def test_types_and_platforms() -> None:
    texts = [
        "a=1",
        "manifest:b=2",
        "manifest[linux/amd64]:c=3",
        "manifest[linux/arm64]:d=4",
        "x.y:z=5",
        "e=a b",
    ]
    found = parse_annotations(texts, AMD64)
    assert found.manifest == (("a", "1"), ("b", "2"), ("c", "3"), ("e", "a b"), ("x.y:z", "5"))
    assert not parse_annotations(["manifest[windows]:a=b"], AMD64)
    assert parse_annotations(["manifest-descriptor:a=", "index:i=j"], AMD64).descriptor == (("a", ""),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "write [TYPE:]KEY=VALUE"),
        ("=b", "write [TYPE:]KEY=VALUE"),
        ("a b=c", "write [TYPE:]KEY=VALUE"),
        ("manifets:a=b", "unknown type 'manifets'"),
        ("index-descriptor:a=b", "no index that anything points to"),
        ("index[linux/amd64]:a=b", "an index is of no platform"),
        ("manifest[a/b/c/d]:a=b", "not a platform"),
    ],
)
def test_what_makes_no_annotation_is_an_error(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_annotations([text], AMD64)
    assert caught.value.code == "usage/annotation"
    assert told in caught.value.message
    if "manifets" in text:
        assert caught.value.hint == "Did you mean manifest?"
