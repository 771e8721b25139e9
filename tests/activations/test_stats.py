"""Statistics without a model: folds, moments, merging, against two passes over the numbers themselves."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.activations import N_FOLDS, POLES, ActivationStats, fold_of

pytestmark = pytest.mark.core


def close(got: np.ndarray, want: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(got, want, atol=atol, rtol=1e-5)


@pytest.fixture(scope="module")
def two() -> ActivationStats:
    """Two values of six topics, a pair each, from random numbers."""
    rng = np.random.default_rng(0)
    rows = [
        {"value": value, "pole": pole, "pair_id": f"{value}-{topic}", "cluster": f"topic {topic}"}
        for value in ("power", "benevolence")
        for topic in range(6)
        for pole in POLES
    ]
    h, resid = (rng.normal(size=(len(rows), 2, width)).astype(np.float32) for width in (5, 3))
    return ActivationStats.from_samples(h, pd.DataFrame(rows), resid=resid)


def test_a_fold_never_parts_a_cluster(two: ActivationStats) -> None:
    assert two.samples is not None
    table = two.samples.table
    assert (table.groupby("cluster")["fold"].nunique() == 1).all()
    assert set(table["fold"]) <= set(range(N_FOLDS))
    # the same on every machine and in every run: sha256, not Python's hash
    digest = hashlib.sha256(b"topic 0").digest()
    assert fold_of("topic 0") == int.from_bytes(digest[:8], "big") % 8


def test_delta_sd_direction(two: ActivationStats) -> None:
    assert two.samples is not None
    h, table = two.samples.h.astype(np.float64), two.samples.table
    plus, minus = (h[(table["value"] == "power") & (table["pole"] == pole)] for pole in POLES)
    close(two.delta("power"), plus.mean(axis=0) - minus.mean(axis=0), atol=1e-6)
    pooled = (plus.var(axis=0, ddof=1) + minus.var(axis=0, ddof=1)) / 2  # equal n
    close(two.sd("power"), np.sqrt(pooled), atol=1e-6)
    at = two.index("power")
    close(two.direction("power"), two.resid[at, 0].astype(float) - two.resid[at, 1], atol=1e-6)


def test_moments_of_chosen_folds_add_up(two: ActivationStats) -> None:
    parts = [two.moments("power", "+", fold=f) for f in range(N_FOLDS)]
    assert sum(n for n, _, _ in parts) == two.moments("power", "+")[0] == 6
    half = two.moments("power", "+", fold=[0, 2, 4, 6])
    assert half[0] == sum(parts[f][0] for f in (0, 2, 4, 6))


def from_numbers(x: np.ndarray, start: int = 0) -> ActivationStats:
    """Statistics of one value from one number per text; + and - alternate and make pairs."""
    row = np.arange(start, start + len(x))
    cells = {
        "value": "power",
        "pole": np.where(row % 2 == 0, "+", "-"),
        "pair_id": [f"pair {i // 2}" for i in row],
        "cluster": [f"topic {i // 2}" for i in row],
    }
    return ActivationStats.from_samples(x.astype(np.float32)[:, None, None], pd.DataFrame(cells))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e2, 1e2, width=32), min_size=1, max_size=6), min_size=1, max_size=5),
    st.floats(-1e2, 1e2, width=32),
)
def test_merging_any_partition_gives_the_two_pass_result(parts: list[list[float]], offset: float) -> None:
    """Whole pairs in any parts; also far from zero, where sums of squares would cancel, and where most folds are empty."""
    arrays = [np.repeat(np.asarray(part, dtype=np.float32) + np.float32(10 * offset), 2) for part in parts]
    for array in arrays:
        array[1::2] /= 3
    stats, start = from_numbers(arrays[0]), len(arrays[0])
    for array in arrays[1:]:
        stats, start = stats.merge(from_numbers(array, start)), start + len(array)
    whole = np.concatenate(arrays).astype(np.float64)
    scale = float(np.abs(whole).max()) + 1.0
    wanted = {"+": whole[::2], "-": whole[1::2], "difference": whole[::2] - whole[1::2]}
    for name, x in wanted.items():
        n, mean, m2 = stats.pair_moments("power") if name == "difference" else stats.moments("power", name)
        want_n, want_mean, want_m2 = (len(x), x.mean(), ((x - x.mean()) ** 2).sum())
        assert n == want_n
        np.testing.assert_allclose(mean.item(), want_mean, rtol=1e-6, atol=1e-6 * scale)
        # the mean of every fold is stored as float32, so that M2 is known to about its rounding times the spread
        np.testing.assert_allclose(m2.item(), want_m2, rtol=1e-5, atol=1e-5 * scale * (np.sqrt(want_m2) + 1e-5 * scale))


def test_folds_that_hold_nothing_count_nothing() -> None:
    stats = from_numbers(np.arange(4.0))
    held = {fold_of("topic 0"), fold_of("topic 1")}
    empty = [f for f in range(N_FOLDS) if f not in held]
    for n, mean, m2 in (stats.moments("power", "+", empty), stats.pair_moments("power", empty[0])):
        assert n == 0 and mean.shape == m2.shape == (1, 1) and not mean.any() and not m2.any()


@pytest.mark.filterwarnings("error")
def test_rows_without_a_partner_are_no_pairs(two: ActivationStats) -> None:
    assert two.samples is not None
    h, table = two.samples.h, two.samples.table
    alone = ActivationStats.from_samples(h, table.assign(pair_id=[f"own {i}" for i in range(len(table))]))
    assert alone.pair_moments("power")[0] == 0 and not alone.diff_mean.any()
    half = table.assign(pair_id=table["pair_id"].where(table["cluster"] != "topic 0", "+" + table["pole"]))
    assert ActivationStats.from_samples(h, half).pair_moments("power")[0] == 5
    assert alone.merge(alone).pair_moments("power")[0] == 0
