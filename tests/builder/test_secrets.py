"""--secret: what a step gets of it, and that nothing else ever does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.events import StepOutput
from builder.secrets import LARGEST, SecretSource, parse_secret
from tests.build_fixtures.project import Project

VALUE = "correct-horse-battery-staple-7391"
MOUNT = "RUN --mount=type=secret,id=token"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "token.txt"
    path.write_text(VALUE + "\n")
    return str(path)


# As a file, as a variable


def test_a_file_for_root_alone_in_memory(project: Project, secret: str) -> None:
    outcome = project.build(
        f"FROM base\n{MOUNT} stat -c '%u:%g %a' /run/secrets/token > /seen; "
        "stat -f -c %T /run/secrets/token >> /seen; wc -c < /run/secrets/token >> /seen; "
        "echo x > /run/secrets/token 2>&1 || echo read-only >> /seen\n",
        f"--secret=id=token,src={secret}",
    )
    size = len(VALUE) + 1
    assert project.read(outcome, "seen").decode() == f"0:0 400\ntmpfs\n{size}\nread-only\n"
    assert project.layer(outcome) == ["seen"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("target=/etc/my.conf", "/etc/my.conf 0:0 400"),
        ("target=my.conf", "/w/my.conf 0:0 400"),
        ("uid=1000,gid=1001,mode=0440", "/run/secrets/token 1000:1001 440"),
        ("mode=0444", "/run/secrets/token 0:0 444"),
        ("env=T,target=/both", "/both 0:0 400"),
    ],
)
def test_where_and_whose_it_is(project: Project, secret: str, options: str, shown: str) -> None:
    path = shown.split()[0]
    outcome = project.build(
        f"FROM base\nWORKDIR /w\n{MOUNT},{options} stat -c '%n %u:%g %a' {path}\n",
        f"--secret=id=token,src={secret}",
    )
    assert (outcome.output, project.layer(outcome)) == (shown + "\n", [])


def test_a_user_reads_what_is_the_user_s(project: Project, secret: str) -> None:
    outcome = project.build(
        f"FROM base\nUSER app\n{MOUNT} cat /run/secrets/token 2>/dev/null || echo none\n"
        f"{MOUNT},uid=1000 wc -l < /run/secrets/token\n",
        f"--secret=id=token,src={secret}",
    )
    assert outcome.output == "none\n1\n"


def test_as_a_variable_there_is_no_file(project: Project, secret: str) -> None:
    outcome = project.build(
        "FROM base\nENV TOKEN=of-the-image\n"
        f"{MOUNT},env=TOKEN echo ${{#TOKEN}} > /seen; ls /run > /ls 2>&1 || true\n"
        "RUN echo $TOKEN >> /seen\n",
        f"--secret=id=token,src={secret}",
    )
    assert project.read(outcome, "seen").decode() == f"{len(VALUE) + 1}\nof-the-image\n"
    assert "secrets" not in project.read(outcome, "ls").decode()
    assert VALUE not in outcome.image.to_json().decode()


def test_a_secret_that_was_not_given(project: Project) -> None:
    outcome = project.build(
        f"FROM base\n{MOUNT} ls /run/secrets 2>/dev/null || echo none\n{MOUNT},env=T echo ${{T-unset}}\n"
    )
    assert outcome.output == "none\n\n"
    for options in ("required", "required=true", "required,env=T"):
        with pytest.raises(UsageError) as caught:
            project.build(f"FROM base\n{MOUNT},{options} true\n")
        assert caught.value.code == "secret/missing"
        assert caught.value.hint is not None
        assert "--secret id=token,src=FILE" in caught.value.hint


def test_an_id_may_be_the_target_s_name(project: Project, secret: str) -> None:
    outcome = project.build(
        "FROM base\nRUN --mount=type=secret,target=/x/token wc -l < /x/token\n",
        f"--secret=id=token,src={secret}",
    )
    assert outcome.output == "1\n"


# What the option takes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=a,src=FILE", SecretSource("a", "FILE")),
        ("id=a,source=FILE", SecretSource("a", "FILE")),
        ("type=file,id=a,src=FILE", SecretSource("a", "FILE")),
        ("id=a,env=V", SecretSource("a", variable="V")),
        ("type=env,id=a,src=V", SecretSource("a", variable="V")),
        ("type=env,id=V", SecretSource("V", variable="V")),
        ("id=V", SecretSource("V", variable="V")),
        ('"id=a","src=FILE,x"', SecretSource("a", "FILE,x")),
        ("ID=a,SRC=FILE", SecretSource("a", "FILE")),
    ],
)
def test_forms_of_the_option(
    text: str, expected: SecretSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V", "1")
    monkeypatch.chdir(tmp_path)
    for name in ("FILE", "FILE,x"):
        (tmp_path / name).touch()
    path = str(tmp_path / expected.path) if expected.path else ""
    assert parse_secret(text) == SecretSource(expected.id, path, expected.variable)


@pytest.mark.parametrize(
    "text",
    ["", "a", "src=/etc/passwd", "id=a,type=vault", "id=a,to=b", "id=a,src=b,env=c", 'id="', "id=nowhere"],
)
def test_malformed_options(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        parse_secret(text)
    assert caught.value.code == "usage/secret"


def test_a_secret_can_come_from_the_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", VALUE)
    text = f"FROM base\n{MOUNT} wc -c < /run/secrets/token\n"
    assert project.build(text, "--secret=id=token,env=MY_TOKEN").output == f"{len(VALUE)}\n"
    monkeypatch.delenv("MY_TOKEN")
    required = f"FROM base\n{MOUNT},required true\n"
    with pytest.raises(UsageError, match="MY_TOKEN"):
        project.build(required, "--secret=id=token,env=MY_TOKEN")


def test_a_pipe_is_read_once_and_only_if_a_step_asks_for_it(project: Project, tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    option = f"--secret=id=token,src={pipe}"
    # Nobody writes to it: whoever read it would wait for ever.
    assert project.build("FROM base\nRUN echo 1\n", option).output == "1\n"
    writer = threading.Thread(target=lambda: Path(pipe).write_text(VALUE))
    writer.start()
    outcome = project.build(
        f"FROM base\n{MOUNT} wc -c < /run/secrets/token\n{MOUNT} cat /run/secrets/token\n", option
    )
    writer.join()
    assert outcome.output == f"{len(VALUE)}\n***"


def test_what_is_too_large_or_not_there_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    (tmp_path / "just").write_bytes(b"x" * LARGEST)
    text = f"FROM base\n{MOUNT} wc -c < /run/secrets/token\n"
    with pytest.raises(UsageError) as caught:
        project.build(text, f"--secret=id=token,src={tmp_path}/large")
    assert caught.value.code == "secret/too-large"
    assert project.build(text, f"--secret=id=token,src={tmp_path}/just").output == f"{LARGEST}\n"
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError) as caught:
        project.build(f"FROM base\n{MOUNT} true\n", f"--secret=id=token,src={tmp_path}/directory")
    assert caught.value.code == "secret/unreadable"


def test_bytes_that_no_variable_can_have(project: Project, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\0\xff\n")
    option = f"--secret=id=token,src={tmp_path}/binary"
    assert project.build(f"FROM base\n{MOUNT} wc -c < /run/secrets/token\n", option).output == "3\n"
    with pytest.raises(UsageError) as caught:
        project.build(f"FROM base\n{MOUNT},env=T true\n", option)
    assert caught.value.code == "secret/variable"


# The cache


def test_another_value_is_no_reason_to_run_again(project: Project, secret: str) -> None:
    text = f"FROM base\n{MOUNT} cat /run/secrets/token > /dev/null\n"
    option = f"--secret=id=token,src={secret}"
    assert project.build(text, option).outcomes == ["ran"]
    Path(secret).write_text("something else entirely")
    assert project.build(text, option).outcomes == ["cached"]
    assert project.build(text).outcomes == ["cached"]


# Nobody else


def test_pybuild_leaves_no_core_dump_once_it_knows_a_secret(project: Project, secret: str) -> None:
    import ctypes

    project.build("FROM base\nRUN true\n", f"--secret=id=token,src={secret}")
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
    assert dumpable == 0


def test_what_a_step_prints_is_masked_wherever_it_is_cut(project: Project, secret: str) -> None:
    half = len(VALUE) // 2
    outcome = project.build(
        f"FROM base\n{MOUNT} cat /run/secrets/token; cat /run/secrets/token >&2; "
        f"printf {VALUE[:half]}; sleep 0.3; printf {VALUE[half:]}; echo; echo {VALUE[:-1]}\n",
        f"--secret=id=token,src={secret}",
    )
    pieces = {"stdout": b"", "stderr": b""}
    for event in outcome.events:
        if isinstance(event, StepOutput):
            pieces[event.stream] += event.data
    assert pieces == {"stdout": b"***\n***\n" + VALUE[:-1].encode() + b"\n", "stderr": b"***\n"}


def test_what_another_step_has_left_in_a_layer_is_masked_too(project: Project, secret: str) -> None:
    """The step that left it is cached: this build has not asked for the secret."""
    option = f"--secret=id=token,src={secret}"
    text = f"FROM base\n{MOUNT} cp /run/secrets/token /stolen\n"
    project.build(text, option)
    outcome = project.build(text + "RUN cat /stolen\n", option)
    assert (outcome.outcomes, outcome.output) == (["cached", "ran"], "***\n")


def test_tests_are_masked_too(project: Project, secret: str) -> None:
    outcome = project.build(
        f"FROM base\n{MOUNT} cp /run/secrets/token /stolen\nTEST cat /stolen\n",
        f"--secret=id=token,src={secret}",
    )
    assert outcome.output == "***\n"


FAILURES = {
    "nothing": "",
    "the step": f"{MOUNT} cat /run/secrets/token; env; exit 3\n",
    "the step, by its variable": f"{MOUNT},env=TOKEN echo $TOKEN; export; exit 3\n",
    "the command is missing": f'{MOUNT},env=TOKEN ["/nothing"]\n',
    "a later step": "RUN false\n",
    "a mount": f"{MOUNT} --mount=type=tmpfs,target=/etc/passwd true\n",
    "another secret": f"{MOUNT} --mount=type=secret,id=other,required true\n",
    "a copy": "COPY nothing /\n",
    "a test": "TEST exit 3\n",
    "a signal": f"{MOUNT},env=TOKEN kill -SEGV $$\n",
}


@pytest.mark.parametrize(
    ("stage", "progress"),
    [*((stage, "plain") for stage in FAILURES), ("nothing", "json"), ("the step", "json")],
)
def test_a_secret_is_nowhere_after_a_build(project: Project, secret: str, stage: str, progress: str) -> None:
    """Not in the store, not in an output, not in a log, whether the build succeeds or where ever it fails."""
    project.recipe(
        f"FROM base\n{MOUNT} --mount=type=cache,target=/cache wc -c < /run/secrets/token > /size; "
        "cat /run/secrets/token\n"
        f"{MOUNT},env=TOKEN echo $TOKEN; echo $TOKEN >&2; rm /size\n" + FAILURES[stage]
    )
    words = ["app.rec", f"--secret=id=token,src={secret}", f"--progress={progress}", "--explain", "-t", "app"]
    written = [f"--output=type={kind},dest={project.directory}/out.{kind}" for kind in ("oci", "docker")]
    files = ["--metadata-file", f"{project.directory}/metadata", "--iidfile", f"{project.directory}/id"]
    done = project.command(*words, *written, *files)
    assert (done.returncode == 0) == (stage == "nothing"), done.stderr
    assert VALUE not in done.stdout + done.stderr
    assert "***" in done.stderr
    project.command("plan", *words[:2], "--format=json")
    project.command("history", "app", "--no-trunc")
    os.unlink(secret)
    found = subprocess.run(["grep", "-rlaF", VALUE, project.directory], capture_output=True, text=True)
    assert found.stdout == ""
    for name in ("out.oci", "out.docker"):
        path = os.path.join(project.directory, name)
        if os.path.exists(path):
            unpacked = subprocess.run(
                f"mkdir {path}.d && tar -xf {path} -C {path}.d && cd {path}.d && "
                f'find . -type f -exec sh -c \'gzip -cdf "$1" 2>/dev/null || cat "$1"\' sh {{}} \\;',
                shell=True,
                capture_output=True,
                check=True,
            )
            assert len(unpacked.stdout) > 1000
            assert VALUE.encode() not in unpacked.stdout


def test_a_secret_is_in_no_command_line_and_in_the_environment_of_its_step_alone(
    project: Project, secret: str
) -> None:
    """While a step runs, every process of the host is looked at."""
    project.recipe(f"FROM base\n{MOUNT} echo ready; sleep 60\n")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "builder.main",
            "app.rec",
            f"--secret=id=token,src={secret}",
            "--progress=json",
        ],
        cwd=project.context,
        env=project.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert any("ready" in line and '"step_output"' in line for line in process.stderr)
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            for name in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
                if VALUE.encode() in data:
                    found.append((pid, name))
        assert found == []
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
