"""Why a step missed, in words: for every part of a key, as real builds say it."""

from __future__ import annotations

import os

import pytest

from builder.explain import changed_files, why
from builder.keys import StepKey
from tests.build_fixtures.project import Project


def reason(project: Project, before: str, after: str, *options: str) -> str:
    """Build two recipes one after the other; return why the second one's last step missed."""
    project.build(before)
    outcome = project.build(after, *options)
    assert outcome.outcomes[-1] in ("ran", "same", "passed"), outcome.outcomes
    return outcome.reasons[-1]


LINES = [
    ("RUN echo a", "RUN echo b", 'the command changed: "echo a" -> "echo b"'),
    ('RUN ["echo", "a"]', 'RUN ["echo", "b"]', 'the command changed: "a" -> "b"'),
    ("RUN true", 'SHELL ["/bin/sh", "-ec"]\nRUN true', 'changed: "/bin/sh -c true" -> "/bin/sh -ec true"'),
    ("RUN <<E\ntrue\necho a\nE", "RUN <<E\ntrue\necho b\nE", 'the command changed: "echo a" -> "echo b"'),
    ("ENV A=1\nRUN true", "ENV A=2\nRUN true", 'variable A changed: "1" -> "2"'),
    ("RUN true", "ENV A=2\nRUN true", 'variable A is new: "2"'),
    ("ARG A=1\nRUN true", "RUN true", 'variable A is gone (was "1")'),
    ("RUN true", "USER app\nRUN true", 'user changed: "" -> "app"'),
    ("RUN true", "RUN --network=none true", 'network changed: "host" -> "none"'),
    ("WORKDIR /a", "WORKDIR /b", 'path changed: "/a" -> "/b"'),
    ("COPY f /a", "COPY f /b", 'destination changed: "/a" -> "/b"'),
    ("COPY f /a", "COPY --chown=1 f /a", '--chown changed: "" -> "1"'),
    ("COPY --chmod=600 f /a", "COPY --chmod=640 f /a", '--chmod changed: "600" -> "640"'),
    ("COPY f /a/", "COPY f g /a/", "COPY g is new"),
    ("COPY f g /a/", "COPY f /a/", "COPY g is gone"),
    ("COPY <<x /a\n1\nx", "COPY <<x /a\n2\nx", "COPY <<x changed"),
    ("TEST true", "TEST test 1", 'the command changed: "true" -> "test 1"'),
    ("TEST true", "USER app\nTEST true", "the config changed: User"),
    ("RUN true", "RUN true > /x\nRUN true", "gave another result, or the base is another one"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), LINES)
def test_a_miss_says_what_is_different(project: Project, before: str, after: str, expected: str) -> None:
    project.write("f", "1")
    project.write("g", "2")
    found = reason(project, f"FROM base\n{before}\n", f"FROM base\n{after}\n")
    assert found.endswith(expected), found


def test_a_script_says_its_first_different_line(project: Project) -> None:
    line = "RUN <<E\n#!/bin/sh\ntrue\necho {}\nE\n"
    found = reason(project, "FROM base\n" + line.format("a"), "FROM base\n" + line.format("b"))
    assert found == 'the command changed: "echo a" -> "echo b"'


def test_a_long_command_is_shown_from_where_it_differs(project: Project) -> None:
    common = "echo " + " ".join(f"word-{number}" for number in range(50))
    found = reason(project, f"FROM base\nRUN {common} old end\n", f"FROM base\nRUN {common} new end\n")
    assert found == 'the command changed: "…ord-48 word-49 old end" -> "…ord-48 word-49 new end"'


def test_the_files_that_changed_are_named(project: Project) -> None:
    text = "FROM base\nCOPY src/ /src/\n"
    for name in ("a", "b", "c", "d", "e"):
        project.write(f"src/{name}", name)
    project.build(text)
    project.write("src/a", "changed")
    assert project.build(text).reasons == ["COPY src/ changed: src/a"]
    os.unlink(project.path("src/b"))
    project.write("src/new", "x")
    os.chmod(project.path("src/c"), 0o600)
    assert project.build(text).reasons == ["COPY src/ changed: src/b (gone), src/c (mode), src/new (new)"]
    for name in ("c", "d", "e", "new"):
        project.write(f"src/{name}", "other " + name)
    assert project.build(text).reasons == ["COPY src/ changed: src/c, src/d, src/e and 1 more"]


def test_a_file_of_a_stage_that_changed_is_named(project: Project) -> None:
    stage = "FROM ../base/base.rec AS b\nRUN mkdir /o; echo {} > /o/x; echo y > /o/y\n"
    text = stage + "FROM base\nCOPY --from=b /o /o\n"
    assert reason(project, text.format("1"), text.format("2")) == "COPY /o changed: o/x"


def test_another_base_is_said_to_be_one(project: Project) -> None:
    other = os.path.join(os.path.dirname(project.context), "base", "other.rec")
    with open(other, "w") as file:
        file.write("FROM ./base.rec\nRUN echo other > /other\n")
    found = reason(project, "FROM base\nRUN true\n", "FROM ../base/other.rec\nRUN true\n")
    assert found.startswith("the state below it changed")


def test_the_first_build_of_a_line_says_so(project: Project) -> None:
    assert project.build("FROM base\nRUN true\n").reasons[-1] == "first build of this line"


def test_a_line_is_found_again_when_others_come_before_it(project: Project) -> None:
    text = "FROM base\nENV A=1\nRUN echo same\n"
    project.build(text)
    outcome = project.build("FROM base\nENV A=2\nRUN echo new\nRUN echo same\n")
    assert (
        outcome.reasons[-1].startswith("the state below")
        or 'variable A changed: "1" -> "2"' in outcome.reasons
    )


def test_without_cache_the_reason_is_that(project: Project) -> None:
    assert set(project.build("FROM base\nRUN true\n", "--no-cache").reasons) == {"--no-cache"}


def test_the_suite_of_a_test(project: Project) -> None:
    parts = (("state below", "x"), ("suite", "1"))
    key = StepKey("k", (("state below", "x"), ("suite", "2")))
    assert why("TEST", key, [parts], lambda _: None) == "the suite changed"


def test_a_result_that_was_lost() -> None:
    parts = (("state below", "x"), ("path", "/a"))
    found = why("WORKDIR", StepKey("k", parts), [parts], lambda _: None)
    assert found == "an earlier result is no longer in the store"


def test_files_that_nobody_remembers() -> None:
    old, new = (("source a", digest) for digest in ("1", "2"))
    assert why("COPY", StepKey("k", (new,)), [(old,)], lambda _: None) == "COPY a changed"


def test_of_several_earlier_builds_the_one_that_shares_most_counts() -> None:
    now = (("state below", "x"), ("command", '["a"]'), ("user", "u"), ("directory", "/"))
    far = (("state below", "y"), ("command", '["b"]'), ("user", "v"), ("directory", "/"))
    near = (("state below", "x"), ("command", '["a"]'), ("user", "v"), ("directory", "/"))
    assert why("RUN", StepKey("k", now), [far, near], lambda _: None) == 'user changed: "v" -> "u"'


def test_changed_files_of_a_single_file() -> None:
    assert changed_files((("a", "f644 1"),), (("a", "f644 2"),)) == "a"
    assert changed_files((("", "d"), ("x", "f644 1")), (("", "d"), ("x", "f600 1"))) == "x (mode)"
