"""Calibration of a judge's log-odds: P = sigmoid(slope * log-odds + intercept), per value and direction.

Fitted on labelled texts by Platt's method (logistic regression on targets that are smoothed by the number of labels, so that
separable labels give a finite slope). Without labels the slope is 1, and the threshold is the answer to texts without content
(Zhao et al. 2021, "Calibrate before use").
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from neva_tl.core.cache import content_key
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, read_json
from neva_tl.evaluation.judges.endorsement import DIRECTIONS
from neva_tl.evaluation.labels.labelled import LabelledTexts

FORMAT = "neva_tl judge calibration"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Slopes and intercepts of a judge, and where they come from.

    Attributes:
        values: Names of the values.
        slope: Slope per value and direction (`endorsement.DIRECTIONS`), at least 0.
        intercept: Intercept per value and direction, in nats.
        n: Number of labels of each; 0 where none was available.
        source: The labelled texts; "texts without content" where there were none.
        judge: Identity of the judge without its calibration.
        texts: Hashes of the texts that were used, which are not to be scored.
    """

    values: tuple[str, ...]
    slope: Float[np.ndarray, "v 2"]
    intercept: Float[np.ndarray, "v 2"]
    n: Int[np.ndarray, "v 2"]
    source: str
    judge: str = ""
    texts: frozenset[str] = frozenset()

    @property
    def fitted(self) -> bool:
        """Whether labels were used."""
        return bool(self.n.any())

    def apply(self, log_odds: Float[np.ndarray, "n v 2"]) -> Float[np.ndarray, "n v 2"]:
        """Return probabilities; NaN stays NaN.

        Args:
            log_odds: Log-odds of Yes over No, per text, value and direction.
        """
        from scipy.special import expit

        return np.asarray(expit(self.slope * log_odds + self.intercept), dtype=np.float64)

    def only(self, values: Sequence[str]) -> Calibration:
        """Return the calibration of some of the values, for any judge with the same answers.

        Args:
            values: Names of its values.
        """
        rows = [self.values.index(name) for name in values]
        return replace(
            self, values=tuple(values), slope=self.slope[rows], intercept=self.intercept[rows], n=self.n[rows], judge=""
        )

    def overlap(self, texts: Sequence[str]) -> int:
        """Count the texts that were used for the calibration.

        Args:
            texts: Texts to be scored.
        """
        return sum(text_hash(text) in self.texts for text in texts) if self.texts else 0

    @property
    def df(self) -> pd.DataFrame:
        """Table with one row per value and direction: slope, threshold (log-odds of P = .5), n."""
        with np.errstate(divide="ignore", invalid="ignore"):
            threshold = np.where(self.slope > 0, -self.intercept / self.slope, np.nan)
        rows = [
            {
                "value": name,
                "direction": direction,
                "slope": float(self.slope[j, k]),
                "threshold": float(threshold[j, k]),
                "n": int(self.n[j, k]),
            }
            for j, name in enumerate(self.values)
            for k, direction in enumerate(DIRECTIONS)
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": FORMAT,
            "schema": 1,
            "judge": self.judge,
            "source": self.source,
            "values": list(self.values),
            "slope": self.slope.tolist(),
            "intercept": self.intercept.tolist(),
            "n": self.n.tolist(),
            "texts": sorted(self.texts),
        }

    def save(self, path: str | Path) -> Path:
        """Write the calibration as JSON; `llm:MODEL#calibration=FILE` reads it.

        Args:
            path: The file. Its folder is created where it is missing.
        """
        path = Path(path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration that `save` wrote.

        Args:
            path: The file.

        Raises:
            InputError: The file is missing, or does not contain a calibration.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise InputError(f"{path} does not exist: name the file of a judge's calibration")
        about = read_json(path, "a judge's calibration")
        try:
            if about["format"] != FORMAT or about["schema"] != 1:
                raise ValueError("another format")
            values = tuple(map(str, about["values"]))
            slope, intercept = (
                np.asarray(about[name], dtype=float).reshape(len(values), len(DIRECTIONS))
                for name in ("slope", "intercept")
            )
            n = np.asarray(about["n"], dtype=np.int64).reshape(slope.shape)
            if not (np.isfinite(slope).all() and np.isfinite(intercept).all()):
                raise ValueError("a number is not finite")
            return cls(
                values,
                slope,
                intercept,
                n,
                str(about["source"]),
                str(about["judge"]),
                frozenset(map(str, about["texts"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a judge's calibration ({error}): fit it again") from error

    def _repr_html_(self) -> str:
        return card("Calibration of a judge", {"source": self.source, "texts": len(self.texts)}, self.df, rows=40)

    def show(self) -> Any:
        """Plot the thresholds of P = .5 as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.df.assign(
            label=lambda df: df["value"] + ", " + df["direction"], est=lambda df: df["threshold"], lo=np.nan, hi=np.nan
        )
        return interval_plot(table, title=f"Thresholds by {self.source}", axis="log-odds of Yes over No")


def text_hash(text: str) -> str:
    """Return the name of a text in a calibration.

    Args:
        text: The text.
    """
    return content_key("calibration text", text)[:16]


def without_labels(values: Sequence[str], empty: Float[np.ndarray, "v 2"], judge: str = "") -> Calibration:
    """Return slope 1 and the threshold of texts without content.

    Args:
        values: Names of the values.
        empty: Log-odds of texts without content.
        judge: Identity of the judge.
    """
    count = np.zeros(empty.shape, dtype=np.int64)
    return Calibration(tuple(values), np.ones(empty.shape), -empty, count, "texts without content", judge)


def fit(
    values: Sequence[str],
    log_odds: Float[np.ndarray, "n v 2"],
    labels: Float[np.ndarray, "n v 2"],
    empty: Float[np.ndarray, "v 2"],
    *,
    source: str,
    judge: str = "",
    texts: Sequence[str] = (),
) -> Calibration:
    """Fit slope and intercept per value and direction.

    A value without labels of both kinds takes the median slope of the others in that direction, and its answer to texts without
    content shifted by the median shift of the others. Slopes below 0 become 0 with a warning: the answers then carry no
    evidence, and the probability is the share of labels 1.

    Args:
        values: Names of the values.
        log_odds: Log-odds per text, value and direction; NaN where they were not computed.
        labels: 1, 0 or NaN per text, value and direction.
        empty: Log-odds of texts without content.
        source: Name of the labelled texts.
        judge: Identity of the judge.
        texts: The texts, which the judge then refuses to score.
    """
    base = without_labels(values, empty, judge)
    slope, intercept, n = base.slope.copy(), base.intercept.copy(), base.n.copy()
    for k in range(len(DIRECTIONS)):
        fitted = []
        for j, name in enumerate(values):
            use = ~np.isnan(labels[:, j, k]) & ~np.isnan(log_odds[:, j, k])
            x, y = log_odds[use, j, k], labels[use, j, k]
            if len(set(y.tolist())) < 2:
                continue
            slope[j, k], intercept[j, k] = platt(x, y)
            n[j, k] = len(y)
            if slope[j, k] <= 0:
                warnings.warn(
                    f"the judge's answers about {name} ({DIRECTIONS[k]}) do not follow the labels of {source}"
                )
                slope[j, k], intercept[j, k] = 0.0, _logit(_targets(y).mean())
            else:
                fitted.append(j)
        if fitted:
            usual = float(np.median(slope[fitted, k]))
            shift = float(np.median(-intercept[fitted, k] / slope[fitted, k] - empty[fitted, k]))
            without = n[:, k] == 0
            slope[without, k], intercept[without, k] = usual, -usual * (empty[without, k] + shift)
    return Calibration(tuple(values), slope, intercept, n, source, judge, frozenset(map(text_hash, texts)))


def platt(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return slope and intercept of Platt's logistic regression (1999).

    Args:
        x: Log-odds.
        y: Labels, 1 or 0, both present.
    """
    from sklearn.linear_model import LogisticRegression

    targets = _targets(y)
    # a soft target is two rows, one of each class
    model = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8)
    rows = np.concatenate([x, x])[:, None]
    model.fit(rows, np.repeat([1, 0], len(x)), sample_weight=np.concatenate([targets, 1 - targets]))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _targets(y: np.ndarray) -> np.ndarray:
    """Smoothed targets: (N+ + 1) / (N+ + 2) for label 1, 1 / (N- + 2) for label 0."""
    yes = float((y == 1).sum())
    no = float((y == 0).sum())
    return np.where(y == 1, (yes + 1) / (yes + 2), 1 / (no + 2))


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def label_cube(labelled: LabelledTexts) -> Float[np.ndarray, "n v 2"]:
    """Return the labels of both directions.

    Opposition has labels only where a label 0 means that the text goes against the value (`LabelledTexts.against`).

    Args:
        labelled: Texts with labels.
    """
    labels = labelled.to_values().labels
    return np.stack([labels, 1 - labels if labelled.against else np.full_like(labels, np.nan)], axis=-1)


def calibration_texts(labelled: LabelledTexts, n: int) -> LabelledTexts:
    """Return texts of the training split, chosen by a hash of their content.

    Where each text is labelled for one value only: at most n texts per value and label. Where all values are labelled: at most
    2 n texts per value altogether, in the shares of the labels as they are.

    Args:
        labelled: Texts with splits.
        n: Largest number of texts per value and label.
    """
    training = labelled.split("train").to_values()
    if not np.isnan(training.labels).any():
        return training.head(2 * n * training.labels.shape[1])
    return training.balanced(n)
