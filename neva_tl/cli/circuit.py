"""`neva-tl circuit`: the circuit of a value, drawn or as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    K,
    Model,
    Prompts,
    Seed,
    Selector,
    Theory,
    ValueName,
    check_value,
    resolve_prompts,
    say,
    writable,
)
from neva_tl.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(circuit)


def circuit(
    value: ValueName,
    model: Model = "demo",
    prompts: Prompts = "auto",
    theory: Theory = None,
    method: Selector = "neva",
    k: K = None,
    size: Annotated[
        int,
        typer.Option(
            "--size",
            min=0,
            help="heads and neurons to search for; 0: only the selected neurons and the tokens they promote",
        ),
    ] = 60,
    texts: Annotated[int, typer.Option("--texts", min=2, help="texts per pole to search on")] = 32,
    rows: Annotated[
        int, typer.Option("--rows", min=0, help="pairs per value for the neurons' statistics; 0: all of them")
    ] = 30,
    lead: Annotated[
        str | None, typer.Option("--lead", help="appended to every text, so that a value's word is likely next")
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="share of the total effect that the drawn edges cover, in (0, 1]")
    ] = 0.8,
    out: Annotated[Path, typer.Option("--out", help="x.html, x.pdf, x.png, x.svg, x.json or x.graphml")] = Path(
        "circuit.html"
    ),
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the circuit of a value: the heads and neurons that carry its words.

    The graph shows their inputs and how much of the behaviour they explain.
    """
    import neva_tl as nv
    from neva_tl.circuits.graph import SUFFIXES
    from neva_tl.study import StudyConfig
    from neva_tl.study.analyses.circuits import value_tasks
    from neva_tl.study.run.stages import limit_rows

    check_value(value, prompts, theory)
    writable(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot save a circuit as {out.name!r}: use one of {', '.join(SUFFIXES)}")
    if not 0 < share <= 1:
        raise InputError(f"--share must lie in (0, 1], not {share}")
    config = StudyConfig(model=model, prompts=resolve_prompts(prompts, model), theory=theory, seed=seed)
    loaded, pairs = nv.load(model, dtype=dtype), config.load_prompts()
    stats = nv.collect(loaded, limit_rows(pairs, rows), pooling=config.pooling, progress=True)
    neurons = nv.select(stats, value, method=method, k=k, model=loaded, seed=seed)
    task = value_tasks(loaded, pairs, value, config, "train", texts, lead)
    if size:
        test = value_tasks(loaded, pairs, value, config, "test", texts, lead)
        # a quick search; analyses/circuits.py searches longer and draws the curve
        effort = {"edge_texts": 6, "batch": 24, "exchanges": 2, "steps": 2}
        graph = nv.circuit(loaded, neurons, task=task, test=test, size=size, seed=seed, progress=True, **effort)
    else:
        graph = nv.circuit(loaded, neurons.head(24), corpus=task.examples)
    graph = graph.prune(share)
    path = graph.save(out)
    if as_json:
        print(json.dumps(graph.to_json()))
    else:
        print(graph)
        print(graph.summary())
    say(f"written: {path}")
