"""The smaller pieces: ports, mounts, durations, signals, bases, near misses, excerpts."""

from __future__ import annotations

import pytest

from grammar.ast import Word
from grammar.bases import Base, parse_base
from grammar.durations import parse_duration
from grammar.errors import RecipeError, render
from grammar.mounts import MountSpec, parse_mount, resolve_mount
from grammar.ports import parse_ports
from grammar.signals import is_signal
from grammar.source import Source, Span, excerpt
from grammar.suggest import did_you_mean, nearest

SPAN = Span("f", 1, 1, 1, 2)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ("80/tcp",)),
        ("80/", ("80/tcp",)),
        ("53/UDP", ("53/udp",)),
        ("1/sctp", ("1/sctp",)),
        ("8000-8002/udp", ("8000/udp", "8001/udp", "8002/udp")),
        ("80-80", ("80/tcp",)),
        ("0", ("0/tcp",)),
        ("8080:80", ("80/tcp",)),
        ("127.0.0.1:8080:80/tcp", ("80/tcp",)),
        ("[::1]:8080:80", ("80/tcp",)),
        ("8000-9000:80", ("80/tcp",)),
    ],
)
def test_ports(text: str, ports: tuple[str, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/tcp",
        "x",
        "80/xyz",
        "-1",
        "80-",
        "-80",
        "90-80",
        "65536",
        "1-65536",
        "80/tcp/udp",
        "٨٠",
        "1-2-3",
        "8080:",
        "a:80",
        "1.2.3:80:80",
        "8000-8001:80-82",
        " 80",
        "80 ",
        "+80",
        "9" * 5000,
    ],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_ports(text, SPAN)
    assert caught.value.code == "recipe/port"
    assert caught.value.span == SPAN


def mount(text: str, env: dict[str, str] | None = None) -> MountSpec:
    values = env or {}
    return resolve_mount(parse_mount(Word(text, SPAN)), lambda word: values.get(word.text, word.text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", MountSpec("bind", target="/x", read_only=True)),
        (
            "type=BIND,src=a,dst=b,from=s",
            MountSpec("bind", from_="s", source="a", target="b", read_only=True),
        ),
        ("type=bind,destination=/x,rw", MountSpec("bind", target="/x")),
        ("target=/x,readwrite=false", MountSpec("bind", target="/x", read_only=True)),
        ("target=/x,RO=F", MountSpec("bind", target="/x")),
        ("type=cache,target=/x", MountSpec("cache", target="/x")),
        ("type=cache,target=/x,ro", MountSpec("cache", target="/x", read_only=True)),
        (
            "target=/x,type=cache,sharing=LOCKED,id=i,mode=0755,uid=1,gid=2",
            MountSpec("cache", target="/x", id="i", sharing="locked", mode=0o755, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/x,size=1.5k", MountSpec("tmpfs", target="/x", size=1536)),
        ("type=tmpfs,target=/x,size=64MiB", MountSpec("tmpfs", target="/x", size=64 << 20)),
        ("type=tmpfs,target=/x,size=10", MountSpec("tmpfs", target="/x", size=10)),
        ("type=secret,id=a", MountSpec("secret", id="a", read_only=True)),
        (
            "type=secret,env=A,id=a,required",
            MountSpec("secret", id="a", env="A", required=True, read_only=True),
        ),
        ("type=secret,source=a,required=false", MountSpec("secret", source="a", read_only=True)),
        ("type=ssh", MountSpec("ssh", read_only=True)),
        ("type=ssh,required=1,mode=600", MountSpec("ssh", required=True, mode=0o600, read_only=True)),
        ('"target=/a,b",rw', MountSpec("bind", target="/a,b")),
    ],
)
def test_mounts(text: str, expected: MountSpec) -> None:
    assert mount(text) == expected


def test_mount_values_are_expanded() -> None:
    assert mount("type=$t,target=$d,id=$i", {"$t": "cache", "$d": "/x", "$i": "7"}) == MountSpec(
        "cache", target="/x", id="7"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type",
        "type=",
        "type=x",
        "target",
        "foo=1",
        "id",
        "target=/x,rw=maybe",
        "type=cache,sharing=none",
        "target=/x,mode=0755",
        "type=cache,uid=x",
        "type=cache,uid=-1",
        "type=cache,gid=99999999999",
        "type=cache,mode=9",
        "size=1",
        "required=1",
        "type=tmpfs,size=1q",
        "type=tmpfs,size=",
        "type=tmpfs,size=.",
        "type=tmpfs,size=-1",
        "type=secret",
        "type=secret,id=a,source=b",
        "type=secret,id=a,from=b",
        "type=secret,id=a,sharing=shared",
        "type=bind,env=A",
        "from=$x",
        '"target=/x',
        'a"b',
    ],
)
def test_what_is_no_mount_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        mount(text)
    assert caught.value.code == "recipe/mount"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30 * 10**9),
        ("1h1m1.5s", 3661_500_000_000),
        ("500ms", 500_000_000),
        ("1us", 1000),
        ("1µs", 1000),
        ("1μs", 1000),
        ("7ns", 7),
        (".5s", 500_000_000),
        ("5.s", 5 * 10**9),
        ("+1s", 10**9),
        ("-1s", -(10**9)),
        ("2540400h10m10s", (2540400 * 3600 + 610) * 10**9),
        ("", None),
        ("30", None),
        ("s", None),
        (".s", None),
        ("1 s", None),
        ("1d", None),
        ("1s ", None),
        ("--1s", None),
        ("9223372036854775808ns", None),
        ("9223372036854775807ns", 2**63 - 1),
        ("1" * 5000 + "s", None),
    ],
)
def test_durations_are_those_of_go(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["SIGTERM", "term", "sigkill", "9", "1", "64", "SIGRTMIN", "RTMIN+15", "SIGRTMAX-14"]
)
def test_signals(text: str) -> None:
    assert is_signal(text)


@pytest.mark.parametrize(
    "text", ["", "SIG", "SIGFOO", "0", "-9", "RTMIN+16", "RTMIN-1", "RTMAX-15", "RTMIN+", "9.0", "٩"]
)
def test_what_is_no_signal(text: str) -> None:
    assert not is_signal(text)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("scratch", Base("scratch")),
        ("debian", Base("name", "debian")),
        ("registry:5000/a/b:tag@sha256:0", Base("name", "registry:5000/a/b:tag@sha256:0")),
        ("./base.rec", Base("recipe", "./base.rec")),
        ("../a/base.rec#jdk", Base("recipe", "../a/base.rec", "", "jdk")),
        ("/srv/base.rec", Base("recipe", "/srv/base.rec")),
        ("mmdebstrap://bookworm", Base("transport", "bookworm", "mmdebstrap")),
        ("oci-layout://./dir:tag", Base("transport", "./dir:tag", "oci-layout")),
        ("other://x", Base("transport", "x", "other")),
        ("a#b", Base("name", "a#b")),
    ],
)
def test_what_from_names_shows_by_its_form(text: str, base: Base) -> None:
    assert parse_base(text) == base


def test_near_misses() -> None:
    known = ("COPY", "CMD", "ADD", "ARG", "RUN", "FROM", "HEALTHCHECK")
    assert nearest("COPPY", known) == "COPY"
    assert nearest("copy", known) == "COPY"
    assert nearest("ocpy", known) == "COPY"
    assert nearest("RNU", known) == "RUN"
    assert nearest("FORM", known) == "FROM"
    assert nearest("HELTHCHEK", known) == "HEALTHCHECK"
    assert nearest("INSTALL", known) is None
    assert nearest("", known) is None
    assert nearest("x" * 10_000, known) is None
    assert did_you_mean("CPOY", known) == "Did you mean COPY?"
    assert did_you_mean("nothing", known) is None


def test_an_excerpt_marks_the_place() -> None:
    source = Source("f", "one\ntwo three\nfour\nfive\n")
    assert excerpt(source, Span("f", 2, 5, 2, 10)) == "1 | one\n2 | two three\n  |     ^^^^^\n3 | four"
    assert excerpt(source, Span("f", 1, 1, 3, 2), context=0) == "1 | one\n  | ^^^"
    assert excerpt(source, Span("f", 4, 5, 4, 6)) == "3 | four\n4 | five\n  |     ^"
    assert excerpt(source, Span("f", 99, 1, 99, 2)) == ""


def test_line_numbers_are_aligned() -> None:
    source = Source("f", "\n" * 8 + "nine\nten\n")
    assert excerpt(source, Span("f", 9, 1, 9, 5)) == " 8 |\n 9 | nine\n   | ^^^^\n10 | ten"


def test_an_excerpt_of_a_long_line_shows_the_place() -> None:
    lines = excerpt(Source("f", "a" * 5000 + "HERE" + "b" * 5000), Span("f", 1, 5001, 1, 5005)).split("\n")
    assert max(map(len, lines)) < 200
    assert lines[0][lines[1].index("^") : lines[1].rindex("^") + 1] == "HERE"


def test_nothing_in_an_error_acts_upon_a_terminal() -> None:
    source = Source("f", "\x1b[31mred\x07\ttab\u202e\n")
    text = render(
        RecipeError("what is \x1b]0;this", Span("f", 1, 1, 1, 4), hint=None, code="recipe/x"), source
    )
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "tab" in text
