"""The image of pybuild, seen from inside."""

import json


def test_it_runs_as_a_user_with_subordinate_ids(host):
    assert host.user().name == "pybuild"
    assert host.user().uid == 1000
    for kind in ("uid", "gid"):
        lines = host.file(f"/etc/sub{kind}").content_string.splitlines()
        ranges = [tuple(map(int, line.split(":")[1:])) for line in lines]
        ids = {number for first, count in ranges for number in range(first, first + count)}
        assert ids == set(range(1, 65536)) - {1000}
        assert not host.file(f"/usr/bin/new{kind}map").mode & 0o4000
        assert host.check_output(f"getcap /usr/bin/new{kind}map").endswith(f" cap_set{kind}=ep")


def test_the_store_and_the_working_directory_are_the_users(host):
    for path in ("/var/lib/pybuild", "/work", "/home/pybuild"):
        assert host.file(path).user == host.file(path).group == "pybuild"
    assert host.check_output("echo $PYBUILD_ROOT") == "/var/lib/pybuild"


def test_the_user_cannot_change_the_program(host):
    assert host.check_output("find /opt/pybuild ! -type l -perm /o+w") == ""
    assert host.run("test -w /opt/pybuild -o -w /opt/pybuild/bin/pybuild").rc != 0


def test_doctor_finds_every_program_and_library(host):
    """In a step no build can run, and doctor says so; but what it takes is there."""
    told = json.loads(host.run("pybuild doctor --json").stdout)
    checks = {check["name"]: check for check in told["checks"]}
    for name in ("libraries", "mmdebstrap", "gpgv", "git", "debian keys", "certificates", "network"):
        assert checks[name]["status"] == "ok", checks[name]
    for name in ("fuse-overlayfs", "pasta", "ssh", "ssh-agent"):
        assert host.exists(name)


def test_it_brings_testinfra(host):
    host.check_output("/opt/pybuild/bin/python -c 'import testinfra, pytest, pybuild_testinfra'")


def test_it_ships_no_pip_and_nothing_of_what_made_it(host):
    assert host.run("python3 -m pip --version").rc != 0
    for path in ("/build", "/dist", "/opt/setuptools"):
        assert not host.file(path).exists
    assert host.run("ls /usr/local/share/ca-certificates/*").rc != 0


def test_everything_is_compiled_and_python_does_not_look_at_the_sources(host):
    """Flags 1 in a .pyc's head (PEP 552): by hash, and unchecked."""
    flags = "while read f; do od -An -tx1 -j4 -N4 $f; done"
    script = f"find /opt/pybuild/lib -name '*.pyc' | {flags} | sort | uniq -c"
    assert host.check_output(script).split()[1:] == ["01", "00", "00", "00"]
    assert host.run("ls /opt/pybuild/lib/python3*/site-packages/builder/__pycache__/main.*.pyc").rc == 0
