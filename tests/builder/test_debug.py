"""`pybuild debug`: a step that failed is entered on a real terminal, mended, run again and gone on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from cache.store import Store
from tests.command_fixtures.pybuild import Pybuild
from tests.debug_fixtures.terminal import Terminal
from tests.sandbox_fixtures.scene import mount_table, processes

FAILING = """\
FROM box
ENV GREETING=hello
WORKDIR /work
RUN echo begun > begun && rm -f /etc/group && cat mended && echo "$GREETING" > done
RUN cat done > after
CMD ["cat", "/work/after"]
"""


def fail(pybuild: Pybuild, recipe: str = FAILING, *argv: str, **env: str) -> str:
    """Build a recipe that has to fail; return what is told of it."""
    pybuild.write("test.rec", recipe)
    done = pybuild.try_("test.rec", *argv, **env)
    assert done.code == 1, done.err
    return done.err


def kept(pybuild: Pybuild) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pybuild.json("debug", "--list", "--json")
    return found


def left_over(pybuild: Pybuild) -> list[str]:
    return os.listdir(f"{pybuild.root}/tmp")


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_failed_step_is_entered_mended_with_retry_and_finished_with_continue(pybuild: Pybuild) -> None:
    told = fail(pybuild, FAILING, "-t", "app", "-o", "type=oci,dest=app.tar", "--iidfile", "id")
    assert "hint: `pybuild debug` opens a shell where it failed" in told
    mounts = mount_table()
    terminal = Terminal(pybuild, "debug")
    banner = terminal.prompt()
    assert "RUN echo begun" in banner and "test.rec:4, stage stage-0" in banner
    assert "exit code 1" in banner and "as root in /work" in banner
    assert terminal.type("cat begun").split() == ["begun"]
    assert terminal.type("diff").split("\r\n")[1:-1] == ["D /etc/group", "A /work/begun"]
    again = terminal.type("retry")
    assert "cat: can't open 'mended'" in again and "failed with exit code 1" in again
    terminal.type("echo whole > mended")
    assert "it succeeded; `continue` goes on" in terminal.type("retry")
    code, text = terminal.end("continue")
    assert code == 0 and "built" in text
    assert pybuild("run", "--rm", "app") == "hello\n"
    assert os.path.getsize(f"{pybuild.cwd}/app.tar")
    with open(f"{pybuild.cwd}/id") as file:
        assert file.read() == pybuild.json("inspect", "app")[0]["Id"]
    assert kept(pybuild) == [] and left_over(pybuild) == []
    assert mount_table() == mounts
    lines = pybuild("history", "--no-trunc", "app").splitlines()
    assert [line for line in lines if "mended by hand" in line] == [
        line for line in lines if "echo begun" in line
    ]


def test_what_was_mended_is_no_result_of_the_line_for_other_builds(pybuild: Pybuild) -> None:
    fail(pybuild)
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    code, _ = terminal.end("echo hello > done; echo mine > mended; continue")
    assert code == 0
    told = fail(pybuild)
    assert "RUN echo begun" in told and "exit code 1" in told
    # Once the recipe does what was done by hand, all goes on from what was made then.
    pybuild.write("test.rec", FAILING.replace("cat mended &&", "echo mine > mended &&"))
    steps = [
        json.loads(line)
        for line in pybuild.try_("test.rec", "--progress", "json").err.splitlines()
        if '"step_finished"' in line
    ]
    assert [step["outcome"] for step in steps] == ["cached", "same", "cached"]


def test_nothing_of_the_shell_is_left_in_the_layer(pybuild: Pybuild) -> None:
    fail(pybuild, FAILING, "-t", "app")
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.type("echo x > mended; ls -a /root / /run/pybuild-debug")
    terminal.type("retry")
    assert terminal.end("continue")[0] == 0
    changed = pybuild("diff", "app").splitlines()
    wanted = ["D /etc/group", "A /work", "A /work/after", "A /work/begun", "A /work/done", "A /work/mended"]
    assert sorted(changed) == sorted(wanted)


def test_the_shell_is_where_the_step_is(pybuild: Pybuild) -> None:
    pybuild.write("context", "from the context")
    recipe = """\
FROM box AS other
RUN echo other > /stage
FROM box
ARG COLOUR=green
ENV SIZE=large
WORKDIR /home/app
USER app
WORKDIR sub
RUN --network=none --mount=type=bind,source=context,target=/in/context \\
    --mount=type=bind,from=other,source=/stage,target=/in/stage \\
    --mount=type=cache,target=/cache,mode=0777 --mount=type=tmpfs,target=/memory false
"""
    fail(pybuild, recipe)
    ran = pybuild(
        "debug",
        "-c",
        "id -un; pwd; echo $COLOUR $SIZE; cat /in/*; ls /sys/class/net; touch /cache/x /memory/x",
    )
    assert ran == "app\n/home/app/sub\ngreen large\nfrom the contextother\nlo\n"
    assert pybuild("debug", "-u", "root", "-c", "id -un") == "root\n"
    assert pybuild.try_("debug", "-c", "exit 42").code == 42


def test_reset_goes_back_to_before_the_step(pybuild: Pybuild) -> None:
    fail(pybuild)
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.type("echo x > mended")
    assert "state before the step" in terminal.type("reset")
    assert terminal.type("ls; cat /etc/group").split()[-1] == "extra:x:50:app"
    assert terminal.type("diff").split() == ["nothing"]
    code, text = terminal.end("exit")
    assert code == 1 and "comes back" in text
    assert [step["line"] for step in kept(pybuild)] == [4]


def test_diff_with_arguments_is_the_images(pybuild: Pybuild) -> None:
    fail(pybuild)
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    assert "-begun" in terminal.type("diff begun /etc/passwd")
    assert "retry, diff, reset, continue" in terminal.type("pybuild nothing")
    assert "A /work/begun" in terminal.type("pybuild diff")
    assert terminal.end("exit")[0] == 1


def test_the_directory_and_what_is_typed_ahead_outlast_a_retry(pybuild: Pybuild) -> None:
    fail(pybuild)
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.type("cd /etc", at="/etc")
    terminal.send("retry")
    terminal.child.expect_exact("pybuild: retry")
    terminal.child.sendline("echo typed ahead")
    terminal.child.expect_exact("\ntyped ahead\r")
    terminal.prompt("/etc")
    assert terminal.end("exit")[0] == 1


def test_an_interrupted_retry_leads_back_to_the_shell(pybuild: Pybuild) -> None:
    word = f"7{os.getpid()}"
    fail(pybuild, f"FROM box\nWORKDIR /work\nRUN if test -e slow; then sleep {word}; fi; false\n")
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.send("touch slow; retry")
    assert eventually(lambda: bool(processes(word)))
    terminal.child.sendintr()
    assert "interrupted" in terminal.prompt()
    assert not processes(word)
    assert terminal.end("exit")[0] == 1


def test_on_failure_a_shell_opens_at_once_and_again_at_the_next_failure(pybuild: Pybuild) -> None:
    recipe = FAILING.replace("RUN cat done > after", "RUN cat more done > after\nTEST false")
    pybuild.write("test.rec", recipe)
    terminal = Terminal(pybuild, "test.rec", "-t", "app", "--on-failure=shell")
    terminal.prompt()
    terminal.type("echo x > mended; retry")
    terminal.send("continue")
    assert "RUN cat more done" in terminal.prompt()
    terminal.send("cp done after && continue")
    assert "the test failed" in terminal.prompt()
    code, text = terminal.end("continue")
    assert code == 0 and "built" in text
    assert pybuild("run", "--rm", "app") == "hello\n"
    history = pybuild("history", "--no-trunc", "app")
    assert history.count("mended by hand") == 2


def test_what_was_mended_above_is_there_when_a_later_step_is_entered_afterwards(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", FAILING.replace("cat done >", "cat more done >"))
    terminal = Terminal(pybuild, "test.rec", "--on-failure=shell")
    terminal.prompt()
    terminal.send("echo hello > done; continue")
    terminal.prompt()
    assert terminal.end("exit")[0] == 1
    assert [step["line"] for step in kept(pybuild)] == [5]
    terminal = Terminal(pybuild, "debug", "test.rec")
    terminal.prompt()
    terminal.type("echo more > more; retry")
    assert terminal.end("continue")[0] == 0


def test_of_parallel_stages_the_first_failure_is_entered_and_the_others_go_on_afterwards(
    pybuild: Pybuild,
) -> None:
    word = f"8{os.getpid()}"
    recipe = f"""\
FROM box AS slow
RUN if test ! -e /context/quick; then sleep {word}; fi; echo slow > /slow
FROM box AS failing
WORKDIR /work
RUN false
FROM box
COPY --from=slow /slow /
COPY --from=failing /work/mended /
"""
    pybuild.write("test.rec", recipe.replace("RUN if", "RUN --mount=type=bind,target=/context if"))
    terminal = Terminal(pybuild, "test.rec", "-t", "app", "-j", "4", "--on-failure=shell")
    assert "RUN false" in terminal.prompt()
    assert not processes(word)
    pybuild.write("quick")
    code, _ = terminal.end("touch mended; continue")
    assert code == 0
    assert pybuild("run", "--rm", "app", "cat", "/slow", "/mended") == "slow\n"


def test_without_a_terminal_no_shell_opens(pybuild: Pybuild) -> None:
    assert fail(pybuild, FAILING, "--on-failure=shell").count("error:") == 1
    done = pybuild.try_("debug")
    assert (done.code, done.err.count("debug/terminal")) == (2, 1)


def test_a_step_whose_recipe_has_changed_is_entered_without_its_build(pybuild: Pybuild) -> None:
    fail(pybuild, FAILING.replace("RUN echo begun", "RUN --mount=type=bind,target=/context echo begun"))
    pybuild.write("test.rec", FAILING.replace("GREETING=hello", "GREETING=changed"))
    terminal = Terminal(pybuild, "debug", "test.rec")
    banner = terminal.prompt()
    assert "cannot go on from here" in banner and "there is no /context" in banner
    assert terminal.type("echo $GREETING").split()[-1] == "hello"
    assert "cannot go on from here" in terminal.type("continue")
    assert "it succeeded" in terminal.type("echo x > mended; retry")
    assert terminal.end("exit")[0] == 1
    assert pybuild("debug", "-c", "cat done") == "hello\n"


def test_an_image_without_a_shell_is_lent_this_hosts(pybuild: Pybuild) -> None:
    recipe = """\
FROM scratch
COPY busybox /bin/program
WORKDIR /work
RUN ["/bin/program", "false"]
"""
    with open("/bin/busybox", "rb") as source, open(f"{pybuild.cwd}/busybox", "wb") as target:
        target.write(source.read())
    os.chmod(f"{pybuild.cwd}/busybox", 0o755)
    fail(pybuild, recipe, "-t", "app")
    terminal = Terminal(pybuild, "debug")
    assert "host's busybox" in terminal.prompt()
    assert terminal.type("ls -A / | grep -c .; echo x > made; cat made").split()[-1] == "x"
    assert terminal.end("continue")[0] == 0
    assert pybuild("diff", "app").splitlines() == ["A /bin", "A /bin/program", "A /work", "A /work/made"]


def test_failed_tests_copies_and_scripts_are_entered_too(pybuild: Pybuild) -> None:
    fail(pybuild, "FROM box\nRUN mkdir -m 777 /tmp\nUSER app\nTEST echo tested > /tmp/x; false\n")
    assert pybuild("debug", "-c", "id -un; cat /tmp/x") == "app\ntested\n"
    fail(pybuild, "FROM box\nWORKDIR /work\nRUN <<END\n#!/bin/sh\necho script > here\nexit 3\nEND\n")
    assert pybuild("debug", "-c", "cat here; tail -n 1 /dev/pipes/script") == "script\nexit 3\n"
    assert kept(pybuild)[0]["status"] == 3
    fail(pybuild, "FROM box\nRUN /nothing/there\n")
    assert kept(pybuild)[0]["status"] == 127


def test_a_step_of_a_base_recipe_is_entered_and_gone_on_from(pybuild: Pybuild) -> None:
    pybuild.write("below.rec", "FROM box\nWORKDIR /work\nRUN cat config > done\n")
    fail(pybuild, "FROM ./below.rec\nRUN cat done > after\n", "-t", "app")
    assert [os.path.basename(step["file"]) for step in kept(pybuild)] == ["below.rec"]
    terminal = Terminal(pybuild, "debug", "below.rec")
    terminal.prompt()
    terminal.type("echo hello > config; retry")
    assert terminal.end("continue")[0] == 0
    assert pybuild("run", "--rm", "app", "cat", "/work/after") == "hello\n"


def test_packages_and_suites_are_entered_too(pybuild: Pybuild) -> None:
    fail(pybuild, "FROM box\nUSER app\nPACKAGES apt hello\n")
    assert pybuild("debug", "-c", "id -un; ls /run/pybuild") == "root\ncache\nreport\n"
    pybuild.write("suite/test_it.py", "def test_it(host):\n    assert host.file('/nothing').exists\n")
    fail(pybuild, "FROM box\nWORKDIR /work\nUSER app\nTEST --testinfra=suite\n")
    assert pybuild("debug", "-c", "id -un; pwd") == "app\n/work\n"


def test_there_are_few_and_none_for_long(pybuild: Pybuild) -> None:
    for number in range(4):
        fail(pybuild, f"FROM box\nRUN exit {number + 1}\n")
    assert [step["status"] for step in kept(pybuild)] == [4, 3]
    for number in range(12):
        fail(pybuild, "FROM box\n" + "\n" * number + "RUN exit 1\n", "--no-cache")
    assert len(kept(pybuild)) == 10
    fail(pybuild, "FROM box\nRUN head -c 1048576 /dev/zero > /big; false\n", "--no-cache")
    big = kept(pybuild)[0]["id"]
    oldest = kept(pybuild)[-1]["id"]
    path = f"{pybuild.root}/failed/{oldest}/step.json"
    with open(path, encoding="utf-8") as file:
        step = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**step, "created": step["created"] - 25 * 3600}, file)
    pybuild("prune", "--older-than", "24h")
    assert len(kept(pybuild)) == 9
    pybuild.build("FROM box\nRUN echo a build that runs something\n")
    assert "failed step" in pybuild("prune", "--dry-run")
    (item,) = [i for i in pybuild.json("prune", "--dry-run", "--json")["items"] if i["identity"] == big]
    assert item["size"] == 1 << 20
    assert len(kept(pybuild)) == 9
    pybuild("debug", "--rm", kept(pybuild)[0]["id"])
    assert len(kept(pybuild)) == 8
    pybuild("prune")
    assert kept(pybuild) == [] and os.listdir(f"{pybuild.root}/failed") == []


def test_what_a_failed_step_stands_on_stays_with_it(pybuild: Pybuild) -> None:
    fail(pybuild, "FROM box\nRUN echo below > /below\nRUN exit 1\n")
    (step,) = kept(pybuild)
    pybuild("prune", "--kind", "layer")
    with Store.open(pybuild.root) as store:
        assert step["parent"] in [layer.chain_id for layer in store.layers.all()]
    going = pybuild.json("prune", "--dry-run", "--json")["items"]
    assert [item["kind"] for item in going].index("failed step") < [i["identity"] for i in going].index(
        step["parent"]
    )


def test_somebody_else_cannot_enter_meanwhile_and_a_prune_leaves_it(pybuild: Pybuild) -> None:
    fail(pybuild)
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    assert "somebody else is in" in pybuild.try_("debug", "-c", "true").err
    pybuild("prune")
    assert terminal.type("cat begun").split()[-1] == "begun"
    assert terminal.end("exit")[0] == 1
    assert pybuild("debug", "-c", "cat begun") == "begun\n"


def test_a_killed_session_leaves_no_mount_no_process_and_the_step_as_it_was(pybuild: Pybuild) -> None:
    fail(pybuild)
    mounts = mount_table()
    word = f"9{os.getpid()}"
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.type(f"echo mine > mine; sleep {word} &")
    assert eventually(lambda: bool(processes(word)))
    os.kill(terminal.child.pid, signal.SIGKILL)
    assert eventually(lambda: not processes(word))
    terminal.child.close()
    assert mount_table() == mounts
    assert pybuild("debug", "-c", "cat mine begun") == "mine\nbegun\n"
    assert left_over(pybuild) == []


def test_a_hung_up_terminal_ends_the_shell(pybuild: Pybuild) -> None:
    fail(pybuild)
    word = f"6{os.getpid()}"
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    terminal.type(f"sleep {word} &")
    terminal.child.close(force=False)
    assert eventually(lambda: not processes(word))


def test_secrets_are_in_nothing_that_is_kept(pybuild: Pybuild) -> None:
    value = 'Sup3r-"secret"-value'
    pybuild.write("token", value)
    recipe = """\
FROM box
WORKDIR /work
RUN --mount=type=secret,id=token --mount=type=secret,id=name,env=NAME \\
    cat /run/secrets/token; echo $NAME; false
"""
    secrets = ("--secret", "id=token,src=token", "--secret", "id=name,env=NAME")
    fail(pybuild, recipe, *secrets, NAME="hidden-variable")
    for word in ("Sup3r", "hidden-variable"):
        found = subprocess.run(["grep", "-rl", word, pybuild.root], capture_output=True, text=True)
        assert found.stdout == ""
    # They are asked for again.
    ask = ("debug", "-c", "cat /run/secrets/token; echo .$NAME")
    assert pybuild(*ask, NAME="hidden-variable") == f"{value}.hidden-variable\n"
    os.rename(f"{pybuild.cwd}/token", f"{pybuild.cwd}/elsewhere")
    lost = pybuild.try_(*ask, NAME="x")  # it is entered all the same
    assert (lost.out, "/run/secrets/token" in lost.err) == (".\n", True)
    assert pybuild(*ask, "--secret", "id=token,src=elsewhere", NAME="x") == f"{value}.x\n"


def test_steps_are_found_by_directory_recipe_and_id(pybuild: Pybuild) -> None:
    os.mkdir(f"{pybuild.cwd}/other")
    pybuild.write("other/other.rec", "FROM box\nRUN exit 5\n")
    assert pybuild.try_("other/other.rec").code == 1
    fail(pybuild)
    steps = kept(pybuild)
    assert [step["status"] for step in steps] == [1, 5]
    here = Pybuild(pybuild.root, f"{pybuild.cwd}/other")
    assert here("debug", "-c", "pwd") == "/\n"
    assert pybuild("debug", "other/other.rec", "-c", "pwd") == "/\n"
    assert pybuild("debug", steps[0]["id"][:6], "-c", "pwd") == "/work\n"
    assert "other.rec:2" in pybuild("debug", "--list")
    done = pybuild.try_("debug", "ffffffffffff", "-c", "true")
    assert (done.code, "debug/unknown" in done.err) == (2, True)
    elsewhere = Pybuild(pybuild.root, "/")
    assert "debug/unknown" in elsewhere.try_("debug", "-c", "true").err


@pytest.mark.peer("bash")
def test_bash_is_used_where_there_is_one(pybuild: Pybuild) -> None:
    """The libraries of this host's bash come along."""
    program = os.path.realpath("/bin/bash")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for path in (program, *libraries):
        os.makedirs(f"{pybuild.cwd}/root{os.path.dirname(path)}", exist_ok=True)
        subprocess.run(["cp", "-L", path, f"{pybuild.cwd}/root{path}"], check=True)
    os.makedirs(f"{pybuild.cwd}/root/bin", exist_ok=True)
    subprocess.run(["cp", "-L", program, f"{pybuild.cwd}/root/bin/bash"], check=True)
    fail(pybuild, "FROM box\nCOPY root/ /\nWORKDIR /work\nRUN false\n", "-t", "app")
    terminal = Terminal(pybuild, "debug")
    terminal.prompt()
    assert terminal.type("echo $BASH_VERSION | cut -c1-2 && echo x > made").split()[-1][0].isdigit()
    assert "A /work/made" in terminal.type("diff")
    terminal.type("retry")
    terminal.child.send("\x1b[A\n")  # the history is that of the shell before
    assert "A /work/made" in terminal.prompt()
    assert terminal.end("continue")[0] == 0
    assert pybuild("diff", "app").count("/work/") == 1
