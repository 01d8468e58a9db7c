"""Whole recipes, made up: every instruction with every flag, in every form, over continued lines, with
heredocs, comments, either escape character and either line end. What is made here parses."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

_T = TypeVar("_T")

NAME = st.sampled_from(["A", "b", "VERSION", "a_1", "ünï"])
PLAIN = st.text("abcxyz019./-_:@%+,é", min_size=1, max_size=8)
OPERATOR = st.sampled_from([":-", "-", ":+", "+", "#", "##", "%", "%%"])
BODY = ["", "x", "  y  ", "\tz $A", "# c", "\\", "'", '"', "RUN no", "<<EOF"]
"""Lines of heredocs."""
COMMANDS = [
    *("true", "make  all", "a && b || c; d", "echo 'one  two' \"$x  y\"", "a | b > c 2>&1", "x=$(a  b)"),
    *("if a; then b; fi", "for i in 1 2; do a; done", "echo \\$x # no more", "[ -f x ]"),
]
ARRAYS = ['["a"]', '["a", "b  c"]', '[ "a","b" ]', '["\\u00e9\\n", "\'$A\'"]', '["a","",".*"]']
MOUNTS = [
    *(
        "type=cache,target=/c,sharing=locked,id=x,mode=0755,uid=1,gid=2",
        "target=.",
        "type=bind,src=a,dst=/b,rw",
    ),
    *(
        "type=secret,id=a,env=B,required",
        "type=tmpfs,target=$A,size=1m",
        "type=ssh,required=true",
        "from=a,target=/x",
    ),
]
FILE_FLAGS = [
    "--chown=1:2",
    "--chown=$A",
    "--chmod=755",
    "--chmod=u+x",
    "--link",
    "--link=false",
    "--parents",
]
FILE_FLAGS += ["--exclude=*.md", "--exclude='a b'"]
ADD_FLAGS = ["--checksum=sha256:" + "0" * 64, "--keep-git-dir=true", "--unpack", "--unpack=false"]
CHECK_FLAGS = ["--interval=1s", "--timeout=1m", "--start-period=0s", "--start-interval=5s", "--retries=3"]
KEYWORDS = ["RUN", "COPY", "ADD", "ENV", "LABEL", "ARG", "WORKDIR", "USER", "EXPOSE", "VOLUME", "CMD"]
KEYWORDS += [
    "ENTRYPOINT",
    "SHELL",
    "HEALTHCHECK",
    "STOPSIGNAL",
    "ONBUILD",
    "MAINTAINER",
    "TEST",
    "INCLUDE",
    "PACKAGES",
]
"""Those up to ONBUILD may be its triggers."""
RUN_TIMEOUT = "--timeout=1h2m"


def words(escape: str) -> st.SearchStrategy[str]:
    """Words of instructions that expand: quotes, escapes, variables, operators. Without blanks."""
    pieces = st.one_of(
        PLAIN,
        NAME.map("${}".format),
        NAME.map("${{{}}}".format),
        st.builds("${{{}{}{}}}".format, NAME, OPERATOR, st.text("abc*?.", max_size=3)),
        st.text("ab$.*", max_size=4).map("'{}'".format),
        st.text("ab.*", max_size=4).map('"{}"'.format),
        NAME.map('"${}"'.format),
        st.sampled_from([f"{escape}$", f"{escape}'", f'{escape}"', f"{escape}{escape}x", "$1", "$.", "$@"]),
    )
    # What begins otherwise is a flag, a comment, an array; and a single word of quotes is no path.
    return st.lists(pieces, max_size=3).map("".join).map("w{}".format)


def values(escape: str) -> st.SearchStrategy[str]:
    """Values of ENV, LABEL, ARG: words, and what may have blanks for its quotes."""
    quoted = st.text("ab c$.#", max_size=6).map("'{}'".format) | st.text("ab c.#", max_size=6).map(
        '"{}"'.format
    )
    return words(escape) | quoted | st.just("")


class _Maker:
    """Makes one instruction: the pieces of its line, and the bodies of its heredocs."""

    def __init__(self, draw: st.DrawFn, escape: str) -> None:
        self.draw = draw
        self.escape = escape
        self.documents: list[str] = []

    def one(self, choices: Sequence[_T]) -> _T:
        return self.draw(st.sampled_from(choices))

    def chance(self, of: int = 2) -> bool:
        return self.draw(st.integers(1, of)) == 1

    def flags(self, choices: Sequence[str], most: int = 3) -> list[str]:
        """Some of the flags, none of them twice."""
        unique = st.lists(
            st.sampled_from(choices), max_size=most, unique_by=lambda flag: flag.partition("=")[0]
        )
        return self.draw(unique)

    def some(self) -> list[str]:
        return self.draw(st.lists(words(self.escape), min_size=1, max_size=3))

    def document(self, name: str) -> str:
        """A marker, whose body is kept for later."""
        form = self.one(["{}", "-{}", "'{}'", '"{}"', "-'{}'"])
        tabs = "\t" if form.startswith("-") and self.chance() else ""
        self.documents += [*self.draw(st.lists(st.sampled_from(BODY), max_size=4)), f"{tabs}{name}"]
        return "<<" + form.format(name)

    def command(self) -> str:
        return self.one(ARRAYS) if self.chance() else self.one(COMMANDS)

    def script(self) -> list[str]:
        """A command, or one or two documents."""
        if self.chance(5):
            return [self.document("EOF")]
        if self.chance(5):
            return ["cat", self.document("A"), self.document("B"), "> x"]
        return [self.command()]

    def pairs(self) -> dict[str, str]:
        return {self.draw(NAME): self.draw(values(self.escape)) for _ in range(self.draw(st.integers(1, 3)))}

    def files(self, flags: Sequence[str]) -> list[str]:
        chosen = self.flags([*FILE_FLAGS, *flags])
        if self.chance(4):
            return [*chosen, self.one(['["a b", "c/"]', '[ "a","b", "c/" ]', '["$A", "/d"]'])]
        if self.chance(4):
            return [*chosen, self.document("one"), *([self.document("EOF")] if self.chance() else []), "/to/"]
        return [*chosen, *self.some(), "/to/"]

    def rest(self, keyword: str) -> list[str]:
        """What stands after the keyword."""
        if keyword == "RUN":
            mounts = [
                f"--mount={mount}" for mount in self.draw(st.lists(st.sampled_from(MOUNTS), max_size=2))
            ]
            flags = self.flags(["--network=none", "--security=sandbox", RUN_TIMEOUT])
            return [*flags, *mounts, *self.script()]
        if keyword in ("COPY", "ADD"):
            return self.files(["--from=a", "--from=b.c/d:1"] if keyword == "COPY" else ADD_FLAGS)
        if keyword in ("ENV", "LABEL") and self.chance(4):
            return [self.draw(NAME), self.draw(PLAIN), *self.some()]
        if keyword in ("ENV", "LABEL", "ARG", "INCLUDE"):
            pairs = [f"{name}={value}" for name, value in self.pairs().items()]
            if keyword == "ARG" and self.chance():
                pairs[-1] = pairs[-1].partition("=")[0]
            return [*(["./part.rec"] if keyword == "INCLUDE" else []), *pairs]
        if keyword in ("CMD", "ENTRYPOINT"):
            return [self.command()]
        if keyword == "HEALTHCHECK":
            return (
                [*self.flags(CHECK_FLAGS), self.one(["CMD", "cmd"]), self.command()]
                if self.chance()
                else ["NONE"]
            )
        if keyword == "ONBUILD":
            trigger = self.one(KEYWORDS[:15])
            return [trigger, *(word for word in self.rest(trigger) if word != RUN_TIMEOUT)]
        if keyword == "TEST":
            what = self.script() if self.chance() else ["--testinfra=t/$A.py"]
            return [*self.flags(["--name=x", "--timeout=1m30s"]), *what]
        fixed = {
            "EXPOSE": ["80", "1-3/UDP", "$A", "${b}/tcp 8080"],
            "VOLUME": ['["/a", "/b c"]', "/a", "/a $b"],
            "SHELL": ['["/bin/sh", "-c"]', '["/bin/bash","-o","pipefail","-c"]', '["pwsh"]'],
            "STOPSIGNAL": ["SIGTERM", "9", "$A", "rtmin+1"],
            "PACKAGES": ["apt a b=1", "pip a==1", "npm a", "apk $A", "dnf a"],
        }
        return [self.one(fixed[keyword])] if keyword in fixed else self.some()

    def lines(self) -> list[str]:
        keyword = self.one(KEYWORDS)
        pieces = self.rest(keyword)
        lines = [keyword.lower() if self.chance() else keyword]
        gap = self.one([" ", "  ", "\t", " \t "])
        for piece in pieces:
            if not self.chance(5):
                lines[-1] += gap + piece
                continue
            lines[-1] += f" {self.escape}{self.one(['', ' ', '  '])}"
            lines += self.draw(st.lists(st.sampled_from(["", "  # a comment", "#x"]), max_size=2))
            lines.append(self.one(["", "  ", "\t"]) + piece)
        return [*lines, *self.documents]


@st.composite
def instructions(draw: st.DrawFn, escape: str) -> list[str]:
    """One instruction, as lines: continued ones, and the bodies of its heredocs."""
    return _Maker(draw, escape).lines()


@st.composite
def recipes(draw: st.DrawFn) -> str:
    """A whole recipe that parses."""
    escape = draw(st.sampled_from(["\\", "\\", "\\", "`"]))
    head = (
        ["# escape=`"]
        if escape == "`"
        else draw(st.sampled_from([[], ["# syntax=x/y:1"], ["#check=skip=all"]]))
    )
    lines = [*head, *draw(st.sampled_from([[], [""], ["# comment", ""]]))]
    if draw(st.booleans()):
        lines.append("ARG GLOBAL=1")
    for base in draw(st.sampled_from([["a"], ["scratch"], ["a AS x", "x as y-1"], ["./b.rec#c", "$GLOBAL"]])):
        lines.append(f"FROM {draw(st.sampled_from(['', '--platform=$BUILDPLATFORM ']))}{base}")
        for _ in range(draw(st.integers(0, 4))):
            lines += draw(instructions(escape))
            lines += draw(st.lists(st.sampled_from(["", "# between", "  # indented"]), max_size=2))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    bom = draw(st.sampled_from(["", "", "\ufeff"]))
    return bom + end.join(lines) + draw(st.sampled_from(["", end]))
