"""Recipes that are built for real: what ends up in the image, its config and its history."""

from __future__ import annotations

from tests.build_fixtures.project import Project


def test_smoke(project: Project) -> None:
    project.write("a", "hello")
    outcome = project.build("FROM base\nCOPY a /a\nRUN cat /a > /b\n")
    assert outcome.outcomes == ["ran", "ran"]
    assert project.read(outcome, "b") == b"hello"
    assert project.build("FROM base\nCOPY a /a\nRUN cat /a > /b\n").outcomes == ["cached", "cached"]
