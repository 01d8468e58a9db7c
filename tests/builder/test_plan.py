"""Planning, and that it is a pure function. Golden plans are in tests/golden."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuildError, PlanError
from builder.plan import near_stage, outline, plan
from builder.recipes import RecipeLoader
from builder.steps import CopyStep, ExecStep, Plan, WorkdirStep
from builder.steps import TestStep as CheckStep
from cache.oci.digest import ChainID
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, ImageConfig
from grammar.errors import RecipeError
from grammar.parser import parse
from grammar.source import Source
from tests.golden.test_golden import GOLDEN, RECIPES
from tests.golden_fixtures.keyed import key_of
from tests.golden_fixtures.planned import options
from tests.golden_fixtures.planned import planned as planned_recipe

if TYPE_CHECKING:
    from builder.steps import Base, Step
    from grammar.ast import Recipe

PARENT = ChainID("sha256:" + "12" * 32)


def recipe(text: str, name: str = "Dockerfile") -> Recipe:
    return parse(Source(name, text))


def refused(text: str, **given: object) -> PlanError | RecipeError:
    with pytest.raises((PlanError, RecipeError)) as caught:
        planned(text, **given)
    assert isinstance(caught.value, PlanError | RecipeError)
    return caught.value


def planned(text: str, **given: object) -> Plan:
    return planned_recipe(recipe(text), **given)


def steps(text: str, **given: object) -> list[Step]:
    """The steps of the target."""
    return list(planned(text, **given).stages[-1].steps)


def config(text: str, **given: object) -> ContainerConfig:
    return planned(text, **given).stages[-1].config


def history(text: str, **given: object) -> list[str]:
    return [step.created_by for step in steps(text, **given) if not isinstance(step, CheckStep)]


def linked(name: str) -> Recipe:
    """A golden recipe, with its fragments."""
    return RecipeLoader(None).load(os.path.join(GOLDEN, name))


def attempt(recipe: Recipe) -> Plan | str:
    """Its plan, or the code of the error."""
    try:
        return planned_recipe(recipe)
    except (BuildError, RecipeError) as error:
        return error.code


def test_planning_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk, no network, no clock, no environment, no process."""
    names = [name for name in RECIPES if not name.startswith(("error-", "refused-"))]
    parsed = [linked(name) for name in names]

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("planning is pure")

    class Refusing(dict[str, str]):
        __getitem__ = get = __contains__ = refuse  # type: ignore[assignment]

    expected = [attempt(each) for each in parsed]
    for module, names in {
        os: ("open", "stat", "lstat", "listdir", "scandir", "readlink", "getcwd"),
        builtins: ("open",),
        time: ("time", "time_ns", "monotonic"),
        socket: ("socket", "getaddrinfo"),
        subprocess: ("Popen",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(os, "environ", Refusing())
    plans = [attempt(each) for each in parsed]
    monkeypatch.undo()
    assert plans == expected
    assert sum(isinstance(each, Plan) for each in plans) > 60


def test_a_plan_is_the_same_each_time() -> None:
    recipe = linked("plan-stages.Dockerfile")
    assert planned_recipe(recipe) == planned_recipe(recipe)


# Stages


def needed(text: str, **given: object) -> list[str]:
    return [outlined.name for outlined in outline(recipe(text), options(**given)).stages]


STAGES = """\
FROM a AS One
FROM b AS two
COPY --from=ONE /x /x
FROM c
FROM two
COPY --from=2 /y /y
"""


def test_only_what_the_target_needs_is_planned_and_first_what_is_needed() -> None:
    assert needed(STAGES) == ["one", "two", "stage-2", "stage-3"]
    assert needed(STAGES, target="two") == ["one", "two"]
    assert needed(STAGES, target="TWO") == ["one", "two"]
    assert needed(STAGES, target="2") == ["stage-2"]
    assert needed("FROM a AS x\nFROM b\nFROM x\n") == ["x", "stage-2"]


def test_of_two_stages_of_a_name_the_later_one_counts() -> None:
    text = "FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x /f /f\n"
    outlined = outline(recipe(text), options())
    assert [each.stage.index for each in outlined.stages] == [1, 2]
    assert [each.stage.index for each in outline(recipe(text), options(target="x")).stages] == [1]


def test_a_stage_stands_on_an_earlier_stage_only() -> None:
    """FROM knows no numbers, and a name that comes later is an image's."""
    bases = [base.reference for base in outline(recipe("FROM b\nFROM c AS b\nFROM 0\n"), options()).bases]  # type: ignore[union-attr]
    assert bases == ["0"]
    assert [b.reference for b in outline(recipe("FROM b\nFROM c AS b\n"), options(target="0")).bases] == ["b"]  # type: ignore[union-attr]


def test_an_image_that_is_not_there_may_be_a_misspelt_stage() -> None:
    parsed = recipe("FROM a AS build\nFROM a AS test\n")
    assert near_stage(parsed, "biuld") == "Did you mean build?"
    assert near_stage(parsed, "debian") is None
    assert near_stage(parsed, "biuld:12") is None


def test_thousands_of_stages_are_planned() -> None:
    lines = ["FROM scratch AS s0"] + [f"FROM s{n} AS s{n + 1}" for n in range(3000)]
    assert len(planned("\n".join(lines)).stages) == 3001


@pytest.mark.parametrize(
    ("text", "target", "code", "says"),
    [
        (STAGES, "tvo", "stage/unknown", "Did you mean two?"),
        (STAGES, "9", "stage/unknown", "one, two, stage-2, stage-3"),
        ("ARG A=a\nFROM x AS a\nCOPY --from=b / /\nFROM $A AS b\n", None, "stage/cycle", "b -> a -> b"),
        ("FROM a\nCOPY --from=0 / /\n", None, "recipe/cycle", "stage 0"),
        ("FROM a\nCOPY --from=7 / /\n", None, "recipe/unknown-stage", "one stage"),
        ("FROM $NOTHING\n", None, "from/empty", "ARG"),
        ("FROM --platform=what/is/this/now a\n", None, "from/platform", "what/is/this/now"),
    ],
)
def test_stages_that_cannot_be(text: str, target: str | None, code: str, says: str) -> None:
    error = refused(text, target=target)
    assert error.code == code
    assert says in f"{error.message} {error.hint}"
    assert target is not None or error.span is not None


def test_the_platform_of_from_is_the_base_s() -> None:
    text = "FROM --platform=$BUILDPLATFORM a AS x\nFROM --platform=linux/arm64 b\nCOPY --from=x / /\n"
    bases = outline(recipe(text), options(platform=Platform("linux", "s390x"))).bases
    assert [str(base.platform) for base in bases] == ["linux/amd64", "linux/arm64"]  # type: ignore[union-attr]


# Variables (LANGUAGE 3, 5, 6, 7)


def environment(text: str, **given: object) -> dict[str, str]:
    """The environment of the last RUN of the target, PATH aside."""
    runs = [step for step in steps(text, **given) if isinstance(step, ExecStep)]
    return {name: value for name, value in runs[-1].env if name not in ("PATH", "INHERITED")}


def test_a_line_of_env_sees_what_was_before_it() -> None:
    assert environment("FROM a\nENV a=1\nENV a=2 b=$a\nRUN x\n") == {"a": "2", "b": "1"}


def test_a_global_argument_is_seen_in_a_stage_that_declares_it() -> None:
    assert environment("ARG A=1\nFROM a\nRUN x\n") == {}
    assert environment("ARG A=1\nFROM a\nARG A\nRUN x\n") == {"A": "1"}
    assert environment("ARG A=1\nFROM a\nARG A=2\nRUN x\n") == {"A": "2"}
    assert environment("FROM a\nRUN x\n", arguments=(("A", "3"),)) == {}
    assert environment("ARG A=1\nFROM a\nARG A\nRUN x\n", arguments=(("A", "3"),)) == {"A": "3"}
    assert environment("FROM a\nARG A=2\nRUN x\n", arguments=(("A", ""),)) == {"A": ""}
    assert environment("FROM a\nARG A\nRUN x\n") == {}


def test_platform_arguments_need_a_declaration_in_the_stage() -> None:
    assert environment("FROM a\nRUN x\n") == {}
    text = "FROM a\nARG TARGETARCH BUILDOS\nRUN x\n"
    assert environment(text) == {"TARGETARCH": "amd64", "BUILDOS": "linux"}
    assert environment(text, arguments=(("TARGETARCH", "mine"),))["TARGETARCH"] == "mine"


def test_arguments_expand_names_and_values_one_after_the_other() -> None:
    assert environment("FROM a\nARG A=1 B=$A\nARG C_$B=x\nRUN x\n") == {"A": "1", "B": "1", "C_1": "x"}


def test_env_beats_an_earlier_argument_and_a_later_one_beats_env() -> None:
    assert environment("FROM a\nARG A=arg\nENV A=env\nRUN x\n") == {"A": "env"}
    text = "FROM a\nENV A=env\nARG A\nRUN x\n"
    assert environment(text) == {"A": "env"}
    assert environment(text, arguments=(("A", "given"),)) == {"A": "given"}


def test_a_child_stage_inherits_what_its_parent_has() -> None:
    text = """\
FROM a AS parent
ARG A=arg
ENV E=env
SHELL ["/bin/bash", "-c"]
USER app
WORKDIR /work
LABEL l=1
FROM parent
RUN x $A
"""
    run = steps(text)[-1]
    assert isinstance(run, ExecStep)
    assert run.argv == ("/bin/bash", "-c", "x $A")
    assert (run.user, run.workdir) == ("app", "/work")
    assert environment(text) == {"A": "arg", "E": "env"}
    assert config(text).labels == (("l", "1"), ("of", "the base"))


def test_what_is_set_in_a_child_stays_there() -> None:
    text = "FROM a AS p\nARG A=1\nFROM p AS c\nARG A=2\nENV B=1\nFROM p\nRUN x\n"
    assert environment(text) == {"A": "1"}


def test_an_undeclared_build_argument_is_warned_of_and_a_proxy_is_not() -> None:
    found = planned("FROM a\nARG A\n", arguments=(("A", "1"), ("B", "2"), ("http_proxy", "p"))).warnings
    assert [(code, message) for code, message, _ in found] == [
        ("arg/unused", "--build-arg B: no ARG of the recipe declares it")
    ]


def test_proxies_reach_commands_and_neither_key_nor_history() -> None:
    plain = steps("FROM a\nRUN x\n")[0]
    proxied = steps("FROM a\nRUN x\n", arguments=(("HTTPS_PROXY", "http://secret"),))[0]
    assert isinstance(proxied, ExecStep)
    assert proxied.proxies == (("HTTPS_PROXY", "http://secret"),)
    assert key_of(plain, PARENT, "linux/amd64") == key_of(proxied, PARENT, "linux/amd64")
    assert "secret" not in proxied.created_by


# Config and history (LANGUAGE 10, 11, 20, 21)


def test_history_shows_what_docker_shows() -> None:
    text = """\
FROM a
ARG A=1 B
ENV E="x y"
RUN echo $A
RUN ["echo", "b"]
COPY --chown=1 --chmod=640 f g/ /dest/
WORKDIR sub
USER app
EXPOSE 80 90/TCP
VOLUME /v
CMD ["a", "b c"]
ENTRYPOINT exec x
STOPSIGNAL SIGINT
"""
    assert history(text, arguments=(("B", "given"),)) == [
        "ARG A=1 B=given",
        "ENV E=x y",
        "RUN |2 A=1 B=given /bin/sh -c echo $A # pybuild",
        "RUN |2 A=1 B=given echo b # pybuild",
        "COPY --chown=1 --chmod=640 f g/ /dest/ # pybuild",
        "WORKDIR /inherited/sub",
        "USER app",
        "EXPOSE 80/tcp 90/tcp",
        "VOLUME [/v]",
        'CMD ["a", "b c"]',
        'ENTRYPOINT ["/bin/sh", "-c", "exec x"]',
        "STOPSIGNAL SIGINT",
    ]


def test_cmd_and_entrypoint() -> None:
    assert config("FROM a\n").cmd == ("/bin/inherited",)
    assert config('FROM a\nENTRYPOINT ["/e"]\n').cmd is None
    assert config('FROM a\nCMD ["c"]\nENTRYPOINT ["/e"]\n').cmd == ("c",)
    assert config('FROM a\nCMD ["c"]\nFROM a AS x\nCMD ["c"]\nFROM x\nENTRYPOINT ["/e"]\n').cmd is None
    assert not config("FROM a\nCMD []\n").cmd
    assert config('FROM a\nENTRYPOINT ["/e"]\nENTRYPOINT []\n').entrypoint in (None, ())
    assert config("FROM a\nENV V=1\nCMD echo $V\n").cmd == ("/bin/sh", "-c", "echo $V")


def test_a_base_without_a_path_gets_the_default_one() -> None:
    outlined = outline(recipe("FROM a\nRUN x\n"), options())
    odd = ImageConfig("amd64", "linux", config=ContainerConfig(env=("ODD", "A=b")))
    bare: dict[Base, ImageConfig] = dict.fromkeys(outlined.bases, odd)
    stage = plan(outlined, options(), bare).stages[-1]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert stage.config.env == ("ODD", "A=b", path)
    run = stage.steps[0]
    assert isinstance(run, ExecStep)
    assert dict(run.env)["ODD"] == ""


def test_ports() -> None:
    ports = config("FROM a\nARG P=8000-8001\nEXPOSE 80/TCP $P/udp\n").exposed_ports
    assert ports == ("80/tcp", "8000/udp", "8001/udp")


def test_labels_of_the_command_line_are_the_target_s() -> None:
    found = planned("FROM a AS x\nFROM x\nLABEL a=1\n", labels=(("a", "2"), ("b", "3")))
    assert dict(found.stages[-1].config.labels) == {"a": "2", "b": "3", "of": "the base"}
    assert dict(found.stages[0].config.labels) == {"of": "the base"}


@pytest.mark.parametrize(
    ("line", "dest", "into"),
    [
        ("COPY a .", "/inherited", True),
        ("COPY a ./", "/inherited", True),
        ('COPY a ""', "/inherited", True),
        ("COPY a ..", "/", True),
        ("COPY a b", "/inherited/b", False),
        ("COPY a b/", "/inherited/b", True),
        ("COPY a b/.", "/inherited/b", True),
        ("COPY a //x//y", "/x/y", False),
        ("COPY a /../../x", "/x", False),
        ("COPY a /", "/", True),
    ],
)
def test_destinations(line: str, dest: str, into: bool) -> None:
    step = steps(f"FROM a\n{line}\n")[0]
    assert isinstance(step, CopyStep)
    assert (step.dest, step.into_directory) == (dest, into)


def test_workdir_is_absolute_and_clean() -> None:
    text = "FROM a\nWORKDIR b/../c/\nWORKDIR ./d\nWORKDIR //e\n"
    assert [step.path for step in steps(text) if isinstance(step, WorkdirStep)] == [
        "/inherited/c",
        "/inherited/c/d",
        "/e",
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("ARG V=\nWORKDIR $V", "workdir/empty"),
        ("ARG V=nothing\nSTOPSIGNAL SIG$V", "recipe/signal"),
        ("ARG V=http\nEXPOSE $V", "recipe/port"),
        ("ARG V=\nENV $V=1", "env/name"),
        ("ARG V=\nARG $V=1", "arg/name"),
        ("ARG V=\nVOLUME $V", "volume/empty"),
        ("COPY --chmod=banana a b", "copy/chmod"),
        ("ARG V=b\nCOPY a a $V", "copy/several"),
        ("COPY <<../../etc/x /dest/\nx\n../../etc/x", "copy/document"),
        ("COPY <<a/b /dest/\nx\na/b", "copy/document"),
        ("COPY <<.. /dest/\nx\n..", "copy/document"),
        ("RUN --security=insecure x", "run/insecure"),
    ],
)
def test_lines_that_cannot_be(line: str, code: str) -> None:
    error = refused(f"FROM a\n{line}\n")
    assert error.code == code
    assert error.span is not None
