"""The image of the Python service, seen from inside."""


def test_it_runs_as_its_own_user(host):
    assert host.user().name == "links"
    assert host.file("/data").user == "links"
    assert host.run("test -w /opt/links/app/links/app.py").rc != 0


def test_the_environment_holds_what_was_required_and_no_more(host):
    packages = host.check_output("ls /opt/links/lib/python3.11/site-packages").split()
    assert [name for name in packages if name.endswith(".dist-info")] == [
        "bottle-0.13.4.dist-info",
        "waitress-3.0.2.dist-info",
    ]


def test_the_python_is_that_of_the_environment(host):
    assert host.check_output("python -c 'import sys; print(sys.prefix)'") == "/opt/links"


def test_it_ships_no_pip_and_no_certificate_of_the_builder(host):
    assert host.run("python -m pip --version").rc != 0
    assert host.run("ls /usr/local/share/ca-certificates/*").rc != 0


def test_everything_is_compiled_by_hash(host):
    """Flags 3 in a .pyc's head (PEP 552): it names its source by hash, not by a time."""
    head = host.check_output("od -An -tx1 -j4 -N4 /opt/links/app/links/__pycache__/app.cpython-311.pyc")
    assert head.split() == ["03", "00", "00", "00"]
