"""Effects of one layer's neurons at a time: the value's neurons, all neurons of the layer, and random ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import Ablate, Amplify, Edit, RelevanceGate
from neva_tl.evaluation.conditions.observe import Observed
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.scorers import Scorer, demo_expressing

Operation = Literal["zero", "mean", "amplify"]
OPERATIONS: tuple[Operation, ...] = ("zero", "mean", "amplify")
#: Columns of the table.
COLUMNS = ("value", "layer", "operation", "group", "n_neurons", "d_csr", "lo", "hi", "d_loss")
GROUPS = ("selected", "all", "random")
#: Dose of the amplification, in contrasts: the same everywhere, since layers are compared and not doses.
AMPLIFY_DOSE = 4.0


def group_of(
    stats: ActivationStats, neurons: NeuronSet, layer: int, group: str, rng: np.random.Generator
) -> NeuronSet | None:
    """Return a group of neurons of one layer.

    Args:
        stats: Statistics of the model.
        neurons: The selected neurons of a value.
        layer: The layer.
        group: `selected`; `all`; or `random`, an equal number (or fewer, if fewer exist) of unselected neurons.
        rng: Source of the random group.

    Returns:
        The neurons; None where the layer has no selected neuron, or no unselected one to draw from.
    """
    selected = neurons.at(layer)["neuron"].to_numpy(dtype=np.int64)
    if not len(selected):
        return None
    if group == "selected":
        index = selected
    elif group == "all":
        index = np.arange(stats.d_mlp)
    else:
        rest = np.setdiff1d(np.arange(stats.d_mlp), selected)
        index = rng.choice(rest, size=min(len(selected), len(rest)), replace=False)
        if not len(index):  # every neuron of the layer is selected
            return None
    _, plus, _ = stats.moments(neurons.value, "+")
    _, minus, _ = stats.moments(neurons.value, "-")
    table = pd.DataFrame(
        {
            "layer": layer,
            "neuron": index,
            "mean_plus": plus[layer, index],
            "mean_minus": minus[layer, index],
            "sd": stats.sd(neurons.value)[layer, index],
            "score": 0.0,
        }
    )
    return replace(neurons.with_df(table), method=group)


def layer_effects(
    model: models.Model,
    stats: ActivationStats,
    neurons: Mapping[ValueName, NeuronSet],
    scorer: Scorer,
    cost_meter: CostMeter,
    *,
    operations: Sequence[Operation] = OPERATIONS,
    layers: Collection[int] | None = None,
    scope: Any = "all",
    gate: RelevanceGate | None = None,
    test_prompts: int = 40,
    seed: int = 0,
    n_boot: int = 1000,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure the change of scores and loss when one layer's neurons are edited.

    The score is that of the neurons' own value, the loss that of neutral text. Zero and mean ablation are measured on prompts
    that express the value (elsewhere there is nothing to lose), amplification on open prompts. Judges that ask the model use
    their own items for all three; for those, and for the loss, the layers below the edited one are run once per value (texts
    for a text judge are generated without this cache).

    Args:
        model: The loaded model.
        stats: Statistics of the model.
        neurons: Value -> its neurons.
        scorer: The judge with its prompts.
        cost_meter: Measures the loss.
        operations: Operations to measure.
        layers: Layers to measure, among those with selected neurons; None takes all of them.
        scope: Token scope of the edits.
        gate: Relevance gate of the edits.
        test_prompts: Prompts that express a value, on the demo model.
        seed: Seed of random groups and intervals.
        n_boot: Bootstrap draws.
        progress: Show a bar on stderr.

    Returns:
        `value, layer, operation, group, n_neurons, d_csr, lo, hi, d_loss` (nats per token); a layer without selected
        neurons has no rows. Intervals by cluster bootstrap over prompts.
    """
    from neva_tl.core.statistics import cluster_bootstrap

    rows = []
    loss = cost_meter.loss(())
    selected_layers = {value: [n for n in ns.layers if layers is None or n in layers] for value, ns in neurons.items()}
    steps = sum(len(numbers) for numbers in selected_layers.values())
    with progress_bar(total=steps, desc="layers", unit="layer", progress=progress) as bar:
        for value, neuron_set in neurons.items():
            base = {kind: _own(scorer, (), value, kind, test_prompts) for kind in ("expressing", "open")}
            # layers ascend, so the layers below the edited one run once for all conditions
            reuse = models.LayerCache(model)
            for layer in selected_layers[value]:
                rng = np.random.default_rng([seed, stats.theory.index(value), layer])
                for group in GROUPS:
                    group_neurons = group_of(stats, neuron_set, layer, group, rng)
                    if group_neurons is None:
                        continue
                    for operation in operations:
                        edit: Edit
                        if operation == "amplify":
                            edit = Amplify(group_neurons, AMPLIFY_DOSE, scope=scope, gate=gate)
                        else:
                            edit = Ablate(group_neurons, mode=operation, effects="all", scope=scope, gate=gate)
                        kind = "open" if operation == "amplify" else "expressing"
                        score, cluster = _own(scorer, (edit,), value, kind, test_prompts, reuse)
                        change = score - base[kind][0]
                        draws = np.random.default_rng(seed)
                        interval = cluster_bootstrap(change, cluster, np.mean, n=n_boot, rng=draws)
                        rows.append(
                            {
                                "value": value,
                                "layer": layer,
                                "operation": operation,
                                "group": group,
                                "n_neurons": len(group_neurons),
                                "d_csr": float(change.mean()),
                                "lo": float(interval.lo),
                                "hi": float(interval.hi),
                                "d_loss": cost_meter.loss((edit,), reuse) - loss,
                            }
                        )
                bar.update()
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _own(
    scorer: Scorer,
    edits: Sequence[Edit],
    value: str,
    kind: str,
    test_prompts: int,
    reuse: models.LayerCache | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a value on its own prompts, and their clusters."""
    observed: Observed
    if scorer.reads and kind == "expressing" and models.info(scorer.model).demo:
        observed = scorer.read(edits, demo_expressing(value, test_prompts))
    else:
        observed = scorer.observe(edits, "test", (value,), reuse)
    index = observed.items.values.index(value)
    return observed.items.scores[index], observed.items.clusters[index]
