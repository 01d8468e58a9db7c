"""The step cache: what hits, what misses, and where a rebuild stops (LANGUAGE, point 23)."""

from __future__ import annotations

import os
import time

import pytest

from builder.errors import StepFailed
from cache.store import Store
from tests.build_fixtures.project import Project

TEXT = "FROM base\nCOPY src/ /src/\nRUN cat /src/* > /all\nRUN wc -c /all > /count\n"


def test_an_unchanged_build_runs_nothing_and_gives_the_same_image(project: Project) -> None:
    project.write("src/a", "1")
    first = project.build(TEXT)
    assert first.outcomes == ["ran"] * 3
    again = project.build(TEXT)
    assert again.outcomes == ["cached"] * 3
    assert again.reasons == []
    assert again.built.image_id == first.built.image_id
    assert (again.built.ran, first.built.cached) == (0, 0)


def test_another_mtime_with_the_same_bytes_is_a_hit(project: Project) -> None:
    path = project.write("src/a", "1")
    first = project.build(TEXT)
    os.utime(path, (5, 5))
    again = project.build(TEXT)
    assert again.outcomes == ["cached"] * 3
    assert project.files(again)["src/a"].st_mtime == 1_600_000_000
    assert again.built.image_id == first.built.image_id


def test_the_same_size_and_mtime_with_other_bytes_is_a_miss(project: Project) -> None:
    project.write("src/a", "one")
    project.build(TEXT)
    time.sleep(0.15)  # past what counts as racy: the digest is remembered
    project.build(TEXT)
    project.write("src/a", "two")
    again = project.build(TEXT)
    assert again.outcomes[0] == "ran"
    assert project.read(again, "src/a") == b"two"


def test_a_file_that_was_written_just_now_is_read_each_time(project: Project) -> None:
    """Within one tick of the kernel's clock it may change again, and keep its stat."""
    path = project.write("src/a", "one", mtime=time.time())
    project.build(TEXT)
    with Store.open(project.store_root) as store:
        assert store.stats.load(os.path.realpath(project.context)) == {}
    time.sleep(0.15)
    project.build(TEXT)
    with Store.open(project.store_root) as store:
        assert list(store.stats.load(os.path.realpath(project.context))) == [b"src/a"]
    with open(path, "w") as file:
        file.write("two")
    assert project.build(TEXT).outcomes[0] == "ran"


def test_a_file_whose_stat_is_known_is_not_read(project: Project) -> None:
    """The stat cache is believed, and by it alone an unchanged context costs no reading."""
    path = project.write("src/a", "one")
    time.sleep(0.15)
    first = project.build(TEXT)
    root = os.path.realpath(project.context)
    with Store.open(project.store_root) as store:
        rows = store.stats.load(root)
        status = os.lstat(path)
        known = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)
        assert rows[b"src/a"][:5] == known
        store.stats.save(root, {b"src/a": (*known, b"x" * 32)})
    wrong = project.build(TEXT)
    assert wrong.outcomes[0] == "same"
    assert wrong.image.diff_ids == first.image.diff_ids


def test_an_early_step_with_the_same_result_stops_the_rebuild(project: Project) -> None:
    """Edit it so that its files stay the same: exactly one step runs."""
    text = "FROM base\nRUN echo one > /a{}\nRUN cat /a > /b\nCOPY f /f\nRUN cat /b /f > /c\n"
    project.write("f", "f")
    first = project.build(text.format(""))
    time.sleep(1.1)  # another second: mtimes are written to the second
    again = project.build(text.format("; true"))
    assert again.outcomes == ["same", "cached", "cached", "cached"]
    assert again.built.ran == 1
    assert again.image.diff_ids == first.image.diff_ids
    assert project.build(text.format("; true")).outcomes == ["cached"] * 4


@pytest.mark.parametrize("epoch", ["keep", "1600000001", "clamp"])
def test_it_stops_with_and_without_an_epoch(project: Project, epoch: str) -> None:
    text = "FROM base\nRUN mkdir /d; echo {} > /dev/null; date > /d/never; echo x > /d/never\nRUN true\n"
    option = f"--timestamps={epoch}"
    project.build(text.format(1), option)
    time.sleep(1.1)
    assert project.build(text.format(2), option).outcomes == ["same", "cached"]


def test_another_result_does_not_stop_it(project: Project) -> None:
    text = "FROM base\nRUN echo {} > /a; {}\nRUN true\n"
    project.build(text.format("x", "true"))
    assert project.build(text.format("y", "true")).outcomes == ["ran", "ran"]
    changes = ["chmod 600 /a", "chown app /a", "ln /a /b", "mkdir /e", "touch -d @5 /a", "rm /a; ln -s x /a"]
    for change in changes:
        assert project.build(text.format("x", change)).outcomes[0] == "ran", change


def test_an_older_mtime_is_another_result_with_an_epoch_too(project: Project) -> None:
    """The known layer's was clamped to the epoch: that says nothing of the new one's."""
    text = "FROM base\nRUN echo x > /a; {}\n"
    project.build(text.format("true"), "--timestamps=1600000000")
    assert project.build(text.format("touch -d @5 /a"), "--timestamps=1600000000").outcomes == ["ran"]


def test_a_copy_with_another_owner_of_the_same_is_cut_off_too(project: Project) -> None:
    project.write("f", "f")
    project.build("FROM base\nCOPY f /f\nRUN true\n")
    assert project.build("FROM base\nCOPY --chown=0:0 f /f\nRUN true\n").outcomes == ["same", "cached"]


def test_a_stage_that_came_out_the_same_is_not_copied_again(project: Project) -> None:
    text = "FROM ../base/base.rec AS b\nRUN echo {0} > /dev/null; echo {1} > /out; echo {0} > /noise\n"
    text += "FROM base\nCOPY --from=b /out /out\n"
    project.build(text.format(1, "x"))
    outcome = project.build(text.format(2, "x"))
    assert outcome.outcomes == ["ran", "cached"]
    assert project.build(text.format(2, "y")).outcomes == ["ran", "ran"]


def test_a_build_without_cache_runs_everything(project: Project) -> None:
    project.write("src/a", "1")
    first = project.build(TEXT)
    again = project.build(TEXT, "--no-cache")
    assert again.outcomes == ["same"] * 3
    assert again.image.diff_ids == first.image.diff_ids


def test_proxies_and_the_epoch_are_in_no_key(project: Project) -> None:
    text = "FROM base\nRUN true\n"
    project.build(text)
    proxy = ("--build-arg", "http_proxy=http://user:secret@proxy")
    assert project.build(text, "--timestamps=1600000000", *proxy).outcomes == ["cached"]
    seen = project.build(
        "FROM base\nRUN echo $http_proxy $SOURCE_DATE_EPOCH > /seen\n", "--timestamps=5", *proxy
    )
    assert project.read(seen, "seen") == b"http://user:secret@proxy 5\n"
    assert "secret" not in seen.image.to_json().decode()


def test_a_declared_proxy_is_an_argument_like_others(project: Project) -> None:
    text = "FROM base\nARG http_proxy\nRUN true\n"
    project.build(text, "--build-arg", "http_proxy=a")
    assert project.build(text, "--build-arg", "http_proxy=b").outcomes == ["same"]


def test_a_failing_command_leaves_nothing(project: Project) -> None:
    text = "FROM base\nRUN echo early > /early\nRUN echo out; echo err >&2; echo x > /half; exit 7\n"
    with pytest.raises(StepFailed) as caught:
        project.build(text, "-t", "named")
    error = caught.value
    assert (error.status, error.code) == (7, "step/failed")
    assert error.span is not None
    assert (error.span.line, error.span.file) == (3, project.path("app.rec"))
    with Store.open(project.store_root) as store:
        assert store.images.names() == {}
        assert list(store.images.all()) == []
        assert [record for record in store.records if "RUN" in record.line and record.diff_id is None] == []
    assert project.unsound() == []
    again = project.build(text.replace("exit 7", "true"))
    assert again.outcomes == ["cached", "ran"]


def test_a_test_is_remembered_and_leaves_no_layer(project: Project) -> None:
    text = 'FROM base\nRUN echo x > /x\nTEST --name=reads test $(cat /x) = x; echo y > /y\nCMD ["/x"]\n'
    first = project.build(text)
    assert first.outcomes == ["ran", "passed"]
    assert "y" not in project.files(first)
    assert len(first.image.diff_ids) == 2
    assert not any("TEST" in (entry.created_by or "") for entry in first.image.history)
    assert project.build(text).outcomes == ["cached", "cached"]
    assert project.build(text.replace("= x", "= 'x'")).outcomes == ["cached", "passed"]
    assert project.build("FROM base\nENV A=1\n" + text.partition("\n")[2]).outcomes == ["same", "passed"]


def test_a_test_sees_the_config_of_its_line(project: Project) -> None:
    text = """\
FROM base
ARG HIDDEN=arg
ENV A=1
USER app
WORKDIR /home/app
TEST test "$A $(id -un) $(pwd) $HIDDEN" = "1 app /home/app "
TEST ["test", "-w", "/tmp"]
TEST <<E
set -e
test -d /tmp
E
USER root
TEST test "$(id -u)" = 0
"""
    assert project.build(text).outcomes == ["ran", "passed", "passed", "passed", "passed"]


def test_a_failing_test_names_nothing(project: Project) -> None:
    with pytest.raises(StepFailed) as caught:
        project.build('FROM base\nRUN echo x > /x\nTEST --name="it answers" exit 3\n', "-t", "named")
    assert (caught.value.code, caught.value.status) == ("test/failed", 3)
    assert "it answers" in caught.value.message
    with Store.open(project.store_root) as store:
        assert store.images.names() == {}
        assert list(store.images.all()) == []


def test_a_test_runs_with_its_stage_only(project: Project) -> None:
    """And always with it: the target need not stand on it."""
    text = "FROM base\nTEST false\nFROM ../base/base.rec AS x\nTEST true\nFROM x\nRUN true\n"
    assert project.build(text).outcomes == ["passed", "ran"]
    with pytest.raises(StepFailed):
        project.build(text, "--target", "0")


def test_a_layer_that_is_gone_is_made_again(project: Project) -> None:
    text = "FROM base\nRUN echo x > /x\nRUN echo y > /y\n"
    first = project.build(text)
    with Store.open(project.store_root) as store:
        for layer in list(store.layers.all()):
            if layer.diff_id == first.image.diff_ids[-1]:
                store.layers.remove(layer.chain_id)
    assert project.build(text).outcomes == ["cached", "ran"]


def test_two_recipes_have_each_their_own_context_and_ignore_file(project: Project) -> None:
    project.write("one/f", "1")
    project.write("two/f", "2")
    for name in ("one", "two"):
        project.write(f"{name}/app.rec", "FROM scratch\nCOPY . /\n")
    project.write("one/app.rec.dockerignore", "app.rec*\n")
    project.write("one/.dockerignore", "f\n")
    project.write("two/.dockerignore", "app.rec\n.dockerignore\n")
    stages = "FROM one/app.rec AS one\nFROM two/app.rec AS two\nFROM scratch\n"
    outcome = project.build(stages + "COPY --from=one / /1/\nCOPY --from=two / /2/\n")
    assert set(project.files(outcome)) == {"1", "2", "1/f", "1/.dockerignore", "2/f"}
