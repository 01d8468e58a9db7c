"""`pybuild doctor`: what it says of this host and of hosts that lack something; it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.host import CAPABILITIES, LIBRARIES, Check, examine
from tests.command_fixtures.pybuild import ARGV
from tests.rootless_fixtures.user import User

NAMES = {
    "kernel", "privileges", "namespaces", "seccomp", "store", "space", "attributes", "overlay", "snapshotter",
    "libraries",
    "mmdebstrap", "gpgv", "git", "debian keys", "certificates", "cgroups", "emulation", "user namespaces",
    "subordinate ids", "network",
}  # fmt: skip


def doctor(
    *arguments: str, prefix: tuple[str, ...] = (), cwd: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-m", "builder.main", "doctor", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.stderr == ""
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_this_host_can_build(tmp_path: Path) -> None:
    done = doctor("--root", str(tmp_path / "store"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "Builds can run on this host."
    assert any(line.startswith("ok       overlay ") for line in lines)


def test_json_has_every_check_and_the_verdict(tmp_path: Path) -> None:
    done = doctor("--root", str(tmp_path), "--json")
    checks = found(done)
    assert set(checks) == NAMES
    assert json.loads(done.stdout)["able"] is True
    assert all(set(check) == {"name", "status", "detail", "remedy"} for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["status"] != "ok")
    for library in LIBRARIES:
        assert f"{library} " in checks["libraries"]["detail"]


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    # In a mount namespace of its own: on the host's, others mount and unmount.
    script = (
        'cp /proc/self/mountinfo "$0/before"; "$@"; code=$?; cp /proc/self/mountinfo "$0/after"; exit $code'
    )
    stores = tmp_path / "stores"
    (stores / "old" / "tmp").mkdir(parents=True)
    for root in ("old", "new/store"):
        done = doctor(
            "--root", str(stores / root), "--json",
            prefix=("unshare", "--mount", "sh", "-c", script, str(tmp_path)),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert set(found(done)) == NAMES
        assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text() != ""
    assert sorted(str(path.relative_to(stores)) for path in stores.rglob("*")) == ["old", "old/tmp"]


def test_without_root_and_user_namespaces_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    # Nobody in particular, who can read what root can: the checkout may be anywhere.
    done = doctor("--root", str(tmp_path), "--json", prefix=("unshare", "--user"))
    assert done.returncode == 4, done.stderr
    checks = found(done)
    assert checks["privileges"]["status"] == "missing"
    assert "needs root, or a user namespace" in checks["privileges"]["detail"]
    assert checks["privileges"]["remedy"]
    assert "overlay" not in checks


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize("ids", ["subordinate", "single"])
def test_a_user_is_told_how_builds_will_run(tmp_path: Path, ids: str) -> None:
    user = User(str(tmp_path), subordinate=ids == "subordinate")
    done = user.try_("doctor", "--json")
    assert done.code == 0, done.out
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert set(checks) == NAMES
    told = {
        "subordinate": "with 65536 subordinate ids",
        "single": "with that id alone (/etc/subuid has nothing for this user)",
    }
    assert told[ids] in checks["privileges"]["detail"]
    assert checks["overlay"]["status"] == checks["snapshotter"]["status"] == "ok"
    assert user.leftovers() == []
    assert not os.path.exists(user.store)


def test_root_of_a_container_without_the_right_to_mount_has_a_namespace(tmp_path: Path) -> None:
    drop = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    done = doctor("--json", "--root", str(tmp_path), prefix=drop)
    assert done.returncode == 0, done.stdout
    assert "root of a container that may not mount" in found(done)["privileges"]["detail"]


def test_root_without_any_capability_is_told_which_it_takes(tmp_path: Path) -> None:
    drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    done = doctor("--json", "--root", str(tmp_path), prefix=drop)
    assert done.returncode == 4
    assert "CAP_SETFCAP" in found(done)["privileges"]["remedy"]


@pytest.mark.peer("newuidmap")
def test_where_newuidmap_can_gain_nothing_one_id_does(tmp_path: Path) -> None:
    """As in a pod with allowPrivilegeEscalation: false."""
    user = User(str(tmp_path), subordinate=True)
    done = user.shell("setpriv", "--no-new-privs", *ARGV, "doctor", "--json")
    assert done.code == 0
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert "no_new_privs is set" in checks["privileges"]["detail"]


def test_a_lost_capability_is_named() -> None:
    done = doctor("--json", prefix=("setpriv", "--bounding-set=-mknod", "--inh-caps=-all"))
    assert done.returncode == 4
    assert "CAP_MKNOD" in found(done)["privileges"]["detail"]
    assert CAPABILITIES["mknod"] == 27


def test_a_store_on_an_overlay_cannot_hold_an_upper_directory(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mount = f'mount -t overlay overlay -o {options} {tmp_path}/merged && exec "$@"'
    done = doctor("--root", f"{tmp_path}/merged", prefix=("unshare", "--mount", "sh", "-c", mount, "sh"))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "MISSING  overlay " in done.stdout
    assert "overlay cannot hold an upper directory" in done.stdout
    assert "-> " in done.stdout and "--root" in done.stdout
    assert done.stdout.endswith("Builds cannot run on this host.\n")


def test_a_read_only_store_is_told(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o ro tmpfs {tmp_path} && exec "$@"'
    done = doctor("--root", str(tmp_path), "--json", prefix=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert done.returncode == 4
    assert "not writable" in found(done)["store"]["detail"]


def test_a_small_store_is_only_a_warning(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=50m tmpfs {tmp_path} && exec "$@"'
    done = doctor("--root", str(tmp_path), "--json", prefix=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(done)["space"]["status"] == "optional"
    assert "prune" in found(done)["space"]["remedy"]


def test_programs_that_are_not_there_are_told_with_their_package(tmp_path: Path) -> None:
    done = doctor("--json", "--root", str(tmp_path), PATH=str(tmp_path))
    assert done.returncode == 0
    checks = found(done)
    for name in ("mmdebstrap", "gpgv", "git"):
        assert checks[name]["status"] == "optional"
        assert checks[name]["remedy"] == f"apt-get install {name}"


def test_a_wrong_configuration_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pybuild.toml").write_text("rot = '/x'\n")
    done = doctor(cwd=str(tmp_path), PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    assert done.returncode == 2
    assert "did you mean `root`?" in done.stderr


def test_a_check_that_is_not_ok_always_has_a_remedy(tmp_path: Path) -> None:
    checks: list[Check] = list(examine(str(tmp_path)))
    assert all(check.remedy or check.status == "ok" for check in checks)
