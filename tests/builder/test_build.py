"""Recipes that are built for real: what ends up in the image, its config and its history."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from builder.errors import BuildError, PlanError, StepFailed
from builder.version import VERSION
from cache.oci.spec import ImageConfig
from tests.build_fixtures.project import REPOSITORY, Project

FULL = """\
FROM base
ARG WHO=world
ENV GREETING="hello $WHO"
USER app
WORKDIR work
COPY --chown=app f ./
RUN echo $GREETING > made; pwd > /tmp/where; id -u >> /tmp/where
LABEL one=1
EXPOSE 80
VOLUME /work
CMD ["cat", "made"]
HEALTHCHECK --interval=5s CMD test -e made
STOPSIGNAL SIGINT
"""


def test_an_image(project: Project) -> None:
    project.write("f", "f")
    outcome = project.build(FULL, "-t", "app:1", "-t", "registry.example/app", "--label", "two=2")
    found = project.files(outcome, "work")
    assert {path: (status.st_uid, status.st_gid) for path, status in found.items()} == {
        "work": (1000, 1001),
        "work/f": (1000, 1001),
        "work/made": (1000, 1001),
    }
    assert project.read(outcome, "tmp/where") == b"/work\n1000\n"
    assert project.read(outcome, "work/made") == b"hello world\n"
    config = outcome.config
    assert dict(pair.split("=", 1) for pair in config.env) == {"PATH": "/bin", "GREETING": "hello world"}
    assert (config.user, config.working_dir, config.cmd) == ("app", "/work", ("cat", "made"))
    assert (config.labels, config.exposed_ports) == ((("one", "1"), ("two", "2")), ("80/tcp",))
    assert (config.volumes, config.stop_signal) == (("/work",), "SIGINT")
    assert config.healthcheck is not None
    assert config.healthcheck.test == ("CMD-SHELL", "test -e made")
    assert config.healthcheck.interval == 5_000_000_000
    assert outcome.built.names == ("app:1", "registry.example/app:latest")


def test_history_has_an_entry_for_each_line_and_a_layer_for_those_that_make_one(project: Project) -> None:
    project.write("f", "f")
    image = project.build(FULL + "RUN true\nRUN true\nWORKDIR /work\nTEST true\n").image
    shown = [(entry.created_by, not entry.empty_layer) for entry in image.history]
    assert shown == [
        ("COPY root/ / # pybuild", True),
        ("ENV PATH=/bin", False),
        ("ARG WHO=world", False),
        ("ENV GREETING=hello world", False),
        ("USER app", False),
        ("WORKDIR /work", True),
        ("COPY --chown=app f ./ # pybuild", True),
        (
            "RUN |1 WHO=world /bin/sh -c "
            "echo $GREETING > made; pwd > /tmp/where; id -u >> /tmp/where # pybuild",
            True,
        ),
        ("LABEL one=1", False),
        ("EXPOSE 80/tcp", False),
        ("VOLUME [/work]", False),
        ('CMD ["cat", "made"]', False),
        ('HEALTHCHECK ["CMD-SHELL", "test -e made"]', False),
        ("STOPSIGNAL SIGINT", False),
        ("RUN |1 WHO=world /bin/sh -c true # pybuild", True),
        ("RUN |1 WHO=world /bin/sh -c true # pybuild", True),
        ("WORKDIR /work", True),
    ]
    assert sum(layer for _, layer in shown) == len(image.diff_ids)
    assert image.diff_ids[-1] == image.diff_ids[-2] == image.diff_ids[-3]
    assert ImageConfig.from_json(image.to_json()) == image


def test_nothing_of_the_sandbox_is_in_a_layer(project: Project) -> None:
    """Neither mount points nor what a command writes to the mounted /etc/hosts."""
    outcome = project.build(
        "FROM base\nRUN echo 1.2.3.4 x >> /etc/hosts; echo y > /etc/resolv.conf; mkdir /new\n"
    )
    assert project.layer(outcome) == ["new"]


def test_a_volume_keeps_what_is_written_below_it(project: Project) -> None:
    outcome = project.build("FROM base\nVOLUME /data\nRUN mkdir /data; echo x > /data/x\n")
    assert project.layer(outcome) == ["data", "data/x"]


def test_a_script_picks_its_interpreter_and_does_not_stop_at_an_error(project: Project) -> None:
    text = "FROM base\nRUN <<END\n#!/bin/cat\ntold\nEND\nRUN <<END\nfalse\necho on\nEND\n"
    text += "RUN cat <<END\nin\nEND\n"
    outcome = project.build(text)
    assert outcome.output == "#!/bin/cat\ntold\non\nin\n"
    assert project.layer(outcome) == []


def test_what_a_command_leaves_running_is_dead_before_the_commit(project: Project) -> None:
    outcome = project.build("FROM base\nRUN (sleep 1; echo late > /late) & echo now > /now\n")
    assert project.layer(outcome) == ["now"]


def test_a_command_without_network_has_none(project: Project) -> None:
    told = project.build("FROM base\nRUN --network=none ls /sys/class/net > /seen\n")
    assert project.read(told, "seen") == b"lo\n"


def test_a_recipe_stands_on_a_stage_of_another(project: Project) -> None:
    project.write(
        "lib/lib.rec", "FROM ../../base/base.rec AS one\nRUN echo 1 > /one\nFROM one\nRUN echo 2 > /two\n"
    )
    one = project.build("FROM lib/lib.rec#one\nRUN true\n")
    assert "one" in project.files(one)
    assert "two" not in project.files(one)
    assert "two" in project.files(project.build("FROM ./lib/lib.rec\nRUN true\n"))
    with pytest.raises(PlanError) as caught:
        project.build("FROM lib/lib.rec#three\n")
    assert caught.value.code == "stage/unknown"


def test_a_base_does_not_know_what_stands_on_it(project: Project) -> None:
    """Arguments, labels and target of a recipe are not its base's, so that all share one base."""
    project.write("lib.rec", "FROM ../base/base.rec AS x\nARG A=default\nRUN echo $A > /a\nFROM x\n")
    text = "FROM lib.rec AS x\nARG A\nRUN echo $A > /b\n"
    outcome = project.build(text, "--build-arg", "A=given", "--label", "l=1", "--target", "x")
    assert (project.read(outcome, "a"), project.read(outcome, "b")) == (b"default\n", b"given\n")
    again = project.build("FROM lib.rec AS y\nRUN true\n")
    assert again.steps["RUN echo $A > /a"].outcome == "cached"


def test_a_recipe_that_is_used_twice_is_built_once(project: Project) -> None:
    text = "FROM ../base/base.rec AS x\nFROM base\nCOPY --from=x /bin/sh /copy\n"
    text += "COPY --from=../base/base.rec /bin/sh /other\n"
    outcome = project.build(text)
    assert [step for step in outcome.steps if step == "COPY root/ /"] == ["COPY root/ /"]
    assert {"copy", "other"} <= project.files(outcome).keys()


def test_recipes_that_stand_on_each_other(project: Project) -> None:
    project.write("a.rec", "FROM ./b.rec\n")
    project.write("b.rec", "FROM ./sub/../c.rec\n")
    project.write("c.rec", "FROM a.rec\n")
    with pytest.raises(PlanError) as caught:
        project.build("FROM a.rec\n")
    assert caught.value.code == "recipe/cycle"
    assert "a.rec -> b.rec -> c.rec -> a.rec" in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.file.endswith("c.rec")


def test_triggers_run_in_the_direct_child_only(project: Project) -> None:
    """Right after its FROM, with its context; neither in the image that has them nor in the child's child."""
    project.write("f", "child's")
    project.write("lib/f", "parent's")
    project.write(
        "lib/lib.rec",
        """\
FROM ../../base/base.rec
ONBUILD COPY f /f
ONBUILD RUN <<END
cat /f > /made
END
ONBUILD ENV A=1
ONBUILD USER app
""",
    )
    parent = project.build("FROM ./lib/lib.rec AS x\nRUN id -u > /home/app/who || true\n")
    found = project.files(parent)
    assert {"f", "made"} <= found.keys()
    assert project.read(parent, "made") == b"child's"
    assert (parent.config.user, parent.config.on_build) == ("app", ())
    assert "A=1" in parent.config.env
    shown = [entry.created_by for entry in parent.image.history]
    assert shown[2:4] == ["COPY f /f # pybuild", "RUN /bin/sh -c cat /f > /made\n # pybuild"]
    text = "FROM ./lib/lib.rec AS x\nFROM x\nRUN test $(cat /made) = child\\'s\n"
    child = project.build(text)
    assert len(child.image.diff_ids) == len(parent.image.diff_ids)
    assert project.build(text).outcomes == ["cached"] * 3


def test_a_stage_s_triggers_run_in_the_stage_upon_it(project: Project) -> None:
    text = "FROM ../base/base.rec AS x\nONBUILD RUN echo > /triggered\nFROM x AS y\nFROM y\nRUN true\n"
    assert project.build(text).outcomes == ["ran", "ran"]
    alone = project.build(text, "--target", "x")
    assert alone.config.on_build == ("RUN echo > /triggered",)
    assert "triggered" not in project.files(alone)


def test_a_trigger_that_copies_from_a_stage(project: Project) -> None:
    project.write("lib.rec", "FROM ../base/base.rec\nONBUILD COPY --from=tools /tool /tool\n")
    text = (
        "FROM ../base/base.rec AS tools\nRUN echo > /tool\nFROM ./lib.rec\nCOPY --from=tools /tool /again\n"
    )
    assert {"tool", "again"} <= project.files(project.build(text)).keys()
    alone = project.build("FROM ../base/base.rec AS tools\nRUN echo > /tool\nFROM ./lib.rec\n")
    assert "tool" in project.files(alone)


def test_a_trigger_that_copies_from_an_image_that_nothing_else_names(project: Project) -> None:
    project.write("other.rec", "FROM ../base/base.rec\nRUN echo > /theirs\n")
    project.write("lib.rec", "FROM ../base/base.rec\nONBUILD COPY --from=./other.rec /theirs /ours\n")
    assert "ours" in project.files(project.build("FROM ./lib.rec\n"))


def test_a_trigger_that_names_a_stage_that_is_not_there(project: Project) -> None:
    project.write("lib.rec", "FROM ../base/base.rec\nONBUILD COPY --from=7 /x /y\n")
    with pytest.raises(PlanError) as caught:
        project.build("FROM ./lib.rec\n")
    assert caught.value.code == "stage/unknown"
    assert caught.value.span is not None
    assert caught.value.span.line == 1


def test_the_platform_of_from_holds_for_a_recipe_too(project: Project) -> None:
    project.write("lib.rec", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n")
    built = project.build("FROM --platform=linux/s390x ./lib.rec\nLABEL x=1\n")
    assert dict(built.config.labels)["arch"] == "s390x"
    assert built.image.architecture == "s390x"


def test_only_config_on_nothing(project: Project) -> None:
    outcome = project.build('FROM scratch\nLABEL a=1\nCMD ["/x"]\n')
    assert outcome.image.diff_ids == ()
    assert [entry.empty_layer for entry in outcome.image.history] == [True, True]
    again = project.build('FROM scratch\nLABEL a=1\nCMD ["/x"]\n')
    assert again.built.image_id == outcome.built.image_id


def test_a_command_on_nothing_is_not_found(project: Project) -> None:
    with pytest.raises(StepFailed) as caught:
        project.build("FROM scratch\nRUN true\n")
    assert (caught.value.code, caught.value.status) == ("step/not-found", 127)


def test_a_stage_copies_its_whole_file_system(project: Project) -> None:
    text = "FROM ../base/base.rec AS x\nRUN chown 5:6 /home/app; ln /bin/busybox /bin/again\n"
    text += "FROM scratch\nCOPY --from=x / /\n"
    outcome = project.build(text)
    found = project.files(outcome)
    assert (found["home/app"].st_uid, found["home/app"].st_gid) == (5, 6)
    assert found["bin/again"].st_ino == found["bin/busybox"].st_ino
    assert found["tmp"].st_mode & 0o7777 == 0o1777


def test_a_linked_copy_does_not_look_at_what_is_below(project: Project) -> None:
    """A symbolic link at the destination is replaced, and no user has a name."""
    project.write("d/f", "new")
    text = "FROM base\nRUN mkdir /real; ln -s real /link; echo old > /real/f\nCOPY --link --chown=7 d /link\n"
    outcome = project.build(text)
    assert project.read(outcome, "real/f") == b"old\n"
    found = project.files(outcome, "link")
    assert {path: status.st_uid for path, status in found.items()} == {"link": 7, "link/f": 7}
    followed = project.build(text.replace("--link ", ""))
    assert followed.outcomes == ["cached", "ran"]
    assert project.read(followed, "real/f") == b"new"
    with pytest.raises(StepFailed) as caught:
        project.build(text.replace("--chown=7", "--chown=app"))
    assert caught.value.code == "step/user"


def test_an_empty_stage_has_nothing_to_copy(project: Project) -> None:
    """In particular not what the context has."""
    project.write("f", "the context's")
    with pytest.raises(BuildError) as caught:
        project.build("FROM scratch AS x\nLABEL a=1\nFROM base\nCOPY --from=x /f /f\n")
    assert caught.value.code == "copy/missing"


def test_workdir_through_a_link_and_onto_a_file(project: Project) -> None:
    text = "FROM base\nRUN ln -s /real /link; echo > /file\nWORKDIR /link/sub\nRUN pwd\n"
    outcome = project.build(text)
    assert project.files(outcome)["real/sub"].st_uid == 0
    with pytest.raises(PlanError) as caught:
        project.build("FROM base\nRUN ln -s /real /link; echo > /file\nWORKDIR /file/sub\n")
    assert caught.value.code == "copy/onto-file"
    assert caught.value.span is not None


HEAVY = [
    "lark",
    "rich",
    "urllib3",
    "zstandard",
    "isal",
    "cryptography",
    "ctypes",
    "subprocess",
    "tempfile",
    "hypothesis",
]

PROBE = """\
import json, sys
from builder.main import main
code = main()
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def modules(project: Project, *words: str) -> set[str]:
    """Build in a process of its own; return the modules that it had imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        cwd=project.context,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    code, found = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(found)


def test_a_build_that_hits_imports_nothing_heavy(project: Project) -> None:
    """And one that was asked for before, with nothing changed since, no dataclasses either."""
    project.write("f", "f")
    recipe = project.recipe("FROM base\nCOPY f /f\nRUN true\nTEST true\n")
    subprocess.run(
        ["find", project.directory, "-exec", "touch", "-h", "-d", "@1600000000", "{}", "+"], check=True
    )
    project.command(recipe, check=True)
    usual = modules(project, recipe, "--explain")
    assert usual & set(HEAVY) == set()
    assert "dataclasses" in usual
    project.command(recipe, check=True)
    direct = modules(project, recipe)
    assert direct & {*HEAVY, "dataclasses", "argparse"} == set()
    assert os.path.isdir(REPOSITORY)


def test_the_version_is_in_a_record(project: Project) -> None:
    from cache.store import Store

    project.build("FROM base\nRUN true\n")
    with Store.open(project.store_root) as store:
        assert {record.version for record in store.records} == {VERSION}


def test_a_stage_without_layers_is_empty_and_not_the_context(project: Project) -> None:
    project.write("f", "f")
    with pytest.raises(PlanError, match="is not in the stage or image"):
        project.build("FROM scratch AS empty\nENV A=1\nFROM scratch\nCOPY --from=empty f /f\n")
    outcome = project.build("FROM scratch AS empty\nFROM scratch\nCOPY --from=empty / /copied/\n")
    assert project.layer(outcome) == ["copied"]
