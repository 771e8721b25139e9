"""Splits by hash: shares, stability, no cluster in two splits."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.prompts import splits

clusters = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)


def test_forty_topics_split_50_20_30() -> None:
    assert splits.counts(40) == (20, 8, 12)
    assert splits.counts(10) == (5, 2, 3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500))
def test_counts_add_up_and_fill_train_then_test(n: int) -> None:
    train, validation, test = splits.counts(n)
    assert train + validation + test == n and min(train, validation, test) >= 0
    assert (train >= 2) == (n >= 2) and (test >= 1) == (n >= 3) and (validation >= 1) == (n >= 4)
    if n >= 10:
        assert abs(train / n - 0.5) <= 0.05 and abs(test / n - 0.3) <= 0.06


@settings(max_examples=50, deadline=None)
@given(clusters, st.randoms(use_true_random=False))
def test_order_does_not_matter(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert splits.by_rank(names) == splits.by_rank(shuffled + shuffled[:3])


def test_a_known_hash() -> None:
    # sha256("abc"), from the standard's own example.
    assert splits.hash_key("abc").startswith("ba7816bf8f01cfea414140de5dae2223")


@settings(max_examples=30, deadline=None)
@given(clusters)
def test_unpaired_poles_reach_the_splits_in_equal_shares(names: list[str]) -> None:
    rows = [{"source": "s", "value": "power", "pole": p, "cluster": f"{p}{name}"} for p in "+-" for name in names]
    df = pd.DataFrame(rows)
    df["split"] = splits.assign(df)
    shares = df.groupby(["split", "pole"]).size().unstack(fill_value=0)
    assert (shares["+"] == shares["-"]).all()


def test_values_and_sources_are_ranked_apart() -> None:
    rows = [
        {"source": source, "value": value, "pole": pole, "cluster": f"topic {i}"}
        for source in ("a", "b")
        for value in ("power", "hedonism")
        for i in range(20)
        for pole in "+-"
    ]
    df = pd.DataFrame(rows)
    df["split"] = splits.assign(df)
    for _, part in df.groupby(["source", "value"]):
        assert part["split"].value_counts().to_dict() == {"train": 20, "validation": 8, "test": 12}
    # The same topic lands in the same split for all values: shared topics cannot train one value and test another.
    assert (df.groupby("cluster")["split"].nunique() == 1).all()
