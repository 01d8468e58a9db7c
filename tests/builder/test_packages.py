"""PACKAGES: what is planned, the scripts that are run, and what is read of their reports."""

from __future__ import annotations

import os
import subprocess

import pytest

from builder.errors import PlanError
from builder.keys import packages_key
from builder.packages import line_of_step, parse_package, with_pins
from builder.packagescripts import MANAGERS, arguments, changed, pin_file, script
from builder.plan import PlanOptions, plan, settle
from builder.steps import Asked, PackagesStep, Plan
from cache.oci.digest import ChainID
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, ImageConfig
from grammar.parser import parse
from grammar.source import Source

AMD64 = Platform("linux", "amd64")
GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden_packages")
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
PARENT = ChainID("sha256:" + "12" * 32)


def planned(text: str, **options: object) -> Plan:
    given = PlanOptions(AMD64, AMD64, **options)  # type: ignore[arg-type]
    image = ImageConfig("amd64", "linux", config=ContainerConfig(env=("PATH=/bin",), user="app"))
    outlined, configs = settle(parse(Source("r", text)), given, lambda base: image, lambda text: None)  # type: ignore[arg-type,return-value]
    return plan(outlined, given, configs)


def step(line: str, before: str = "", **options: object) -> PackagesStep:
    found = planned(f"FROM x\n{before}{line}\n", **options).stages[0].steps[-1]
    assert isinstance(found, PackagesStep)
    return found


def refused(line: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        step(line)
    return caught.value


def key(line: str, before: str = "") -> str:
    return packages_key(step(line, before), PARENT, "linux/amd64").key


def test_packages_are_sorted_and_each_is_wanted_once() -> None:
    found = step("PACKAGES apt zsh curl=7.88.1-10 curl=7.88.1-10 bash")
    assert found.packages == (("bash", ""), ("curl", "7.88.1-10"), ("zsh", ""))
    assert found.created_by == "PACKAGES apt bash curl=7.88.1-10 zsh # pybuild"
    assert line_of_step(found) == "apt bash curl=7.88.1-10 zsh"


def test_words_expand_and_a_value_with_blanks_is_several_packages() -> None:
    found = step("PACKAGES apt $LIST tool=${V} $NONE", 'ARG V=2 LIST="a1 b1" NONE\n')
    assert found.packages == (("a1", ""), ("b1", ""), ("tool", "2"))


def test_the_command_sees_what_a_run_sees() -> None:
    asked = Asked(network="none", extra_hosts=(("a", "1.2.3.4"),), rlimits=(("nofile", 1, 2),), shm_size=1)
    found = step(
        "PACKAGES pip six",
        "ARG PIP_INDEX_URL=x\nENV E=1\n",
        asked=asked,
        arguments=(("HTTP_PROXY", "http://p"), ("UNUSED", "1")),
    )
    assert found.env == (("PATH", "/bin"), ("PIP_INDEX_URL", "x"), ("E", "1"))
    assert found.proxies == (("HTTP_PROXY", "http://p"),)
    assert (found.network, found.extra_hosts, found.rlimits, found.shm_size) == (
        "none",
        (("a", "1.2.3.4"),),
        (("nofile", 1, 2),),
        1,
    )


def test_the_image_s_config_and_user_stay() -> None:
    stage = planned("FROM x\nPACKAGES apt curl\n").stages[0]
    assert (stage.config.user, stage.config.env) == ("app", ("PATH=/bin",))


@pytest.mark.parametrize(
    ("manager", "word", "package"),
    [
        ("apt", "g++", ("g++", "")),
        ("apt", "libc6:i386=2.36-9+deb12u4~x", ("libc6:i386", "2.36-9+deb12u4~x")),
        ("apt", "a1=1:2.*", ("a1", "1:2.*")),
        ("apk", "py3-pip=23.1-r0", ("py3-pip", "23.1-r0")),
        ("dnf", "NetworkManager=1:1.2-3.fc40^git", ("NetworkManager", "1:1.2-3.fc40^git")),
        ("pip", "Flask[async,dotenv]==3.0.0", ("Flask[async,dotenv]", "3.0.0")),
        ("pip", "zope.interface=6!1.0+local", ("zope.interface", "6!1.0+local")),
        ("npm", "@types/node=20.1.0", ("@types/node", "20.1.0")),
        ("npm", "typescript=next", ("typescript", "next")),
    ],
)
def test_what_names_and_versions_look_like(manager: str, word: str, package: tuple[str, str]) -> None:
    assert parse_package(manager, word) == package


@pytest.mark.parametrize(
    ("manager", "word"),
    [
        ("apt", "curl-"),  # apt would remove it
        ("apt", "curl/stable"),
        ("apt", "./x.deb"),
        ("apt", "^python3-.*$"),
        ("apt", "-oDPkg::Pre-Invoke::=id"),
        ("apt", "curl="),
        ("apt", "curl==1"),
        ("apt", "curl=1;id"),
        ("apt", "Curl"),
        ("apk", "!curl"),
        ("apk", "curl>1"),
        ("dnf", "--setopt=x"),
        ("dnf", "/usr/bin/x"),
        ("pip", "six>=1"),
        ("pip", "six @ https://example.org/x"),
        ("pip", "-rfile"),
        ("pip", "git+https://example.org/x"),
        ("npm", "left-pad@1"),
        ("npm", "user/repository"),
        ("npm", "--prefix"),
        ("npm", "../x"),
    ],
)
def test_nothing_but_names_and_versions_gets_to_a_package_manager(manager: str, word: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_package(manager, word)
    assert caught.value.code == "packages/name"
    assert "NAME=VERSION" in str(caught.value.hint)


def test_a_package_cannot_be_wanted_in_two_versions() -> None:
    assert refused("PACKAGES apt curl=1 curl").code == "packages/twice"
    assert refused("PACKAGES pip Zope.Interface=1 zope-interface=2").code == "packages/twice"
    assert refused("PACKAGES apt $NOTHING").code == "packages/none"


def test_the_key_minds_the_packages_and_what_a_run_s_does_but_not_their_order() -> None:
    assert key("PACKAGES apt a1 b1") == key("PACKAGES apt b1 a1", "LABEL x=1\nUSER root\nWORKDIR /x\n")
    others = [
        key("PACKAGES apt a1"),
        key("PACKAGES apt a1 b1=1"),
        key("PACKAGES apk a1 b1"),
        key("PACKAGES apt a1 b1", "ENV A=1\n"),
    ]
    assert len({key("PACKAGES apt a1 b1"), *others}) == 5


def test_pins_enter_the_key_and_those_that_say_nothing_do_not() -> None:
    plain = step("PACKAGES apt a1")
    pinned = with_pins(plain, ["b1=2", "a1=1"])
    assert pinned.pins == (("a1", "1"), ("b1", "2"))
    keys = {packages_key(each, None, "").key for each in (plain, pinned, with_pins(plain, []))}
    assert len(keys) == 3


@pytest.mark.parametrize("pin", ["a1", "a1=", "a1=1\nPackage: *", "a1=1;id", "=1", "a1=1  2", "-o=1"])
def test_a_lock_file_brings_in_nothing_but_names_and_versions(pin: str) -> None:
    with pytest.raises(PlanError) as caught:
        with_pins(step("PACKAGES apt a1"), [pin])
    assert caught.value.code == "packages/name"


@pytest.mark.parametrize("manager", sorted(MANAGERS))
@pytest.mark.parametrize("pinned", [False, True])
def test_the_scripts_are_as_they_were(manager: str, pinned: bool) -> None:
    """A script that installs something else than before needs another VERSION: it is a part of the key."""
    path = os.path.join(GOLDEN, f"{manager}{'-pinned' * pinned}.sh")
    text = script(manager, pinned=pinned)
    if UPDATE:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    with open(path, encoding="utf-8") as file:
        assert text == file.read()
    subprocess.run(["dash", "-n", path], check=True)


def test_versions_are_written_as_each_package_manager_has_them() -> None:
    packages = (("a", ""), ("b", "1"))
    shown = {manager: arguments(manager, packages)[1] for manager in MANAGERS}
    assert shown == {"apt": "b=1", "apk": "b=1", "dnf": "b-1", "pip": "b==1", "npm": "b@1"}


def test_dependencies_are_pinned_where_the_package_manager_knows_how() -> None:
    pins = (("a", "1"), ("b", "2"))
    assert pin_file("apt", pins) == (
        "/etc/apt/preferences.d/00pybuild.pref",
        "Package: a\nPin: version 1\nPin-Priority: 1000\n\nPackage: b\nPin: version 2\nPin-Priority: 1000\n",
    )
    assert pin_file("pip", pins) == ("/run/pybuild/constraints.txt", "a==1\nb==2\n")
    assert pin_file("npm", pins) is None


def test_what_apt_reports() -> None:
    before = "amd64\ninstalled\tlibc6\tamd64\t1\ninstalled\tbash\tamd64\t5\n"
    after = (
        "amd64\ninstalled\tlibc6\tamd64\t2\ninstalled\tlibc6\ti386\t2\ninstalled\tbash\tamd64\t5\n"
        "config-files\tgone\tall\t1\ninstalled\tdata\tall\t1:3\n"
    )
    assert changed("apt", before, after, ["data"]) == (("data", "1:3"), ("libc6", "2"), ("libc6:i386", "2"))
    assert ("bash", "5") in changed("apt", before, after, ["bash"])


def test_what_apk_reports() -> None:
    after = "musl-1.2.4-r2\nca-certificates-bundle-20240226-r0\npy3-pip-23.1.2-r0\n\nWARNING: no\n"
    assert changed("apk", "musl-1.2.4-r2\n", after, []) == (
        ("ca-certificates-bundle", "20240226-r0"),
        ("py3-pip", "23.1.2-r0"),
    )


def test_what_rpm_reports() -> None:
    after = "bash\t0:5.2-1.fc40\nkernel\t0:1-1\nkernel\t0:2-1\ngpg-pubkey\t0:a-b\ndbus\t1:1.14-3\n"
    assert changed("dnf", "", after, []) == (
        ("bash", "5.2-1.fc40"),
        ("dbus", "1:1.14-3"),
        ("kernel", "1-1 0:2-1"),
    )


def test_what_pip_reports_under_whatever_spelling() -> None:
    after = '[{"name": "Zope.Interface", "version": "6.0"}, {"name": "six", "version": "1"}]'
    before = '[{"name": "Zope.Interface", "version": "6.0"}]'
    assert changed("pip", before, after, ["zope-interface[x]"]) == (("Zope.Interface", "6.0"), ("six", "1"))


def test_what_npm_reports_is_the_whole_tree() -> None:
    after = """{"dependencies": {"a": {"version": "1", "dependencies": {
        "b": {"version": "2"}, "a": {"version": "9"}, "c": {"version": "3", "dependencies": {
        "b": {"version": "1"}}}}}, "missing": {"required": "*"}}}"""
    assert changed("npm", "", after, []) == (("a", "1"), ("b", "1 2"), ("c", "3"))
