"""Leakage corrected for the judge's confusion of values (pure functions).

`D_true = D M^-1` (see `mixing`), bootstrapped over both samples: the prompts' topics (the draws of `measure`) and the clusters of
the labelled texts. Cross-fitted leakage splits both samples in halves: an error of M shared by both halves of the prompts would
have the same sign in both and would count as leakage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts, Mixing, MixingDraws, mixing, rogan_gladen, unmix
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights, cluster_sums, random_halves
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import Drawn, Headline, draw, headline, level_draws
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure

#: Limit of every estimate on labelled texts.
NOTE = "M was estimated on labelled texts and may not carry over to edited text"

#: Condition number (columns scaled) above which the correction amplifies noise more than it removes confusion: the rule of thumb
#: for strong collinearity of Belsley, Kuh and Welsch (1980).
ILL_CONDITIONED = 30.0


@dataclass(frozen=True, eq=False, repr=False)
class CorrectedLeakage:
    """Leakage as measured and after correction for the judge's confusion.

    Raw numbers are in the judge's unit, corrected ones in shares of texts that truly express the value. Ratios (NLR, NGL, share
    explained) can be compared between the two; gains and leakages cannot, unless the diagonal of M is near 1.

    Attributes:
        raw: The leakage as measured.
        mixing: Mixing matrix of the judge on held-out labels.
        matrix: `D M^-1` (steered x measured).
        lo: Lower bounds of `matrix`.
        hi: Upper bounds of `matrix`.
        corrected: Gains, leakage (cross-fitted and plain), NLR and NGL of the corrected D.
        alone: `corrected gain_i * M[i, j]`: the response of this judge if only the target value had changed.
        leakage_alone: Mean positive off-target part of `alone`.
        share: Ratio of the sums in `shares` over all steered values.
        shares: Share of the measured positive leakage that confusion alone explains, per steered value (our measure):
            `sum_{j != i} max(0, min(D[i, j], alone[i, j])) / sum_{j != i} max(0, D[i, j])`. Both matrices enter with their
            noise. Null where the raw leakage is within noise of 0.
        csr: Single CSRs; see `csr_table`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = (rng.random((200, 10)) < 0.3).astype(float)
        >>> scores = 0.1 + 0.7 * labels + 0.1 * rng.random((200, 10))
        >>> clusters, unit = np.arange(200).astype(str), result.responses.unit
        >>> judged = nv.evaluation.JudgedTexts("exact", unit, "made up", scores, labels, clusters)
        >>> corrected = nv.evaluation.correct(result.responses, judged, n_boot=20, n_permutations=19)
        >>> corrected.table().columns.tolist()
        ['method', 'steered', 'measured', 'd', 'lo', 'hi', 'corrected', 'corrected_lo', 'corrected_hi', 'alone']
    """

    raw: LeakageResult
    mixing: Mixing
    matrix: pd.DataFrame
    lo: pd.DataFrame
    hi: pd.DataFrame
    corrected: Headline
    alone: pd.DataFrame
    leakage_alone: Estimate
    share: Estimate
    shares: dict[str, Estimate]
    csr: pd.DataFrame

    @property
    def method(self) -> str:
        """Name of the measured method."""
        return self.raw.method

    def table(self) -> pd.DataFrame:
        """Return one row per cell.

        Columns: method, steered, measured, d, lo, hi (raw), corrected, corrected_lo, corrected_hi, alone.
        """
        rows = [
            {
                "method": self.method,
                "steered": steered,
                "measured": measured,
                "d": self.raw.matrix.iat[i, j],
                "lo": self.raw.lo.iat[i, j],
                "hi": self.raw.hi.iat[i, j],
                "corrected": self.matrix.iat[i, j],
                "corrected_lo": self.lo.iat[i, j],
                "corrected_hi": self.hi.iat[i, j],
                "alone": self.alone.iat[i, j],
            }
            for i, steered in enumerate(self.matrix.index)
            for j, measured in enumerate(self.matrix.columns)
        ]
        return pd.DataFrame(rows)

    def numbers(self) -> dict[str, Estimate]:
        """Return the headline estimates.

        condition, condition_scaled, share, leakage_alone; and gain, leakage, nlr and ngl (leakage and nlr also in their plain
        forms), each as NAME_raw and NAME_corrected.
        """
        estimates = {"condition": self.mixing.condition, "condition_scaled": self.mixing.scaled, "share": self.share}
        estimates |= {"leakage_alone": self.leakage_alone}
        for name in ("gain", "leakage", "leakage_plain", "nlr", "nlr_plain", "ngl"):
            estimates |= {f"{name}_raw": getattr(self.raw, name), f"{name}_corrected": getattr(self.corrected, name)}
        return estimates

    def per_value(self) -> pd.DataFrame:
        """Return one row per steered value.

        Raw and corrected gain and leakage, and the explained share of its leakage.
        """
        rows = []
        for name in self.matrix.index:
            row: dict[str, Any] = {"method": self.method, "steered": name}
            series = {"gain": self.raw.gains, "gain_corrected": self.corrected.gains, "leakage": self.raw.leakages}
            series |= {"leakage_corrected": self.corrected.leakages, "share": self.shares}
            for column, estimates in series.items():
                row |= estimates[name].columns(column)
            rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """Return one row with the headline estimates.

        Also the judge, the labels, the values that the judge did not notice, and a note.
        """
        responses = self.raw.responses
        row: dict[str, Any] = {"method": self.method, "judge": responses.judge, "unit": responses.unit}
        row |= {"labels": self.mixing.judged.labels_name, "texts": len(self.mixing.judged.scores)}
        for name, estimate in self.numbers().items():
            row |= estimate.columns(name)
        return pd.DataFrame([row | {"not_noticed": ", ".join(self.mixing.weak), "note": self.note}])

    def show(self) -> Any:
        """Plot the raw and the corrected matrix as a matplotlib figure."""
        from neva_tl.plots.confusion import corrected_heatmaps

        return corrected_heatmaps(self.table())

    def _repr_html_(self) -> str:
        facts: dict[str, Any] = {name.replace("_", " "): estimate for name, estimate in self.numbers().items()}
        matrix = self.matrix.rename_axis(index="steered", columns="corrected D")
        return card(
            f"Leakage of {self.method} without the judge's confusion", facts, matrix, note=self.note, index=True
        )

    @property
    def note(self) -> str:
        """Limits of these numbers, in one line."""
        limits = [NOTE]
        if self.mixing.weak:
            limits.append(f"the labelled texts do not show that the judge notices {', '.join(self.mixing.weak)}")
        if self.mixing.scaled.est is None or self.mixing.scaled.est > ILL_CONDITIONED:
            limits.append(f"M is ill-conditioned (above {ILL_CONDITIONED:.0f}): corrected numbers are mostly noise")
        return f"{'; '.join(limits)}."

    def __repr__(self) -> str:
        return f"<CorrectedLeakage {self}>"

    def __str__(self) -> str:
        return (
            f"{self.method}: NLR {self.raw.nlr} raw, {self.corrected.nlr} corrected; the judge's confusion alone makes "
            f"{self.share} of the leakage; condition number of M {self.mixing.condition}"
        )


@check_arguments
def correct(
    responses: Responses,
    judged: JudgedTexts,
    *,
    seed: int = 0,
    n_boot: int = 2000,
    level: float = 0.95,
    n_splits: int = 8,
    n_permutations: int = 999,
) -> CorrectedLeakage:
    """Correct leakage for the judge's confusion.

    Args:
        responses: Scores of the judge with and without the edits, for all ten values.
        judged: Scores of the same judge on held-out labelled texts.
        seed: See `measure`.
        n_boot: See `measure`.
        level: See `measure`.
        n_splits: See `measure`.
        n_permutations: See `measure`.

    Raises:
        InputError: The judges differ, `responses` lacks a value, or the labels do not define a mixing matrix (see `mixing`).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = (rng.random((200, 10)) < 0.3).astype(float)
        >>> scores = 0.1 + 0.7 * labels + 0.1 * rng.random((200, 10))
        >>> clusters, unit = np.arange(200).astype(str), result.responses.unit
        >>> judged = nv.evaluation.JudgedTexts("exact", unit, "made up", scores, labels, clusters)
        >>> corrected = nv.evaluation.correct(result.responses, judged, n_boot=20, n_permutations=19)
        >>> corrected.matrix.shape
        (1, 10)
    """
    if responses.values != SCHWARTZ.names:
        raise InputError(
            f"the correction needs all ten values measured: {responses.method} measured {len(responses.values)}"
        )
    if responses.judge and responses.judge != judged.judge:
        raise InputError(
            f"the leakage was judged by {responses.judge!r} and the labels by {judged.judge!r}: use the same judge"
        )
    settings: dict[str, Any] = {"seed": seed, "n_boot": n_boot, "n_splits": n_splits}
    raw = measure(responses, level=level, n_permutations=n_permutations, **settings)
    mixed = mixing(judged, level=level, **settings)
    effects = draw(responses, **settings)
    d = unmix(effects.d, mixed.draws.m)
    positive = _positive(responses, mixed.draws, **settings)
    target, n = responses.target, responses.n
    alone = formulas.gain(d, target)[..., None] * mixed.draws.m[:, target, :]
    cells = [[interval(d[0, i, j], d[1:, i, j], n, level) for j in range(10)] for i in range(len(target))]

    def frame(data: Any) -> pd.DataFrame:
        return pd.DataFrame(data, index=list(responses.steered), columns=list(SCHWARTZ.names), dtype=float)

    confused = formulas.leakage(alone, target).mean(axis=-1)
    share, shares = _shares(effects.d, alone, raw, level)
    return CorrectedLeakage(
        raw=raw,
        mixing=mixed,
        matrix=frame(d[0]),
        lo=frame([[cell.lo for cell in row] for row in cells]),
        hi=frame([[cell.hi for cell in row] for row in cells]),
        corrected=headline(Drawn(d, positive), responses, level),
        alone=frame(alone[0]),
        leakage_alone=interval(confused[0], confused[1:], n, level, recentre=True),
        share=share,
        shares=shares,
        csr=csr_table(responses, mixed.draws, seed=seed, n_boot=n_boot, level=level),
    )


def _positive(
    responses: Responses, draws: MixingDraws, *, seed: int, n_boot: int, n_splits: int
) -> Float[np.ndarray, "b i v"]:
    """Compute the cross-fitted positive part of `D M^-1`.

    One half of topics and labels determines the sign of each cell, the other half its size.
    """
    sums = cluster_sums(responses)
    draws_of: dict[str, Any] = {"seed": seed, "shared": responses.shared}
    boot = bootstrap_weights(sums.names, responses.values, n_boot=n_boot, **draws_of)
    halves = random_halves(sums.names, responses.values, n_splits=n_splits, **draws_of)
    weights = [np.vstack([np.ones((1, w.shape[1])), w]) for w in boot]
    pairs = (
        (unmix(first, m_first), unmix(second, m_second))
        for (first, second), (m_first, m_second) in zip(
            formulas.effects_of_halves(sums, weights, halves), draws.halves, strict=True
        )
    )
    return formulas.positive_of_halves(pairs)


def _shares(
    d: Float[np.ndarray, "b i v"], alone: Float[np.ndarray, "b i v"], raw: LeakageResult, level: float
) -> tuple[Estimate, dict[str, Estimate]]:
    responses = raw.responses
    off = formulas.off_target(responses.target, d.shape[-1])
    explained = np.where(off, np.maximum(np.minimum(d, alone), 0.0), 0.0).sum(axis=-1)
    measured = np.where(off, np.maximum(d, 0.0), 0.0).sum(axis=-1)
    # a sum over NaN cells is NaN, and `interval` counts such draws as unusable

    def estimate(top: np.ndarray, bottom: np.ndarray, floor: Estimate) -> Estimate:
        if floor.lo is None or floor.lo <= 0:
            return null(responses.n)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(bottom > 0, top / bottom, np.nan)
        return interval(ratio[0], ratio[1:], responses.n, level, recentre=True, bounds=(0.0, 1.0))

    each = {
        name: estimate(explained[:, i], measured[:, i], raw.leakages[name]) for i, name in enumerate(responses.steered)
    }
    return estimate(explained.sum(axis=-1), measured.sum(axis=-1), raw.leakage), each


def csr_table(responses: Responses, draws: MixingDraws, *, seed: int, n_boot: int, level: float) -> pd.DataFrame:
    """Correct single CSRs by the formula of Rogan and Gladen.

    A CSR is the mean score of a steered value, unedited and under its edit.

    Args:
        responses: Scores of the judge with and without the edits.
        draws: Draws of the mixing matrix and its rates.
        seed: Seed of the bootstrap.
        n_boot: Number of bootstrap draws.
        level: Confidence level.

    Returns:
        Columns method, steered, condition, csr, lo, hi (raw mean score), tpr, fpr, corrected, corrected_lo, corrected_hi (not
        truncated), truncated (`corrected` clipped to [0, 1]); NaN where the judge does not detect the value.
    """
    rows = []
    for edited in (False, True):
        levels = level_draws(responses, seed=seed, n_boot=n_boot, edited=edited)
        for i, (name, j) in enumerate(zip(responses.steered, responses.target, strict=True)):
            true = rogan_gladen(levels[:, i], draws.tpr[:, j], draws.fpr[:, j])
            raw = interval(levels[0, i], levels[1:, i], responses.n, level)
            unbiased = interval(true[0], true[1:], responses.n, level)
            row: dict[str, Any] = {"method": responses.method, "steered": name}
            row |= {"condition": "edited" if edited else "unedited", "csr": raw.est, "lo": raw.lo, "hi": raw.hi}
            row |= {"tpr": draws.tpr[0, j], "fpr": draws.fpr[0, j], "corrected": unbiased.est}
            row |= {"corrected_lo": unbiased.lo, "corrected_hi": unbiased.hi}
            rows.append(row | {"truncated": None if unbiased.est is None else min(max(unbiased.est, 0.0), 1.0)})
    table = pd.DataFrame(rows)
    numbers = [name for name in table.columns if name not in ("method", "steered", "condition")]
    return table.astype(dict.fromkeys(numbers, float))
