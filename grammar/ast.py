"""The parsed recipe: frozen nodes, each with its place.

Every instruction has `.span`, its whole logical line (heredoc bodies not counted), and `.text`, what stands
after the keyword on that logical line: continued lines joined as BuildKit joins them (the escape character
and line end removed, the next line's leading blanks kept), comment and empty lines inside gone, trimmed at
both ends, flags and heredoc markers included.

A `Word` is raw: quotes in it, variables unexpanded. Planning expands it with `grammar.expand`, with the
values of that point. Plain `str` fields are those that the language does not expand.
"""

from __future__ import annotations

from grammar.node import Node
from grammar.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class Word(Node):
    """A piece of an instruction, raw, to be expanded when planning."""

    text: str
    span: Span

    @property
    def plain(self) -> bool:
        """Whether expansion leaves it as it is, whatever the variables and the escape character."""
        text = self.text
        return not ("$" in text or '"' in text or "'" in text or "\\" in text or "`" in text)


class Pair(Node):
    """`KEY=value`. The value is None where there is no `=` (only in ARG and INCLUDE)."""

    key: Word
    value: Word | None
    span: Span


class Heredoc(Node):
    """`<<name`. `body` is what stands between the lines, as in the file, each line with its LF."""

    name: str
    body: str
    expand: bool
    strip_tabs: bool
    span: Span
    fd: int = 0

    @property
    def content(self) -> str:
        """The body as the reader of the document gets it: `<<-` takes the leading tabs away. Not expanded."""
        if not self.strip_tabs:
            return self.body
        return "\n".join([line.lstrip("\t") for line in self.body.split("\n")])


class Command(Node):
    """A command line. In shell form `args` is one string, for SHELL to run; in exec form it is the argv,
    as it is.

    A shell form with heredocs keeps the `<<name` markers in its string; `script` tells what is to be run.
    `alone`: the one heredoc is the whole command (`RUN <<EOF`), a script of its own, and a `#!` on its first
    line picks who reads it.
    """

    shell: bool
    args: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    alone: bool = False

    @property
    def script(self) -> str:
        """What SHELL is given in shell form: the document, or the line with all documents below it."""
        if self.alone:
            return self.heredocs[0].content
        return "\n".join([self.args[0], *[doc.body + doc.name for doc in self.heredocs]])


class Mount(Node):
    """`--mount=type=…,key=value,…`. Options in order, keys in lower case and canonical (`src` is `source`,
    `dst` and `destination` are `target`, `ro` is `readonly`, `rw` is `readwrite`); the value is None where
    there is no `=`."""

    type: Word
    options: tuple[Pair, ...]
    span: Span

    def option(self, key: str) -> Word | None:
        """Return the value of option `key`: of the last one, where it is repeated."""
        for pair in reversed(self.options):
            if pair.key.text == key:
                return pair.value
        return None

    def has(self, key: str) -> bool:
        """Return whether option `key` is given, with or without a value."""
        return any(pair.key.text == key for pair in self.options)


class Instruction(Node):
    """Base of all instructions. `keyword` is the instruction's name, in upper case."""

    keyword: ClassVar[str] = ""

    span: Span
    text: str


class From(Instruction):
    """FROM. `name` is what stands after AS, in lower case. The last four flags are for `mmdebstrap://`."""

    keyword = "FROM"

    image: Word
    name: str | None = None
    platform: Word | None = None
    variant: Word | None = None
    include: tuple[Word, ...] = ()
    mirror: tuple[Word, ...] = ()
    keyring: Word | None = None


class Arg(Instruction):
    """ARG. A pair's value is None for an argument without a default."""

    keyword = "ARG"

    pairs: tuple[Pair, ...]


class Env(Instruction):
    """ENV. `legacy`: the form `ENV key value`."""

    keyword = "ENV"

    pairs: tuple[Pair, ...]
    legacy: bool = False


class Run(Instruction):
    """RUN. `network` is default, none or host; `security` is sandbox or insecure; `timeout` is in
    nanoseconds; None where not given.
    """

    keyword = "RUN"

    command: Command
    mounts: tuple[Mount, ...] = ()
    network: str | None = None
    security: str | None = None
    timeout: int | None = None


class Copy(Instruction):
    """COPY. `sources` are paths only: documents that are copied stand in `heredocs`. `from_` has no
    variable in it."""

    keyword = "COPY"

    sources: tuple[Word, ...]
    dest: Word
    heredocs: tuple[Heredoc, ...] = ()
    from_: Word | None = None
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[Word, ...] = ()


class Add(Instruction):
    """ADD. As COPY, with URLs and git repositories among the sources. `unpack` is None where it is not
    given."""

    keyword = "ADD"

    sources: tuple[Word, ...]
    dest: Word
    heredocs: tuple[Heredoc, ...] = ()
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[Word, ...] = ()
    checksum: Word | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None


class Workdir(Instruction):
    """WORKDIR."""

    keyword = "WORKDIR"

    path: Word


class User(Instruction):
    """USER: name or uid, perhaps with `:group`."""

    keyword = "USER"

    user: Word


class Label(Instruction):
    """LABEL. `legacy`: the form `LABEL key value`."""

    keyword = "LABEL"

    pairs: tuple[Pair, ...]
    legacy: bool = False


class Expose(Instruction):
    """EXPOSE. `grammar.ports` makes ports of the words once they are expanded."""

    keyword = "EXPOSE"

    ports: tuple[Word, ...]


class Volume(Instruction):
    """VOLUME, of either form."""

    keyword = "VOLUME"

    paths: tuple[Word, ...]


class Cmd(Instruction):
    """CMD. Never expanded."""

    keyword = "CMD"

    command: Command


class Entrypoint(Instruction):
    """ENTRYPOINT. Never expanded."""

    keyword = "ENTRYPOINT"

    command: Command


class Healthcheck(Instruction):
    """HEALTHCHECK. `command` is None for NONE. Times in nanoseconds; None where not given (0 in the
    config)."""

    keyword = "HEALTHCHECK"

    command: Command | None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class Stopsignal(Instruction):
    """STOPSIGNAL."""

    keyword = "STOPSIGNAL"

    signal: Word


class Shell(Instruction):
    """SHELL: the argv that shell forms are appended to."""

    keyword = "SHELL"

    args: tuple[str, ...]


class Onbuild(Instruction):
    """ONBUILD. `trigger` is the instruction that the child of the image runs."""

    keyword = "ONBUILD"

    trigger: Instruction

    @property
    def expression(self) -> str:
        """What the image's config stores: the trigger's text, and its documents below it."""
        trigger = self.trigger
        heredocs: tuple[Heredoc, ...] = ()
        if isinstance(trigger, Run):
            heredocs = trigger.command.heredocs
        elif isinstance(trigger, Copy | Add):
            heredocs = trigger.heredocs
        return "\n".join([self.text, *[doc.body + doc.name for doc in heredocs]])


class Maintainer(Instruction):
    """MAINTAINER."""

    keyword = "MAINTAINER"

    name: str


class Test(Instruction):
    """TEST: a command, or the path of a testinfra suite (beside the recipe). One of the two is None.
    `timeout` is in nanoseconds.
    """

    keyword = "TEST"

    command: Command | None
    testinfra: Word | None = None
    name: Word | None = None
    timeout: int | None = None


class Include(Instruction):
    """INCLUDE: the path of a fragment, from this file's directory on, and the values of its ARGs.

    `fragment` is what stands there: None until `grammar.includes.link` has put it here.
    """

    keyword = "INCLUDE"

    path: Word
    pairs: tuple[Pair, ...] = ()
    fragment: Fragment | None = None


class Packages(Instruction):
    """PACKAGES. `manager` is apt, apk, dnf, pip or npm; each word is `name` or `name=version`."""

    keyword = "PACKAGES"

    manager: str
    packages: tuple[Word, ...]


class Stage(Node):
    """A FROM and the instructions up to the next one. `index` counts from 0; `name` is in lower case, or
    None."""

    from_: From
    name: str | None
    index: int
    instructions: tuple[Instruction, ...]


class Directives(Node):
    """The parser directives: `syntax` and `check` as they stand, and the escape character (`\\` or a
    backquote)."""

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


class Recipe(Node):
    """A parsed recipe. `source` is its name."""

    source: str
    directives: Directives
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]


class Fragment(Node):
    """What INCLUDE splices in: instructions without a FROM."""

    source: str
    directives: Directives
    instructions: tuple[Instruction, ...]
