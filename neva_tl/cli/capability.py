"""`neva-tl capability`: public sets on a model, before and after a run's edits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Dtype, Json, Matmul, Quiet, Seed, Verbose, finite, named, path_of, say_note
from neva_tl.cli.tables import print_table
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say

if TYPE_CHECKING:
    from neva_tl.evaluation.benchmarks import Benchmark

#: Entries by which a folder of earlier scores, or a run folder, is recognised.
HOLDS_SCORES = ("capability", "left_out", "manifest.json")


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(capability)


def capability(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            autocompletion=completion.model,
            callback=named,
            help="argument of neva_tl.load; default: the run's own model, or demo without --run",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=PATH of a public set (repeatable); with --data a NAME in it")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            parser=path_of,
            metavar="PATH",
            help="folder with blimp/, lambada/, mmlu/, multiple_choice/, tinystories/: all of them, or those that --set names",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="items of each set: a fixed subset, by hash; default all")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            parser=path_of,
            metavar="PATH",
            help="finished run folder whose edits are compared with the unedited model",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", autocompletion=completion.method, help="method of the run (repeatable); default neva"),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value", autocompletion=completion.value_names, help="value of the run (repeatable); default all"
        ),
    ] = None,
    gain: Annotated[
        float | None, typer.Option("--gain", callback=finite, help="matched gain; default: the headline")
    ] = None,
    span: Annotated[
        str,
        typer.Option("--span", help="tokens that count as generated for the edits: text (all of an item) or answer"),
    ] = "text",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="skip and count malformed rows instead of stopping")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=path_of,
            metavar="PATH",
            help="folder for the tables; scores stored there are not computed again",
        ),
    ] = Path("runs/capability"),
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Score a model on public sets (MMLU, PIQA, LAMBADA, BLiMP, ...).

    With --run, its edits are compared with the unedited model.
    """
    import pandas as pd

    import neva_tl as nv
    from neva_tl.core.files import check_output_folder, to_json
    from neva_tl.core.locks import lock_folder, refuse_locked
    from neva_tl.study.analyses.capability import run_capability, unedited_scores
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.run.run_folder import RunFolder

    if span not in ("text", "answer"):
        raise InputError(f"unknown span {span!r}: choose text or answer")
    if run is None and (method or value or gain is not None):
        raise InputError("--method, --value and --gain belong to a run: name it with --run")
    check_output_folder(out)
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in HOLDS_SCORES):
        raise InputError(f"{out} is not empty and holds no scores: choose another --out, or delete the folder")
    finished = None if run is None else Run.open(run)
    benchmarks = _read_sets(sets or (), data, limit, skip_bad)
    refuse_locked(out)
    loaded = (
        nv.load(model or "demo", dtype=dtype, matmul=matmul)  # type: ignore[arg-type]
        if finished is None
        else finished.load_model(model)
    )
    store = RunFolder(out)
    with lock_folder(out):
        if finished is None:
            scores = unedited_scores(store, loaded, benchmarks, progress=True)
            table = pd.concat([one.df for one in scores.values()], ignore_index=True)
        else:
            table = run_capability(
                store, finished, loaded, benchmarks, tuple(method or ("neva",)), tuple(value or ()), target=gain,
                span=span, seed=seed, progress=True,  # type: ignore[arg-type]
            )  # fmt: skip
        store.write_table("capability", table)
    for one in benchmarks:
        say_note("public set", one.note)
    if as_json:
        print(json.dumps(to_json(table.to_dict("records")), allow_nan=False))
    else:
        print_table(table.round(3))
    say(f"written: {out / 'capability.csv'}")


def _read_sets(sets: Sequence[str], data: Path | None, limit: int | None, skip_bad: bool) -> list[Benchmark]:
    """Read the requested public sets.

    Args:
        sets: `NAME=PATH`, or names of sets in `data`.
        data: Folder of sets; all of them are read when `sets` names none.
        limit: Items of each set; None takes all.
        skip_bad: Skip and count malformed rows.

    Returns:
        The sets, in the order of the request.

    Raises:
        InputError: No set is named, a name has no path, or two sets have one name.
    """
    from neva_tl.evaluation.benchmarks import data_sets, read_benchmarks
    from neva_tl.prompts.text_files import existing_folder

    if data is None and not sets:
        raise InputError("no public set is named: give --set NAME=PATH, or --data FOLDER")
    if data is not None:
        existing_folder(data, "public sets")
    specs = [one for one in sets if "=" in one]
    bare = [one for one in sets if "=" not in one]
    if data is None and bare:
        raise InputError(f"--set takes NAME=PATH, not {bare[0]!r} (a bare name needs --data)")
    if data is not None and (bare or not specs):
        specs += data_sets(data, tuple(bare))
    benchmarks = [one.limit(limit) for spec in specs for one in read_benchmarks(spec, skip_bad=skip_bad)]
    names = [one.name for one in benchmarks]
    if len(set(names)) < len(names):
        raise InputError(
            f"two sets are named {max(names, key=names.count)!r}: give them different names (--set NAME=PATH)"
        )
    return benchmarks
