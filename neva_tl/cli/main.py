"""The command line: `neva-tl run | collect | select | generate | leakage | layers | circuit | train-demo`, and `commands/`.

Thin over the API. Exit status 0 done, 1 the work failed, 2 wrong usage or bad input; one clear line on stderr and no
traceback unless `--debug`. Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import (
    Debug,
    Dtype,
    Gate,
    Json,
    Judge,
    K,
    Model,
    Prompts,
    Seed,
    Selector,
    ValueName,
    Workers,
    collected,
    resolve_prompts,
    say,
    writable,
)
from neva_tl.core.errors import InputError, NevaError

#: Modules of this package with further commands, in the order of `--help`: each has `register(app)`.
MODULES: tuple[str, ...] = ("collect", "annotate", "capability", "judges", "profile")

app = typer.Typer(
    name="neva-tl",
    help="Find, edit and measure the neurons that carry human values in language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Exit status of a command stopped by the user (128 + SIGINT).
STOPPED = 130


@app.command()
def run(
    model: Model = "demo",
    prompts: Prompts = "auto",
    profile: Annotated[str, typer.Option("--profile", help="quick or full")] = "quick",
    out: Annotated[Path, typer.Option("--out", help="run folder; a run of the same study resumes there")] = Path(
        "runs/demo"
    ),
    judge: Judge = "auto",
    value: Annotated[list[str] | None, typer.Option("--value", help="steer only this value (repeatable)")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="only this method (repeatable)")] = None,
    selector: Annotated[
        str, typer.Option("--selector", help="how neurons are chosen; auto: neva on the demo model, else margin")
    ] = "auto",
    k: K = None,
    scope: Annotated[str, typer.Option("--scope", help="all, prompt, generated, last, or auto")] = "auto",
    gate: Gate = "auto",
    workers: Workers = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The whole study: collect, select, calibrate, measure with the baselines, and write a report."""
    from neva_tl.core.values import VALUES
    from neva_tl.study import METHODS, Study

    study = Study(
        model=model,
        prompts=prompts,
        judge=judge,
        profile=profile,
        values=tuple(value or VALUES),
        methods=tuple(method or METHODS),
        selector=selector,
        k=k,
        scope=scope,
        gate=gate,
        dtype=dtype,
        seed=seed,
    )
    result = study.run(out, workers=workers, progress=True)
    print(json.dumps(result.results, allow_nan=False) if as_json else result.text())
    say(f"report: {result.folder / 'report.html'}")


@app.command()
def select(
    value: ValueName,
    model: Model = "demo",
    prompts: Prompts = "auto",
    stats: Annotated[Path | None, typer.Option("--stats", help="statistics written by collect")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="where to write PATH.json and PATH.safetensors")] = None,
    method: Selector = "neva",
    k: K = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Select the neurons that carry a value, with the statistics that tell a finding from noise."""
    import neva_tl as nv
    from neva_tl.core.values import value as lookup
    from neva_tl.selection.registry import find_selector

    lookup(value)
    if out is not None:
        writable(out)
    loaded, statistics = collected(model, prompts, dtype, find_selector(method).needs_samples, stats)
    neurons = nv.select(statistics, value, method=method, k=k, model=loaded, seed=seed)
    if out is not None:
        say(f"written: {neurons.save(out)}")
    if as_json:
        print(neurons.df.to_json(orient="records"))
    else:
        print(neurons)
        print(neurons.df.head(20).round(3).to_string(index=False))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="the prompt")],
    model: Model = "demo",
    value: Annotated[str | None, typer.Option("--value", help="steer towards this value")] = None,
    method: Annotated[
        str, typer.Option("--method", help="how to steer: neva, neva_shift, caa, caa_projected, role, ...")
    ] = "neva",
    dose: Annotated[
        float | None, typer.Option("--dose", help="dose, in the method's unit; default: one worth a first look")
    ] = None,
    prompts: Prompts = "auto",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="new tokens")] = 40,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy")] = 0.0,
    scope: Annotated[
        str, typer.Option("--scope", help="tokens to edit: all, prompt, generated, last, or auto")
    ] = "auto",
    gate: Gate = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="also write the text to this file")] = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate a text, unedited and (with --value) steered."""
    import neva_tl as nv
    from neva_tl.core.values import value as lookup
    from neva_tl.methods import METHODS
    from neva_tl.study import StudyConfig, build_edit

    # collecting takes minutes on a real model: bad input is refused before it
    if value is not None:
        lookup(value)
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    decided = StudyConfig(model=model, prompts=prompts, scope=scope, gate=gate).resolved()
    if dose is not None and not math.isfinite(dose):
        raise InputError(f"a dose must be a finite number, not {dose}")
    if out is not None:
        writable(out)
    if value is None:
        loaded, edits = nv.load(model, dtype=dtype), None
    else:
        loaded, stats = collected(model, prompts, dtype, True)
        neurons = None
        if decided.gate == "relevance":
            texts_of = nv.prompts.gate_texts(decided.prompts)
            neurons = nv.fit_relevance(loaded, *texts_of, pooling=decided.pooling, seed=seed)
        edits = build_edit(
            loaded,
            stats,
            value,
            method=method,
            dose=dose,
            scope=decided.token_scope(),
            gate=neurons,
            seed=seed,
        )
    texts = {"unedited": nv.generate(loaded, [prompt], max_new_tokens=tokens, temperature=temperature, seed=seed)[0]}
    if edits is not None:
        with nv.edit(loaded, edits) as session:
            shown_prompts = [nv.editing.rewrite(edits, prompt)]
            texts[method] = nv.generate(
                loaded, shown_prompts, max_new_tokens=tokens, temperature=temperature, seed=seed, session=session
            )[0]
    printed = (
        json.dumps({"prompt": prompt, **texts})
        if as_json
        else "\n".join(f"[{k}] {prompt} {v}" for k, v in texts.items())
    )
    print(printed)
    if out is not None:
        out.write_text(printed + "\n", encoding="utf-8")


@app.command()
def leakage(
    model: Model = "demo",
    method: Annotated[str, typer.Option("--method", help="method to measure")] = "neva",
    target: Annotated[float, typer.Option("--gain", help="matched gain, in the judge's unit")] = 0.4,
    prompts: Prompts = "auto",
    judge: Judge = "auto",
    profile: Annotated[str, typer.Option("--profile", help="quick or full")] = "quick",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="labelled texts (valueeval:DIR, or x.csv, x.jsonl) whose test part shows what a judge of texts mixes up: raw "
            "and corrected matrix; default: a classifier's own source, where it names one",
        ),
    ] = None,
    value: Annotated[list[str] | None, typer.Option("--value", help="steer only this value (repeatable)")] = None,
    out: Annotated[Path, typer.Option("--out", help="run folder")] = Path("runs/leakage"),
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The leakage matrix of one method at a matched gain; with --labels also corrected for the judge's confusions."""
    from neva_tl.core.values import VALUES
    from neva_tl.study import Study
    from neva_tl.study.analyses import correction

    study = Study(
        model=model,
        prompts=prompts,
        judge=judge,
        profile=profile,
        values=tuple(value or VALUES),
        methods=(method,),
        dtype=dtype,
        seed=seed,
        overrides={"targets": (target,)},
    )
    judged = correction.prepared(model, judge, labels, seed=seed)
    result = study.run(out, progress=True)
    table = result.table("leakage")
    corrected = None if judged is None else correction.corrected(out, method, labels=judged)
    record = (
        None if corrected is None else correction.write(out, [(corrected, correction.headline_target(out, method))])
    )
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        print(json.dumps(rows if record is None else {"leakage": rows, "correction": record}, allow_nan=False))
        return
    if corrected is not None:
        print(correction.text(corrected))
        print(result.text())
        return
    matrix = table[table["method"] == method].pivot(index="steered", columns="measured", values="d")
    order = [v for v in VALUES if v in matrix.columns]
    print(matrix.loc[[v for v in VALUES if v in matrix.index], order].round(2).to_string())
    print(result.text())


@app.command()
def layers(
    model: Model = "demo",
    prompts: Prompts = "auto",
    out: Annotated[Path, typer.Option("--out", help="run folder")] = Path("runs/layers"),
    value: Annotated[list[str] | None, typer.Option("--value", help="only this value (repeatable)")] = None,
    k: K = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Per-layer ablation study: value x layer x {zero, mean, amplify} on selected, random and all neurons."""
    from neva_tl.core.values import VALUES
    from neva_tl.study import layer_study

    table = layer_study(model, prompts, out, values=tuple(value or VALUES), k=k, seed=seed, dtype=dtype, progress=True)
    print(table.to_json(orient="records") if as_json else table.round(3).to_string(index=False))


@app.command()
def circuit(
    value: ValueName,
    model: Model = "demo",
    prompts: Prompts = "auto",
    method: Selector = "neva",
    k: K = None,
    size: Annotated[
        int,
        typer.Option(
            "--size", min=0, help="heads and neurons to look for; 0: only selected neurons and what they write"
        ),
    ] = 60,
    texts: Annotated[int, typer.Option("--texts", min=2, help="texts per pole to search on")] = 32,
    rows: Annotated[
        int, typer.Option("--rows", min=0, help="pairs per value for the neurons' statistics; 0: all of them")
    ] = 30,
    lead: Annotated[
        str | None, typer.Option("--lead", help="put behind every text, so that a value's word is likely next")
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="share of the effects that the edges drawn hold, in (0, 1]")
    ] = 0.8,
    out: Annotated[Path, typer.Option("--out", help="x.html, x.pdf, x.png, x.svg, x.json or x.graphml")] = Path(
        "circuit.html"
    ),
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The circuit of a value: the heads and neurons that carry its words, what feeds them, how much they explain."""
    import neva_tl as nv
    from neva_tl.circuits.graph import SUFFIXES
    from neva_tl.core.values import value as lookup
    from neva_tl.study import StudyConfig
    from neva_tl.study.analyses.circuits import value_tasks
    from neva_tl.study.run.stages import limit_rows

    lookup(value)
    writable(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot save a circuit as {out.name!r}: use one of {', '.join(SUFFIXES)}")
    if not 0 < share <= 1:
        raise InputError(f"--share must lie in (0, 1], not {share}")
    config = StudyConfig(model=model, prompts=resolve_prompts(prompts, model), seed=seed)
    loaded, pairs = nv.load(model, dtype=dtype), nv.prompts.load(config.prompts)
    stats = nv.collect(loaded, limit_rows(pairs, rows), pooling=config.pooling, progress=True)
    neurons = nv.select(stats, value, method=method, k=k, model=loaded, seed=seed)
    task = value_tasks(loaded, pairs, value, config, "train", texts, lead)
    if size:
        test = value_tasks(loaded, pairs, value, config, "test", texts, lead)
        # quick by default; analyses/circuits.py looks longer and draws the curve
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


@app.command("train-demo")
def train_demo(
    out: Annotated[Path, typer.Option("--out", help="folder for the trained model")] = Path("runs/demo-model"),
    steps: Annotated[int | None, typer.Option("--steps", help="optimiser steps; default: the frozen recipe's")] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", help="go on from a model's weights: shipped, or a folder; default: from nothing"),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="processor threads; default: the recipe's")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a demo model by the embedded one's recipe (half an hour on two cores), for use as --model demo:FOLDER.

    NEVA_DEMO_BORDER_RATE (0 to 0.5) sets how many words neighbouring values share in its world.
    """
    from neva_tl.demo import train

    card = train(out, steps=steps, seed=seed, progress=True, start=start, threads=threads)
    print(json.dumps(card, default=str) if as_json else f"trained model: {out}")


for name in MODULES:
    importlib.import_module(f"neva_tl.cli.{name}").register(app)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `neva-tl`: runs a command and turns errors into one line and an exit status."""
    # tokenizers forks with threads otherwise and prints a warning into our progress bars
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        status = app(args=arguments, prog_name="neva-tl", standalone_mode=False)
        if status == STOPPED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except NevaError as error:
        if debug:
            raise
        say(f"neva-tl: {' '.join(str(error).split())}")
        status = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("neva-tl: stopped; the same command goes on where it was")
        status = STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):
            # a usage error: typer brings its own copy of click, so the class depends on typer's version
            context = getattr(error, "ctx", None)
            where = context.command_path if context is not None else "neva-tl"
            message = error.format_message()
            if message:  # empty when the bare command printed its help
                say(f"{where}: {message} (see {where} --help)")
            sys.exit(2)
        if debug:
            raise
        say(f"neva-tl: {type(error).__name__}: {' '.join(str(error).split())} (rerun with --debug for the traceback)")
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
