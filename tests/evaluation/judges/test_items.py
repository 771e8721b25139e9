"""Items: pairs, groups, clusters and their unit."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.contrast_sets import small_set
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.items import affirmation_items, pair_items
from neva_tl.prompts import words


def test_pair_items_align_poles_and_clusters():
    items = pair_items(small_set())
    for group in items.groups:
        assert group.paired and len(group.plus) == len(group.minus) == len(group.clusters) == 10
        for plus, minus, cluster in zip(group.plus, group.minus, group.clusters, strict=True):
            topic = cluster.split("-")[1]
            assert items.examples[plus].prompt == items.examples[minus].prompt == f"What about thing {topic}?"
            assert items.examples[plus].answer.startswith("Yes") and items.examples[minus].answer.startswith("No")


def test_unpaired_scores_average_to_the_difference_of_pole_means():
    group = pair_items(small_set(paired=False)).groups[0]
    per_token = np.random.default_rng(0).normal(size=40)
    expected = per_token[group.plus].mean() - per_token[group.minus[:7]].mean()
    uneven = type(group)(group.name, group.plus, group.minus[:7], group.clusters[:17], False)
    assert uneven.scores(per_token).mean() == pytest.approx(expected)
    assert not group.paired and len(group.clusters) == 20


def test_items_can_be_limited_by_topic_number_and_form():
    pairs = small_set()
    assert all(len(g.plus) == 4 for g in pair_items(pairs, per_value=4).groups)
    limited = pair_items(pairs, topics=3).groups[0]
    assert len(set(limited.clusters)) == 3
    again = pair_items(pairs, topics=5).groups[0]
    assert set(limited.clusters) <= set(again.clusters)
    with pytest.raises(InputError, match="no rows of form"):
        pair_items(pairs, forms=("statement_3rd",))


def test_affirmation_pairs_name_no_value():
    items = affirmation_items()
    assert len(items.groups[0].plus) >= 30
    text = " ".join(e.answer for e in items.examples)
    own = {w for v in VALUES for w in words(v)}
    used = {w.strip(".,").lower() for w in text.split()}
    assert len(used & own) <= 5


def test_unit_needs_spread():
    group = pair_items(small_set()).groups[0]
    with pytest.raises(InputError, match="do not differ"):
        group.sd(np.zeros(100))
