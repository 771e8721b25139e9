"""`neva-tl run`: a full study of a model, with its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    Debug,
    Dtype,
    Gate,
    Json,
    Judge,
    K,
    Matmul,
    Model,
    Profile,
    Prompts,
    Quiet,
    Seed,
    Steered,
    Theory,
    Verbose,
    Workers,
    path_of,
)
from neva_tl.cli.tables import print_report
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(run)


def run(
    model: Model = "demo",
    prompts: Prompts = "auto",
    theory: Theory = None,
    profile: Profile = "quick",
    out: Annotated[
        Path,
        typer.Option("--out", parser=path_of, metavar="PATH", help="run folder; a run of the same study resumes there"),
    ] = Path("runs/demo"),
    judge: Judge = "auto",
    value: Steered = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", autocompletion=completion.method, help="only this method (repeatable)"),
    ] = None,
    selector: Annotated[
        str,
        typer.Option(
            "--selector",
            autocompletion=completion.selector,
            help="selector of the neurons; auto: neva on the demo model, else margin",
        ),
    ] = "auto",
    k: K = None,
    scope: Annotated[
        str, typer.Option("--scope", autocompletion=completion.scope, help="all, prompt, generated, last, or auto")
    ] = "auto",
    gate: Gate = "auto",
    sae: Annotated[
        str | None,
        typer.Option(
            "--sae", metavar="FOLDER", help="sparse autoencoders of the method sae; default: train a small one"
        ),
    ] = None,
    workers: Workers = None,
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Run the full study of a model and write a report.

    It collects, selects, calibrates and measures, with the baselines.
    """
    from neva_tl.study import METHODS, Study

    study = Study(
        model=model,
        prompts=prompts,
        theory=theory,
        judge=judge,
        profile=profile,
        values=tuple(value or ()),
        methods=tuple(method or METHODS),
        selector=selector,
        k=k,
        scope=scope,
        gate=gate,
        dtype=dtype,
        matmul=matmul,
        seed=seed,
        sae=sae,
    )
    result = study.run(out, workers=workers, progress=True)
    if as_json:
        print(json.dumps(result.results, allow_nan=False))
    else:
        print_report(result.text(), lambda: result.parts())
    say(f"report: {result.folder / 'report.html'}")
