"""Intervals of draws: they contain their estimate, whatever resampling does to the statistic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.values import VALUES
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, compare_nlr, measure
from neva_tl.study.run.summary import binomial_m

NUMBER = st.floats(-1e6, 1e6)
DRAW = st.one_of(NUMBER, st.just(math.inf), st.just(math.nan))


def contains(x: Estimate) -> bool:
    if x.est is None:
        return x.lo is None and x.hi is None
    return (x.lo is None or x.lo <= x.est) and (x.hi is None or x.est <= x.hi)


def test_interval_ignores_few_undefined_draws_only():
    draws = np.array([1.0] * 95 + [np.nan] * 5)
    assert interval(1.0, draws, 5).lo == 1.0
    assert interval(1.0, np.array([1.0] * 50 + [np.nan] * 50), 5).lo is None
    assert interval(float("nan"), draws, 5).est is None
    assert interval(1.0, np.array([1.0] * 90 + [np.inf] * 10), 5).hi is None


@settings(max_examples=300, deadline=None)
@given(st.one_of(NUMBER, st.just(math.nan)), st.lists(DRAW, max_size=60), st.booleans(), st.sampled_from([0.5, 0.95]))
def test_no_draws_make_an_interval_exclude_its_estimate(est, draws, recentre, level):
    assert contains(interval(est, np.array(draws, dtype=float), 5, level, recentre=recentre))
    inside = interval(min(max(est, -1.0), 1.0), np.array(draws, dtype=float), 5, level, bounds=(-1.0, 1.0))
    assert contains(inside)
    assert inside.lo is None or inside.lo >= -1.0
    assert inside.hi is None or inside.hi <= 1.0


def test_an_unbiased_statistic_keeps_its_percentiles():
    draws = np.arange(1001.0)
    plain = interval(480.0, draws, 9, 0.5)
    assert (plain.lo, plain.hi) == (250.0, 750.0)
    shifted = interval(480.0, draws, 9, 0.5, recentre=True)
    assert (shifted.lo, shifted.hi) == (230.0, 730.0)
    # the percentiles exclude 1200: the draws are biased by more than their spread
    biased = interval(1200.0, draws, 9, 0.5)
    assert (biased.lo, biased.hi) == (950.0, 1450.0)
    bounded = interval(1200.0, draws, 9, 0.5, bounds=(0.0, 1300.0))
    assert (bounded.lo, bounded.hi) == (950.0, 1300.0)


def test_draws_that_are_mostly_infinite_have_no_interval_to_shift():
    found = interval(1.0, np.array([2.0] * 40 + [np.inf] * 60), 5)
    assert (found.est, found.lo, found.hi) == (1.0, None, None)


@st.composite
def responses(draw: Callable[..., Any], method: str = "m") -> Responses:
    """Small responses with missing scores, uneven topics, ties and large changes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = VALUES[: draw(st.integers(1, 10))]
    steered = values[: draw(st.integers(1, len(values)))]
    topics, noise = draw(st.integers(1, 8)), draw(st.sampled_from([0.0, 0.01, 0.3, 5.0]))
    gain, missing = draw(st.sampled_from([-0.5, 0.0, 0.2, 1.0])), draw(st.sampled_from([0.0, 0.2, 0.9]))
    rounding = draw(st.sampled_from([0, 1, 12]))
    n = draw(st.integers(topics, 3 * topics))
    clusters = np.array([f"t{k}" for k in (*range(topics), *rng.integers(0, topics, n - topics))])
    base, edited = [], []
    for j in range(len(values)):
        level = rng.normal(0.3, 0.1, n)
        change = rng.standard_t(2, (len(steered), n)) * noise
        change[j : j + 1] += gain
        scores = np.round(level + change, rounding)
        scores[rng.random(scores.shape) < missing] = np.nan
        base.append(np.round(level, rounding))
        edited.append(scores)
    shared = draw(st.booleans())
    return Responses(
        method, steered, tuple(base), tuple(edited), tuple(clusters for _ in values), values, shared=shared
    )


def estimates(result: LeakageResult) -> Iterator[tuple[str, Estimate]]:
    """Every estimate of a result, by name; the cells of D as well."""
    for field in fields(result):
        entry = getattr(result, field.name)
        entry = entry.rho if field.name.startswith("circle") and field.name != "circle_net" else entry
        for name, x in entry.items() if isinstance(entry, dict) else [("", entry)]:
            if isinstance(x, Estimate):
                yield f"{field.name} {name}", x
    table = result.table().replace({np.nan: None})
    for row in table.to_dict("records"):
        yield f"D {row['steered']} {row['measured']}", Estimate(row["d"], row["lo"], row["hi"], row["n"])


@settings(max_examples=60, deadline=None)
@given(responses(), st.sampled_from([2, 5, 40]), st.integers(0, 5))
def test_no_measure_excludes_its_estimate(scores: Responses, n_boot: int, seed: int) -> None:
    result = measure(scores, seed=seed, n_boot=n_boot, n_permutations=9, n_splits=2, affirmation=scores)
    every = dict(estimates(result))
    assert {"circle ", "circle_wedge ", "nlr ", "nlr_plain ", "ngl ", "coupling ", "leakage_absolute "} <= set(every)
    wrong = {name: x for name, x in every.items() if not contains(x)}
    assert not wrong
    compared = compare_nlr(scores, scores, n_boot=n_boot, n_splits=2)
    assert all(contains(x) for x in (compared.nlr_a, compared.nlr_b, compared.ratio, compared.difference))


def test_a_correlation_of_noisy_changes_lies_in_its_interval():
    """The case that was reported: rho = -.51 with [-.48, -.25], because every resample adds noise."""
    rng = np.random.default_rng(3)
    circle = np.abs((np.arange(10)[:, None] - np.arange(10)[None, :] + 5) % 10 - 5)
    n, topics = 60, 20
    clusters = np.repeat([f"t{k}" for k in range(topics)], 3)
    base = tuple(np.zeros(n) for _ in VALUES)
    edited = tuple(
        -0.05 * circle[:, [j]] + rng.normal(0, 0.5, (10, topics)).repeat(3, axis=1) for j in range(len(VALUES))
    )
    result = measure(Responses("m", VALUES, base, edited, tuple(clusters for _ in VALUES), VALUES), n_boot=500)
    rho = result.circle.rho
    assert rho.est is not None
    assert rho.lo is not None
    assert rho.hi is not None
    assert -1 <= rho.lo < rho.est < rho.hi <= 1


@pytest.mark.parametrize("n", [1, 3, 20, 997])
def test_a_share_lies_in_its_interval(n: int) -> None:
    for count in {0, 1, n // 2, n - 1, n}:
        found = binomial_m(float(count), n)
        assert 0 <= found["lo"] <= found["est"] <= found["hi"] <= 1
