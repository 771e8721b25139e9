"""Stability selection and the nested bootstrap on planted arrays."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.planted_neurons import LAYERS, READERS, WIDTH, WRITERS, activations, make_stats, table
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.selection import nested_bootstrap, stability
from neva_tl.selection.resample import clusters_of, subset_stats

pytestmark = pytest.mark.core
ONE = ("benevolence",)
PLANTED = {(layer, neuron) for layer in range(LAYERS) for neuron in (*WRITERS, *READERS)}


def test_part_of_equals_statistics_of_those_rows() -> None:
    rows = table(clusters=10)
    h = activations(rows)
    stats = ActivationStats.from_samples(h, rows)
    keep = np.flatnonzero(np.isin(rows["cluster"].str[-1], list("024")))
    part, plain = subset_stats(stats, keep), ActivationStats.from_samples(h[keep], rows.iloc[keep])
    for name in ("n", "mean", "m2", "diff_n", "diff_mean", "diff_m2"):
        np.testing.assert_allclose(getattr(part, name), getattr(plain, name), rtol=1e-5, atol=1e-6)
    twice = subset_stats(stats, np.concatenate([keep, keep]))
    assert (twice.diff_n == 2 * part.diff_n).all()
    np.testing.assert_allclose(twice.diff_mean, part.diff_mean, rtol=1e-4, atol=1e-6)


def test_clusters_are_whole() -> None:
    stats = make_stats(clusters=8)
    for value, found in clusters_of(stats).items():
        assert len(found) == 8 and sum(map(len, found)) == 32
        for rows in found:
            part = stats.samples.table.iloc[rows]
            assert part["cluster"].nunique() == 1 and set(part["value"]) == {value}


def test_planted_neurons_are_stable_and_noise_is_not() -> None:
    found = stability(make_stats(clusters=24, values=ONE), "benevolence", k=len(PLANTED), draws=6, lam=0.0)
    share = {(a, b): s for a, b, s in found.df.itertuples(index=False)}
    assert found.halves == 12 and found.df["share"].between(0, 1).all()
    # each half-sample chooses k neurons, no more and no fewer
    assert found.df["share"].sum() * found.halves == pytest.approx(12 * len(PLANTED))
    noise = [share.get((layer, neuron), 0.0) for layer in range(LAYERS) for neuron in range(40, WIDTH)]
    mine = [share.get(at, 0.0) for at in PLANTED]
    assert np.mean(mine) > 0.6 and np.max(noise) <= 0.5 and np.mean(noise) < 0.1
    assert found.expected_false(0.9) == pytest.approx(len(PLANTED) ** 2 / (0.8 * LAYERS * WIDTH))
    assert len(found.stable(0.5)) <= found.df.shape[0] and "Stability" in found._repr_html_()


def test_optimism_of_nothing_is_taken_back() -> None:
    null = nested_bootstrap(make_stats(clusters=24, values=ONE, effect=0.0), "benevolence", k=10, draws=12, lam=0.0)
    # the ten best of 180 null neurons look like something, and are nothing on other prompts
    assert null.apparent > 0.25
    assert abs(null.df["left_out"].mean()) < 0.1 and null.lo < 0 < null.hi
    assert null.corrected < 0.5 * null.apparent
    assert null.corrected == pytest.approx(null.apparent - null.optimism)


def test_planted_effects_survive_the_correction() -> None:
    stats = make_stats(clusters=24, values=ONE, effect=1.5)
    real = nested_bootstrap(stats, "benevolence", k=len(PLANTED), draws=12, lam=0.0)
    # pair differences: mean 1.5, variance 2 (the topic's part cancels)
    assert real.lo < 1.5 / np.sqrt(2) < real.hi
    assert 0 < real.optimism < 0.35 and real.corrected < real.apparent
    assert "corrected" in real._repr_html_()


def test_figures_are_drawn() -> None:
    stats = make_stats(clusters=8, values=ONE)
    assert stability(stats, "benevolence", k=5, draws=1).show().axes
    assert nested_bootstrap(stats, "benevolence", k=5, draws=10).show().axes


def test_bad_requests_are_refused() -> None:
    stats = make_stats(clusters=8)
    for message, call in {
        "samples=True": lambda: stability(make_stats(keep=False), "benevolence", k=5),
        "at least 1": lambda: stability(stats, "benevolence", k=5, draws=0),
        "choose k from 1": lambda: stability(stats, "benevolence", k=-5),
        "placebo": lambda: stability(stats, "benevolence", k=5, method="random"),
        "at least 4": lambda: stability(make_stats(clusters=3), "benevolence", k=5),
        "at least 10 draws": lambda: nested_bootstrap(stats, "benevolence", k=5, draws=2),
        "at least 6": lambda: nested_bootstrap(make_stats(clusters=5), "benevolence", k=5),
        "unknown selection method": lambda: nested_bootstrap(stats, "benevolence", k=5, method="magic"),
        "no bound": lambda: stability(stats, "benevolence", k=5, draws=1).expected_false(0.5),
    }.items():
        with pytest.raises(InputError, match=message):
            call()
