"""RUN --mount of directories: what a step sees there, what its layer has of it, and when it runs again."""

from __future__ import annotations

import os
import socket

import pytest

from builder.errors import BuildError, PlanError, StepFailed
from grammar.errors import RecipeError
from tests.build_fixtures.project import Project

# Bind mounts of the context


def test_the_context_is_seen_read_only_and_leaves_no_trace(project: Project) -> None:
    project.write("src/a", "a", mode=0o640)
    outcome = project.build(
        "FROM base\nWORKDIR /w\n"
        "RUN --mount=target=. cat src/a > /seen; touch src/b 2> /tmp/why; stat -c '%u:%g %a' src/a >> /seen\n"
    )
    assert project.read(outcome, "seen") == b"a0:0 640\n"
    assert project.read(outcome, "tmp/why").endswith(b"Read-only file system\n")
    assert project.layer(outcome) == ["seen", "tmp", "tmp/why"]


def test_a_source_is_relative_to_the_context_and_its_links_stay_inside(project: Project) -> None:
    project.write("real/file", "inside")
    os.symlink("/real", project.path("way"))
    os.symlink("../../../../etc", project.path("out"))
    line = "FROM base\nRUN --mount=source=way,target=/m cat /m/file > /seen\n"
    assert project.read(project.build(line), "seen") == b"inside"
    with pytest.raises(PlanError, match="'/out' is not in the context"):
        project.build("FROM base\nRUN --mount=source=out,target=/m ls /m\n")


def test_a_file_is_mounted_as_a_file(project: Project) -> None:
    project.write("conf/app.conf", "x=1")
    outcome = project.build(
        "FROM base\nRUN --mount=source=conf/app.conf,target=/etc/deep/a.conf cat /etc/deep/a.conf > /seen\n"
    )
    assert project.read(outcome, "seen") == b"x=1"
    assert project.layer(outcome) == ["seen"]


def test_a_source_with_wildcard_characters_is_that_name(project: Project) -> None:
    project.write("a[b]*/f", "this")
    project.write("ab/f", "not this")
    outcome = project.build("FROM base\nRUN --mount=source=a[b]*,target=/m cat /m/f > /seen\n")
    assert project.read(outcome, "seen") == b"this"


def test_only_what_the_ignore_file_lets_through_is_there(project: Project) -> None:
    for name in ("keep/a", "keep/no.log", "secret/key", "secret/public"):
        project.write(name, name)
    project.write(".dockerignore", "**/*.log\nsecret\n!secret/public\n")
    server = socket.socket(socket.AF_UNIX)
    server.bind(project.path("keep/socket"))
    outcome = project.build("FROM base\nRUN --mount=target=/m cd /m; find . | sort > /seen\n")
    server.close()
    seen = project.read(outcome, "seen").decode().split()
    assert [name for name in seen if "keep" in name or "secret" in name] == [
        "./keep",
        "./keep/a",
        "./secret",
        "./secret/public",
    ]
    with pytest.raises(PlanError, match="ignore file"):
        project.build("FROM base\nRUN --mount=source=secret/key,target=/m cat /m\n")


def test_what_is_written_to_a_writable_mount_is_thrown_away(project: Project) -> None:
    project.write("d/f", "before")
    outcome = project.build(
        "FROM ../base/base.rec AS other\nRUN mkdir /o; echo stage > /o/f\n"
        "FROM base\n"
        "RUN --mount=source=d,target=/d,rw --mount=from=other,source=/o,target=/o,rw"
        " --mount=source=d/f,target=/file,rw"
        " echo now > /d/f; touch /d/new; echo now > /o/f; echo now > /file; cat /d/f /o/f /file > /seen\n"
        "RUN --mount=source=d,target=/d --mount=from=other,source=/o,target=/o"
        " cat /d/f /o/f > /again; ls /d >> /again\n"
    )
    assert project.read(outcome, "seen") == b"now\nnow\nnow\n"
    assert project.read(outcome, "again") == b"beforestage\nf\n"
    assert project.layer(outcome, -2) == ["seen"]
    with open(project.path("d/f")) as file:
        assert file.read() == "before"
    assert os.listdir(project.path("d")) == ["f"]


def test_the_owner_of_a_checkout_is_not_seen(project: Project) -> None:
    """Else `cp -a` from a mount gives another image on another machine."""
    path = project.write("f", "f")
    os.chown(path, 1234, 1234)
    outcome = project.build("FROM base\nRUN --mount=target=/m cp -a /m/f /f\n")
    status = project.files(outcome, "f")["f"]
    assert (status.st_uid, status.st_gid, int(status.st_mtime)) == (0, 0, 1_600_000_000)


# Of stages, images, recipes, and of nothing


def test_stages_by_name_and_number_recipes_and_scratch(project: Project) -> None:
    project.write("other/Recipe.rec", "FROM scratch\nCOPY f /from-recipe\n")
    project.write("other/f", "recipe")
    outcome = project.build(
        "FROM ../base/base.rec AS one\nRUN mkdir -p /a/b; echo one > /a/b/f; ln -s /a/b /link\n"
        "FROM scratch AS two\nCOPY app.rec /f\n"
        "FROM base\n"
        "RUN --mount=from=ONE,source=/link,target=/one --mount=from=1,target=/two "
        "--mount=from=./other/Recipe.rec,target=/three --mount=from=scratch,target=/four "
        "cat /one/f > /seen; ls /two /three /four >> /seen\n"
    )
    assert project.read(outcome, "seen") == b"one\n/four:\n\n/three:\nfrom-recipe\n\n/two:\nf\n"
    assert project.layer(outcome) == ["seen"]


def test_an_image_of_the_store(project: Project) -> None:
    project.build("FROM base\nRUN echo image > /f\n", "-t", "tools:1", name="tools.rec")
    outcome = project.build("FROM base\nRUN --mount=from=tools:1,source=/f,target=/f cat /f > /seen\n")
    assert project.read(outcome, "seen") == b"image\n"


def test_an_empty_stage_is_an_empty_directory(project: Project) -> None:
    outcome = project.build(
        "FROM scratch AS none\nFROM base\nRUN --mount=from=none,target=/n,rw ls /n > /seen; touch /n/f\n"
    )
    assert project.read(outcome, "seen") == b""


def test_what_a_stage_lacks_cannot_be_mounted(project: Project) -> None:
    with pytest.raises(BuildError, match="'/nothing' is not in"):
        project.build(
            "FROM ../base/base.rec AS a\nFROM base\nRUN --mount=from=a,source=/nothing,target=/n true\n"
        )


def test_a_directory_that_a_stage_mounts_makes_it_needed(project: Project) -> None:
    """And one that nothing mounts is not built."""
    outcome = project.build(
        "FROM ../base/base.rec AS used\nRUN echo 1 > /f\nFROM ../base/base.rec AS unused\nRUN false\n"
        "FROM base\nRUN --mount=from=used,target=/u cat /u/f\n"
    )
    assert outcome.outcomes == ["ran", "ran"]


# tmpfs


def test_a_tmpfs_is_empty_has_its_size_and_is_gone(project: Project) -> None:
    outcome = project.build(
        "FROM base\nRUN mkdir /t; echo below > /t/f\n"
        "RUN --mount=type=tmpfs,target=/t,size=1m ls /t > /seen; echo x > /t/g; "
        "stat -f -c '%T %b %S' /t >> /seen; stat -c %a /t >> /seen\n"
    )
    assert project.read(outcome, "seen") == b"tmpfs 256 4096\n1777\n"
    assert project.layer(outcome) == ["seen"]
    assert project.read(outcome, "t/f") == b"below\n"


# Where


@pytest.mark.parametrize(
    "target",
    [
        "/new/deep/er",
        "/home/app",
        "/etc/x",
        "/tmp",
        "rel/ative",
        "/dev/here",
        "/dev/shm/x",
        "/run/../up",
        "/link",
    ],
)
def test_no_mount_point_stays(project: Project, target: str) -> None:
    project.write("f", "f")
    below = "FROM base\nRUN ln -s /home /link\nWORKDIR /w\n"
    outcome = project.build(f"{below}RUN --mount=target={target} cat {os.path.normpath(target)}/f\n")
    assert (outcome.output, project.layer(outcome)) == ("f", [])


@pytest.mark.parametrize("target", ["/etc/passwd", "/new/file", "/etc/hosts", "/w/link"])
def test_a_file_on_a_file_or_on_nothing(project: Project, target: str) -> None:
    project.write("f", "mine")
    below = "FROM base\nWORKDIR /w\nRUN ln -s /etc/group /w/link\n"
    outcome = project.build(f"{below}RUN --mount=source=f,target={target} cat {target}\n")
    assert (outcome.output, project.layer(outcome)) == ("mine", [])


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("source=d,target=/etc/passwd", "not a directory"),
        ("source=d/f,target=/home", "is a directory"),
        ("source=d,target=/proc/none", "no mount point can be made"),
        ("source=d,target=/sys/none", "no mount point can be made"),
        ("source=d,target=/etc/passwd/x", "cannot mount on"),
    ],
)
def test_where_nothing_can_be_mounted(project: Project, mount: str, reason: str) -> None:
    project.write("d/f", "f")
    with pytest.raises(StepFailed, match=reason) as caught:
        project.build(f"FROM base\nRUN --mount={mount} true\n")
    assert caught.value.code == "step/mount"


@pytest.mark.parametrize(
    "mount",
    ["target=/", "type=tmpfs,target=/a/..", "target=//", "type=cache,target=.", "type=secret,id=x,target=/"],
)
def test_no_mount_takes_the_place_of_the_root(project: Project, mount: str) -> None:
    with pytest.raises(PlanError) as caught:
        project.build(f"FROM base\nRUN --mount={mount} true\n")
    assert caught.value.code == "run/mount-target"


def test_mounts_within_mounts_are_seen_in_any_order(project: Project) -> None:
    project.write("d/in/x", "context")
    outcome = project.build(
        "FROM ../base/base.rec AS other\nRUN mkdir -p /o/deep; echo stage > /o/deep/y\n"
        "FROM base\n"
        "RUN --mount=type=tmpfs,target=/d/in/t --mount=source=d,target=/d,rw"
        " --mount=from=other,source=/o,target=/d/in/o"
        " cat /d/in/x /d/in/o/deep/y > /seen; touch /d/in/t/z; ls /d/in >> /seen\n"
    )
    assert project.read(outcome, "seen") == b"contextstage\no\nt\nx\n"
    assert project.layer(outcome) == ["seen"]


def test_mounts_within_read_only_ones_need_no_place_there(project: Project) -> None:
    """Other than with BuildKit, where the outer mount must have it: sources beside a cache are common."""
    project.write("d/f", "f")
    os.chmod(project.path("d"), 0o750)
    project.write("key", "key")
    outcome = project.build(
        "FROM ../base/base.rec AS other\nRUN mkdir -p /o/p; chmod 711 /o\n"
        "FROM base\nWORKDIR /w\n"
        "RUN --mount=source=d,target=. --mount=type=cache,target=modules/deep"
        " --mount=source=key,target=conf/key --mount=type=secret,id=absent,target=absent"
        " ls > /seen; stat -c '%a' . >> /seen; cat f conf/key >> /seen; touch modules/deep/x;"
        " touch y 2>&1 || true\n"
        "RUN --mount=from=other,target=/m --mount=type=tmpfs,target=/m/o/p/q --mount=source=d,target=/m/bin/d"
        " --mount=from=scratch,target=/n --mount=type=tmpfs,target=/n/t"
        " stat -c '%a' /m/o > /again; ls /m/o/p /m/bin/d /n >> /again; touch /m/o/p/q/x\n"
    )
    assert project.read(outcome, "seen") == b"conf\nf\nmodules\n750\nfkey"
    assert outcome.output == "touch: y: Read-only file system\n"
    assert project.read(outcome, "again") == b"711\n/m/bin/d:\nf\n\n/m/o/p:\nq\n\n/n:\nt\n"
    assert project.layer(outcome) == ["again"]
    assert project.build("FROM base\nRUN --mount=source=d,target=/d ls /d\n").output == "f\n"


def test_variables_in_options(project: Project) -> None:
    project.write("v1/f", "one")
    outcome = project.build(
        "FROM base\nARG DIR=v1\nENV AT=/at\nRUN --mount=source=${DIR},target=$AT/${DIR} cat /at/v1/f\n"
    )
    assert outcome.output == "one"
    with pytest.raises(RecipeError, match="is no size"):
        project.build("FROM base\nARG S=big\nRUN --mount=type=tmpfs,target=/t,size=$S true\n")


def test_exec_form_and_documents_have_mounts_too(project: Project) -> None:
    project.write("f", "f")
    outcome = project.build(
        'FROM base\nRUN --mount=target=/m ["cat", "/m/f"]\n'
        "RUN --mount=target=/m <<E\n#!/bin/sh\ncat /m/f\nE\n"
    )
    assert outcome.output == "ff"


def test_an_onbuild_trigger_has_mounts(project: Project) -> None:
    project.build(
        "FROM base\nONBUILD RUN --mount=source=f,target=/m cat /m > /seen\n",
        "-t",
        "parent:1",
        name="parent.rec",
    )
    project.write("f", "child's")
    assert project.read(project.build("FROM parent:1\n"), "seen") == b"child's"


# When it runs again


def test_a_change_of_what_is_mounted_and_only_that_runs_the_step_again(project: Project) -> None:
    text = "FROM base\nRUN --mount=source=src,target=/src cat /src/a > /seen\n"
    project.write("src/a", "1")
    project.write("other", "1")
    assert project.build(text).outcomes == ["ran"]
    project.write("other", "2")
    project.write("src/a", "1", mtime=1_700_000_000)
    assert project.build(text).outcomes == ["cached"]
    project.write("src/a", "2")
    project.write("src/b", "new")
    outcome = project.build(text)
    assert (outcome.outcomes, outcome.reasons) == (
        ["ran"],
        ["what is mounted on /src changed: src/a, src/b (new)"],
    )
    assert project.read(outcome, "seen") == b"2"


def test_the_mode_of_a_mounted_directory_counts(project: Project) -> None:
    """It is seen, other than with COPY."""
    project.write("src/a", "1")
    text = "FROM base\nRUN --mount=source=src,target=/src stat -c %a /src > /seen\n"
    os.chmod(project.path("src"), 0o750)
    assert project.read(project.build(text), "seen") == b"750\n"
    os.chmod(project.path("src"), 0o711)
    assert project.read(project.build(text), "seen") == b"711\n"


def test_of_a_stage_only_the_directory_that_is_mounted_counts(project: Project) -> None:
    text = (
        "FROM ../base/base.rec AS tools\nRUN mkdir /t; echo {0} > /t/f; echo {1} > /else\n"
        "FROM base\nRUN --mount=from=tools,source=/t,target=/t cat /t/f > /seen\n"
    )
    assert project.build(text.format(1, 1)).outcomes == ["ran", "ran"]
    assert project.build(text.format(1, 2)).outcomes == ["ran", "cached"]
    outcome = project.build(text.format(2, 2))
    assert outcome.outcomes == ["ran", "ran"]
    assert outcome.reasons[-1] == "what is mounted on /t changed: t/f"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("target=/a", "target=/b", "the mount /b is new"),
        ("target=/a", "target=/a,rw", "the mount /a changed: with readwrite"),
        ("target=/a", "target=/a,source=d", "the mount /a changed: with source=/d"),
        (
            "type=tmpfs,target=/a,size=1m",
            "type=tmpfs,target=/a,size=2m",
            "the mount /a changed: size=1048576 -> size=2097152",
        ),
        ("type=secret,id=a", "type=secret,id=b", "the mount /run/secrets/b is new"),
        ("type=secret,id=a", "type=secret,id=a,env=A", "the mount $A is new"),
        ("type=ssh", "type=ssh,id=b", "the mount /run/buildkit/ssh_agent.0 changed: id=default -> id=b"),
        ("type=cache,target=/a", "type=cache,target=/a,id=b", "the mount /a changed: id=/a -> id=b"),
    ],
)
def test_another_option_runs_the_step_again(project: Project, before: str, after: str, reason: str) -> None:
    project.write("d/f", "f")
    assert project.build(f"FROM base\nRUN --mount={before} true\n").outcomes == ["ran"]
    assert project.build(f"FROM base\nRUN --mount={before} true\n").outcomes == ["cached"]
    outcome = project.build(f"FROM base\nRUN --mount={after} true\n")
    assert (outcome.reasons, outcome.outcomes) == ([reason], ["same"])


# Caches


def test_a_cache_lives_on_and_is_no_part_of_the_layer(project: Project) -> None:
    line = "RUN --mount=type=cache,target=/c echo {0} >> /c/log; cat /c/log > /seen\n"
    assert project.read(project.build("FROM base\n" + line.format(1)), "seen") == b"1\n"
    outcome = project.build("FROM base\n" + line.format(2))
    assert project.read(outcome, "seen") == b"1\n2\n"
    assert project.layer(outcome) == ["seen"]
    assert project.build("FROM base\n" + line.format(2)).outcomes == ["cached"]


def test_a_cache_is_known_by_its_id_else_by_its_target(project: Project) -> None:
    outcome = project.build(
        "FROM base\nARG T=/c\n"
        "RUN --mount=type=cache,target=$T echo 1 > /c/f\n"
        "RUN --mount=type=cache,target=/d,id=/c cat /d/f > /seen\n"
        "RUN --mount=type=cache,target=/d ls /d >> /seen\n"
    )
    assert project.read(outcome, "seen") == b"1\n"


def test_a_cache_has_owner_and_mode_and_can_be_read_only(project: Project) -> None:
    outcome = project.build(
        "FROM base\nUSER app\n"
        "RUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0700"
        " echo mine > /c/f; stat -c '%u:%g %a' /c\n"
        "RUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0700,ro cat /c/f; touch /c/g 2>&1 || true\n"
        "RUN --mount=type=cache,target=/c stat -c '%u:%g %a' /c\n"
    )
    assert outcome.output.splitlines() == [
        "1000:1001 700",
        "mine",
        "touch: /c/g: Read-only file system",
        "0:0 755",
    ]


def test_a_cache_begins_with_what_it_is_made_from(project: Project) -> None:
    text = (
        "FROM ../base/base.rec AS seed\nRUN mkdir -p /s/d; echo {0} > /s/d/f; chown -R 1000:1001 /s/d\n"
        "FROM base\n"
        "RUN --mount=type=cache,target=/c,from=seed,source=/s "
        "cat /c/d/f > /seen; stat -c %u /c/d/f >> /seen; echo more >> /c/d/f\n"
        "RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/d/f >> /seen\n"
    )
    assert project.read(project.build(text.format(1)), "seen") == b"1\n1000\n1\nmore\n"
    assert project.read(project.build(text.format(2)), "seen") == b"2\n1000\n2\nmore\n"


def test_a_cache_can_begin_with_files_of_a_directory_only(project: Project) -> None:
    with pytest.raises(PlanError, match="no directory"):
        project.build(
            "FROM ../base/base.rec AS a\nFROM base\n"
            "RUN --mount=type=cache,target=/c,from=a,source=/etc/passwd true\n"
        )


def test_part_of_a_cache(project: Project) -> None:
    outcome = project.build(
        "FROM base\n"
        "RUN --mount=type=cache,target=/c mkdir -p /c/part; echo part > /c/part/f\n"
        "RUN --mount=type=cache,target=/d,id=/c,source=part cat /d/f\n"
    )
    assert outcome.output == "part\n"


def test_a_step_that_fails_keeps_what_it_put_into_a_cache(project: Project) -> None:
    with pytest.raises(StepFailed):
        project.build("FROM base\nRUN --mount=type=cache,target=/c echo kept > /c/f; exit 3\n")
    outcome = project.build("FROM base\nRUN --mount=type=cache,target=/c cat /c/f\n")
    assert outcome.output == "kept\n"


# After a build


def mountinfo() -> str:
    with open("/proc/self/mountinfo") as file:
        return file.read()


def test_nothing_stays_behind(project: Project) -> None:
    """No mount, no temporary directory: of a build that ends well, and of one that fails."""
    project.write("d/f", "f")
    before = mountinfo()
    mounts = (
        "--mount=source=d,target=/a --mount=source=d,target=/b,rw --mount=type=tmpfs,target=/c "
        "--mount=type=cache,target=/d --mount=from=o,target=/e,rw"
    )
    for command in ("true", "false"):
        text = f"FROM ../base/base.rec AS o\nFROM base\nRUN {mounts} {command}\n"
        if command == "true":
            project.build(text)
        else:
            with pytest.raises(StepFailed):
                project.build(text)
    assert mountinfo() == before
    assert project.unsound() == []
