"""Value leakage: rise of other values when a model is steered towards one value.

`measure` computes a `LeakageResult` from `Responses`, without a model; `compare_nlr` compares two methods on the same
bootstrap draws. To steer a model and measure in one call, see `neva_tl.evaluation.conditions.leakage.leakage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.cluster_sums import cluster_sums, worst_case
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import SPLITS, draw, headline, level_draws, nlr
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.wrong_way import wrong_way

#: Reason why a single concept has no leakage and no NLR.
NOTHING_TO_LEAK_TO = "one value is measured, so there is nothing to leak to"


@dataclass(frozen=True)
class CircleTest:
    """Correlation of off-target change with circular distance, and its Mantel permutation p-value.

    Attributes:
        rho: Spearman correlation.
        p: Two-sided p-value; None if undefined.
    """

    rho: Estimate
    p: float | None


@dataclass(frozen=True, eq=False, repr=False)
class LeakageResult:
    """Leakage matrix of one method and the measures computed from it.

    `table()` returns the matrix as a table, `show()` draws it. Intervals cover the choice of prompts (bootstrap by topic),
    but not selection or the choice of dose. Cross-fitted leakage is unbiased if nothing leaks, and somewhat low if a leak
    is small relative to the noise (one half of the topics may miss it). Plain leakage is biased upward. On average the
    true value lies between the two, and both converge to it with more prompts.

    Attributes:
        responses: The item scores.
        matrix: D (steered x measured), the mean change of each measured value's score.
        lo: Lower bounds of D.
        hi: Upper bounds of D.
        gains: Per steered value, `gain_i = D[i, i]`.
        leakages: Per steered value, the cross-fitted mean of the positive off-target changes.
        gain: Mean of `gains`.
        wrong_ways: Per steered value, the share of its items whose score falls under the edit, ties half (see
            `measures.wrong_way`).
        wrong_way: Mean of `wrong_ways`.
        leakage: Mean of `leakages`.
        leakage_plain: Leakage without cross-fitting (biased upward by noise).
        leakage_signed: Mean of D over the off-target cells.
        leakage_absolute: Mean of |D| over the off-target cells (biased upward by noise).
        nlr: Sum of leakages over sum of gains (cross-fitted). Undefined unless the interval of the sum of gains is above 0.
        nlr_plain: NLR without cross-fitting.
        ngl: 1 = leakage ignores the higher-order groups, 0 = no leakage out of them. Undefined below the noise floor
            (ours: the lower bound of the cross-fitted leakage is not above 0).
        coupling: Mean |off-target change| per unit of gain (undefined where `nlr` is).
        circle: Circle test.
        circle_wedge: Circle test with conformity and tradition at one position.
        circle_net: Whether the circle tests use expresses - opposes.
        csr_base: Per steered value, its mean unedited score.
        csr: Per steered value, its mean score under the edit.
        csr_base_mean: Mean of `csr_base`.
        csr_mean: Mean of `csr`.
        affirmation: Per steered value, the same change on pairs that affirm or negate a statement without a value
            (log-probability judge only), that is, the share of the gain due to affirmation.
        generations: Every text with its scores, if the judge reads texts.

    Example:
        >>> result = nv.leakage(model, {"benevolence": edit}, prompts, judge, n_boot=100)
        >>> result.matrix.loc["benevolence"].idxmax()
        'benevolence'
        >>> result.table().columns.tolist()[:3]
        ['method', 'steered', 'measured']
    """

    responses: Responses
    matrix: pd.DataFrame
    lo: pd.DataFrame
    hi: pd.DataFrame
    gains: dict[str, Estimate]
    leakages: dict[str, Estimate]
    gain: Estimate
    wrong_ways: dict[str, Estimate]
    wrong_way: Estimate
    leakage: Estimate
    leakage_plain: Estimate
    leakage_signed: Estimate
    leakage_absolute: Estimate
    nlr: Estimate
    nlr_plain: Estimate
    ngl: Estimate
    coupling: Estimate
    circle: CircleTest
    circle_wedge: CircleTest
    circle_net: bool
    csr_base: dict[str, Estimate]
    csr: dict[str, Estimate]
    csr_base_mean: Estimate
    csr_mean: Estimate
    affirmation: dict[str, Estimate] = field(default_factory=dict)
    generations: pd.DataFrame | None = None

    @property
    def method(self) -> str:
        """Name of the measured method."""
        return self.responses.method

    def reached(self, target: float) -> str:
        """Return the number of steered values with a gain of at least `target`, as printed with NLR: `"7/10"`.

        Args:
            target: The gain.
        """
        hits = sum(1 for g in self.gains.values() if g.est is not None and g.est >= target)
        return f"{hits}/{len(self.gains)}"

    @property
    def undefined(self) -> dict[str, str]:
        """Measures that these values cannot have -> the reason: one value, or a theory without groups or circle."""
        theory = self.responses.value_theory
        reasons = {}
        if len(self.responses.values) < 2:
            reasons = dict.fromkeys(("leakage", "nlr", "ngl", "coupling", "circle"), NOTHING_TO_LEAK_TO)
        if not theory.has_groups:
            reasons.setdefault("ngl", f"the theory {theory.name} has no groups")
        if not theory.has_circle:
            reasons.setdefault("circle", f"the theory {theory.name} has no circle")
        return reasons

    def table(self) -> pd.DataFrame:
        """Return D as a tidy table.

        Returns:
            Columns method, steered, measured, d, lo, hi, n (items scored in both conditions), missing (share of items
            without a score), worst_lo, worst_hi (bounds of D over all possible missing scores; NaN if the judge's unit
            has no bounds), wrong_way, wrong_way_lo, wrong_way_hi (share of items pushed the wrong way; NaN off target).
        """
        responses = self.responses
        count = np.stack([c.sum(axis=1) for c in cluster_sums(responses).count], axis=1)
        offered = np.stack(
            [
                (~e).sum(axis=1) if responses.excluded is not None else np.full(len(responses.steered), len(b))
                for b, e in zip(responses.base, responses.excluded or responses.edited, strict=True)
            ],
            axis=1,
        )
        worst = worst_case(responses)
        if worst is not None:  # without missing scores the bounds are D itself, summed in another order
            d = self.matrix.to_numpy(dtype=float)
            worst = np.fmin(worst[0], d), np.fmax(worst[1], d)
        rows = [
            {
                "method": responses.method,
                "steered": steered,
                "measured": measured,
                "d": self.matrix.iat[i, j],
                "lo": self.lo.iat[i, j],
                "hi": self.hi.iat[i, j],
                "n": int(count[i, j]),
                "missing": 1.0 - count[i, j] / max(offered[i, j], 1),
                "worst_lo": np.nan if worst is None else worst[0][i, j],
                "worst_hi": np.nan if worst is None else worst[1][i, j],
                **(self.wrong_ways[steered] if steered == measured else null()).columns("wrong_way"),
            }
            for i, steered in enumerate(responses.steered)
            for j, measured in enumerate(responses.values)
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(("wrong_way", "wrong_way_lo", "wrong_way_hi"), float))

    def per_value(self) -> pd.DataFrame:
        """Return one row per steered value: gain, share pushed the wrong way, leakage, CSR before and after."""
        rows = []
        for name in self.responses.steered:
            gain, leak = self.gains[name], self.leakages[name]
            row: dict[str, Any] = {"method": self.method, "steered": name}
            row |= gain.columns("gain") | self.wrong_ways[name].columns("wrong_way") | leak.columns("leakage")
            row |= {"csr_base": self.csr_base[name].est, "csr": self.csr[name].est}
            if self.affirmation:
                row["affirmation"] = self.affirmation[name].est
            rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """Return one row: the headline measures with their intervals, judge and unit."""
        row: dict[str, Any] = {"method": self.method, "judge": self.responses.judge, "unit": self.responses.unit}
        for name in ("gain", "wrong_way", "leakage", "nlr", "ngl", "coupling"):
            estimate: Estimate = getattr(self, name)
            row |= estimate.columns(name)
        return pd.DataFrame([row | {"circle": self.circle.rho.est, "circle_p": self.circle.p}])

    def coupling_matrix(self) -> pd.DataFrame:
        """Return D[i, j] / gain_i, the change per unit of gain; NaN if the interval of gain_i is not above 0."""
        firm = [(g.lo is not None and g.lo > 0) for g in self.gains.values()]
        scale = pd.Series(
            [g.est if ok else np.nan for g, ok in zip(self.gains.values(), firm, strict=True)], dtype=float
        )
        return self.matrix.div(scale.to_numpy(), axis=0)

    def change_correlation(self) -> pd.DataFrame:
        """Return the correlation between the changes of measured values over steered conditions.

        This is the correlation of the Value Alignment Tax.
        """
        names = list(self.matrix.columns)
        return pd.DataFrame(formulas.change_correlation(self.matrix.to_numpy()), index=names, columns=names)

    def show(self) -> Any:
        """Draw the matrix as a heatmap in the order of the theory (matplotlib)."""
        from neva_tl import plots
        from neva_tl.plots.value_names import using_theory

        with using_theory(self.responses.value_theory):
            return plots.leakage_heatmap(self.table())

    def _repr_html_(self) -> str:
        responses = self.responses
        facts: dict[str, Any] = {name: getattr(self, name) for name in ("gain", "leakage", "nlr", "ngl")}
        facts["wrong way"] = self.wrong_way
        facts |= {"judge": responses.judge or None, "unit": responses.unit or None, "items": responses.n}
        matrix = self.matrix.rename_axis(index="steered", columns="measured")
        facts = {name: fact for name, fact in facts.items() if name not in self.undefined}
        left_out = "; ".join(f"no {name}: {reason}" for name, reason in self.undefined.items())
        note = " ".join(filter(None, [responses.note, left_out]))
        return card(f"Leakage of {self.method}", facts, matrix, index=True, note=note)

    def __repr__(self) -> str:
        return f"<LeakageResult {self}>"

    def __str__(self) -> str:
        unit = f" ({self.responses.judge}, {self.responses.unit})" if self.responses.judge else ""
        if len(self.responses.values) < 2:
            return f"{self.method}{unit}: gain {self.gain}; no leakage and no NLR: {NOTHING_TO_LEAK_TO}"
        ngl = "" if "ngl" in self.undefined else f", NGL {self.ngl}"
        return f"{self.method}{unit}: gain {self.gain}, leakage {self.leakage}, NLR {self.nlr}{ngl}"


def _level(
    responses: Responses, *, seed: int, n_boot: int, level: float, edited: bool
) -> tuple[dict[str, Estimate], Estimate]:
    """Return the mean score of each steered value, unedited or under its edit, and their mean (draws of D)."""
    levels = level_draws(responses, seed=seed, n_boot=n_boot, edited=edited)
    mean = levels.mean(axis=-1)
    count = [len(responses.base[j]) for j in responses.target]
    each = {name: interval(levels[0, i], levels[1:, i], count[i], level) for i, name in enumerate(responses.steered)}
    return each, interval(mean[0], mean[1:], responses.n, level)


@check_arguments
def measure(
    responses: Responses,
    *,
    net: Responses | None = None,
    affirmation: Responses | None = None,
    generations: pd.DataFrame | None = None,
    seed: int = 0,
    n_boot: int = 2000,
    level: float = 0.95,
    n_splits: int = SPLITS,
    n_permutations: int = 9999,
) -> LeakageResult:
    """Compute all leakage measures of one method, with intervals from one cluster bootstrap.

    Args:
        responses: Item scores, unedited and edited.
        net: The same items scored as expresses - opposes, if the judge scores opposition; used by the circle test.
        affirmation: Responses with the single measured name "affirmation".
        generations: Texts with their scores, stored in the result.
        seed: Seed of the bootstrap, the halvings and the permutations; the same seed pairs results of different methods.
        n_boot: Bootstrap draws.
        level: Coverage of the intervals.
        n_splits: Random halvings that the cross-fitted leakage averages.
        n_permutations: Relabellings in the Mantel test.

    Raises:
        InputError: A steered value is not measured, or `n_splits` is below 1.

    Example:
        >>> again = nv.evaluation.measure(result.responses, n_boot=20, n_permutations=19)
        >>> again.gain.est == result.gain.est
        True
    """
    n = responses.n
    drawn = draw(responses, seed=seed, n_boot=n_boot, n_splits=n_splits)
    numbers = headline(drawn, responses, level)
    absolute = formulas.off_target_mean(np.abs(drawn.d), responses.target)

    def estimate(x: np.ndarray, items: int = n, kinked: bool = False) -> Estimate:
        return interval(x[0], x[1:], items, level, recentre=kinked)

    cells = [
        [estimate(drawn.d[:, i, j], len(b)) for j, b in enumerate(responses.base)]
        for i in range(len(responses.steered))
    ]

    def frame(pick: str) -> pd.DataFrame:
        data = [[getattr(cell, pick) for cell in row] for row in cells]
        return pd.DataFrame(data, index=list(responses.steered), columns=list(responses.values), dtype=float)

    circle_of, circle_draws = (
        (responses, drawn.d) if net is None else (net, draw(net, seed=seed, n_boot=n_boot, n_splits=1).d)
    )
    circles = [_circle(circle_of, circle_draws, wedge, seed, n_permutations, level) for wedge in (False, True)]
    wrong_ways, wrong_way_mean = wrong_way(responses, seed=seed, n_boot=n_boot, level=level)
    csr_base, csr_base_mean = _level(responses, seed=seed, n_boot=n_boot, level=level, edited=False)
    csr, csr_mean = _level(responses, seed=seed, n_boot=n_boot, level=level, edited=True)
    return LeakageResult(
        responses=responses,
        matrix=frame("est"),
        lo=frame("lo"),
        hi=frame("hi"),
        gains=numbers.gains,
        leakages=numbers.leakages,
        gain=numbers.gain,
        wrong_ways=wrong_ways,
        wrong_way=wrong_way_mean,
        leakage=numbers.leakage,
        leakage_plain=numbers.leakage_plain,
        leakage_signed=estimate(formulas.off_target_mean(drawn.d, responses.target).mean(axis=-1)),
        leakage_absolute=estimate(absolute.mean(axis=-1), kinked=True),
        nlr=numbers.nlr,
        nlr_plain=numbers.nlr_plain,
        ngl=numbers.ngl,
        coupling=nlr(absolute, formulas.gain(drawn.d, responses.target), n, level),
        circle=circles[0],
        circle_wedge=circles[1],
        circle_net=net is not None,
        csr_base=csr_base,
        csr=csr,
        csr_base_mean=csr_base_mean,
        csr_mean=csr_mean,
        affirmation={} if affirmation is None else _single(affirmation, seed, n_boot, level),
        generations=generations,
    )


def _circle(
    responses: Responses, d: Float[np.ndarray, "b i j"], wedge: bool, seed: int, n_permutations: int, level: float
) -> CircleTest:
    theory = responses.value_theory
    rho = formulas.circle_correlation(d, responses.steered, responses.values, wedge=wedge, theory=theory)
    p = formulas.mantel_p(
        d[0], responses.steered, responses.values, wedge=wedge, theory=theory, n_permutations=n_permutations, seed=seed
    )
    # noise moves rho towards 0, on every resample once more
    estimate = interval(rho[0], rho[1:], responses.n, level, recentre=True, bounds=(-1.0, 1.0))
    return CircleTest(estimate, None if np.isnan(p) else p)


def _single(responses: Responses, seed: int, n_boot: int, level: float) -> dict[str, Estimate]:
    """Return the change of the first measured column (affirmation) under each condition."""
    d = draw(responses, seed=seed, n_boot=n_boot, n_splits=1).d
    return {v: interval(d[0, i, 0], d[1:, i, 0], responses.n, level) for i, v in enumerate(responses.steered)}


@dataclass(frozen=True)
class NlrComparison:
    """NLRs of two methods on the same bootstrap draws.

    Attributes:
        a: Name of the first method.
        b: Name of the second method.
        values: The compared values.
        nlr_a: NLR of the first method.
        nlr_b: NLR of the second method.
        ratio: `nlr_a / nlr_b`; undefined if b's leakage is within noise of zero (its lower bound is not above 0).
        difference: `nlr_a - nlr_b`.

    Example:
        >>> comparison = nv.evaluation.compare_nlr(result.responses, result.responses, n_boot=20)
        >>> comparison.table().shape[0]
        3
    """

    a: str
    b: str
    values: tuple[str, ...]
    nlr_a: Estimate
    nlr_b: Estimate
    ratio: Estimate
    difference: Estimate

    def table(self) -> pd.DataFrame:
        """Return one row per number: label, est, lo, hi, n."""
        numbers = {f"NLR {self.a}": self.nlr_a, f"NLR {self.b}": self.nlr_b, "ratio": self.ratio}
        numbers["difference"] = self.difference
        rows = [{"label": name, "est": x.est, "lo": x.lo, "hi": x.hi, "n": x.n} for name, x in numbers.items()]
        return pd.DataFrame(rows).astype({"est": float, "lo": float, "hi": float})

    def _repr_html_(self) -> str:
        facts = {"values": ", ".join(self.values), "ratio": self.ratio, "difference": self.difference}
        return card(f"NLR of {self.a} and {self.b}", facts, self.table())

    def show(self) -> Any:
        """Draw the two NLRs, their ratio and their difference with intervals (matplotlib)."""
        from neva_tl.plots import interval_plot

        return interval_plot(self.table(), title=f"NLR of {self.a} and {self.b}, {len(self.values)} values", guide=0.0)


@check_arguments
def compare_nlr(
    a: Responses,
    b: Responses,
    values: Iterable[str] | None = None,
    *,
    seed: int = 0,
    n_boot: int = 2000,
    level: float = 0.95,
    n_splits: int = SPLITS,
) -> NlrComparison:
    """Compare the cross-fitted NLRs of two methods by a paired bootstrap.

    Args:
        a: Responses of the first method.
        b: Responses of the second method to the same items; equal clusters give both the same draws.
        values: Steered values that both methods reached; default: all values steered by both.
        seed: Seed of the bootstrap and the halvings.
        n_boot: Bootstrap draws.
        level: Coverage of the intervals.
        n_splits: Random halvings that the cross-fitted leakage averages.

    Raises:
        InputError: The methods share no value, or differ in judge, unit or topics.

    Example:
        >>> comparison = nv.evaluation.compare_nlr(result.responses, result.responses, n_boot=20)
        >>> comparison.a, comparison.b, comparison.values
        ('edit', 'edit', ('benevolence',))
    """
    common = tuple(v for v in (values if values is not None else a.steered) if v in a.steered and v in b.steered)
    if not common:
        raise InputError(f"no value is reached by both {a.method!r} and {b.method!r}: their NLRs cannot be compared")
    if (a.judge, a.unit) != (b.judge, b.unit) or a.values != b.values:
        raise InputError(f"{a.method!r} and {b.method!r} were measured by different judges, units or values")
    sums_a, sums_b = cluster_sums(a), cluster_sums(b)
    if sums_a.names != sums_b.names:
        raise InputError(f"{a.method!r} and {b.method!r} were measured on different topics: use the same prompts")
    first, second = a.select(common), b.select(common)
    n, results = first.n, []
    for responses in (first, second):
        drawn = draw(responses, seed=seed, n_boot=n_boot, n_splits=n_splits)
        gains = formulas.gain(drawn.d, responses.target)
        leak = formulas.off_target_mean(drawn.positive, responses.target)
        results.append((nlr(leak, gains, n, level), leak.sum(axis=-1), gains.sum(axis=-1)))
    (nlr_a, leak_a, gain_a), (nlr_b, leak_b, gain_b) = results
    ratio = difference = null(n)
    if nlr_a.est is not None and nlr_b.est is not None:
        top, bottom = formulas.ratio(leak_a, gain_a), formulas.ratio(leak_b, gain_b)
        with np.errstate(invalid="ignore"):
            gap = top - bottom
        difference = interval(gap[0], gap[1:], n, level, recentre=True)
        floor = interval(leak_b[0], leak_b[1:], n, level, recentre=True).lo
        if floor is not None and floor > 0:
            quotient = formulas.ratio(top, bottom)
            ratio = interval(quotient[0], quotient[1:], n, level, recentre=True)
    return NlrComparison(a.method, b.method, common, nlr_a, nlr_b, ratio, difference)
