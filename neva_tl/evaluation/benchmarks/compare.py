"""Comparison of edited and unedited capability, paired on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import Estimate as Interval
from neva_tl.core.statistics import cluster_bootstrap, containing
from neva_tl.evaluation.benchmarks.metrics import DRAWS, METRICS, Metric, alone
from neva_tl.evaluation.benchmarks.score import Scores

COLUMNS = (
    "set",
    "metric",
    "condition",
    "base",
    "edited",
    "difference",
    "lo",
    "hi",
    "p",
    "lost",
    "won",
    "n",
    "interval",
)


def bonett_price(lost: int, won: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a difference of paired shares, `(won - lost) / n`.

    The interval of Bonett and Price (2012) is Wald's after one item is added to each discordant cell: `p = (x + 1) / (n + 2)`,
    `(p_won - p_lost) -+ z sqrt((p_won + p_lost - (p_won - p_lost)^2) / (n + 2))`. Unlike Wald's interval, it has a width above
    0 where no item changed.

    Args:
        lost: Number of items that are right in the first condition only.
        won: Number of items that are right in the second condition only.
        n: Number of all items.
        level: Confidence level.

    Raises:
        InputError: `n` is below 1, or `lost` and `won` exceed `n`.
    """
    if n < 1 or lost < 0 or won < 0 or lost + won > n:
        raise InputError(
            f"{lost} lost and {won} won items of {n} cannot be: both are counts, and their sum is at most {n}"
        )
    a, b = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(norm.ppf((1 + level) / 2)) * float(np.sqrt((a + b - (a - b) ** 2) / (n + 2)))
    # Wald's centre is (won - lost) / (n + 2): at low levels it is further from the difference than the half width
    lo, hi = containing((won - lost) / n, a - b - half, a - b + half)
    return max(-1.0, float(lo)), min(1.0, float(hi))


@dataclass(frozen=True, eq=False)
class CapabilityComparison:
    """Cost of edits on public sets.

    Attributes:
        df: One row per set, metric and condition: `base`, `edited`, `difference` (edited minus base) with its 95 % interval,
            `p` (exact McNemar test, only for right or wrong), `lost` (items that only the unedited model has right), `won`,
            `n`, and `interval`, the kind of the interval.
    """

    df: pd.DataFrame

    __repr__ = brief

    def _repr_html_(self) -> str:
        facts = {"sets": self.df["set"].nunique(), "conditions": self.df["condition"].nunique()}
        return card("Capability, edited against unedited", facts, self.df, rows=30)

    def show(self) -> Any:
        """Plot differences of accuracy with their intervals as a matplotlib figure.

        The headline metric of every set.

        Raises:
            InputError: No set has an accuracy.
        """
        from neva_tl.plots import interval_plot

        shares = self.df[self.df["metric"].str.startswith("acc")].drop_duplicates(["set", "condition"])
        several = shares["condition"].nunique() > 1
        label = shares["set"] + (", " + shares["condition"] if several else "")
        table = pd.DataFrame({"label": label, "est": shares["difference"], "lo": shares["lo"], "hi": shares["hi"]})
        return interval_plot(table, title="Accuracy, edited minus unedited", axis="difference", guide=0.0)

    def __str__(self) -> str:
        return self.df.round(3).to_string(index=False)


def compare_capability(
    base: Scores | Mapping[str, Scores],
    edited: Scores | Mapping[str, Scores],
    *,
    seed: int = 0,
) -> CapabilityComparison:
    """Compare an edited model with the unedited one, item by item.

    Accuracies have the exact McNemar test (binomial on the items that changed) and, where items are independent, the interval of
    Bonett and Price. Where some items share a cluster (BLiMP's paradigms, a repeated question), that interval is widened to
    include the percentiles of a bootstrap by cluster; the test still counts items. Perplexities have the percentile interval of
    the bootstrap and no test.

    Args:
        base: Scores of the unedited model on a set, or on several by name (`score_all`).
        edited: Scores of the edited model, likewise.
        seed: Seed of the bootstrap.

    Raises:
        InputError: The conditions share no set, or the items of a set differ.
    """
    first = {base.name: base} if isinstance(base, Scores) else dict(base)
    second = {edited.name: edited} if isinstance(edited, Scores) else dict(edited)
    common = [name for name in first if name in second]
    if not common:
        raise InputError(f"no set was scored in both conditions: {', '.join(first)} and {', '.join(second)}")
    rows = [
        {"set": name, "condition": second[name].condition, **row}
        for name in common
        for row in _rows(first[name], [second[name]], seed)
    ]
    return CapabilityComparison(pd.DataFrame(rows)[list(COLUMNS)])


def mean_over_conditions(base: Scores, edited: Sequence[Scores], *, seed: int = 0) -> pd.DataFrame:
    """Compare one set of scores with the mean over several conditions.

    The conditions may be, for example, a method's edits towards each value. The interval is a bootstrap by cluster over items,
    each with its mean over the conditions; the conditions themselves are not resampled. McNemar's test does not apply to a mean:
    `p`, `lost` and `won` are NaN.

    Args:
        base: Scores of the unedited model.
        edited: Scores of each condition.
        seed: Seed of the bootstrap.

    Returns:
        The columns of `CapabilityComparison.df` without `set` and `condition`.

    Raises:
        InputError: `edited` is empty, or the items differ.
    """
    if not edited:
        raise InputError("a mean over conditions needs at least one")
    return pd.DataFrame(_rows(base, edited, seed))


def _rows(base: Scores, edited: Sequence[Scores], seed: int) -> list[dict[str, Any]]:
    for other in edited:
        if other.key != base.key or list(other.table["item"]) != list(base.table["item"]):
            raise InputError(f"{base.name} was scored on other items in {other.condition}: score both on the same ones")
    return [_row(base, edited, metric, seed) for metric in METRICS[base.kind]]


def _row(base: Scores, edited: Sequence[Scores], metric: Metric, seed: int) -> dict[str, Any]:
    clusters = base.table["cluster"].to_numpy(str)
    first = metric.rows(base.table)
    others = [metric.rows(one.table) for one in edited]
    row: dict[str, Any] = {
        "metric": metric.name,
        "base": metric.of(first),
        "edited": float(np.mean([metric.of(rows) for rows in others])),
        "p": np.nan,
        "lost": np.nan,
        "won": np.nan,
        "n": len(first),
    }
    row["difference"] = row["edited"] - row["base"]
    if metric.is_share and len(others) == 1:
        before, after = first[:, 0] > 0.5, others[0][:, 0] > 0.5
        table = pd.crosstab(before, after).reindex(index=[True, False], columns=[True, False], fill_value=0)
        row["lost"], row["won"] = int(table.loc[True, False]), int(table.loc[False, True])  # type: ignore[arg-type]
        # without discordant items the data are consistent with equality
        row["p"] = float(mcnemar(table.to_numpy(), exact=True).pvalue) if row["lost"] + row["won"] else 1.0
        lo, hi = bonett_price(row["lost"], row["won"], row["n"])
        if alone(clusters):
            return row | {"lo": lo, "hi": hi, "interval": "Bonett-Price, items"}
        resampled, units = _bootstrap(first, others, metric, clusters, row["difference"], seed)
        # with few changed items the resamples hardly differ, and the bootstrap interval alone would be too narrow
        wider = {"lo": float(np.fmin(lo, resampled.lo)), "hi": float(np.fmax(hi, resampled.hi))}
        return row | wider | {"interval": f"Bonett-Price or bootstrap, {units}"}
    resampled, units = _bootstrap(first, others, metric, clusters, row["difference"], seed)
    return row | {"lo": resampled.lo, "hi": resampled.hi, "interval": f"bootstrap, {units}"}


def _bootstrap(
    first: np.ndarray, others: Sequence[np.ndarray], metric: Metric, clusters: np.ndarray, difference: float, seed: int
) -> tuple[Interval, str]:
    """Return the percentile interval of the difference and the resampling units."""
    units = "items" if alone(clusters) else f"{len(set(clusters.tolist()))} clusters"
    if len(first) < 2:
        return Interval(difference, np.nan, np.nan, len(first)), units
    stacked = np.concatenate([first, *others], axis=1)

    def statistic(rows: np.ndarray) -> float:
        after = [metric.of(rows[:, k : k + 2]) for k in range(2, rows.shape[1], 2)]
        return float(np.mean(after)) - metric.of(rows[:, :2])

    resampled = cluster_bootstrap(
        stacked, None if alone(clusters) else clusters, statistic, n=DRAWS, rng=np.random.default_rng(seed)
    )
    # the difference was summed in another order
    lo, hi = containing(difference, resampled.lo, resampled.hi)
    return Interval(difference, float(lo), float(hi), len(first)), units
