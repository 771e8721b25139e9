"""`neva-tl train-judge` and `validate-judge`: judges from and on labelled texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Json, Quiet, Seed, Verbose, finite, named, path_of, say_note
from neva_tl.cli.tables import print_report, print_table
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command("train-judge")(train_judge)
    app.command("validate-judge")(validate_judge)


def train_judge(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            callback=named,
            help="valueeval:DIR (or DIR alone), persona:DIR, or labelled texts as .csv or .jsonl",
        ),
    ],
    features: Annotated[str, typer.Option("--features", help="tfidf, minilm (sentence embeddings) or both")] = "both",
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar="PATH", help="folder of the judge")] = Path(
        "runs/judge"
    ),
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="skip and count malformed rows")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a judge on labelled texts; use it as --judge classifier:PATH."""
    from neva_tl.core.errors import InputError
    from neva_tl.evaluation.judges.classifier import check_place, stored_judge, train
    from neva_tl.evaluation.judges.features import KINDS
    from neva_tl.evaluation.labels.labelled import LabelledTexts

    if features not in KINDS:
        raise InputError(f"unknown features {features!r}: choose {', '.join(KINDS)}")
    check_place(out)
    labelled = LabelledTexts.load(f"valueeval:{data}" if Path(data).is_dir() else data, skip_bad=skip_bad)
    judge = stored_judge(out, labelled, features, seed)
    if judge is not None:
        say("already trained: delete the folder to train again")
    else:
        say(f"training on {int((labelled.splits == 'train').sum()):,} texts; the test texts are not used")
        judge = train(labelled, features, seed=seed)
        judge.save(out)
    say_note("labels", labelled.note)
    if as_json:
        print(json.dumps({"judge": judge.name, "folder": str(out), **judge.info}, allow_nan=False))
        return
    validation = judge.info["validation"]
    print_table(judge.df.round(3), missing="–")
    print(
        f"{judge.name} -> {out}: F1 {validation['task_f1']:.3f} (task), {validation['macro_f1']:.3f} (macro) on the validation "
        "texts that its thresholds are fitted on"
    )
    say(f"measure it on test texts: neva-tl validate-judge --judge classifier:{out} --labels {data}")


def validate_judge(
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            autocompletion=completion.judge,
            callback=named,
            help="wordlist, classifier:PATH, hf:NAME_OR_FOLDER, ...",
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            callback=named,
            help="valueeval:DIR (or DIR alone), persona:DIR, or labelled texts as .csv or .jsonl",
        ),
    ],
    split: Annotated[
        str, typer.Option("--split", help="train, validation, test, another of the source's own, or all")
    ] = "test",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            callback=finite,
            help="smallest score that counts as expressed; default: the judge's own, else .5",
        ),
    ] = None,
    n_boot: Annotated[int, typer.Option("--n-boot", min=10, help="bootstrap draws of the intervals")] = 1000,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="skip and count malformed rows")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_of, metavar="PATH", help="also write the card to this .json file"),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Measure a judge on labelled texts, per value and overall.

    Measures are precision, recall, F1, ranking and calibration.
    """
    from neva_tl.core.files import check_output
    from neva_tl.evaluation.judge_quality.quality import quality
    from neva_tl.evaluation.judges.registry import load_judge
    from neva_tl.evaluation.labels.labelled import LabelledTexts

    if out is not None:
        check_output(out)
    loaded_judge = load_judge(judge)
    labelled = LabelledTexts.load(f"valueeval:{labels}" if Path(labels).is_dir() else labels, skip_bad=skip_bad)
    texts = labelled if split == "all" else labelled.split(split)
    card = quality(loaded_judge, texts, threshold=threshold, n_boot=n_boot, seed=seed)
    say_note("labels", labelled.note)
    if as_json:
        print(json.dumps(card.to_json(), allow_nan=False, ensure_ascii=False))
    else:
        print_report(str(card), card.parts, missing="–")
    if out is not None:
        say(f"written: {card.save(out)}")
