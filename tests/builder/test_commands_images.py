"""The commands that show, name and remove images, on a real store: images, inspect, history, layers, tag,
rmi.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from tests.command_fixtures.pybuild import Pybuild

APP = 'FROM box\nLABEL kind=app "with space"="a b"\nRUN echo hello > /hello\nENV A=1\n'


def sha256sum(text: str) -> str:
    done = subprocess.run(["sha256sum"], input=text, capture_output=True, text=True, check=True)
    return "sha256:" + done.stdout.split()[0]


def test_inspect_has_the_shape_of_dockers(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "app:1")
    (value,) = pybuild.json("inspect", "app:1")
    assert value["Id"] == image_id
    assert value["RepoTags"] == ["app:1"]
    assert value["Os"] == "linux"
    assert value["Config"]["Env"] == ["PATH=/bin", "A=1"]
    assert value["Config"]["Labels"] == {"kind": "app", "with space": "a b"}
    assert value["Config"]["Cmd"] == ["sh"]
    assert value["RootFS"]["Type"] == "layers"
    assert len(value["RootFS"]["Layers"]) == 5
    with open(f"{pybuild.root}/imagedb/content/sha256/{image_id.removeprefix('sha256:')}", "rb") as file:
        config = file.read()
    assert "sha256:" + hashlib.sha256(config).hexdigest() == image_id
    assert json.loads(config)["rootfs"]["diff_ids"] == value["RootFS"]["Layers"]


def test_the_graph_driver_names_the_directories_of_the_overlay(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    data = pybuild.json("inspect", "app")[0]["GraphDriver"]["Data"]
    assert set(data) == {"LowerDir", "UpperDir", "MergedDir", "WorkDir"}
    lower = data["LowerDir"].split(":")
    assert len(lower) == 4
    for directory in (*lower, data["UpperDir"]):
        assert os.path.isdir(directory)
        assert directory.startswith(pybuild.root + "/overlay2/")
    with open(data["UpperDir"] + "/hello") as file:
        assert file.read() == "hello\n"
    assert os.path.exists(lower[-1] + "/bin/busybox")
    assert os.path.dirname(data["MergedDir"]) == os.path.dirname(data["UpperDir"])


def test_an_image_of_one_layer_has_no_lower_directory(pybuild: Pybuild) -> None:
    pybuild.write("file", "x")
    pybuild.build("FROM scratch\nCOPY file /\n", "-t", "one")
    assert set(pybuild.json("inspect", "one")[0]["GraphDriver"]["Data"]) == {
        "UpperDir",
        "MergedDir",
        "WorkDir",
    }


def test_chain_ids_are_those_that_sha256sum_works_out(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    root = pybuild.json("inspect", "app")[0]["RootFS"]
    chain = root["Layers"][0]
    chains = [chain]
    for diff_id in root["Layers"][1:]:
        chain = sha256sum(f"{chain} {diff_id}")
        chains.append(chain)
    assert root["ChainIDs"] == chains
    for chain, diff_id in zip(chains, root["Layers"], strict=True):
        with open(f"{pybuild.root}/layerdb/sha256/{chain.removeprefix('sha256:')}/diff") as file:
            assert file.read() == diff_id
    rows = pybuild.json("layers", "app", "--json")
    assert [row["ChainID"] for row in rows] == chains
    assert rows[-1]["CreatedBy"].startswith("RUN /bin/sh -c echo hello")


def test_the_format_of_inspect(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    image = pybuild.json("inspect", "app")[0]

    def filled(template: str) -> str:
        return pybuild("inspect", "-f", template, "app").rstrip("\n")

    assert filled("{{.Id}}") == image["Id"]
    assert filled("{{ .Config.WorkingDir }}|{{len .RootFS.Layers}}") == "/|5"
    assert filled('{{index .RepoTags 0}} {{index .Config.Labels "with space"}}') == "app:latest a b"
    assert filled('{{join .Config.Env ","}}\\t{{json .Config.Cmd}}') == 'PATH=/bin,A=1\t["sh"]'
    assert json.loads(filled("json")) == image
    for template in ("{{.Nothing}}", "{{range .Config.Env}}{{end}}", "{{index .RepoTags 9}}"):
        done = pybuild.try_("inspect", "-f", template, "app")
        assert (done.code, done.out) == (2, "")
        assert "usage/format" in done.err


def test_what_is_found_is_shown_though_something_else_is_not(pybuild: Pybuild) -> None:
    done = pybuild.try_("inspect", "box", "nothing")
    assert done.code == 2
    assert [value["RepoTags"] for value in json.loads(done.out)] == [["box:latest"]]
    assert "there is no image 'nothing'" in done.err


def test_an_unknown_image_is_told_with_the_nearest(pybuild: Pybuild) -> None:
    for command in ("inspect", "history", "layers", "diff", "save", "rmi"):
        done = pybuild.try_(command, "boxx")
        assert (done.code, done.out) == (2, "")
        assert "[image/unknown]" in done.err
        assert "Did you mean box" in done.err


def test_images_lists_names_ids_and_sizes(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "app:1", "-t", "app:2")
    unnamed = pybuild.build(APP + "RUN echo more > /more\n")
    head, *rows = pybuild("images").splitlines()
    assert head.split("  ")[0] == "NAME"
    assert {row.split()[0] for row in rows} == {"app:1", "app:2", "box:latest"}
    assert image_id[7:19] in rows[0] + rows[1]
    assert unnamed[7:19] not in pybuild("images", "-q")
    assert unnamed[7:19] in pybuild("images", "-qa")
    assert pybuild("images", "-q", "--no-trunc", "app").split() == [image_id]
    assert pybuild("images", "--names").split() == ["app:1", "app:2", "box:latest"]
    assert pybuild("images", "-q", "app:2").split() == [image_id[7:19]]
    assert pybuild("images", "-q", "ap") == ""
    assert {tuple(one["RepoTags"]) for one in pybuild.json("images", "--json", "-a")} == {
        ("app:1", "app:2"),
        ("box:latest",),
        (),
    }


def test_images_can_be_filtered_and_formatted(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "r.example:5000/team/app:1")
    unnamed = pybuild.build(APP + "RUN echo more > /more\n")
    assert pybuild("images", "-q", "-f", "dangling=true").split() == [unnamed[7:19]]
    assert pybuild("images", "-q", "-f", "label=kind=app").split() == [image_id[7:19]]
    assert pybuild("images", "-q", "--filter", "reference=*team/*").split() == [image_id[7:19]]
    line = pybuild("images", "--format", "{{.Repository}}|{{.Tag}}|{{.ID}}", "-f", "label=kind")
    assert line == f"r.example:5000/team/app|1|{image_id[7:19]}\n"
    dangling = pybuild("images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "dangling=true")
    assert dangling == "<none>:<none>\n"
    assert "usage/value" in pybuild.try_("images", "-f", "size=3").err


def test_a_damaged_image_is_told_beside_the_list(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "app")
    with open(f"{pybuild.root}/imagedb/content/sha256/{image_id.removeprefix('sha256:')}", "a") as file:
        file.write("x")
    done = pybuild.try_("images", "--names")
    assert done.lines == ["app:latest", "box:latest"]
    done = pybuild.try_("images")
    assert [line.split()[0] for line in done.lines] == ["NAME", "box:latest"]
    assert image_id[7:19] in done.err


def test_history_names_the_lines_that_made_an_image(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    rows = pybuild.json("history", "app", "--json")
    assert [row["CreatedBy"].split()[0] for row in rows[:3]] == ["ENV", "RUN", "LABEL"]
    assert rows[0]["DiffID"] is None
    assert rows[1]["DiffID"].startswith("sha256:")
    assert pybuild("history", "app").splitlines()[2].endswith("RUN /bin/sh -c echo hello > /hello # pybuild")
    assert pybuild("history", "--format", "{{.CreatedBy}}", "app").splitlines()[0] == rows[0]["CreatedBy"]
    assert pybuild("history", "-q", "app").splitlines()[:2] == ["<empty>", rows[1]["ChainID"]]


def test_layers_are_listed_from_below(pybuild: Pybuild) -> None:
    rows = pybuild("layers", "box").splitlines()
    assert [row.split()[3] for row in rows[1:]] == ["COPY", "RUN", "COPY", "COPY"]
    assert pybuild("layers", "box", "--no-trunc").count("sha256:") == 8


def test_tag_gives_names_and_takes_them_from_others(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP)
    pybuild("tag", image_id[7:15], "app", "app:two")
    assert pybuild.json("inspect", "app")[0]["RepoTags"] == ["app:latest", "app:two"]
    pybuild("tag", "box", "app")
    assert pybuild("images", "-q", "app:latest") == pybuild("images", "-q", "box")
    for name in ("App", "a b", "app@sha256:" + "0" * 64, ""):
        done = pybuild.try_("tag", "box", name)
        assert (done.code, done.out) == (2, ""), name
        assert "[usage/name]" in done.err


def test_rmi_takes_a_name_and_with_the_last_one_the_image(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "a", "-t", "b")
    assert pybuild("rmi", "a").splitlines() == ["Untagged: a:latest"]
    assert pybuild("rmi", "b").splitlines() == ["Untagged: b:latest", f"Deleted: {image_id}"]
    assert pybuild("images", "-aq").split() == pybuild("images", "-q", "box").split()


def test_an_image_with_several_names_goes_by_its_id_only_if_forced(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "a", "-t", "b")
    done = pybuild.try_("rmi", image_id)
    assert (done.code, done.out) == (2, "")
    assert "[image/names]" in done.err
    done = pybuild.try_("rmi", "nothing", image_id, "-f")
    assert done.code == 2
    assert done.lines == ["Untagged: a:latest", "Untagged: b:latest", f"Deleted: {image_id}"]
    assert "there is no image 'nothing'" in done.err


def test_an_image_that_a_container_stands_on_stays(pybuild: Pybuild) -> None:
    image_id = pybuild.build(APP, "-t", "a", "-t", "b")
    pybuild("run", "--name", "user", "a", "true")
    assert pybuild("rmi", "a") == "Untagged: a:latest\n"
    for text in ("b", image_id):
        done = pybuild.try_("rmi", "--force", text)
        assert (done.code, done.out) == (2, "")
        assert "container user stands on the image [image/in-use]" in done.err
    pybuild("rm", "user")
    pybuild("rmi", "b")


def test_rmi_all(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "a", "-t", "b")
    pybuild.build(APP + "RUN true > /x\n")
    pybuild("run", "--name", "user", "box", "true")
    done = pybuild.try_("rmi", "--all")
    assert done.code == 2
    assert done.out.count("Deleted: ") == 2
    assert pybuild("images", "--names") == "box:latest\n"


@pytest.mark.parametrize("command", ["rmi", "rm"])
def test_nothing_named_is_an_error(pybuild: Pybuild, command: str) -> None:
    done = pybuild.try_(command)
    assert (done.code, done.out) == (2, "")
    assert "[usage/arguments]" in done.err
