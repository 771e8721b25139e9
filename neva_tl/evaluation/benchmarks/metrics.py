"""Metrics of items from their log-probabilities, and estimates over a set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.statistics import cluster_bootstrap, containing, wilson
from neva_tl.evaluation.benchmarks.items import Benchmark, Kind
from neva_tl.evaluation.measures.estimate import Estimate

#: Number of draws of a cluster bootstrap.
DRAWS = 1000


@dataclass(frozen=True)
class Metric:
    """Ratio of two column sums over the items of a set, or exp of that ratio.

    Attributes:
        name: Name in tables.
        over: Column of the numerator.
        per: Column of the denominator. An empty name counts items.
        exp: Return exp of the ratio (perplexities).
    """

    name: str
    over: str
    per: str = ""
    exp: bool = False

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share of right answers."""
        return not self.exp

    def rows(self, table: pd.DataFrame) -> Float[np.ndarray, "n 2"]:
        """Return numerator and denominator of each item.

        Args:
            table: Scores, one row per item.
        """
        denominator = table[self.per].to_numpy(float) if self.per else np.ones(len(table))
        return np.stack([table[self.over].to_numpy(float), denominator], axis=1)

    def of(self, rows: Float[np.ndarray, "n 2"]) -> float:
        """Compute the metric from the numerators and denominators of some items.

        Args:
            rows: Numerator and denominator of each item.
        """
        ratio = float(rows[:, 0].sum() / rows[:, 1].sum())
        with np.errstate(over="ignore"):
            return float(np.exp(ratio)) if self.exp else ratio


#: Metrics of each kind, headline first. The perplexity of a last word is per word, not per token (as in
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
    """Return the margin of the right candidate over the best wrong one.

    0 or less is a wrong answer: a tie counts as wrong.

    Args:
        score: Score of each candidate.
        gold: Index of the right candidate.
    """
    return float(score[gold] - np.delete(score, gold).max())


def choice_rows(benchmark: Benchmark, total: Float[np.ndarray, " m"], count: Any) -> list[dict[str, float]]:
    """Score each item as right or wrong by three rules.

    `acc`: the largest sum wins. `acc_norm`: the largest sum per character of the continuation without its leading space
    (lm-evaluation-harness). `acc_token`: the largest sum per token.

    Args:
        benchmark: The set. The candidates of its items, in order, are the m entries of `total` and `count`.
        total: Summed log-probability of each candidate, in nats.
        count: Number of tokens of each candidate, `[m]`.

    Returns:
        One row per item: `acc`, `acc_norm`, `acc_token` (1 or 0), `margin` (nats, of the sums).
    """
    rows, start = [], 0
    for item in benchmark.items:
        span = slice(start, start + len(item.continuations))
        start = span.stop
        lengths = np.array([len(x.lstrip()) for x in item.continuations])
        margin = lead(total[span], item.gold)
        rows.append(
            {
                "acc": float(margin > 0),
                "acc_norm": float(lead(total[span] / lengths, item.gold) > 0),
                "acc_token": float(lead(total[span] / np.maximum(np.asarray(count)[span], 1), item.gold) > 0),
                "margin": margin,
            }
        )
    return rows


def alone(clusters: np.ndarray) -> bool:
    """Whether items are the resampling units.

    True where each item is its own cluster, and where all items are in one cluster (which leaves no other unit).

    Args:
        clusters: Cluster of each item.
    """
    n = len(set(clusters.tolist()))
    return n == len(clusters) or n < 2


def estimate(table: pd.DataFrame, metric: Metric, seed: int = 0) -> Estimate:
    """Estimate a metric with its 95 % interval.

    A share over independent items has Wilson's interval. Every other metric has the percentile interval of a cluster bootstrap
    (by item where items are independent).

    Args:
        table: One row per item, with its cluster.
        metric: The metric.
        seed: Seed of the bootstrap.
    """
    rows, clusters = metric.rows(table), table["cluster"].to_numpy(str)
    n, est = len(rows), metric.of(rows)
    if metric.is_share and alone(clusters):
        lo, hi = containing(est, *wilson(int(rows[:, 0].sum()), n))
        return Estimate(est, float(lo), float(hi), n)
    if n < 2:
        return Estimate(est, None, None, n)
    units = None if alone(clusters) else clusters
    interval = cluster_bootstrap(rows, units, metric.of, n=DRAWS, rng=np.random.default_rng(seed))
    return Estimate(est, float(interval.lo), float(interval.hi), n)
