"""How much of a task a circuit carries, and how much is lost without it.

    F(circuit) = (m(circuit) - m(nothing)) / (m(model) - m(nothing))           everything outside is mean-ablated
    completeness = 1 - F(model without the circuit)                           the circuit itself is mean-ablated

m: see `task`; means: see `gates`. 1 and 1 is the aim; F may exceed 1 when a circuit leaves out what works against the
value. Random graphs have as many heads and as many neurons, drawn evenly over all layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from neva_tl.circuits.search.gates import Means, contrast, mean_activations, text_log_odds
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.models import Model


@dataclass(frozen=True)
class Faithfulness:
    """F and completeness of a circuit on a task, beside random graphs of its size.

    Attributes:
        f, f_lo, f_hi: F with its 95 % interval (bootstrap over clusters of texts; the circuit held fixed).
        completeness: see above.
        random_mean, random_max: F of the random graphs; `n_random` of them.
        m_model, m_nothing: in nats.
        n_heads, n_neurons: the circuit's size.
        texts: how many.
        split: whose.
    """

    f: float
    f_lo: float
    f_hi: float
    completeness: float
    random_mean: float
    random_max: float
    n_random: int
    m_model: float
    m_nothing: float
    n_heads: int
    n_neurons: int
    texts: int
    split: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite is None."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}

    def show(self) -> Any:
        """F with its interval, beside random graphs, as a matplotlib figure."""
        from neva_tl.plots.intervals import interval_plot

        rows = [
            ("circuit", self.f, self.f_lo, self.f_hi),
            ("random, mean", self.random_mean, self.random_mean, self.random_mean),
            ("random, max", self.random_max, self.random_max, self.random_max),
        ]
        table = pd.DataFrame(rows, columns=["label", "est", "lo", "hi"])
        return interval_plot(table, title="Faithfulness", axis="F", guide=1.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        size = f"{self.n_heads} heads and {self.n_neurons} neurons"
        return card(f"Faithfulness of {size} on {self.texts} {self.split} texts", self.to_dict())


def faithfulness(
    model: Model,
    task: ValueTask,
    nodes: Nodes,
    *,
    means: Means | None = None,
    n_random: int = 10,
    seed: int = 0,
) -> Faithfulness:
    """Measure a circuit by exact ablation.

    Args:
        task: best on texts that the circuit was not searched on.
        means: by default those of the task's own texts.
        n_random: random graphs; 0 leaves the comparison out (NaN).

    Raises:
        InputError: the whole model does no better than nothing on this task, so that F has no scale.
    """
    means = mean_activations(model, task) if means is None else means
    own = list(task.ids).index(task.value)

    def odds(kept: Nodes) -> np.ndarray:
        return text_log_odds(model, task, means, kept)[:, own]

    none = Nodes.none(model)
    texts = np.stack([odds(none), odds(~none), odds(nodes)], axis=1)
    nothing, whole = (float(contrast(task, texts[:, i])) for i in (0, 1))
    if not whole > nothing:
        raise InputError(
            f"F is not defined: m of the whole model ({whole:.3g}) is not above that of nothing ({nothing:.3g})"
        )
    signed = np.column_stack([texts, task.signs])
    estimate = cluster_bootstrap(signed, task.clusters, _ratio, n=1000, rng=np.random.default_rng([seed, 43]))
    without = float(contrast(task, odds(~nodes)))
    generator = torch.Generator().manual_seed(seed)
    drawn = [float(contrast(task, odds(nodes.random_like(generator)))) for _ in range(n_random)]
    others = (np.array(drawn) - nothing) / (whole - nothing)
    return Faithfulness(
        f=float(estimate.est),
        f_lo=float(estimate.lo),
        f_hi=float(estimate.hi),
        completeness=1 - (without - nothing) / (whole - nothing),
        random_mean=float(others.mean()) if n_random else float("nan"),
        random_max=float(others.max()) if n_random else float("nan"),
        n_random=n_random,
        m_model=whole,
        m_nothing=nothing,
        n_heads=int(nodes.heads.sum()),
        n_neurons=int(nodes.neurons.sum()),
        texts=len(task.examples),
        split=task.split,
    )


def _ratio(rows: np.ndarray) -> float:
    """F from rows of (nothing, model, circuit, sign)."""
    plus, minus = rows[rows[:, 3] > 0, :3], rows[rows[:, 3] < 0, :3]
    if not len(plus) or not len(minus):
        # a draw without one of the poles has no contrast; with paired clusters there is none
        return 0.0
    nothing, whole, circuit = plus.mean(axis=0) - minus.mean(axis=0)
    return float((circuit - nothing) / (whole - nothing))
