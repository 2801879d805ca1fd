"""Which image to label next."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.active.scores import FEATURES, ImageScores, StructureScores
from bundle.active.selection import RULES, Candidate, rule_named
from bundle.errors import OptionError


def scored(name, *, doubt=0.0, foreground=0.1, features=0.0, waited=1.0, **entropies) -> Candidate:
    """An image with one structure, or with those whose entropies are given."""
    entropies = entropies or {"liver": doubt}
    structures = {
        structure: StructureScores(entropy, doubt, 1 - doubt, foreground) for structure, entropy in entropies.items()
    }
    return Candidate(name, ImageScores("m", structures, (float(features),) * FEATURES), waited)


def chosen(rule, candidates, labelled=(), seed=0):
    return RULES[rule](candidates, labelled, np.random.default_rng(seed))


def times(rule, candidates, labelled=(), count=300) -> Counter:
    rng = np.random.default_rng(0)
    return Counter(RULES[rule](candidates, labelled, rng).name for _ in range(count))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_chooses_an_image_whether_or_not_one_is_scored(rule):
    for candidates in ([Candidate("a"), Candidate("b")], [Candidate("a"), scored("b", doubt=0.5)]):
        assert chosen(rule, candidates).name in ("a", "b")


@pytest.mark.parametrize("rule", ["foreground_random", "uncertainty", "clasp_pe", "diverse"])
def test_a_rule_without_scores_says_once_that_there_are_none(rule):
    reason = chosen(rule, [Candidate("a")]).reason
    assert reason.count("no image is scored yet") == 1


def test_what_was_given_out_longer_ago_is_likelier():
    counts = times("random", [Candidate("new", waited=9.0), Candidate("just", waited=1.0)])
    assert counts["new"] > 4 * counts["just"] > 0


def test_the_first_by_name_counts_numbers_and_comes_before_those_given_out():
    names = ["ct10", "ct9", "ct²", "b"]
    assert chosen("first", [Candidate(name) for name in names]).name == "b"
    assert chosen("first", [Candidate("ct10"), Candidate("ct9")]).name == "ct9"
    assert chosen("first", [Candidate("ct10"), Candidate("ct9", waited=0.5)]).name == "ct10"


def test_two_of_three_draws_are_of_images_with_foreground():
    empty = [scored(f"empty{n}", foreground=0.0) for n in range(9)]
    counts = times("foreground_random", [*empty, scored("organ")])
    assert 0.6 < counts["organ"] / 300 < 0.8  # 0.66 + 0.34 / 10


def test_the_most_doubtful_image_is_chosen():
    choice = chosen("uncertainty", [scored("a", doubt=0.2), scored("b", doubt=0.7), Candidate("c")])
    assert choice.name == "b" and choice.value == pytest.approx(0.7)


def test_a_small_structure_is_chosen_for_as_often_as_a_large_one():
    large, small = scored("large", liver=0.9, duct=0.1), scored("small", liver=0.3, duct=0.4)
    labelled = [scored(f"l{n}") for n in range(60)]  # the noise is gone
    counts = times("clasp_pe", [large, small], labelled)
    assert 0.25 < counts["small"] / 300 < 0.42  # one half of two thirds


def test_noise_is_large_at_first_and_decays_with_the_labels():
    candidates = [scored("high", doubt=0.6), scored("low", doubt=0.4)]
    labelled = [scored(f"l{n}") for n in range(60)]
    assert times("clasp_pe", candidates)["low"] > 60
    assert times("clasp_pe", candidates, labelled)["low"] == 0


def test_the_image_least_like_the_labelled_ones_is_chosen():
    candidates = [scored("near", features=1), scored("far", features=5), scored("middle", features=3)]
    assert chosen("diverse", candidates, [scored("known", features=0.5)]).name == "far"
    assert chosen("diverse", candidates, [scored("x", features=5), scored("y", features=0.5)]).name == "middle"


def test_the_first_diverse_image_is_the_most_ordinary():
    candidates = [scored("low", features=0), scored("middle", features=2), scored("high", features=5)]
    assert chosen("diverse", candidates).name == "middle"


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="clasp_pe"):
        rule_named("wisdom")


@given(
    st.sampled_from(sorted(RULES)),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1e10), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_whatever_is_known_one_of_the_candidates_is_chosen_and_the_same_again(rule, images, seed):
    candidates = [
        scored(str(n), doubt=doubt, foreground=share, features=share, waited=waited)
        if is_scored
        else Candidate(str(n), waited=waited)
        for n, (doubt, share, waited, is_scored) in enumerate(images)
    ]
    choice = chosen(rule, candidates, candidates[:1], seed)
    assert choice.name in {one.name for one in candidates}
    assert choice == chosen(rule, candidates, candidates[:1], seed)
