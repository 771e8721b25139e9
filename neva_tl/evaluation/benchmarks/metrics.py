"""What is read off an item's log-probabilities, and off a set's items: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from statsmodels.stats.proportion import proportion_confint

from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.evaluation.benchmarks.items import Benchmark, Kind
from neva_tl.evaluation.measures.estimate import Estimate

#: Draws of a cluster bootstrap.
DRAWS = 1000


@dataclass(frozen=True)
class Metric:
    """A figure of a set: the sum of one column over the sum of another, or exp of it.

    Attributes:
        name: as tables print it.
        over: column of the numerator.
        per: column of the denominator; empty counts items.
        exp: perplexities are exp of the ratio.
    """

    name: str
    over: str
    per: str = ""
    exp: bool = False

    @property
    def is_share(self) -> bool:
        """Whether it is a share of right answers."""
        return not self.exp

    def rows(self, table: pd.DataFrame) -> Float[np.ndarray, "n 2"]:
        """Numerator and denominator of each item."""
        below = table[self.per].to_numpy(float) if self.per else np.ones(len(table))
        return np.stack([table[self.over].to_numpy(float), below], axis=1)

    def of(self, rows: Float[np.ndarray, "n 2"]) -> float:
        """The figure of some items."""
        ratio = float(rows[:, 0].sum() / rows[:, 1].sum())
        with np.errstate(over="ignore"):
            return float(np.exp(ratio)) if self.exp else ratio


#: The metrics of each kind, headline first. A last word's perplexity is per word, whatever its tokens (as in
#: lm-evaluation-harness).
METRICS: dict[Kind, tuple[Metric, ...]] = {
    "choice": (Metric("acc", "acc"), Metric("acc_norm", "acc_norm"), Metric("acc_token", "acc_token")),
    "letter": (Metric("acc", "acc"),),
    "pair": (Metric("acc", "acc"),),
    "last_word": (Metric("acc", "acc"), Metric("perplexity", "loss", exp=True)),
    "text": (
        Metric("perplexity", "loss", "tokens", exp=True),
        Metric("byte_perplexity", "loss", "bytes", exp=True),
    ),
}


def lead(score: Float[np.ndarray, " c"], gold: int) -> float:
    """How far the right candidate is ahead of the best wrong one; 0 or less is a wrong answer (a tie knows nothing)."""
    return float(score[gold] - np.delete(score, gold).max())


def choice_rows(benchmark: Benchmark, total: Float[np.ndarray, " m"], count: Any) -> list[dict[str, float]]:
    """Right or wrong by each rule, from the candidates' summed log-probabilities.

    `acc`: the largest sum wins. `acc_norm`: the largest sum per character of the continuation without its leading space
    (lm-evaluation-harness). `acc_token`: the largest sum per token.

    Args:
        benchmark: its items' candidates, one after the other, are the entries of
        total: their log-probabilities in nats, and
        count: their tokens, `[m]`.

    Returns:
        Per item `acc`, `acc_norm`, `acc_token` (1 or 0), `margin` (nats, of the sums).
    """
    rows, start = [], 0
    for item in benchmark.items:
        part = slice(start, start + len(item.continuations))
        start = part.stop
        lengths = np.array([len(x.lstrip()) for x in item.continuations])
        margin = lead(total[part], item.gold)
        rows.append(
            {
                "acc": float(margin > 0),
                "acc_norm": float(lead(total[part] / lengths, item.gold) > 0),
                "acc_token": float(lead(total[part] / np.maximum(np.asarray(count)[part], 1), item.gold) > 0),
                "margin": margin,
            }
        )
    return rows


def alone(clusters: np.ndarray) -> bool:
    """Whether items are their own units: each its own cluster, or all in one (which leaves no other unit)."""
    n = len(set(clusters.tolist()))
    return n == len(clusters) or n < 2


def estimate(table: pd.DataFrame, metric: Metric, seed: int = 0) -> Estimate:
    """A figure with its 95 % interval.

    Shares of items that stand alone: Wilson's. Everything else: percentiles of a bootstrap by cluster (by item where items
    stand alone).
    """
    rows, clusters = metric.rows(table), table["cluster"].to_numpy(str)
    n, est = len(rows), metric.of(rows)
    if metric.is_share and alone(clusters):
        lo, hi = proportion_confint(int(rows[:, 0].sum()), n, method="wilson")
        return Estimate(est, float(lo), float(hi), n)
    if n < 2:
        return Estimate(est, None, None, n)
    units = None if alone(clusters) else clusters
    found = cluster_bootstrap(rows, units, metric.of, n=DRAWS, rng=np.random.default_rng(seed))
    return Estimate(est, float(found.lo), float(found.hi), n)
