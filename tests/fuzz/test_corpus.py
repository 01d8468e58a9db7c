"""The kept corpus of the fuzzers: all that once broke a property, and what reaches the most code."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.targets import TARGETS
from tests.fuzz.words import WORDS

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_input_of_the_corpus_breaks_a_property(target: str) -> None:
    directory = os.path.join(CORPUS, target)
    names = sorted(os.listdir(directory))
    assert len(names) >= 20, "the corpus is kept in git"
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            data = file.read()
        try:
            TARGETS[target](data)
        except BaseException as error:
            error.add_note(f"with the input tests/fuzz/corpus/{target}/{name}")
            raise


def test_the_corpus_is_small_and_of_these_targets_only() -> None:
    assert sorted(os.listdir(CORPUS)) == sorted(TARGETS) == sorted(WORDS)
    sizes = [os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(CORPUS) for name in names]
    assert sum(sizes) < 512 * 1024
