"""INCLUDE in builds: fragments are spliced in, with ARGs of their own, and what goes wrong in one is told
there.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from builder.cli import run
from builder.errors import BuildError, PlanError, StepFailed
from builder.events import StepStarted
from builder.excerpts import failure as failed
from builder.excerpts import render_error
from grammar.errors import RecipeError
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import Pybuild


def failure(project: Project, text: str, *options: str) -> Any:
    with pytest.raises((BuildError, RecipeError)) as caught:
        project.build(text, *options)
    return caught.value


def labels(project: Project, text: str, *options: str) -> dict[str, str]:
    return dict(project.build(text, *options).config.labels)


def test_a_fragment_acts_on_the_stage_and_reads_its_context(project: Project) -> None:
    project.write("data", "of the app\n")
    project.write("lib/part.rec", "WORKDIR /in\nCOPY data .\nENV A=1\nRUN pwd > where; cat data >> where\n")
    outcome = project.build("FROM base\nINCLUDE lib/part.rec\nRUN echo $A $PWD > after\nUSER app\n")
    assert project.read(outcome, "in/where") == b"/in\nof the app\n"
    assert project.read(outcome, "in/after") == b"1 /in\n"
    assert outcome.config.user == "app"


def test_a_fragment_may_lie_outside_of_the_context(project: Project) -> None:
    with open(os.path.join(project.directory, "shared.rec"), "w") as file:
        file.write("LABEL shared=yes\n")
    assert labels(project, "FROM base\nINCLUDE ../shared.rec\n") == {"shared": "yes"}


def test_arguments_are_the_fragments_own(project: Project) -> None:
    project.write(
        "part.rec",
        "ARG GIVEN=default DEFAULTED=default UNSET\n"
        'LABEL given="$GIVEN" defaulted="$DEFAULTED" unset="$UNSET" outer="$OUTER" env="$ENVIRONMENT"\n',
    )
    found = labels(
        project,
        "FROM base\nARG OUTER=outer UNSET=outer\nENV ENVIRONMENT=env\n"
        'INCLUDE part.rec GIVEN="$OUTER, quoted"\n'
        'LABEL after="$GIVEN$DEFAULTED" kept="$OUTER"\n',
    )
    assert found == {
        "given": "outer, quoted",
        "defaulted": "default",
        "unset": "",
        "outer": "",
        "env": "env",
        "after": "",
        "kept": "outer",
    }


def test_what_include_gives_wins_over_the_command_line_which_wins_over_the_default(project: Project) -> None:
    project.write("part.rec", 'ARG A=default B=default\nLABEL a="$A" b="$B"\n')
    text = "ARG C=global\nFROM base\nINCLUDE part.rec A=given\nINCLUDE more.rec\n"
    project.write("more.rec", "ARG C\nARG TARGETOS\nLABEL c=$C os=$TARGETOS\n")
    outcome = project.build(text, "--build-arg", "A=command", "--build-arg", "B=command")
    assert dict(outcome.config.labels) == {"a": "given", "b": "command", "c": "global", "os": "linux"}
    assert "arg/unused" not in outcome.notices


def test_an_empty_value_is_one(project: Project) -> None:
    project.write("part.rec", 'ARG A=default\nLABEL a="[$A]"\n')
    assert labels(project, "FROM base\nINCLUDE part.rec A=\n") == {"a": "[]"}


def test_env_of_a_fragment_stays_and_hides_an_arg_of_the_same_name(project: Project) -> None:
    project.write("part.rec", "ARG X=inner\nENV X=env-$X\n")
    project.write("outer.rec", "ARG X=between\nINCLUDE part.rec\nLABEL between=$X\n")
    found = labels(project, "FROM base\nARG X=outer\nINCLUDE outer.rec\nLABEL after=$X\n")
    assert found == {"between": "env-inner", "after": "env-inner"}


def test_run_sees_the_arguments_of_its_fragment_only(project: Project) -> None:
    project.write("part.rec", "ARG INNER=i\nRUN echo ${INNER-no} ${OUTER-no} > /inside\n")
    outcome = project.build(
        "FROM base\nARG OUTER=o\nINCLUDE part.rec\nRUN echo ${INNER-no} ${OUTER-no} > /outside\n"
    )
    assert project.read(outcome, "inside") == b"i no\n"
    assert project.read(outcome, "outside") == b"no o\n"
    history = [entry.created_by for entry in outcome.image.history]
    assert any(line.startswith("RUN |1 INNER=i ") for line in history)
    assert any(line.startswith("RUN |1 OUTER=o ") for line in history)


def test_a_fragment_copies_from_stages_and_leaves_triggers(project: Project) -> None:
    project.write("part.rec", "COPY --from=made /made /taken\nONBUILD LABEL triggered=yes\n")
    text = (
        "FROM ../base/base.rec AS made\nRUN echo x > /made\nFROM made AS never\nRUN false\n"
        "FROM ../base/base.rec AS below\nRUN touch /made; rm /made\nINCLUDE part.rec\nFROM below\n"
    )
    outcome = project.build(text)
    assert project.read(outcome, "taken") == b"x\n"
    assert dict(outcome.config.labels) == {"triggered": "yes"}


def test_a_fragment_has_an_escape_character_and_documents_of_its_own(project: Project) -> None:
    project.write(
        "part.rec", "# escape=`\nRUN echo a > /x && `\n echo b >> /x\nRUN <<E\necho 'c\\' >> /x\nE\n"
    )
    outcome = project.build("FROM base\nINCLUDE part.rec\nLABEL a=1 \\\n b=2\n")
    assert project.read(outcome, "x") == b"a\nb\nc\\\n"
    assert dict(outcome.config.labels) == {"a": "1", "b": "2"}


def test_a_suite_in_a_fragment_lies_beside_the_fragment(project: Project) -> None:
    project.write("lib/part.rec", "TEST --testinfra=tests/test_it.py\n")
    suite = project.write(
        "lib/tests/test_it.py", "def test_it(host):\n    assert host.file('/bin/sh').exists\n"
    )
    text = "FROM base\nINCLUDE lib/part.rec\n"
    assert project.build(text).outcomes == ["passed"]
    assert project.build(text).outcomes == ["cached"]
    with open(suite, "w") as file:
        file.write("def test_it(host):\n    assert False\n")
    assert failure(project, text).code == "test/failed"


def test_steps_show_the_fragments_own_lines(project: Project) -> None:
    project.write("lib/part.rec", "\n\nRUN true\n")
    outcome = project.build("FROM base\nINCLUDE lib/part.rec\nRUN echo 2 > /x\n")
    own = [e for e in outcome.events if isinstance(e, StepStarted) and "base.rec" not in e.file]
    assert [(os.path.basename(e.file), e.line, e.text) for e in own] == [
        ("part.rec", 3, "RUN true"),
        ("app.rec", 3, "RUN echo 2 > /x"),
    ]


@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        ("RUN exit 3", StepFailed, "step/failed"),
        ("COPY nothing /", PlanError, "copy/missing"),
        ("COPY --from=9 / /", PlanError, "stage/unknown"),
        ("WORKDIR $NONE", PlanError, "workdir/empty"),
        ("LABEL a=${NONE:?wanted}", RecipeError, "recipe/expansion"),
        ("TEST false", StepFailed, "test/failed"),
        ("TEST --testinfra=nothing.py", PlanError, "test/missing"),
        ("RUNN x", RecipeError, "recipe/unknown-instruction"),
        ("EXPOSE x", RecipeError, "recipe/port"),
    ],
)
def test_an_error_shows_the_fragments_line_and_who_included_it(
    project: Project, line: str, kind: type[Exception], code: str
) -> None:
    project.write("lib/outer.rec", "LABEL x=1\nINCLUDE inner.rec\n")
    inner = project.write("lib/inner.rec", f"# A fragment.\n{line}\n")
    error = failure(project, "FROM base\n\nINCLUDE lib/outer.rec\n")
    assert isinstance(error, kind)
    assert error.code == code  # type: ignore[attr-defined]
    told = render_error(error).replace(project.context + "/", "")
    assert "  at lib/inner.rec:2:" in told
    assert f"    2 | {line}" in told
    assert "  included from lib/outer.rec:2\n  included from app.rec:3" in told
    assert inner in render_error(error)
    included_from = [each.replace(project.context + "/", "") for each in failed(error).included_from]
    assert included_from == ["lib/outer.rec:2", "app.rec:3"]


def test_a_missing_fragment_is_an_error_that_proposes_what_lies_beside_it(project: Project) -> None:
    project.write("lib/users.rec", "")
    error = failure(project, "FROM base\nINCLUDE lib/user.rec\n")
    assert (error.code, error.hint) == ("include/missing", "Did you mean users.rec?")
    assert (error.span.line, error.span.column) == (2, 9)
    error = failure(project, "FROM base\nINCLUDE nowhere/x.rec\n")
    assert error.code == "include/missing"
    error = failure(project, "FROM base\nINCLUDE lib\n")
    assert (error.code, error.span.line) == ("recipe/unreadable", 2)


def test_a_circle_over_a_symbolic_link_is_one(project: Project) -> None:
    project.write("a.rec", "INCLUDE b.rec\n")
    os.symlink("a.rec", project.path("b.rec"))
    assert failure(project, "FROM base\nINCLUDE a.rec\n").code == "include/cycle"


def test_a_fragment_is_remembered_and_a_changed_one_is_read_again(project: Project) -> None:
    text = "FROM base\nINCLUDE part.rec\n"
    project.write("part.rec", "RUN echo 1 > /x\n")
    assert project.build(text).outcomes == ["ran"]
    assert project.build(text).outcomes == ["cached"]
    project.write("part.rec", "RUN echo 2 > /x\n")
    outcome = project.build(text)
    assert outcome.outcomes == ["ran"]
    assert project.read(outcome, "x") == b"2\n"


def test_a_recipe_base_brings_its_own_fragments(project: Project) -> None:
    project.write("lib/middle.rec", "FROM ../../base/base.rec\nARG A=middle\nINCLUDE part.rec A=$A\n")
    project.write("lib/part.rec", "ARG A\nLABEL part=$A\n")
    project.write("part.rec", "LABEL wrong=1\n")
    assert labels(project, "FROM ./lib/middle.rec\n", "--build-arg", "A=command") == {"part": "middle"}


def test_the_direct_way_notices_a_changed_fragment(pybuild: Pybuild) -> None:
    pybuild.write("app.rec", "FROM box\nINCLUDE lib/a.rec\n")
    pybuild.write("lib/a.rec", "INCLUDE b.rec\n")
    pybuild.write("lib/b.rec", "RUN echo 1 > /x\n")
    argv = ("build", "app.rec", "-t", "app")
    images = [pybuild.try_(*argv).out.strip() for _ in range(3)]
    assert len(set(images)) == 1
    pybuild.write("lib/b.rec", "RUN echo 2 > /x\n")
    again = pybuild.try_(*argv).out.strip()
    assert again != images[0]
    os.unlink(os.path.join(pybuild.cwd, "lib/b.rec"))
    assert pybuild.try_(*argv).code == 2


def test_plan_shows_what_is_included(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("lib/part.rec", "RUN echo 1 > /x\nTEST true\n")
    project.build("FROM base\nINCLUDE lib/part.rec\n")
    capsys.readouterr()
    assert run(["plan", project.path("app.rec"), "--root", project.store_root, "--format=json"]) == 0
    out = capsys.readouterr().out
    assert "RUN echo 1 > /x" in out
    assert "lib/part.rec" in out
    assert '"runs"' not in out


def test_check_looks_at_what_is_included(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("lib/part.rec", "ARG A\nENV KNOWN=1\nRUN sudo $A\nINCLUDE app.rec\n")
    project.recipe("FROM scratch\nINCLUDE lib/part.rec B=1\nINCLUDE lib/part.rec\nINCLUDE gone.rec\n")
    assert run(["check", project.path("app.rec")]) == 1
    out = capsys.readouterr().out.replace(project.context + "/", "")
    codes = [line.rpartition(" [")[2].rstrip("]") for line in out.split("\n") if ": error: " in line]
    assert sorted(codes) == ["include/argument", "include/missing", "include/missing"]
    assert out.count("lib/part.rec:3:5: warning: sudo in RUN [SudoUsed]") == 1
    assert "lib/part.rec:4:9: error: INCLUDE: there is no lib/app.rec" in out


def test_check_knows_the_variables_that_a_fragment_sets(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("part.rec", "ARG INNER\nENV KNOWN=$INNER\n")
    project.recipe("FROM scratch\nINCLUDE part.rec INNER=1\nLABEL a=$KNOWN b=$INNER\n")
    assert run(["check", project.path("app.rec")]) == 1
    out = capsys.readouterr().out
    assert "$INNER is not set here" in out
    assert "KNOWN is" not in out


def test_check_knows_what_a_fragment_does_to_the_stage(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("user.rec", 'WORKDIR /app\nCMD ["x"]\nUSER app\n')
    project.recipe('FROM ./base.rec\nUSER root\nINCLUDE user.rec\nWORKDIR src\nCMD ["y"]\n')
    assert run(["check", "--fail-level=info", project.path("app.rec")]) == 0, capsys.readouterr().out
    project.recipe('FROM ./base.rec\nCMD ["y"]\nINCLUDE user.rec\nUSER root\n')
    assert run(["check", project.path("app.rec")]) == 1
    out = capsys.readouterr().out
    assert "this CMD has no effect: line 3 has another one" in out
    assert "[RunsAsRoot]" in out


def test_a_fragment_alone_is_checked_and_formatted(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.write("part.rec", "run   sudo x\n")
    assert run(["check", path]) == 1
    assert "SudoUsed" in capsys.readouterr().out
    assert run(["fmt", path]) == 0
    with open(path) as file:
        assert file.read() == "RUN sudo x\n"
