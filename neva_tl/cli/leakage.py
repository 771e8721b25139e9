"""`neva-tl leakage`: the leakage matrix of one method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    Judge,
    Matmul,
    Model,
    Profile,
    Prompts,
    Quiet,
    Seed,
    Steered,
    Theory,
    Verbose,
    finite,
    named,
    path_of,
)
from neva_tl.cli.tables import print_report, print_table


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(leakage)


def leakage(
    model: Model = "demo",
    method: Annotated[
        str, typer.Option("--method", autocompletion=completion.method, help="method to measure")
    ] = "neva",
    target: Annotated[float, typer.Option("--gain", callback=finite, help="matched gain, in the judge's unit")] = 0.4,
    prompts: Prompts = "auto",
    theory: Theory = None,
    judge: Judge = "auto",
    profile: Profile = "quick",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            callback=named,
            help="labelled texts (valueeval:DIR, or x.csv, x.jsonl) whose test split shows the confusions of a judge of texts: "
            "raw and corrected matrix; default: a classifier's own source, if it names one",
        ),
    ] = None,
    value: Steered = None,
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar="PATH", help="run folder")] = Path(
        "runs/leakage"
    ),
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Measure the leakage matrix of one method at a matched gain.

    With --labels it is also corrected for the judge's confusions.
    """
    from neva_tl.core.locks import lock_folder
    from neva_tl.study import Study
    from neva_tl.study.analyses import correction
    from neva_tl.study.report import write_report
    from neva_tl.study.run.optional import optional
    from neva_tl.study.run.preflight import check_study
    from neva_tl.study.run.run_folder import RunFolder

    study = Study(
        model=model,
        prompts=prompts,
        theory=theory,
        judge=judge,
        profile=profile,
        values=tuple(value or ()),
        methods=(method,),
        dtype=dtype,
        matmul=matmul,
        seed=seed,
        overrides={"targets": (target,)},
    )
    if labels is not None or judge.startswith("classifier:"):
        check_study(study.options, out)  # before the judge reads the labelled texts
    judged = correction.prepared(model, judge, labels, seed=seed)
    result = study.run(out, progress=True)
    table = result.table("leakage")
    corrected, record = None, None
    if judged is not None:
        # the raw matrix is there: a correction that the labels do not allow is left out
        with lock_folder(out), optional(RunFolder(out), f"Correction of {method}"):
            corrected = correction.corrected(out, method, labels=judged)
            record = correction.write(out, [(corrected, correction.headline_target(out, method))])
        if corrected is None:
            write_report(out)  # its page names the reason
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        print(json.dumps(rows if record is None else {"leakage": rows, "correction": record}, allow_nan=False))
        return
    if corrected is not None:
        print(correction.text(corrected))
        print_report(result.text(), lambda: result.parts())
        return
    matrix = table[table["method"] == method].pivot(index="steered", columns="measured", values="d")
    order = list(dict.fromkeys(table["measured"]))
    print_table(matrix.loc[[v for v in order if v in matrix.index], order].round(2), index=True)
    print_report(result.text(), lambda: result.parts())
