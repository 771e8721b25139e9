"""Leakage corrected for what the judge mixes up. Pure: takes responses and judged labels, knows no model.

`D_true = D M^-1` (see `judge_mixing`), bootstrapped through both samples: prompts' topics (the draws of `measure`) and the
labelled texts' clusters. Cross-fitted leakage halves both: a slip of M would have the same sign in both halves of the
prompts and pass for a leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts, Mixing, MixingDraws, mixing, rogan_gladen, unmix
from neva_tl.evaluation.measures import formulas as measures
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import Drawn, Headline, draw, headline, level_draws
from neva_tl.evaluation.measures.responses import Responses, bootstrap_weights, cluster_sums, random_halves
from neva_tl.evaluation.measures.result import LeakageResult, measure

#: What no estimate on labelled texts can promise.
NOTE = "M was estimated on labelled texts and may not carry over to edited text"

#: Condition number (columns scaled) above which the correction multiplies noise more than it removes confusion: the rule of
#: thumb for strong collinearity of Belsley, Kuh and Welsch (1980).
ILL_CONDITIONED = 30.0


@dataclass(frozen=True, eq=False, repr=False)
class CorrectedLeakage:
    """Leakage as the judge shows it and as it is without the judge's confusion.

    Raw numbers are in the judge's unit, corrected ones in shares of texts that truly express the value: ratios (NLR, NGL,
    share explained) compare, gains and leakages do not, unless M's diagonal is near 1.

    Attributes:
        raw: as measured.
        mixing: what the judge mixes up, on held-out labels.
        matrix, lo, hi: `D M^-1` (steered x measured) with its interval.
        corrected: gains, leakage (cross-fitted and plain), NLR and NGL of the corrected D.
        alone: `corrected gain_i * M[i, j]`: what this judge would show if nothing but the target had changed.
        leakage_alone: mean positive off-target part of it.
        shares: per steered value (ours), `sum_{j != i} max(0, min(D[i, j], alone[i, j])) / sum_{j != i} max(0, D[i, j])`,
            the share of the measured positive leakage that confusion alone makes; `share` is the ratio of the sums over all
            i. Both matrices enter with their noise. Null where the raw leakage is within noise of 0.
        csr: single CSRs, see `csr_table`.
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
        """Name of the method measured."""
        return self.raw.method

    def table(self) -> pd.DataFrame:
        """One row per cell: method, steered, measured, d, lo, hi (raw), corrected, corrected_lo, corrected_hi, alone."""
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
        """The headline: condition, condition_scaled, share, leakage_alone; and gain, leakage, nlr and ngl (leakage and nlr in
        their plain forms too), each as NAME_raw and NAME_corrected."""
        found = {"condition": self.mixing.condition, "condition_scaled": self.mixing.scaled, "share": self.share}
        found |= {"leakage_alone": self.leakage_alone}
        for name in ("gain", "leakage", "leakage_plain", "nlr", "nlr_plain", "ngl"):
            found |= {f"{name}_raw": getattr(self.raw, name), f"{name}_corrected": getattr(self.corrected, name)}
        return found

    def per_value(self) -> pd.DataFrame:
        """One row per steered value: raw and corrected gain and leakage, and the share of its leakage explained."""
        rows = []
        for name in self.matrix.index:
            row: dict[str, Any] = {"method": self.method, "steered": name}
            parts = {"gain": self.raw.gains, "gain_corrected": self.corrected.gains, "leakage": self.raw.leakages}
            parts |= {"leakage_corrected": self.corrected.leakages, "share": self.shares}
            for what, of in parts.items():
                row |= of[name].columns(what)
            rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """One row: judge, labels, the headline numbers with their intervals, the values the judge did not notice, a note."""
        responses = self.raw.responses
        row: dict[str, Any] = {"method": self.method, "judge": responses.judge, "unit": responses.unit}
        row |= {"labels": self.mixing.judged.labels_name, "texts": len(self.mixing.judged.scores)}
        for name, found in self.numbers().items():
            row |= found.columns(name)
        return pd.DataFrame([row | {"not_noticed": ", ".join(self.mixing.weak), "note": self.note}])

    def show(self) -> Any:
        """Raw and corrected matrix side by side (matplotlib)."""
        from neva_tl.plots.confusion import corrected_heatmaps

        return corrected_heatmaps(self.table())

    def _repr_html_(self) -> str:
        facts: dict[str, Any] = {name.replace("_", " "): found for name, found in self.numbers().items()}
        matrix = self.matrix.rename_axis(index="steered", columns="corrected D")
        return card(
            f"Leakage of {self.method} without the judge's confusion", facts, matrix, note=self.note, index=True
        )

    @property
    def note(self) -> str:
        """What to keep in mind, in one line."""
        parts = [NOTE]
        if self.mixing.weak:
            parts.append(f"the judge was not seen to notice {', '.join(self.mixing.weak)}")
        if self.mixing.scaled.est is None or self.mixing.scaled.est > ILL_CONDITIONED:
            parts.append(f"M is ill-conditioned (above {ILL_CONDITIONED:.0f}): corrected numbers are mostly noise")
        return f"{'; '.join(parts)}."

    def __repr__(self) -> str:
        return f"<CorrectedLeakage {self}>"

    def __str__(self) -> str:
        return (
            f"{self.method}: NLR {self.raw.nlr} raw, {self.corrected.nlr} corrected; the judge's confusion alone makes "
            f"{self.share} of the leakage; condition number of M {self.mixing.condition}"
        )


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
    """Leakage without the judge's confusion, beside the raw one.

    Args:
        responses: what the judge said with and without the edits; all ten values measured.
        judged: what the same judge said of held-out labelled texts.
        seed, n_boot, level, n_splits, n_permutations: as for `measure`.

    Raises:
        InputError: another judge, not all values measured, or labels that define no mixing matrix (see `mixing`).
    """
    if responses.values != VALUES:
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
    seen = draw(responses, **settings)
    d = unmix(seen.d, mixed.draws.m)
    positive = _positive(responses, mixed.draws, **settings)
    target, n = responses.target, responses.n
    alone = measures.gain(d, target)[..., None] * mixed.draws.m[:, target, :]
    cells = [[interval(d[0, i, j], d[1:, i, j], n, level) for j in range(10)] for i in range(len(target))]

    def frame(data: Any) -> pd.DataFrame:
        return pd.DataFrame(data, index=list(responses.steered), columns=list(VALUES), dtype=float)

    made = measures.leakage(alone, target).mean(axis=-1)
    share, shares = _shares(seen.d, alone, raw, level)
    return CorrectedLeakage(
        raw=raw,
        mixing=mixed,
        matrix=frame(d[0]),
        lo=frame([[cell.lo for cell in row] for row in cells]),
        hi=frame([[cell.hi for cell in row] for row in cells]),
        corrected=headline(Drawn(d, positive), responses, level),
        alone=frame(alone[0]),
        leakage_alone=interval(made[0], made[1:], n, level, recentre=True),
        share=share,
        shares=shares,
        csr=csr_table(responses, mixed.draws, seed=seed, n_boot=n_boot, level=level),
    )


def _positive(
    responses: Responses, draws: MixingDraws, *, seed: int, n_boot: int, n_splits: int
) -> Float[np.ndarray, "b i 10"]:
    """Cross-fitted positive part of `D M^-1`: one half of topics and labels says what leaks, the other how much."""
    sums = cluster_sums(responses)
    how: dict[str, Any] = {"seed": seed, "shared": responses.shared}
    boot = bootstrap_weights(sums.names, responses.values, n_boot=n_boot, **how)
    halves = random_halves(sums.names, responses.values, n_splits=n_splits, **how)
    weights = [np.vstack([np.ones((1, w.shape[1])), w]) for w in boot]
    pairs = (
        (unmix(first, m_first), unmix(second, m_second))
        for (first, second), (m_first, m_second) in zip(
            measures.effects_of_halves(sums, weights, halves), draws.halves, strict=True
        )
    )
    return measures.positive_of_halves(pairs)


def _shares(
    d: Float[np.ndarray, "b i 10"], alone: Float[np.ndarray, "b i 10"], raw: LeakageResult, level: float
) -> tuple[Estimate, dict[str, Estimate]]:
    responses = raw.responses
    off = measures.off_target(responses.target, d.shape[-1])
    explained = np.where(off, np.maximum(np.minimum(d, alone), 0.0), 0.0).sum(axis=-1)
    seen = np.where(off, np.maximum(d, 0.0), 0.0).sum(axis=-1)
    # a sum over NaN cells is NaN, and such draws are counted as unusable by `interval`

    def estimate(top: np.ndarray, bottom: np.ndarray, floor: Estimate) -> Estimate:
        if floor.lo is None or floor.lo <= 0:
            return null(responses.n)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(bottom > 0, top / bottom, np.nan)
        found = interval(part[0], part[1:], responses.n, level, recentre=True)
        ends = [None if x is None else min(max(x, 0.0), 1.0) for x in (found.lo, found.hi)]
        return Estimate(found.est, ends[0], ends[1], found.n)

    each = {name: estimate(explained[:, i], seen[:, i], raw.leakages[name]) for i, name in enumerate(responses.steered)}
    return estimate(explained.sum(axis=-1), seen.sum(axis=-1), raw.leakage), each


def csr_table(responses: Responses, draws: MixingDraws, *, seed: int, n_boot: int, level: float) -> pd.DataFrame:
    """Single CSRs by Rogan and Gladen: the mean score of each steered value, unedited and under its edit.

    Returns:
        method, steered, condition, csr, lo, hi (raw mean score), tpr, fpr, corrected, corrected_lo, corrected_hi (not
        truncated), truncated (the same in [0, 1]); NaN where the judge does not see the value.
    """
    rows = []
    for edited in (False, True):
        levels = level_draws(responses, seed=seed, n_boot=n_boot, edited=edited)
        for i, (name, j) in enumerate(zip(responses.steered, responses.target, strict=True)):
            true = rogan_gladen(levels[:, i], draws.tpr[:, j], draws.fpr[:, j])
            raw = interval(levels[0, i], levels[1:, i], responses.n, level)
            found = interval(true[0], true[1:], responses.n, level)
            row: dict[str, Any] = {"method": responses.method, "steered": name}
            row |= {"condition": "edited" if edited else "unedited", "csr": raw.est, "lo": raw.lo, "hi": raw.hi}
            row |= {"tpr": draws.tpr[0, j], "fpr": draws.fpr[0, j], "corrected": found.est}
            row |= {"corrected_lo": found.lo, "corrected_hi": found.hi}
            rows.append(row | {"truncated": None if found.est is None else min(max(found.est, 0.0), 1.0)})
    table = pd.DataFrame(rows)
    numbers = [name for name in table.columns if name not in ("method", "steered", "condition")]
    return table.astype(dict.fromkeys(numbers, float))
