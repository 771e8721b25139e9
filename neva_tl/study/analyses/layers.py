"""layer_ablation(): the effect of each layer's neurons, from a model with prompts or statistics, or in a run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl import prompts as prompt_sets
from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError
from neva_tl.core.locks import lock_folder, refuse_locked
from neva_tl.core.messages import long_steps
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import TheorySpec, ValueName
from neva_tl.core.user_cache import entry_folder, prune
from neva_tl.core.versions import versions
from neva_tl.models.sources import label
from neva_tl.plots.showable import showable
from neva_tl.prompts import ContrastSet
from neva_tl.selection.base import check_k
from neva_tl.study.analyses.layer_effects import OPERATIONS, Operation, layer_effects
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.evidence import evidence_folder
from neva_tl.study.run.origin import run_model, source
from neva_tl.study.run.preflight import Preflight, check_study, read_manifest
from neva_tl.study.run.run_folder import RunFolder

#: Table of a run folder; it always holds all operations and layers.
TABLE = "tables/layers"


@check_arguments
def layer_ablation(
    model: models.Model | str | Path,
    pairs: ActivationStats | ContrastSet | pd.DataFrame | str | Path,
    values: Sequence[ValueName] | None = None,
    *,
    operations: Sequence[Operation] = OPERATIONS,
    layers: Sequence[int] | None = None,
    neurons: NeuronSet | Mapping[ValueName, NeuronSet] | None = None,
    prompts: ContrastSet | pd.DataFrame | str | Path | None = None,
    judge: str = "auto",
    selector: str = "auto",
    k: int | None = None,
    scope: str = "auto",
    gate: str = "auto",
    chat: bool | None = None,
    dtype: str = "float32",
    matmul: str = "float32",
    profile: str = "quick",
    seed: int = 0,
    theory: TheorySpec | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Ablate or amplify the neurons of one layer at a time, and measure what that does.

    In each layer the edit acts on the value's selected neurons, on all neurons, and on as many random ones. `zero` and `mean`
    ablation are measured on test prompts that express the value, `amplify` (by 4 contrasts) on open ones. Every `auto` is the
    study's. Statistics, neurons and the table are stored in the user's cache by their content, so that a second call with the
    same pairs and settings repeats nothing.

    Args:
        model: A loaded model, or a name for `neva_tl.load`.
        pairs: Contrastive pairs, an argument of `neva_tl.prompts.load`, or statistics that `collect` made with samples.
        values: Values to measure; None takes all of the pairs.
        operations: Of `zero`, `mean` and `amplify`.
        layers: Layers to edit, among those with selected neurons; None takes all of them.
        neurons: A set of neurons of your own, or value -> its set; None selects them.
        prompts: With statistics: the pairs on which edits are measured; None takes the study's (of the demo model or Schwartz's).
        judge: Name of a judge (see `evaluation.load_judge`), `logprob`, or `auto`.
        selector: A registered selector, or `auto`.
        k: Largest number of neurons of a value; None takes the selector's own default.
        scope: Token scope of the edits, or `auto`.
        gate: `relevance`, `none` or `auto`.
        chat: Force or forbid the chat template; None uses it where there is one.
        dtype: Number format, where the model is loaded here.
        matmul: `bf16` computes the matrix products of a float32 model in bfloat16, where the model is loaded here.
        profile: `quick` or `full`: numbers of prompts and bootstrap draws.
        seed: Seed of random neurons and intervals.
        theory: Theory of the values, or the name or the file of one; None takes the one that their names imply.
        folder: Run folder with names of model and pairs: its statistics, neurons and table are used, or written.
        progress: Show bars and one line per step on stderr.

    Returns:
        One row per value, layer, operation and group (`selected`, `all`, `random`): `n_neurons`, `d_csr` (change of the judge's
        score for the value) with `lo` and `hi` (95 %, bootstrap over prompts), `d_loss` (nats per token of neutral text). Layers
        without selected neurons have no rows. `.show()` draws it; `.attrs` has the decided settings.

    Raises:
        InputError: An option is unknown, the pairs lack a value, or statistics lack what the selector reads.
        WorkError: No neuron was selected.

    Example:
        >>> import neva_tl as nv
        >>> pairs = nv.prompts.load("demo", per_value=40)
        >>> table = nv.layer_ablation("demo", pairs, "power", operations=["zero"], layers=[2])
        >>> list(table["group"])
        ['selected', 'all', 'random']
    """
    if not operations:
        raise InputError(f"no operation is named: choose of {', '.join(OPERATIONS)}")
    name = models.info(model).name if models.is_model(model) else str(model)
    if isinstance(neurons, NeuronSet):
        neurons = {neurons.value: neurons}
    if neurons is not None:
        values = [value for value in neurons if not values or value in values]
        if not values:
            raise InputError("the neurons belong to none of the named values: leave out values, or pass their neurons")
    stats = pairs if isinstance(pairs, ActivationStats) else None
    if stats is None and prompts is not None:
        raise InputError("prompts= goes with statistics; here the pairs themselves are measured: leave it out")
    spec = (prompts if prompts is not None else "auto") if stats is not None else pairs
    options = StudyConfig(
        model=name,
        prompts=_name_of(spec),
        values=tuple(values or ()),
        judge=judge,
        selector=selector,
        k=k,
        scope=scope,
        gate=gate,
        chat=chat,
        dtype=dtype,
        matmul=matmul,
        profile=profile,
        seed=seed,
        theory=theory,
    )
    part = _Part(tuple(operations), None if layers is None else tuple(layers), progress)
    if folder is not None:
        refuse_locked(folder)
        if stats is not None or neurons is not None:
            raise InputError(
                "a run folder has its own statistics and neurons: leave out folder, or pass the pairs alone"
            )
        inputs = (
            _inputs(options, spec)
            if isinstance(spec, ContrastSet | pd.DataFrame)
            else check_study(options, folder, of_run=True)
        )
        loaded = model if models.is_model(model) else _model_of(folder, inputs.config, None)
        return _of_folder(folder, loaded, inputs, part)
    inputs = _inputs(options, spec, stats)
    loaded = model if models.is_model(model) else options.load_model()
    if models.has_hooks(loaded):
        raise InputError("the model has hooks in force: leave the `with nv.edit(...)` block before ablating layers")
    part.check(loaded, inputs.config)
    if stats is None and neurons is None:
        return _cached(loaded, inputs, part)
    with tempfile.TemporaryDirectory() as temporary, long_steps(progress):
        store = RunFolder(Path(temporary))
        entry = nullcontext(store) if stats is not None else evidence_folder(loaded, inputs.pairs, inputs.config)
        with entry as shared:
            return _decorated(part.measured(store, shared, loaded, inputs, stats, neurons), inputs.config)


def layer_study(
    model_name: str, prompt_spec: str, out: str | Path, *, progress: bool = False, **options: Any
) -> pd.DataFrame:
    """Collect, select and ablate layer by layer into a run folder: `layer_ablation` with any setting of a study.

    An existing table `tables/layers` is read instead.

    Args:
        model_name: `model` of `StudyConfig`.
        prompt_spec: `prompts` of `StudyConfig`.
        out: Run folder; that of a finished study with the same options provides its statistics and neurons.
        progress: Show bars on stderr.
        options: Further fields of `StudyConfig`.

    Example:
        >>> table = nv.study.layer_study("demo", "demo", "runs/layers", values=("power",))  # doctest: +SKIP
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

    Example:
        >>> table = nv.study.layer_table("runs/demo", {"model": "demo", "values": ("power",)})  # doctest: +SKIP
    """
    refuse_locked(out)
    inputs = check_study(StudyConfig.from_manifest(options), out, of_run=True)
    return _of_folder(out, _model_of(out, inputs.config, model), inputs, _Part(OPERATIONS, None, progress))


@dataclass(frozen=True)
class _Part:
    """The rows of the table that a call needs.

    Attributes:
        operations: Names of the operations.
        layers: Layers; None for all.
        progress: Show bars on stderr.
    """

    operations: tuple[Operation, ...]
    layers: tuple[int, ...] | None
    progress: bool

    @property
    def complete(self) -> bool:
        """Whether these are all rows."""
        return self.layers is None and set(self.operations) == set(OPERATIONS)

    def check(self, model: models.Model, config: StudyConfig) -> None:
        """Refuse layers that the model lacks, and more neurons than it has."""
        info = models.info(model)
        check_k(config.k, info.n_layers * info.d_mlp)
        outside = [layer for layer in self.layers or () if not 0 <= layer < info.n_layers]
        if outside:
            raise InputError(f"{info.name} has the layers 0 to {info.n_layers - 1}, not {outside[0]}")

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """These rows of a complete table."""
        if self.complete:
            return table
        rows = table["operation"].isin(self.operations)
        if self.layers is not None:
            rows &= table["layer"].isin(self.layers)
        return table[rows].reset_index(drop=True)

    def measured(
        self,
        store: RunFolder,
        shared: RunFolder,
        model: models.Model,
        inputs: Preflight,
        stats: ActivationStats | None = None,
        neurons: Mapping[str, NeuronSet] | None = None,
    ) -> pd.DataFrame:
        """Collect and select, as far as the folders lack it, and measure these rows."""
        profile, pairs = inputs.config.spending(), inputs.pairs
        if stats is None:
            stats = stages.collected(shared, model, pairs, inputs.config, self.progress)
        config = stages.steerable(inputs.config, stats)
        if neurons is None:
            neurons = stages.selected(store, model, stats, config, self.progress, evidence=shared)
        return layer_effects(
            model,
            stats,
            {name: neurons[name] for name in config.values if len(neurons[name])},
            stages.make_scorer(store, model, pairs, config, profile, inputs.judge),
            CostMeter(model, config, profile),
            operations=self.operations,
            layers=self.layers,
            scope=config.token_scope(),
            gate=stages.relevance_gate(shared, model, pairs, config),
            seed=config.seed,
            n_boot=profile.n_boot,
            progress=self.progress,
        )


def _of_folder(out: str | Path, model: models.Model, inputs: Preflight, part: _Part) -> pd.DataFrame:
    """The table of a run folder; only a complete one is written."""
    config = inputs.config
    part.check(model, config)
    about = stages.manifest(config, model, inputs.pairs, ["neva-tl", "layers"]) | {"source": source(config)}
    with lock_folder(out), long_steps(part.progress):
        store = RunFolder.open(out, about)
        if not store.has("manifest.json"):
            store.write_json("manifest.json", about)
        if store.has(f"{TABLE}.parquet"):
            return _decorated(part.of(store.read_table(TABLE)), config)
        table = part.measured(store, store, model, inputs)
        if part.complete:
            store.write_table(TABLE, table)
    return _decorated(table, config)


def _cached(model: models.Model, inputs: Preflight, part: _Part) -> pd.DataFrame:
    """The table of a folder in the user's cache, named by all that determines it."""
    config = inputs.config
    about = stages.manifest(config, model, inputs.pairs, [])
    key = content_key("layers", about["study"], versions(), sorted(part.operations), part.layers)
    folder = entry_folder("layers", key[:20])
    with lock_folder(folder, wait=True), long_steps(part.progress):
        store = RunFolder.open(folder, about)
        store.write_json("manifest.json", about)
        if not store.has(f"{TABLE}.parquet"):
            with evidence_folder(model, inputs.pairs, config) as shared:
                store.write_table(TABLE, part.measured(store, shared, model, inputs), csv=False)
            prune()
        return _decorated(store.read_table(TABLE), config)


def _inputs(options: StudyConfig, spec: Any, stats: ActivationStats | None = None) -> Preflight:
    """Read the pairs on which edits are measured.

    Raises:
        InputError: The statistics cover values that these pairs lack.
    """
    loaded = options.resolved().load_prompts() if spec == "auto" else prompt_sets.load(spec, theory=options.theory)
    measured = () if stats is None else options.values or stats.values
    if missing := [name for name in measured if name not in loaded.values]:
        raise InputError(
            f"statistics do not contain their texts, and {loaded.name} has none for {missing[0]}: pass the pairs of the "
            "statistics as prompts="
        )
    config = options.resolved(loaded)
    pairs = stages.limit_rows(loaded, config.spending().rows_per_value)
    stages.steerable(config, pairs if stats is None else stats)
    return Preflight(pairs, None, config)


def _name_of(spec: Any) -> str:
    """The prompts' name in the settings of a study."""
    if isinstance(spec, pd.DataFrame):
        return "table"
    return spec.name if isinstance(spec, ContrastSet) else str(spec)


def _decorated(table: pd.DataFrame, config: StudyConfig) -> pd.DataFrame:
    """The table with its figure and the decided settings."""
    names = ("judge", "selector", "scope", "gate", "profile", "seed")
    out = showable(table, "layer_ablation")
    out.attrs = {"model": label(config.model), "prompts": label(config.prompts)}
    out.attrs |= {name: getattr(config, name) for name in names}
    return out


def _model_of(out: str | Path, config: StudyConfig, name: str | None) -> models.Model:
    """The model of a run folder, or of a new one."""
    store = RunFolder(Path(out))
    if not store.has("manifest.json"):
        return config.load_model(name)
    return run_model(store, config, read_manifest(out), name)
