"""From scores to decisions: every rate against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, precision_recall_fscore_support

from neva_tl.evaluation.labels.decisions import calibration_error, cells, decide, kappa, macro, one_baseline, rates


@st.composite
def tables(draw):
    n, c = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    return (rng.random((n, c)) < rng.random(c)).astype(float), (rng.random((n, c)) < rng.random(c)).astype(float)


@settings(max_examples=60, deadline=None)
@given(tables())
def test_rates_are_scikit_learns(pair):
    said, labels = pair
    labels[0] = 1  # each column has something to find
    found = rates(cells(said, labels).sum(axis=0))
    precision, recall, f1, _ = (
        np.array(x)
        for x in zip(
            *(
                precision_recall_fscore_support(labels[:, k], said[:, k], average="binary", zero_division=0)
                for k in range(labels.shape[1])
            ),
            strict=True,
        )
    )
    np.testing.assert_allclose(found["precision"], precision)
    np.testing.assert_allclose(found["recall"], recall)
    np.testing.assert_allclose(found["f1"], f1)
    np.testing.assert_allclose(found["accuracy"], (said == labels).mean(axis=0))
    means = macro(cells(said, labels).sum(axis=0))
    if labels.shape[1] > 1:  # scikit-learn takes one column for two classes
        assert means["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro", zero_division=0))
    p, r = precision.mean(), recall.mean()
    assert means["task_f1"] == pytest.approx(2 * p * r / (p + r) if p + r else 0)


@settings(max_examples=60, deadline=None)
@given(tables())
def test_kappa_is_scikit_learns(pair):
    a, b = pair
    found = kappa(cells(a, b).sum(axis=0))
    for k in range(a.shape[1]):
        if len(set(a[:, k]) | set(b[:, k])) == 1:
            assert np.isnan(found[k])
        else:
            assert found[k] == pytest.approx(cohen_kappa_score(a[:, k], b[:, k]))


def test_what_is_not_known_counts_nowhere():
    said = np.array([[1.0], [np.nan], [1.0], [0.0]])
    labels = np.array([[1.0], [1.0], [np.nan], [1.0]])
    assert cells(said, labels).sum(axis=0).tolist() == [[1, 0, 1, 0]]
    assert np.isnan(decide(np.array([[np.nan, 0.5]]))[0, 0]) and decide(np.array([[np.nan, 0.5]]))[0, 1] == 1
    nothing = rates(np.array([0.0, 2.0, 0.0, 3.0]))  # no label of 1
    assert np.isnan(nothing["f1"]) and np.isnan(nothing["precision"]) and nothing["accuracy"] == pytest.approx(0.6)


def test_the_one_baseline_by_hand():
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])  # shares .5 and .25, recall 1
    found = one_baseline(labels)
    assert found["task_f1"] == pytest.approx(2 * 0.375 / 1.375)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.4) / 2)


def test_calibration_error_by_hand():
    # bin .2: mean score .25, share 0; bin .9 (1.0 belongs to it): mean .95, share 1
    found = calibration_error(np.array([0.2, 0.29, 0.9, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert found == pytest.approx((2 * 0.245 + 2 * 0.05) / 4)
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    assert calibration_error(p, (rng.random(20_000) < p).astype(float)) < 0.02
