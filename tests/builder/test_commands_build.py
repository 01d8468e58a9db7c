"""The command line of a build, and of pybuild as a whole: arguments, files, streams, interruption."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time

import pytest

from builder.cli import COMMANDS
from tests.command_fixtures.pybuild import ARGV, Pybuild
from tests.sandbox_fixtures.scene import mount_table, processes

RECIPE = "FROM box\nRUN echo hello > /hello\n"
SLEEPING = "FROM box\nRUN echo before > /x\nRUN touch /started; sleep {0} & sleep {0}\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["test.rec"],
        ["build", "test.rec"],
        ["build", "."],
        ["build"],
        [],
        ["build", "-f", "test.rec", "."],
        ["test.rec", "."],
        ["test.rec", "--context", "."],
        ["--root", "{root}", "build", "test.rec"],
        ["build", "test.rec", "--root={root}"],
    ],
)
def test_the_ways_to_ask_for_a_build(pybuild: Pybuild, argv: list[str]) -> None:
    image_id = pybuild.build(RECIPE)
    argv = [word.format(root=pybuild.root) for word in argv]
    env = {"PYBUILD_ROOT": pybuild.root + "-none"} if "--root" in " ".join(argv) else {}
    assert pybuild(*argv, **env) == image_id + "\n"


def test_a_dockerfile_comes_before_a_recipe(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE)
    pybuild.write("Dockerfile", "FROM box\nLABEL from=dockerfile\n")
    pybuild("build", ".", "-t", "app")
    assert pybuild.json("inspect", "app")[0]["Config"]["Labels"] == {"from": "dockerfile"}
    os.unlink(f"{pybuild.cwd}/Dockerfile")
    pybuild.write("another.rec", RECIPE)
    done = pybuild.try_("build")
    assert (done.code, "[usage/no-recipe]" in done.err) == (2, True)


def test_iidfile_and_metadata_file(pybuild: Pybuild) -> None:
    image_id = pybuild.build(RECIPE, "-t", "app:1", "--iidfile", "id", "--metadata-file", "metadata")
    with open(f"{pybuild.cwd}/id") as file:
        assert file.read() == image_id
    with open(f"{pybuild.cwd}/metadata") as file:
        metadata = json.load(file)
    assert metadata["image.id"] == metadata["containerimage.config.digest"] == image_id
    assert metadata["image.names"] == ["app:1"]
    assert metadata["image.layers"] == pybuild.json("inspect", "app:1")[0]["RootFS"]["Layers"]
    assert metadata["steps.run"] + metadata["steps.cached"] == 1
    done = pybuild.try_("build", "test.rec", "--iidfile", "/no/such/place")
    assert (done.code, done.out) == (2, "")
    assert "[usage/write]" in done.err
    assert sorted(os.listdir(pybuild.cwd)) == ["id", "metadata", "test.rec"]


def test_a_failed_build_writes_no_files_and_gives_no_names(pybuild: Pybuild) -> None:
    pybuild.write("bad.rec", "FROM box\nRUN echo problem; exit 3\n")
    done = pybuild.try_("bad.rec", "-t", "bad", "--iidfile", "id", "-o", "type=tar,dest=out.tar")
    assert (done.code, done.out) == (1, "")
    assert "problem" in done.err
    assert "[step/failed]" in done.err
    assert os.listdir(pybuild.cwd) == ["bad.rec"]
    assert pybuild("images", "--names") == "box:latest\n"


def test_an_output_on_a_pipe_is_all_that_standard_output_has(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE)
    for kind in ("docker", "oci", "tar"):
        done = subprocess.run(
            (*ARGV, "build", "test.rec", "-o", f"type={kind},dest=-"),
            env=pybuild.environment(),
            cwd=pybuild.cwd,
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:") as archive:
            names = archive.getnames()
        assert {"docker": "manifest.json", "oci": "oci-layout", "tar": "hello"}[kind] in names
        assert len(done.stdout) % 512 == 0


def test_several_outputs_at_once(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-o", "type=oci,dest=a.tar", "-o", "type=tar,dest=b.tar", "-o", "type=dir,dest=d")
    assert {"a.tar", "b.tar", "d"} <= set(os.listdir(pybuild.cwd))


def test_progress_has_no_escape_codes_on_a_pipe_and_json_is_json(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", RECIPE)
    done = pybuild.try_("test.rec", "--progress", "json")
    assert [json.loads(line)["event"] for line in done.err.splitlines()][-1] == "build_finished"
    for options in (["--no-cache"], ["--explain"], ["--progress=plain"], []):
        done = pybuild.try_("test.rec", *options)
        assert done.code == 0
        assert "\x1b" not in done.err
    assert pybuild.try_("test.rec", "-q").err == ""


def test_a_reader_that_goes_away_is_no_error(pybuild: Pybuild) -> None:
    for argv in (["images"], ["inspect", "box"], ["diff", "box"], ["help"]):
        with pybuild.start(*argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            error = process.stderr.read()
            assert process.wait(20) == 128 + signal.SIGPIPE
        assert error == ""


def start_and_wait(pybuild: Pybuild, word: str) -> subprocess.Popen[str]:
    """Start a build, and wait until its step runs."""
    pybuild.write("test.rec", SLEEPING.format(word))
    process = pybuild.start("test.rec", "-t", "never")
    end = time.monotonic() + 30
    while len(processes(f"sleep\0{word}")) < 2:
        assert time.monotonic() < end
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing(pybuild: Pybuild, number: signal.Signals) -> None:
    word = f"4{number}7{os.getpid()}"
    with start_and_wait(pybuild, word) as process:
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    end = time.monotonic() + 10
    while number == signal.SIGKILL and processes(f"sleep\0{word}") and time.monotonic() < end:
        time.sleep(0.02)
    assert not processes(f"sleep\0{word}")
    assert pybuild.root not in mount_table()
    assert "Traceback" not in error
    pybuild.write("test.rec", "FROM box\nRUN echo before > /x\n")
    done = pybuild.try_("test.rec")
    assert "0 steps run, 1 cached" in done.err  # what was whole is kept
    assert os.listdir(pybuild.root + "/tmp") == []
    assert pybuild("images", "--names") == "box:latest\n"


def test_a_prune_leaves_a_running_build_alone(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\nRUN echo one > /one\nRUN sleep 1.5\nRUN cat /one > /two\n")
    with pybuild.start("test.rec", "-t", "built") as process:
        time.sleep(0.7)
        pybuild("prune")
        _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert pybuild("run", "--rm", "built", "cat", "/two") == "one\n"


def test_help_of_every_command_fits_and_has_an_option_a_line(pybuild: Pybuild) -> None:
    for name in COMMANDS:
        text = pybuild(name, "--help", COLUMNS="80")
        assert text.startswith(f"usage: pybuild {name} ")
        assert max(map(len, text.splitlines())) <= 80, name
        assert pybuild("help", name, COLUMNS="80") == text
        assert "--root DIR" in text
    text = pybuild("--help", COLUMNS="80")
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert pybuild("help", COLUMNS="80") == pybuild("-h", COLUMNS="80") == text


def test_version(pybuild: Pybuild) -> None:
    assert pybuild("version") == pybuild("--version")
    assert pybuild("version").startswith("pybuild ")
    assert len(pybuild("version", "--verbose").splitlines()) == 3


@pytest.mark.parametrize(
    ("argv", "code", "hint"),
    [
        (["imgaes"], "usage/command", "Did you mean images?"),
        (["rnu", "box"], "usage/command", "Did you mean run?"),
        (["xyzzy"], "usage/command", "pybuild --help"),
        (["help", "tga"], "usage/command", "Did you mean tag?"),
        (["no/such.rec"], "recipe/unreadable", ""),
        (["images", "--no-trnc"], "usage/error", "Did you mean --no-trunc?"),
        (["test.rec", "--target"], "usage/error", "pybuild build --help"),
        (["test.rec", "--progress", "loud"], "usage/error", "pybuild build --help"),
        (["tag", "box"], "usage/error", "pybuild tag --help"),
        (["build", "a", "b", "c"], "usage/error", ""),
        (["test.rec", "-t", "Bad Name"], "usage/name", ""),
        (["test.rec", "--build-arg", "=x"], "usage/build-arg", ""),
        (["test.rec", "--label", "=x"], "usage/pair", ""),
        (["test.rec", "--platform", "toaster"], "usage/platform", ""),
        (["test.rec", "--timestamps", "never"], "usage/timestamps", ""),
        (["test.rec", "-o", "type=cake,dest=x"], "usage/output", ""),
        (["test.rec", "--target", "nothing"], "stage/unknown", ""),
    ],
)
def test_a_wrong_command_line_is_one_clear_message(
    pybuild: Pybuild, argv: list[str], code: str, hint: str
) -> None:
    pybuild.write("test.rec", RECIPE)
    done = pybuild.try_(*argv)
    assert (done.code, done.out) == (2, "")
    assert f"[{code}]" in done.err.splitlines()[0]
    assert hint in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 8


def test_a_file_called_like_a_command_is_still_reached(pybuild: Pybuild) -> None:
    pybuild.write("images", RECIPE)
    assert pybuild("build", "images").startswith("sha256:")
    assert pybuild("./images").startswith("sha256:")


def test_verify_names_what_differs(pybuild: Pybuild) -> None:
    pybuild.write("good.rec", "FROM scratch\nCOPY good.rec /\n")
    assert pybuild("verify", "good.rec").startswith("the same image both times: sha256:")
    for name in ("busybox",):
        subprocess.run(["cp", f"/bin/{name}", pybuild.cwd], check=True)
    pybuild.write(
        "bad.rec",
        'FROM scratch\nCOPY busybox /bin/\nSHELL ["/bin/busybox", "sh", "-c"]\n'
        "RUN /bin/busybox date +%s > /when; echo same > /same\n",
    )
    done = pybuild.try_("verify", "bad.rec")
    assert done.code == 1
    assert "  /when: content, from byte" in done.out
    assert "/same" not in "".join(line for line in done.lines if line.startswith("  "))
    assert pybuild("images", "--names") == "box:latest\n"
