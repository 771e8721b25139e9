"""Mixing matrices and corrected leakage against exact algebra, statsmodels and planted confusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.planted_judge import M, judged, labels, responses
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judge_quality.corrected import NOTE, correct
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts, condition_numbers, mixing, rogan_gladen, unmix
from neva_tl.evaluation.judge_quality.mixing import judged as judge_labels
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.result import measure

QUICK = {"n_boot": 100, "n_permutations": 1}
POWER = VALUES.index("power")


def perfect(seed=0) -> JudgedTexts:
    """A judge that says what is there."""
    made = judged(np.eye(10), noise=0.0, seed=seed)
    return replace(made, scores=made.labels)


# ---------------------------------------------------------------- the mixing matrix


def test_the_matrix_is_that_of_a_multivariate_regression():
    made = judged(seed=1)
    found = mixing(made, n_boot=50)
    fit = sm.OLS(made.scores, sm.add_constant(made.labels)).fit()
    np.testing.assert_allclose(found.matrix.to_numpy(), np.asarray(fit.params)[1:], atol=1e-10)
    assert found.condition.est == pytest.approx(np.linalg.cond(np.asarray(fit.params)[1:]))
    columns = np.asarray(fit.params)[1:]
    assert found.scaled.est == pytest.approx(np.linalg.cond(columns / np.linalg.norm(columns, axis=0)))
    assert found.weak == () and found.judged.left_out == 0


def test_a_column_of_small_scores_is_no_ill_conditioning():
    made = judged(np.eye(10), noise=0.05)
    small = replace(made, scores=made.scores * np.where(np.arange(10) == POWER, 1e-3, 1.0))
    a, b = mixing(made, n_boot=20), mixing(small, n_boot=20)
    assert b.condition.est > 500 and b.scaled.est == pytest.approx(a.scaled.est)


def test_bootstrap_intervals_agree_with_cluster_robust_ones():
    made = judged(seed=2, n=2000, topics=100)
    found = mixing(made, n_boot=800)
    groups = pd.factorize(made.clusters)[0]
    for j in (0, 5):
        fit = sm.OLS(made.scores[:, j], sm.add_constant(made.labels)).fit(
            cov_type="cluster", cov_kwds={"groups": groups}
        )
        width = (found.hi.to_numpy() - found.lo.to_numpy())[:, j] / (2 * 1.96)
        np.testing.assert_allclose(width, np.asarray(fit.bse)[1:], rtol=0.25)


def test_what_really_occurs_together_is_not_booked_as_confusion():
    """A judge that reads each value at .8 and mixes up nothing, on texts whose values come in pairs."""
    made = judged(0.8 * np.eye(10), noise=0.0)
    found = mixing(made, n_boot=20)
    np.testing.assert_allclose(found.matrix.to_numpy(), 0.8 * np.eye(10), atol=1e-9)
    there = made.labels[:, 0] == 1
    marginal = made.scores[there, 1].mean() - made.scores[~there, 1].mean()
    assert marginal > 0.12  # which a difference of means would have called confusion


def test_planted_confusion_is_found_within_its_intervals():
    inside = []
    for seed in range(6):
        found = mixing(judged(seed=seed), n_boot=150, seed=seed)
        inside.append(((found.lo.to_numpy() <= M) & (found.hi.to_numpy() >= M)).mean())
    assert 0.91 < np.mean(inside) < 0.98


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda y: np.where(np.arange(10) == POWER, 0.0, y), "too few labels of power"),
        (lambda y: np.where(np.arange(10) == POWER, y[:, [0]], y), "self-direction, power"),
    ],
)
def test_labels_that_define_no_matrix_are_refused_by_name(spoil, says):
    made = judged()
    with pytest.raises(InputError, match=says):
        mixing(replace(made, labels=spoil(made.labels)), n_boot=10)


def test_a_judge_that_never_sees_a_value_is_refused_and_one_that_hardly_does_is_flagged():
    made = judged(noise=0.1)
    deaf = made.scores.copy()
    deaf[:, POWER] = 0.0
    with pytest.raises(InputError, match="cannot tell power"):
        mixing(replace(made, scores=deaf), n_boot=10)
    deaf[:, POWER] = np.random.default_rng(0).random(len(deaf))
    assert mixing(replace(made, scores=deaf), n_boot=200).weak == ("power",)


class Reader:
    """A judge of texts that are their own labels ("0 3"); it fails on "?" and calls "!" invalid."""

    name, unit = "reader", "points"

    def score(self, texts, prompts=None):
        rows = [[np.nan if t == "?" else float(str(j) in t.split()) for j in range(10)] for t in texts]
        return np.array(rows).reshape(-1, 10)

    def oppose(self, texts, prompts=None):
        return None

    def valid(self, texts, prompts=None):
        return np.array([t != "!" for t in texts])


def labelled(texts, y, splits=None) -> LabelledTexts:
    n = len(texts)
    where = np.array(["test"] * n if splits is None else splits)
    clusters = np.array([f"c{k % 20}" for k in range(n)])
    return LabelledTexts("made", tuple(texts), ("",) * n, np.asarray(y, dtype=float), VALUES, clusters, where)


def test_only_held_out_texts_with_all_labels_and_scores_count():
    y = labels(60, np.random.default_rng(0))
    texts = [" ".join(map(str, np.flatnonzero(row))) for row in y]
    y[0, 3], texts[1] = np.nan, "?"
    found = judge_labels(Reader(), labelled(texts, y, ["train"] * 10 + ["test"] * 50))
    assert len(found.scores) == 50 and found.left_out == 0
    found = judge_labels(Reader(), labelled(texts, y))
    assert len(found.scores) == 58 and found.left_out == 2
    np.testing.assert_array_equal(found.scores, found.labels)


def test_labels_of_one_value_each_are_refused():
    y = np.full((20, 10), np.nan)
    y[np.arange(20), np.arange(20) % 10] = 1.0
    with pytest.raises(InputError, match="labelled for all ten values"):
        judge_labels(Reader(), labelled(["0"] * 20, y))


# ---------------------------------------------------------------- algebra


@given(
    arrays(float, (3, 2, 10), elements=st.floats(-1, 1, allow_subnormal=False)),
    arrays(float, (3, 10, 10), elements=st.floats(0, 0.08, allow_subnormal=False)),
)
@settings(max_examples=40, deadline=None)
def test_unmix_undoes_mixing(d, off):
    m = off + np.eye(10)
    np.testing.assert_allclose(unmix(d @ m, m), d, atol=1e-8)
    np.testing.assert_allclose(condition_numbers(m), np.linalg.cond(m), rtol=1e-8)


def test_unmix_says_nan_where_there_is_no_solution():
    m = np.stack([np.eye(10), np.ones((10, 10)), np.full((10, 10), np.nan)])
    found = unmix(np.ones((3, 1, 10)), m)
    assert np.isfinite(found[0]).all() and np.isnan(found[1:]).all()


@given(st.floats(0, 1), st.floats(0, 0.45), st.floats(0.55, 1))
def test_rogan_gladen_finds_the_share_behind_a_measured_one(share, fpr, tpr):
    measured = np.array([share * tpr + (1 - share) * fpr])
    np.testing.assert_allclose(rogan_gladen(measured, np.array([tpr]), np.array([fpr])), [share], atol=1e-9)
    assert np.isnan(rogan_gladen(measured, np.array([fpr]), np.array([tpr]))).all()


# ---------------------------------------------------------------- corrected leakage


def test_a_perfect_judge_needs_no_correction():
    seen = responses(0.5 * np.eye(10)[:4] + 0.05, seed=3)
    found = correct(seen, perfect(), **QUICK)
    raw = measure(seen, **QUICK)
    for ours, theirs in ((found.matrix, raw.matrix), (found.lo, raw.lo), (found.hi, raw.hi)):
        np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), atol=1e-9)
    for name in ("gain", "leakage", "leakage_plain", "nlr", "nlr_plain", "ngl"):
        ours, theirs = getattr(found.corrected, name), getattr(raw, name)
        np.testing.assert_allclose([ours.est, ours.lo, ours.hi], [theirs.est, theirs.lo, theirs.hi], atol=1e-9)
    assert found.share.est == pytest.approx(0.0, abs=1e-9) and found.leakage_alone.est == pytest.approx(0.0, abs=1e-9)
    assert found.mixing.condition.est == pytest.approx(1.0)


def test_without_noise_raw_is_off_by_what_confusion_adds_and_corrected_is_exact():
    truth = 0.4 * np.eye(10)[:3]
    truth[0, 5] = 0.1
    found = correct(responses(truth @ M, noise=0.0), judged(noise=0.0), **QUICK)
    np.testing.assert_allclose(found.matrix.to_numpy(), truth, atol=1e-9)
    np.testing.assert_allclose(found.raw.matrix.to_numpy() - truth, truth @ (M - np.eye(10)), atol=1e-9)
    assert found.corrected.gain.est == pytest.approx(0.4)
    assert found.corrected.nlr.est == pytest.approx((0.1 / 9) / 1.2)
    # by hand: raw off-target changes are .4 (.3 + .1) everywhere, and (.8 + .3 + .1) .1 more in the first row
    alone = 3 * 0.4 * 0.4
    assert found.share.est == pytest.approx(alone / (alone + 0.1 * 1.2))
    assert found.shares[VALUES[1]].est == pytest.approx(1.0)
    assert found.leakage_alone.est == pytest.approx(0.4 * 0.4 / 9)


def test_single_rates_are_those_of_the_labels():
    truth = 0.3 * np.eye(10)[:2]
    made = judged(noise=0.0)
    found = correct(responses(truth @ M), made, **QUICK)
    row = found.csr[(found.csr["condition"] == "edited") & (found.csr["steered"] == VALUES[1])].iloc[0]
    there = made.labels[:, 1] == 1
    assert row["tpr"] == pytest.approx(made.scores[there, 1].mean())
    assert row["fpr"] == pytest.approx(made.scores[~there, 1].mean())
    assert row["csr"] == pytest.approx(found.raw.csr[VALUES[1]].est)
    assert row["corrected"] == pytest.approx((row["csr"] - row["fpr"]) / (row["tpr"] - row["fpr"]))
    assert 0 <= row["truncated"] <= 1


def test_coverage_and_bias_over_many_worlds():
    """Intervals hold the truth in about 95 % of worlds, through both samples; the raw ones miss it where it is mixed up."""
    truth = 0.4 * np.eye(10)[:2]
    truth[1, 7] = 0.15
    neighbour = (0, 1)  # true change 0, raw change .4 * .3
    inside, raw_inside, estimates, plain, fitted, raw_fitted = [], [], [], [], [], []
    for seed in range(36):
        seen = responses(truth @ M, seed=seed)
        found = correct(seen, judged(n=500, seed=1000 + seed), n_boot=100, seed=seed, n_permutations=1, n_splits=4)
        inside.append((found.lo.to_numpy() <= truth) & (truth <= found.hi.to_numpy()))
        raw_inside.append(found.raw.lo.iat[neighbour] <= 0 <= found.raw.hi.iat[neighbour])
        estimates.append(found.matrix.to_numpy())
        fitted.append(found.corrected.leakages[VALUES[0]].est)
        plain.append(float(np.maximum(np.delete(found.matrix.to_numpy()[0], 0), 0).mean()))
        raw_fitted.append(found.raw.leakages[VALUES[0]].est)
    assert 0.91 < np.mean(inside) < 0.98
    assert np.mean(raw_inside) < 0.1
    spread = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert (np.abs(np.mean(estimates, axis=0) - truth) < 4 * spread).all()
    # nothing leaks in the first row: raw leakage shows the judge, plain corrected leakage the noise, cross-fitted neither
    assert np.mean(raw_fitted) == pytest.approx(0.4 * 0.4 / 9, rel=0.2)
    assert np.mean(plain) > 0.005
    assert abs(np.mean(fitted)) < 4 * np.std(fitted) / np.sqrt(len(fitted)) + 5e-4


def test_halves_of_the_draws_are_those_of_measure():
    """Raw numbers inside the correction are the very ones of `measure`, with its seed."""
    seen = responses(0.4 * np.eye(10)[:2] @ M, seed=5)
    found, alone = correct(seen, judged(), seed=7, **QUICK), measure(seen, seed=7, **QUICK)
    pd.testing.assert_frame_equal(found.raw.table(), alone.table())
    assert found.raw.nlr == alone.nlr
    assert formulas.gain(found.matrix.to_numpy(), seen.target) == pytest.approx(
        [found.corrected.gains[v].est for v in seen.steered]
    )


def test_another_judge_or_fewer_values_are_refused():
    seen = responses(0.4 * np.eye(10)[:2])
    with pytest.raises(InputError, match="same judge"):
        correct(seen, replace(judged(), judge="other"), **QUICK)
    some = replace(seen, values=VALUES[:9], base=seen.base[:9], edited=seen.edited[:9], clusters=seen.clusters[:9])
    with pytest.raises(InputError, match="ten values"):
        correct(some, judged(), **QUICK)


def test_results_show_themselves():
    found = correct(responses(0.4 * np.eye(10)[:2] @ M), judged(), **QUICK)
    assert (
        list(found.table().columns[:6]) == ["method", "steered", "measured", "d", "lo", "hi"]
        and len(found.table()) == 20
    )
    summary = found.summary().iloc[0]
    assert summary["note"] == f"{NOTE}." and summary["nlr_raw"] == found.raw.nlr.est
    assert NOTE in found._repr_html_() and "corrected" in str(found)
    assert len(found.per_value()) == 2
    assert len(found.show().axes) == 3 and found.mixing.show().axes
    assert len(found.mixing.table()) == 100 and "condition number" in found.mixing._repr_html_()
