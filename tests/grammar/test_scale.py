"""The work that a recipe takes grows as its length does: counted in calls, since no test has a clock."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from grammar.encode import dump, load
from grammar.format import format_source
from grammar.lint import lint
from grammar.parser import parse
from grammar.source import Source
from tests.golden_fixtures.planned import planned

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = """\
# What the service number {n} is made of.
FROM debian:12 AS s{n}
ARG VERSION=1.{n}
ENV HOME_{n}=/srv/{n} PATH=/srv/bin:$PATH
RUN --mount=type=cache,target=/var/cache/apt apt-get update \\
    && apt-get install -y --no-install-recommends curl=$VERSION \\
    && rm -rf /var/lib/apt/lists/*
COPY --chown=1000:1000 src/{n} lib/*.so /srv/{n}/
COPY <<EOF /etc/service-{n}
name = service {n} of $HOME_{n}
EOF
WORKDIR /srv/{n}
USER 1000
EXPOSE {n}
HEALTHCHECK --interval=30s CMD curl -f "http://localhost:{n}/"
ENTRYPOINT ["/srv/{n}/run", "--number", "{n}"]
"""


def recipe(lines: int) -> Source:
    """A recipe of some `lines` lines: stages that stand for themselves, and one that takes from all of
    them.
    """
    count = lines // (BLOCK.count("\n") + 1)
    blocks = [BLOCK.format(n=n + 1) for n in range(count)]
    last = "FROM scratch\n" + "".join(f"COPY --from=s{n + 1} /srv /srv\n" for n in range(count))
    return Source("Dockerfile", "".join(blocks) + last)


def calls(function: Callable[[], object]) -> int:
    """How many calls of functions it takes."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    function()  # what is made once, such as the parser's tables
    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("what", ["parse", "check", "fmt", "plan", "load"])
def test_ten_times_the_lines_take_ten_times_the_work(what: str) -> None:
    def work(source: Source) -> Callable[[], object]:
        tree = parse(source)
        encoded = dump(tree)
        return {
            "parse": lambda: parse(source),
            "check": lambda: lint(source),
            "fmt": lambda: format_source(source),
            "plan": lambda: planned(tree),
            "load": lambda: load(encoded),
        }[what]

    small, large = recipe(500), recipe(5000)
    assert len(large.lines) > 4900
    assert calls(work(large)) < 12 * calls(work(small))
