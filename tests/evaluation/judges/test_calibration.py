"""Platt's calibration against SciPy, planted slopes, and files that are no calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ
from neva_tl.evaluation.judges.calibration import (
    Calibration,
    calibration_texts,
    fit,
    label_cube,
    platt,
    without_labels,
)
from neva_tl.evaluation.labels.labelled import LabelledTexts


def by_scipy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope and intercept of Platt (1999): least cross-entropy with smoothed targets."""
    yes, no = (y == 1).sum(), (y == 0).sum()
    t = np.where(y == 1, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(ab: np.ndarray) -> float:
        z = ab[0] * x + ab[1]
        return float((np.logaddexp(0, z) - t * z).sum())

    return minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x


def test_platt_equals_scipy_on_mixed_and_on_separable_labels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, 60)
    mixed, separable = (rng.random(60) < expit(x - 1)).astype(float), (x > 1).astype(float)
    for y in (mixed, separable):
        assert np.allclose(platt(x, y), by_scipy(x, y), atol=2e-4)


def test_a_planted_slope_and_threshold_are_recovered() -> None:
    rng = np.random.default_rng(1)
    odds = rng.normal(2, 3, (4000, 2, 2))
    labels = (rng.random(odds.shape) < expit(0.7 * (odds - 2.5))).astype(float)
    calibration = fit(["a", "b"], odds, labels, np.zeros((2, 2)), source="planted", texts=["t"])
    assert np.allclose(calibration.df["slope"], 0.7, atol=0.08)
    assert np.allclose(calibration.df["threshold"], 2.5, atol=0.25)
    assert np.allclose(calibration.apply(odds), expit(0.7 * (odds - 2.5)), atol=0.06)
    assert calibration.overlap(["t", "u"]) == 1


def test_a_value_without_labels_takes_the_usual_slope_and_shift() -> None:
    rng = np.random.default_rng(2)
    empty = np.array([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0]])
    odds = rng.normal(0, 2, (300, 3, 2)) + empty
    labels = (odds > empty + 1).astype(float)
    labels[:, 2] = np.nan
    labels[:, :, 1] = np.nan
    calibration = fit(["a", "b", "c"], odds, labels, empty, source="planted")
    threshold = calibration.df["threshold"].to_numpy().reshape(3, 2)
    assert calibration.n[:, 0].tolist() == [300, 300, 0] and not calibration.n[:, 1].any()
    assert threshold[2, 0] == pytest.approx(-2 + np.median(threshold[:2, 0] - empty[:2, 0]))
    # no label of opposition at all: slope 1, threshold of texts without content
    assert np.allclose(calibration.slope[:, 1], 1) and np.allclose(threshold[:, 1], empty[:, 1])


def test_answers_against_the_labels_carry_no_evidence() -> None:
    x = np.linspace(-3, 3, 40)
    labels = np.full((40, 1, 2), np.nan)
    labels[:, 0, 0] = x < -1
    odds = np.stack([x, x], axis=-1)[:, None]
    with pytest.warns(UserWarning, match=r"about power \(express\) do not follow the labels of planted"):
        calibration = fit(["power"], odds, labels, np.zeros((1, 2)), source="planted")
    p = calibration.apply(odds)[:, 0, 0]
    assert np.ptp(p) == 0 and abs(p[0] - labels[:, 0, 0].mean()) < 0.03


def labelled(labels: np.ndarray, *, against: bool = False) -> LabelledTexts:
    n = len(labels)
    texts = tuple(f"text {k}" for k in range(n))
    splits = np.array(["train"] * (n - 2) + ["test"] * 2)
    return LabelledTexts("l", texts, ("",) * n, labels, SCHWARTZ.names, np.array(texts), splits, against=against)


def test_calibration_texts_are_of_the_training_split_and_balanced() -> None:
    labels = np.full((42, 10), np.nan)
    labels[:, 3] = np.arange(42) % 2
    texts = calibration_texts(labelled(labels), 6)
    assert len(texts) == 12 and np.nansum(texts.labels) == 6 and set(texts.splits) == {"train"}
    assert texts.texts == calibration_texts(labelled(labels), 6).texts
    complete = np.nan_to_num(labels)
    assert len(calibration_texts(labelled(complete), 1)) == 20  # 2 n per value, in the shares of the labels


def test_a_label_0_is_opposition_only_where_the_source_says_so() -> None:
    labels = np.full((4, 10), np.nan)
    labels[:, 0] = [1, 0, 1, np.nan]
    cube = label_cube(labelled(labels, against=True))
    assert np.array_equal(cube[:, 0, 0], labels[:, 0], equal_nan=True)
    assert np.array_equal(cube[:, 0, 1], 1 - labels[:, 0], equal_nan=True)
    assert np.isnan(label_cube(labelled(labels))[..., 1]).all()


def test_files_that_are_no_calibration_are_refused_in_one_line(tmp_path: Path) -> None:
    file = without_labels(["a"], np.array([[0.5, -0.5]]), "judge").save(tmp_path / "c.json")
    again = Calibration.load(file)
    assert again.df.equals(without_labels(["a"], np.array([[0.5, -0.5]])).df) and again.judge == "judge"
    good = json.loads(file.read_text())
    for change in ({"slope": [[1.0]]}, {"schema": 2}, {"values": 3}, {"n": "x"}, {"texts": None}):
        file.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match="is not a judge's calibration") as caught:
            Calibration.load(file)
        assert "\n" not in str(caught.value)
