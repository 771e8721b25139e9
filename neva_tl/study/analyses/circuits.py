"""Circuits of a run's values.

They are searched on train texts, measured on test texts and compared with random graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.attribution import token_text
from neva_tl.circuits import (
    LEAD,
    CircuitGraph,
    Nodes,
    ValueTask,
    circuit,
    faithfulness,
    find_circuits,
    mean_activations,
    value_task,
)
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import recorded_theory
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.optional import left_out, line_of, optional
from neva_tl.study.run.origin import run_model, run_prompts
from neva_tl.study.run.preflight import read_manifest
from neva_tl.study.run.run_folder import RunFolder

#: Largest numbers of neurons, heads and tokens in a view.
VIEW_NEURONS, VIEW_HEADS, VIEW_TOKENS = 6, 4, 48
#: Share of the total effect of their kind that the edges in a run's graphs hold.
SHARE = 0.8


@dataclass(frozen=True)
class Effort:
    """Effort of the circuit search, and the texts that circuits are read on.

    Attributes:
        sizes: Sizes on the curve, heads plus neurons.
        drawn: The size whose graph is stored.
        texts: Train texts per pole for the search, and test texts per pole for the reported figures.
        batch: Texts per pole in one round of the search.
        exchanges: Rounds per size.
        edge_texts: Texts per pole on which edges are measured.
        n_random: Random graphs per size.
        lead: Appended to every text (None: nothing on the demo model, `LEAD` elsewhere).
    """

    sizes: tuple[int, ...] = (20, 60, 100, 200)
    drawn: int = 60
    texts: int = 96
    batch: int = 48
    exchanges: int = 4
    edge_texts: int = 16
    n_random: int = 5
    lead: str | None = None


def circuits_of_run(
    run: str | Path,
    *,
    values: Sequence[str] | None = None,
    effort: Effort | None = None,
    model_name: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Search, measure and draw the circuits of a run's values.

    Values with a finished circuit are not searched again; a value whose circuit cannot be searched is left out with its
    reason. Writes `RUN/circuits/VALUE.json` (the graph of size `drawn`, its
    curve in `meta`), `RUN/circuits/views.json`, the table `circuits`, and the report again.

    Args:
        run: Run folder.
        values: Values of the run; None takes all of them.
        effort: Effort of the search; None takes the defaults.
        model_name: Name or folder of the run's model, where it moved since; None takes the recorded one.
        progress: Show progress on stderr.

    Returns:
        One row per value and size: value, size, n_heads, n_neurons, f, lo, hi (test texts), f_train, completeness,
        random_mean, random_max, m_model, m_nothing, texts.

    Raises:
        InputError: The folder is not a run folder, or lacks a value, or no value has a circuit.
    """
    from neva_tl.study.report import write_report

    effort = Effort() if effort is None else effort
    store = RunFolder(Path(run))
    about = read_manifest(run)
    config = StudyConfig.from_manifest(about["config"])
    stems = sorted(file.stem for file in (store.root / "neurons").glob("*.json"))
    theory = recorded_theory(about, about.get("values") or stems)
    available = theory.in_order(stems)
    names = theory.in_order(values) if values else available
    if missing := [name for name in names if name not in available]:
        raise InputError(f"{run} has no neurons for {', '.join(missing)}: it has {', '.join(available)}")
    todo = [name for name in names if not _finished(store, name, effort)]
    if todo:
        model = run_model(store, config, about, model_name)
        pairs = run_prompts(store, config)
        sets = {name: NeuronSet.load(store.root / "neurons" / name) for name in available}
        for number, name in enumerate(todo, 1):
            say(f"circuit {number}/{len(todo)}: {name}", progress)
            with optional(store, f"Searched circuit of {name}"):
                graph, view = value_circuit(model, pairs, name, sets, config, effort, progress=progress)
                store.write_json(f"circuits/{name}.view.json", view)
                store.write_json(f"circuits/{name}.json", graph.to_json())
    finished = [name for name in available if _finished(store, name, None)]
    views = [store.read_json(f"circuits/{name}.view.json") for name in finished]
    store.write_json("circuits/views.json", {"schema": 1, "views": views})
    graphs = {name: store.read_json(f"circuits/{name}.json")["meta"] for name in finished}
    if not graphs:
        reasons = [line_of(record) for record in left_out(store) if record["part"].startswith("Searched circuit of")]
        raise InputError(f"no circuit of {run} could be searched ({'; '.join(reasons)})")
    table = pd.DataFrame([{"value": name, **row} for name, meta in graphs.items() for row in meta["curve"]])
    store.write_table("tables/circuits", table)
    write_report(store.root)
    return table


def _finished(store: RunFolder, value: str, effort: Effort | None) -> bool:
    """Return whether a value has a circuit, searched with this effort."""
    name = f"circuits/{value}.json"
    if not store.has(name) or not store.has(f"circuits/{value}.view.json"):
        return False
    stored = store.read_json(name)["meta"].get("effort")
    return stored is not None and (effort is None or stored == repr(effort))


def value_circuit(
    model: models.Model,
    pairs: ContrastSet,
    value: str,
    sets: Mapping[str, NeuronSet],
    config: StudyConfig,
    effort: Effort,
    *,
    progress: bool = False,
) -> tuple[CircuitGraph, dict[str, Any]]:
    """Search one value's circuit, and measure its faithfulness at every size.

    Args:
        model: The loaded model.
        pairs: The contrast set.
        value: The value.
        sets: Value -> its neurons.
        config: The study.
        effort: Effort of the search.
        progress: Show progress on stderr.

    Returns:
        The graph with its curve, and activations and attention on one text as plain data.
    """
    splits = ("train", "test")
    task, test = (value_tasks(model, pairs, value, config, split, effort.texts, effort.lead) for split in splits)
    means = mean_activations(model, task)
    n_nodes = len(~Nodes.none(model))
    sizes = sorted({size for size in effort.sizes if size < n_nodes} | {min(effort.drawn, n_nodes)})
    circuits = find_circuits(
        model,
        task,
        sizes,
        means=means,
        batch=effort.batch,
        exchanges=effort.exchanges,
        seed=config.seed,
        progress=progress,
    )
    curve = []
    for size in sizes:
        faithful = faithfulness(
            model, test, circuits[size].nodes, means=means, n_random=effort.n_random, seed=config.seed
        ).to_dict()
        row = {
            "size": size,
            "f": faithful["f"],
            "lo": faithful["f_lo"],
            "hi": faithful["f_hi"],
            "f_train": circuits[size].f,
        }
        columns = ("n_heads", "n_neurons", "completeness", "random_mean", "random_max", "m_model", "m_nothing", "texts")
        curve.append({**row, **{name: faithful[name] for name in columns}})
    drawn = circuits[min(effort.drawn, n_nodes)]
    graph = circuit(
        model,
        [sets[value], *(item for name, item in sets.items() if name != value)],
        task=task,
        nodes=drawn.nodes,
        test=test,
        edge_texts=effort.edge_texts,
        seed=config.seed,
    ).prune(SHARE)
    # figures read the name `random`
    meta = {**graph.meta, "curve": [{**row, "random": row["random_mean"]} for row in curve], "effort": repr(effort)}
    result = CircuitGraph(graph.graph, meta)
    return result, _view(model, result, task)


def value_tasks(
    model: models.Model,
    pairs: ContrastSet,
    value: str,
    config: StudyConfig,
    split: str,
    per_pole: int,
    lead: str | None = None,
) -> ValueTask:
    """Return the value's task on one split, read after the last token of each text.

    Args:
        model: The loaded model.
        pairs: The contrast set.
        value: The value.
        config: The study.
        split: Split of the texts.
        per_pole: Texts per pole.
        lead: Appended to every text, so that a value is about to be named; None appends nothing on the demo model, whose
            texts end there, and `LEAD` elsewhere.
    """
    if lead is None:
        lead = "" if config.pooling == "last" else LEAD
    return value_task(model, pairs, value, split=split, per_pole=per_pole, at="last", chat=config.chat, lead=lead)


def _view(model: models.Model, graph: CircuitGraph, task: ValueTask) -> dict[str, Any]:
    """Record the strongest neurons and heads on a text that expresses the value.

    Returns:
        Activations of the neurons and attention patterns of the heads, as plain data.
    """
    strongest = sorted(
        (data for _, data in graph.graph.nodes(data=True) if data["kind"] in ("head", "neuron")),
        key=lambda data: -abs(data["share"]),
    )
    neurons = [(d["layer"], d["neuron"]) for d in strongest if d["kind"] == "neuron"][:VIEW_NEURONS]
    heads = [(d["layer"], d["head"]) for d in strongest if d["kind"] == "head"][:VIEW_HEADS]
    example = task.examples[int((task.signs > 0).argmax())]
    batch = inference.encode(model, [example], chat=task.chat)
    names = [models.hook_name(model, layer, "post") for layer, _ in neurons]
    names += [models.hook_name(model, layer, "pattern") for layer, _ in heads]
    with record_hooks(model, names) as recorded:
        inference.forward_batch(model, batch, logits=False)
    # a long text is cut to its end, because the task is read there
    start = max(0, batch.tokens.shape[1] - VIEW_TOKENS)
    posts = [recorded[models.hook_name(model, layer, "post")][0, start:, k].tolist() for layer, k in neurons]
    maps = [recorded[models.hook_name(model, layer, "pattern")][0, h, start:, start:].tolist() for layer, h in heads]
    reader = models.tokenizer(model)
    return {
        "value": task.value,
        "tokens": [token_text(reader, int(token)) for token in batch.tokens[0, start:]],
        "neurons": [f"L{layer}.{k}" for layer, k in neurons],
        "activations": [[round(x, 3) for x in row] for row in zip(*posts, strict=True)],
        "heads": [f"L{layer}.H{h}" for layer, h in heads],
        "patterns": [[[round(x, 3) for x in row] for row in pattern] for pattern in maps],
    }
