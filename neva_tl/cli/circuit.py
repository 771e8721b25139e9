"""`neva-tl circuit`: the circuit of a value, drawn or as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    K,
    Matmul,
    Model,
    Prompts,
    Quiet,
    Seed,
    Selector,
    Theory,
    ValueName,
    Verbose,
    check_k,
    finite,
    load_pairs,
    path_of,
    resolve_prompts,
    say_note,
)
from neva_tl.core.errors import InputError
from neva_tl.core.messages import notice, say


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
    method: Selector = "auto",
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
        float,
        typer.Option(
            "--share", callback=finite, help="share of the total effect that the drawn edges cover, in (0, 1]"
        ),
    ] = 0.8,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=path_of,
            metavar="PATH",
            help="x.html, x.pdf, x.png, x.svg, x.json, x.graphml or x.neuronpedia.json (an attribution graph)",
        ),
    ] = Path("circuit.html"),
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Find the circuit of a value: the heads and neurons that carry its words.

    The graph shows their inputs and how much of the behaviour they explain.
    """
    import neva_tl as nv
    from neva_tl.attribution import without_token
    from neva_tl.circuits import Nodes
    from neva_tl.circuits.graph import SUFFIXES
    from neva_tl.core.auto import AUTO
    from neva_tl.core.files import check_output
    from neva_tl.selection.registry import find_selector
    from neva_tl.study import StudyConfig
    from neva_tl.study.analyses.circuits import value_tasks
    from neva_tl.study.run.stages import limit_rows

    if method != AUTO:
        find_selector(method)
    check_output(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot save a circuit as {out.name!r}: use one of {', '.join(SUFFIXES)}")
    if not 0 < share <= 1:
        raise InputError(f"--share must lie in (0, 1], not {share}")
    pairs = load_pairs(prompts, model, value, theory)
    config = StudyConfig(model=model, prompts=resolve_prompts(prompts, model), theory=theory, seed=seed)
    loaded = nv.load(model, dtype=dtype, matmul=matmul)  # type: ignore[arg-type]
    check_k(loaded, k)
    n_nodes = len(~Nodes.none(loaded))
    if size > n_nodes:
        raise InputError(f"--size {size}: the model has {n_nodes} heads and neurons; choose a size from 0 to {n_nodes}")
    if method == AUTO:
        say(f"auto: {config.decisions}")
    stats = nv.collect(loaded, limit_rows(pairs, rows), progress=True)
    say_note("prompts", pairs.note)
    neurons = nv.select(stats, value, method=method, k=k, model=loaded, seed=seed)
    task = value_tasks(loaded, pairs, value, config, "train", texts, lead)
    if size:
        test = value_tasks(loaded, pairs, value, config, "test", texts, lead)
        # a quick search; analyses/circuits.py searches longer and draws the curve
        effort: dict[str, Any] = {"edge_texts": 6, "batch": 24, "exchanges": 2, "steps": 2}
        graph = nv.circuit(loaded, neurons, task=task, test=test, size=size, seed=seed, progress=True, **effort)
    else:
        graph = nv.circuit(loaded, neurons.head(24), corpus=task.examples)
    if missing := without_token(task.tokens, pairs.theory.names, pairs.theory):
        notice(f"left out: {', '.join(missing)}: none of their words gives a usable token in the tokenizer of {model}")
    graph = graph.prune(share)
    path = graph.save(out)
    if as_json:
        print(json.dumps(graph.to_json()))
    else:
        print(graph)
        print(graph.summary())
    say(f"written: {path}")
