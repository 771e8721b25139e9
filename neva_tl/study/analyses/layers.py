"""Per-layer ablation.

It measures the effect of each layer's value neurons, of all neurons of the layer and of random ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.locks import lock_folder, refuse_locked
from neva_tl.core.messages import long_steps, progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import Ablate, Amplify, Edit, RelevanceGate
from neva_tl.evaluation.conditions.observe import Observed
from neva_tl.plots.showable import showable
from neva_tl.selection.base import check_k
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.origin import run_model, source
from neva_tl.study.run.preflight import check_study, read_manifest
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer, demo_expressing

OPERATIONS: tuple[Literal["zero", "mean", "amplify"], ...] = ("zero", "mean", "amplify")
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


@check_arguments
def layer_ablation(
    model: models.Model,
    stats: ActivationStats,
    neurons: Mapping[ValueName, NeuronSet],
    scorer: Scorer,
    cost_meter: CostMeter,
    *,
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
    steps = sum(len(neuron_set.layers) for neuron_set in neurons.values())
    with progress_bar(total=steps, desc="layers", unit="layer", progress=progress) as bar:
        for value, neuron_set in neurons.items():
            base = {kind: _own(scorer, (), value, kind, test_prompts) for kind in ("expressing", "open")}
            # layers ascend, so the layers below the edited one run once for all conditions
            reuse = models.LayerCache(model)
            for layer in neuron_set.layers:
                rng = np.random.default_rng([seed, stats.theory.index(value), layer])
                for group in GROUPS:
                    group_neurons = group_of(stats, neuron_set, layer, group, rng)
                    if group_neurons is None:
                        continue
                    for operation in OPERATIONS:
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
    return showable(pd.DataFrame(rows), "layer_ablation")


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


def layer_study(
    model_name: str, prompt_spec: str, out: str | Path, *, progress: bool = False, **options: Any
) -> pd.DataFrame:
    """Collect, select and ablate layer by layer into a run folder.

    An existing table `tables/layers` is read instead.

    Args:
        model_name: `model` of `StudyConfig`.
        prompt_spec: `prompts` of `StudyConfig`.
        out: Run folder; that of a finished study with the same options provides its statistics and neurons.
        progress: Show bars on stderr.
        options: Further fields of `StudyConfig`.
    """
    return layer_table(out, {"model": model_name, "prompts": prompt_spec, **options}, progress=progress)


def layer_table(
    out: str | Path, options: Mapping[str, Any], *, model: str | None = None, progress: bool = False
) -> pd.DataFrame:
    """Return the per-layer ablation table of a run folder.

    Args:
        out: Run folder.
        options: `StudyConfig` fields of its manifest.
        model: Name or folder of the run's model, where it moved since; None takes the recorded one.
        progress: Show bars on stderr.

    Raises:
        InputError: The folder belongs to another study, or another process writes into it.
    """
    refuse_locked(out)
    inputs = check_study(StudyConfig.from_manifest(options), out, of_run=True)
    config = inputs.config
    profile = config.spending()
    pairs = inputs.pairs
    language_model = _model_of(out, config, model)
    info = models.info(language_model)
    check_k(config.k, info.n_layers * info.d_mlp)
    about = stages.manifest(config, language_model, pairs, ["neva-tl", "layers"]) | {"source": source(config)}
    with lock_folder(out), long_steps(progress):
        store = RunFolder.open(out, about)
        if not store.has("manifest.json"):
            store.write_json("manifest.json", about)
        if store.has("tables/layers.parquet"):
            return showable(store.read_table("tables/layers"), "layer_ablation")
        stats = stages.collected(store, language_model, pairs, config, progress)
        config = stages.steerable(config, stats)
        neurons = stages.selected(store, language_model, stats, config, progress)
        table = layer_ablation(
            language_model,
            stats,
            {name: neuron_set for name, neuron_set in neurons.items() if len(neuron_set)},
            stages.make_scorer(store, language_model, pairs, config, profile, inputs.judge),
            CostMeter(language_model, config, profile),
            scope=config.token_scope(),
            gate=stages.relevance_gate(store, language_model, pairs, config),
            seed=config.seed,
            n_boot=profile.n_boot,
            progress=progress,
        )
        store.write_table("tables/layers", table)
    return table


def _model_of(out: str | Path, config: StudyConfig, name: str | None) -> models.Model:
    """The model of a run folder, or of a new one."""
    store = RunFolder(Path(out))
    if not store.has("manifest.json"):
        return models.load(name or config.model, dtype=config.dtype)
    return run_model(store, config, read_manifest(out), name)
