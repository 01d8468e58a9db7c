"""Each rule has a page with a bad example, in which it and no other rule finds something, and a good one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builder.patterns import read_ignore_file
from grammar.diagnostics import SEVERITIES
from grammar.lint import UNKNOWN_RULE, Options, lint
from grammar.rules import all_rules
from grammar.source import Source

PAGES = Path(__file__).parent.parent.parent / "docs" / "rules"
NAMES = [*all_rules(), UNKNOWN_RULE]
OPTIONS = Options(ignored=read_ignore_file("tmp\n").ignores)

BUILDKIT = """
    ConsistentInstructionCasing CopyIgnoredFile DuplicateStageName ExposeInvalidFormat ExposeProtoCasing
    FromAsCasing FromPlatformFlagConstDisallowed InvalidDefaultArgInFrom InvalidDefinitionDescription
    JSONArgsRecommended LegacyKeyValueFormat MaintainerDeprecated MultipleInstructionsDisallowed
    NoEmptyContinuation RedundantTargetPlatform ReservedStageName SecretsUsedInArgOrEnv StageNameCasing
    UndefinedArgInFrom UndefinedVar WorkdirRelativePath
"""


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def example(name: str, kind: str) -> Source:
    match = re.search(rf"^{kind}:\n\n```dockerfile\n(.+?)```$", page(name), re.M | re.S)
    assert match is not None, f"{name}.md has no {kind} example"
    return Source("Dockerfile", match[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_bad_example_breaks_this_rule_and_no_other(name: str) -> None:
    found = lint(example(name, "Bad"), OPTIONS)
    assert {each.rule for each in found} == {name}
    for each in found:
        assert each.hint
        assert each.message


@pytest.mark.parametrize("name", NAMES)
def test_the_good_example_breaks_no_rule(name: str) -> None:
    assert lint(example(name, "Good"), OPTIONS) == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_rule_says(name: str) -> None:
    head = page(name).split("\n\n")[:2]
    assert head[0] == f"# {name}"
    if name != UNKNOWN_RULE:
        rule = all_rules()[name]
        experimental = ", experimental" if rule.experimental else ""
        assert head[1] == f"*{rule.severity}{experimental}*: {rule.summary}."


def test_the_index_has_every_page_once_with_its_severity() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (.+) \|$", page("README"), re.M)
    assert all(name == file for name, file, _, _ in rows)
    assert sorted(name for name, _, _, _ in rows) == sorted(NAMES)
    assert sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README") == sorted(NAMES)
    for name, _, severity, summary in rows:
        if name != UNKNOWN_RULE:
            assert (severity, summary) == (all_rules()[name].severity, all_rules()[name].summary)
        assert severity in SEVERITIES


def test_all_rules_of_buildkit_are_there() -> None:
    assert set(BUILDKIT.split()) <= set(all_rules())
