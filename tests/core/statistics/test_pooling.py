"""Pooling by hand, against statsmodels, on a published meta-analysis, and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.meta_analysis import combine_effects

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core

#: Thirteen trials of the BCG vaccine (Colditz et al. 1994): tuberculosis and no tuberculosis, vaccinated and controls.
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip

number, positive = st.floats(-5, 5), st.floats(0.01, 5)
sources = st.lists(st.tuples(number, positive), min_size=2, max_size=6)


def pooled_of(rows: list[tuple[float, float]]) -> nst.PooledEffect:
    y, v = np.array(rows).T
    return nst.pool_effects(y, v)


def test_two_sources_by_hand() -> None:
    """Effects 1 and 3 with variances .5: Q = 4, C = 2, tau^2 = 1.5, both weights 1/2."""
    found = nst.pool_effects(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
    assert (found.effect, found.se, found.tau2, found.i2) == (2.0, 1.0, 1.5, 0.75)
    assert found.interval() == (pytest.approx(2 - 1.959964), pytest.approx(2 + 1.959964))
    # |Z| >= 2 for Z ~ N(.5, 1)
    assert found.p(delta=0.5) == pytest.approx(norm.sf(1.5) + norm.cdf(-2.5))


def test_three_sources_by_hand() -> None:
    """Weights 10, 5, 2; mean 10.5/17; Q = 17.5 - 10.5^2/17; C = 17 - 129/17."""
    found = nst.pool_effects(np.array([0.5, 0.5, 1.5]), np.array([0.1, 0.2, 0.5]))
    q, c = 2.5 + 1.25 + 4.5 - 10.5**2 / 17, 17 - 129 / 17
    assert q < 2  # less than the degrees of freedom: no spread between the sources
    assert found.tau2 == 0 and found.i2 == 0
    assert found.effect == pytest.approx(10.5 / 17) and found.se == pytest.approx(17**-0.5)
    wide = nst.pool_effects(np.array([0.5, -0.5, 1.5]), np.array([0.1, 0.2, 0.5]))
    q = 10 * 0.25 + 5 * 0.25 + 2 * 2.25 - (5 - 2.5 + 3) ** 2 / 17
    assert wide.tau2 == pytest.approx((q - 2) / c) and wide.i2 == pytest.approx(1 - 2 / q)


def test_the_published_meta_analysis_of_the_bcg_vaccine() -> None:
    """Log risk ratios; DerSimonian-Laird as published with metafor's `dat.bcg`: Q, tau^2, I^2, mean and its SE."""
    tpos, tneg, cpos, cneg = BCG.T.astype(float)
    n_t, n_c = tpos + tneg, cpos + cneg
    y, v = np.log(tpos / n_t / (cpos / n_c)), 1 / tpos - 1 / n_t + 1 / cpos - 1 / n_c
    found = nst.pool_effects(y, v)
    assert float(found.tau2) == pytest.approx(0.3088, abs=5e-5)
    assert float(found.effect) == pytest.approx(-0.7141, abs=5e-5) and float(found.se) == pytest.approx(
        0.1787, abs=5e-5
    )
    assert float(found.i2) == pytest.approx(0.9212, abs=5e-5)


@given(sources)
def test_as_statsmodels(rows: list[tuple[float, float]]) -> None:
    y, v = np.array(rows).T
    found = nst.pool_effects(y, v)
    with np.errstate(all="ignore"):
        theirs = combine_effects(y, v, method_re="dl")
    # statsmodels does not cut tau^2 at 0 in its mean
    assert found.tau2 == pytest.approx(max(0.0, theirs.tau2), abs=1e-9)
    if theirs.tau2 > 0:
        assert found.effect == pytest.approx(theirs.mean_effect_re) and found.se == pytest.approx(theirs.sd_eff_w_re)
        assert found.i2 == pytest.approx(theirs.i2, abs=1e-9)
    else:
        assert found.effect == pytest.approx(theirs.mean_effect_fe) and found.se == pytest.approx(theirs.sd_eff_w_fe)


@given(number, st.lists(positive, min_size=1, max_size=6))
def test_equal_effects_have_no_spread_between_sources(effect: float, variances: list[float]) -> None:
    found = nst.pool_effects(np.full(len(variances), effect), np.array(variances))
    assert found.tau2 == pytest.approx(0, abs=1e-12) and found.i2 <= 1e-9
    assert found.effect == pytest.approx(effect) and found.se == pytest.approx(np.sum(1 / np.array(variances)) ** -0.5)


@given(sources)
def test_the_pooled_effect_lies_between_and_no_source_makes_it_less_certain_than_itself(
    rows: list[tuple[float, float]],
) -> None:
    found, (y, v) = pooled_of(rows), np.array(rows).T
    assert y.min() <= found.effect <= y.max()
    assert found.tau2 >= 0 and 0 <= found.i2 <= 1
    assert (found.se**2 <= v + found.tau2 + 1e-12).all() and found.se**2 >= 1 / np.sum(1 / v) - 1e-12


@given(sources, st.randoms())
def test_the_order_of_the_sources_does_not_matter(rows: list[tuple[float, float]], rng: object) -> None:
    mixed = list(rows)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    for one, other in zip(pooled_of(rows), pooled_of(mixed), strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(number, positive), min_size=2, max_size=2))
def test_two_sources_as_paule_and_mandel(rows: list[tuple[float, float]]) -> None:
    """Paule and Mandel's tau^2 makes the generalised Q equal its degrees of freedom."""
    y, v = np.array(rows).T

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float((w * (y - (w * y).sum() / w.sum()) ** 2).sum() - 1)

    expected = brentq(excess, 0, 200, xtol=1e-12) if excess(0) > 0 else 0.0
    assert pooled_of(rows).tau2 == pytest.approx(expected, abs=1e-8)


def test_many_neurons_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    y, v = rng.normal(size=(3, 4, 5)), rng.uniform(0.1, 1, size=(3, 4, 5))
    found = nst.pool_effects(y, v)
    for at in np.ndindex(4, 5):
        for every, one in zip(found, nst.pool_effects(y[:, *at], v[:, *at]), strict=True):
            assert every[at] == pytest.approx(float(one))


@pytest.mark.parametrize(
    ("y", "v", "message"),
    [
        ([1.0, 2.0], [0.1], "one row per source"),
        ([], [], "one row per source"),
        ([1.0, np.inf], [0.1, 0.1], "not finite"),
        ([1.0, 2.0], [0.1, 0.0], "not above 0"),
    ],
)
def test_what_cannot_be_pooled(y: list[float], v: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nst.pool_effects(np.array(y), np.array(v))
    pooled = nst.pool_effects(np.array([1.0]), np.array([1.0]))
    with pytest.raises(InputError, match="negative"):
        pooled.p(-0.1)
    with pytest.raises(InputError, match="level 95"):
        pooled.interval(95.0)


def test_pairs_and_single_texts_are_on_one_scale() -> None:
    """The same texts as pairs and without: the same g, and less sampling variance where pairs correlate."""
    rng = np.random.default_rng(1)
    topic = rng.normal(size=(4000, 1))
    plus, minus = topic + rng.normal(0.5, 0.5, size=(4000, 1)), topic + rng.normal(size=(4000, 1)) * 0.5
    m = nst.moments
    (g, variance), single = nst.mean_change(m(plus - minus), m(plus), m(minus)), nst.hedges_g(m(plus), m(minus))
    assert g == pytest.approx(single.g, rel=1e-3)
    assert nst.paired_g(m(plus - minus)).g > 1.3 * g  # d_z is on another scale
    # Bonett's variance for equal spreads; r is the correlation within pairs
    r = float(np.corrcoef(plus.ravel(), minus.ravel())[0, 1])
    assert variance == pytest.approx(2 * (1 - r) / 4000 + g**2 * (1 + r**2) / (4 * 3999), rel=1e-2)
    assert (variance < 0.5 * nst.effect_variance(single)).all()


@pytest.mark.parametrize("shared", [0.0, 1.0, 3.0])
def test_the_variance_of_a_paired_change_is_that_of_repeated_samples(shared: float) -> None:
    """No bias, and the stated variance, whatever the correlation within pairs."""
    rng = np.random.default_rng(2)
    topic = shared * rng.normal(size=(20, 20000))
    plus, minus = topic + 0.8 + rng.normal(size=topic.shape), topic + rng.normal(size=topic.shape)
    m = nst.moments
    g, variance = nst.mean_change(m(plus - minus), m(plus), m(minus))
    assert g.mean() == pytest.approx(0.8 / np.sqrt(1 + shared**2), rel=0.015)
    assert variance.mean() == pytest.approx(g.var(), rel=0.1)


def test_pairs_that_do_not_correlate_are_two_samples() -> None:
    plus, minus = np.array([[0.0], [1.0], [0.0], [1.0]]), np.array([[5.0], [5.0], [6.0], [6.0]])  # r = 0 exactly
    m = nst.moments
    single = nst.hedges_g(m(plus), m(minus))
    g, variance = nst.mean_change(m(plus - minus), m(plus), m(minus))
    assert g == pytest.approx(single.g) and variance == pytest.approx(nst.effect_variance(single))


def test_a_neuron_without_spread_has_no_effect_or_an_infinite_one() -> None:
    plus, minus = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]), np.ones((3, 2))
    m = nst.moments
    g, variance = nst.mean_change(m(plus - minus), m(plus), m(minus))
    assert g.tolist() == [0.0, np.inf] and np.isfinite(variance).all()
