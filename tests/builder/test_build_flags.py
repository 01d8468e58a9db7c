"""Flags of a build that docker's has too."""

from __future__ import annotations

import json

import pytest

from builder.errors import PlanError
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import Pybuild

STAGES = "FROM base\nRUN echo a > /a\nFROM ../base/base.rec AS Two\nRUN echo b > /b\nCOPY --from=0 /a /a\n"


def test_no_cache_filter_runs_the_steps_of_those_stages_alone(project: Project) -> None:
    assert project.build(STAGES).outcomes == ["ran"] * 3
    assert project.build(STAGES, "--no-cache-filter", "two").outcomes == ["cached", "same", "same"]
    assert project.build(STAGES, "--no-cache-filter", "0").outcomes == ["same", "cached", "cached"]
    both = project.build(STAGES, "--no-cache-filter", "0,TWO")
    assert both.outcomes == ["same"] * 3
    assert both.reasons == ["--no-cache-filter"] * 3
    repeated = project.build(STAGES, "--no-cache-filter", "0", "--no-cache-filter=1")
    assert repeated.outcomes == ["same"] * 3
    assert project.build(STAGES).outcomes == ["cached"] * 3


def test_no_cache_filter_of_a_stage_that_there_is_not_suggests_one(project: Project) -> None:
    for name, hint in (("tow", "Did you mean two?"), ("7", "its stages: stage-0, two")):
        with pytest.raises(PlanError) as caught:
            project.build(STAGES, "--no-cache-filter", name)
        assert (caught.value.code, caught.value.hint) == ("stage/unknown", hint)


def test_no_cache_filter_is_never_answered_from_a_receipt(pybuild: Pybuild) -> None:
    recipe = "FROM box AS one\nRUN cat /proc/sys/kernel/random/uuid > /u\n"
    first = pybuild.build(recipe)
    found = {pybuild("build", "test.rec", "--no-cache-filter=one").strip() for _ in range(3)}
    assert len(found) == 3
    assert first not in found


def test_plan_tells_of_no_cache_filter(pybuild: Pybuild) -> None:
    pybuild.build("FROM box AS one\nRUN echo > /x\n")
    forecast = pybuild.json("plan", "test.rec", "--no-cache-filter=one", "--format=json")
    assert "--no-cache-filter" in json.dumps(forecast)


def test_a_label_without_a_value_is_empty(project: Project) -> None:
    built = project.build("FROM base\nLABEL a=1 b=2\n", "--label", "a", "--label", "c=x=y")
    assert built.config.labels == (("a", ""), ("b", "2"), ("c", "x=y"))


def test_the_metadata_name_the_manifest_of_an_oci_output(pybuild: Pybuild) -> None:
    pybuild.build("FROM box\n", "-t", "a:1", "-t", "b", "-o", "type=oci-layout,dest=l", "--metadata-file=m")
    with open(f"{pybuild.cwd}/m") as file:
        metadata = json.load(file)
    with open(f"{pybuild.cwd}/l/index.json") as file:
        assert metadata["containerimage.digest"] == json.load(file)["manifests"][0]["digest"]
    assert metadata["image.name"] == "a:1,b:latest"
