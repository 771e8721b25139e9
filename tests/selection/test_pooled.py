"""Selection on several sources at once, on planted truth: pooled effects, agreement, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from helpers.planted_neurons import LAYERS, NEGATIVE, READERS, SHARED, WIDTH, WRITERS, activations, make_stats, table
from neva_tl.activations import ActivationStats
from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError
from neva_tl.selection import SelectionWarning, select
from neva_tl.selection.contrast import effects
from neva_tl.selection.pooled import source_effects

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def sources() -> dict[str, ActivationStats]:
    """Two sources with the same planted neurons: pairs, and more texts without pairs."""
    return {"pairs": make_stats(1, clusters=40), "texts": make_stats(2, paired=False, clusters=60, effect=1.2)}


def without(value_neurons: tuple[int, ...], seed: int, sign: float = 0.0) -> ActivationStats:
    """A source where some planted neurons do nothing, or the reverse."""
    rows = table(clusters=40)
    h = activations(rows, seed)
    other = activations(rows, seed, effect=1.5 * sign)
    h[:, :, list(value_neurons)] = other[:, :, list(value_neurons)]
    return ActivationStats.from_samples(h, rows)


def planted(*groups: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(layer, neuron) for group in groups for neuron in group for layer in range(LAYERS)}


def names(df: Any) -> set[tuple[int, int]]:
    return set(zip(df["layer"], df["neuron"], strict=True))


def test_planted_neurons_of_both_sources_are_found(sources: dict[str, ActivationStats]) -> None:
    found = select(sources, "benevolence")
    truth = planted(WRITERS, READERS, NEGATIVE, SHARED)
    assert truth <= names(found.df) and len(found) <= len(truth) + 3
    assert found.method == "pooled" and found.df["rank"].tolist() == list(range(1, len(found) + 1))
    assert (found.df["score"].diff().dropna() <= 0).all() and (found.df["score"] == found.df["g"].abs()).all()
    assert (found.df["q"] <= 0.05).all() and (np.sign(found.df["g_pairs"]) == np.sign(found.df["g_texts"])).all()
    assert (found.df.loc[found.df["neuron"].isin(NEGATIVE), "g"] < 0).all()
    assert found.settings["sources"]["pairs"]["design"] == "paired"
    assert found.settings["sources"]["texts"]["design"] == "unpaired"


def test_every_number_of_a_row_by_the_formulas(sources: dict[str, ActivationStats]) -> None:
    found = select(sources, "benevolence", k=4).df
    measured = source_effects(sources, "benevolence")
    q = false_discovery_control(measured.pooled.p(0.2))
    for row in found.itertuples():
        at = (row.layer, row.neuron)
        a, b = sources.values()
        both = (a.pair_moments("benevolence"), a.moments("benevolence", "+"), a.moments("benevolence", "-"))
        g_a, v_a = nst.mean_change(*[(n, mean[None, *at], m2[None, *at]) for n, mean, m2 in both])
        g_b, n_b = effects(b, "benevolence")[0].g[at], b.moments("benevolence", "+")[0]
        v_b = 2 / n_b + g_b**2 / (2 * (2 * n_b - 2 - 1.94))
        expected = nst.pool_effects(np.array([g_a[0], g_b]), np.array([v_a[0], v_b]))
        assert (row.g_pairs, row.g_texts) == (pytest.approx(g_a[0]), pytest.approx(g_b))
        assert (row.g, row.se) == (pytest.approx(float(expected.effect)), pytest.approx(float(expected.se)))
        assert (row.tau2, row.i2) == (pytest.approx(float(expected.tau2)), pytest.approx(float(expected.i2)))
        assert row.p == pytest.approx(float(expected.p(0.2)))
        assert row.q == pytest.approx(q[row.layer * WIDTH + row.neuron])
        assert (row.lo, row.hi) == tuple(pytest.approx(float(x)) for x in expected.interval())
        plus = [stats.moments("benevolence", "+")[1][at] for stats in sources.values()]
        assert row.mean_plus == pytest.approx(np.mean(plus))
        sd = [stats.sd("benevolence")[at] for stats in sources.values()]
        assert row.sd == pytest.approx(np.sqrt(np.mean(np.square(sd))))


def test_the_order_of_the_sources_does_not_matter(sources: dict[str, ActivationStats]) -> None:
    one, other = select(sources, "benevolence").df, select(dict(reversed(sources.items())), "benevolence").df
    assert names(one) == names(other)
    assert one["g"].to_numpy() == pytest.approx(other["g"].to_numpy())


def test_what_one_source_lacks_is_uncertain_and_what_it_reverses_is_left_out(
    sources: dict[str, ActivationStats],
) -> None:
    found = select({**sources, "lacking": without(WRITERS, 3)}, "benevolence", require_q=False).df
    of = {group: found[found["neuron"].isin(group)] for group in (WRITERS, READERS)}
    assert of[READERS]["g"].min() > of[WRITERS]["g"].max()  # agreeing sources come first
    assert of[WRITERS]["tau2"].min() > of[READERS]["tau2"].max() and (of[WRITERS]["i2"] > 0.8).all()
    reversed_ = select({**sources, "reversed": without(WRITERS, 3, sign=-1.0)}, "benevolence", require_q=False).df
    assert not reversed_["neuron"].isin(WRITERS).any() and planted(READERS) <= names(reversed_)


def test_a_neuron_that_is_constant_in_one_source_is_left_out(sources: dict[str, ActivationStats]) -> None:
    h = activations(table(clusters=40), 3)
    h[:, 0, 0] = 1.0
    found = select({**sources, "constant": ActivationStats.from_samples(h, table(clusters=40))}, "benevolence").df
    assert (0, 0) not in names(found) and (1, 0) in names(found)


def test_sources_may_cover_other_values_too(sources: dict[str, ActivationStats]) -> None:
    fewer = make_stats(4, paired=True, clusters=40, values=("tradition", "benevolence"))
    found = select({**sources, "fewer": fewer}, "benevolence", lam=1.0)
    # raised at least as much by tradition, which all three cover: the penalty leaves them out
    assert not found.df["neuron"].isin(SHARED).any() and (found.df["leak"] < found.df["g"].abs()).all()
    with pytest.raises(InputError, match="security was not collected"):
        select({**sources, "fewer": fewer}, "security")


def test_layers_and_number(sources: dict[str, ActivationStats]) -> None:
    found = select(sources, "benevolence", k=5, layers=[1])
    assert found.layers == (1,) and len(found) == 5 and found.settings["counts"]["neurons"] == WIDTH
    with pytest.warns(SelectionWarning, match=r"pass on all sources, fewer than the k = 50 requested"):
        select(sources, "benevolence", k=50, layers=[1])
    with pytest.warns(SelectionWarning, match="no neuron is left for benevolence on all sources"):
        assert not len(select(sources, "benevolence", delta=9.0))


def test_what_is_refused(sources: dict[str, ActivationStats]) -> None:
    stats = sources["pairs"]
    with pytest.raises(InputError, match="two or more, not of 1"):
        select({"pairs": stats}, "benevolence")
    with pytest.raises(InputError, match="for several sources 'margin'"):
        select(sources, "benevolence", method="margin")
    with pytest.raises(InputError, match="has no option 'flips'"):
        select(sources, "benevolence", flips=3)
    one, other = (replace(stats, fingerprint={"weights_hash": name * 64}) for name in "ab")
    with pytest.raises(InputError, match="x and y were collected on different models"):
        select({"x": one, "y": other}, "benevolence")
    with pytest.raises(InputError, match="pairs and last differ in layers, neurons or pooling"):
        select({**sources, "last": replace(stats, pooling="last")}, "benevolence")
