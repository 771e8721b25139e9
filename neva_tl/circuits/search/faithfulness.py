"""How much of a task a circuit carries, and how much is lost without it.

    F(circuit) = (m(circuit) - m(nothing)) / (m(model) - m(nothing))           everything outside is mean-ablated
    completeness = 1 - F(model without the circuit)                           the circuit itself is mean-ablated

m: see `task`; means: see `gates`. The aim is 1 and 1; F may exceed 1 when a circuit leaves out nodes that work against the
value. Random graphs have as many heads and as many neurons, drawn uniformly over all layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.gates import Means, contrast
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask
from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.models import Model


@dataclass(frozen=True)
class Faithfulness:
    """F and completeness of a circuit on a task, compared with random graphs of its size.

    Attributes:
        f: F.
        f_lo: Lower limit of its 95 % interval (bootstrap over clusters of texts; the circuit held fixed).
        f_hi: Upper limit.
        completeness: See the module's formulas.
        random_mean: Mean F of the random graphs.
        random_max: Largest F of the random graphs.
        n_random: Number of random graphs.
        m_model: m of the unedited model, in nats.
        m_nothing: m with everything ablated, in nats.
        n_heads: Heads of the circuit.
        n_neurons: Neurons of the circuit.
        texts: Number of texts.
        split: Split of the texts.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=4, at="last")
        >>> nodes = nv.circuits.Nodes.of(model, heads=[(1, 0)], neurons=[(2, 7)])
        >>> result = nv.circuits.faithfulness(model, task, nodes, n_random=2)
        >>> result.n_heads, result.n_neurons, result.measurable
        (1, 1, True)
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

    __repr__ = brief

    @property
    def measurable(self) -> bool:
        """Whether F distinguishes nothing of the effect (0) from all of it (1): its interval does not contain both."""
        return not (self.f_lo <= 0 and self.f_hi >= 1)

    @property
    def note(self) -> str:
        """The reason why F is not a result; empty where it is one."""
        return "" if self.measurable else "F is not measurable here: its interval contains both 0 and 1"

    def to_dict(self) -> dict[str, Any]:
        """Plain data; NaN and infinities become None."""
        data: dict[str, Any] = to_json(asdict(self))
        return data

    def show(self) -> Any:
        """F with its interval and F of the random graphs, as a matplotlib figure; only the reason where F is not measurable."""
        from neva_tl.plots.intervals import interval_plot

        rows = [
            ("circuit", self.f, self.f_lo, self.f_hi),
            ("random, mean", self.random_mean, self.random_mean, self.random_mean),
            ("random, max", self.random_max, self.random_max, self.random_max),
        ]
        table = pd.DataFrame(rows, columns=["label", "est", "lo", "hi"])
        if not self.measurable:  # the random graphs are divided by the same effect
            table[["est", "lo", "hi"]] = np.nan
        return interval_plot(table, title=self.note or "Faithfulness", axis="F", guide=1.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        size = f"{self.n_heads} heads and {self.n_neurons} neurons"
        facts = self.to_dict()
        if not self.measurable:
            facts |= dict.fromkeys(("f", "completeness", "random_mean", "random_max"), "not measurable here")
        return card(f"Faithfulness of {size} on {self.texts} {self.split} texts", facts, note=self.note)


@check_arguments
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
        model: A TransformerLens model.
        task: The task, preferably on texts that the search did not use.
        nodes: Heads and neurons of the circuit.
        means: By default those of the task's own texts.
        n_random: Number of random graphs; 0 skips the comparison (NaN).
        seed: Seed of the bootstrap and of the random graphs.

    Raises:
        InputError: m of the full model is not above m of nothing, so that F has no scale.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=4, at="last")
        >>> nodes = nv.circuits.Nodes.of(model, heads=[(1, 0)], neurons=[(2, 7)])
        >>> result = nv.circuits.faithfulness(model, task, nodes, n_random=2)
        >>> result.n_random, result.split
        (2, 'train')
    """
    run = CircuitRun.of(model, task, means)
    none = Nodes.none(model)
    texts = np.stack([run.log_odds(none), run.log_odds(~none), run.log_odds(nodes)], axis=1)
    nothing, full = (float(contrast(task, texts[:, i])) for i in (0, 1))
    if not full > nothing:
        raise InputError(
            f"F is not defined: m of the full model ({full:.3g}) is not above that of nothing ({nothing:.3g})"
        )
    with_signs = np.column_stack([texts, task.signs])
    estimate = cluster_bootstrap(with_signs, task.clusters, _ratio, n=1000, rng=np.random.default_rng([seed, 43]))
    without = run.m(~nodes)
    generator = torch.Generator().manual_seed(seed)
    drawn = [run.m(nodes.random_like(generator)) for _ in range(n_random)]
    others = (np.array(drawn) - nothing) / (full - nothing)
    return Faithfulness(
        f=float(estimate.est),
        f_lo=float(estimate.lo),
        f_hi=float(estimate.hi),
        completeness=1 - (without - nothing) / (full - nothing),
        random_mean=float(others.mean()) if n_random else float("nan"),
        random_max=float(others.max()) if n_random else float("nan"),
        n_random=n_random,
        m_model=full,
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
        # a resample without one of the poles has no contrast; paired clusters always have both
        return 0.0
    nothing, full, circuit = plus.mean(axis=0) - minus.mean(axis=0)
    return float((circuit - nothing) / (full - nothing))
