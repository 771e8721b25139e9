"""`neva-tl annotate`: labels for the texts of a run, blind to the condition."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neva_tl.cli.options import MAX_SEED, Debug, Json, Quiet, Verbose, path_of
from neva_tl.cli.tables import print_table
from neva_tl.core.errors import InputError
from neva_tl.core.messages import notice

if TYPE_CHECKING:
    from neva_tl.evaluation.judge_quality.annotation import Sample
    from neva_tl.evaluation.labels.answers import Answers

#: Texts and seed of a new sample.
DEFAULT_N, DEFAULT_SEED = 40, 0


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(annotate)


def annotate(
    run: Annotated[Path, typer.Argument(parser=path_of, metavar="RUN", help="run folder with the texts to label")],
    n: Annotated[
        int | None, typer.Option("--n", min=2, help=f"texts, edited and unedited; default {DEFAULT_N}")
    ] = None,
    annotator: Annotated[str, typer.Option("--annotator", help="your name: letters, digits, - and _")] = "me",
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=MAX_SEED, help=f"seed of the selection of texts; default {DEFAULT_SEED}"),
    ] = None,
    reveal: Annotated[
        bool,
        typer.Option(
            "--reveal", help="show the result before all texts are labelled (further labels are then no longer blind)"
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Label a run's texts by hand, blind to the condition.

    Every answer is stored at once; run the same command again to continue.
    """
    from neva_tl.evaluation.judge_quality import annotation
    from neva_tl.evaluation.labels.answers import Answers
    from neva_tl.study.run.preflight import read_manifest
    from neva_tl.study.run.run_folder import RunFolder

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", annotator):
        raise InputError(f"--annotator {annotator!r}: letters, digits, - and _ only, at most 40")
    manifest, store = read_manifest(run), RunFolder(run)
    if not store.has("tables/generations.parquet"):
        raise InputError(f"{run} has no finished run with texts (make one with neva-tl run)")
    file = run / "annotations" / f"{annotator}.jsonl"
    stored = Answers.about(file) or {}
    size = n if n is not None else int(stored.get("n", DEFAULT_N))
    drawn = seed if seed is not None else int(stored.get("seed", DEFAULT_SEED))
    drawn_texts = annotation.sample(store.read_table("tables/generations"), size, drawn)
    answers = Answers(file, {"run": str(manifest["study"]), "n": size, "seed": drawn})
    plan = drawn_texts.order(annotator, drawn)
    count = _ask(drawn_texts, answers, plan)
    rows = annotation.label_rows(drawn_texts.items, answers.found)
    labels = store.write_text(
        f"annotations/{annotator}.labels.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    record: dict[str, Any] = {"answers": str(file), "labels": str(labels), "asked": len(plan), "answered": count}
    if count == len(plan) or reveal:
        table = annotation.unblinded(drawn_texts.conditions, answers.found, seed=drawn)
        store.write_table(f"annotations/{annotator}.methods", table)
        record |= {
            "self_agreement": annotation.self_agreement(answers.found),
            "methods": json.loads(table.to_json(orient="records")),
        }
    if as_json:
        print(json.dumps(record, allow_nan=False))
        return
    _print(record, str(manifest["config"].get("judge", "auto")))


def _ask(drawn_texts: Sample, answers: Answers, plan: list[tuple[str, int]]) -> int:
    """Ask the open questions in the plan's order.

    The dialogue is on stderr, so that stdout has only the result.

    Returns:
        The number of answered questions.
    """
    from rich.console import Console

    from neva_tl.evaluation.judge_quality.annotation import shown

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    items = {item.key: item for item in drawn_texts.items}
    position, came_back = 0, False
    if any(question not in answers.found for question in plan):
        console.print(_help())
    while position < len(plan):
        key, again = plan[position]
        if (key, again) in answers.found and not came_back:
            position += 1
            continue
        came_back = False
        answered = sum(question in answers.found for question in plan)
        console.rule(f"text {position + 1} of {len(plan)} ({answered} answered)")
        console.print(shown(items[key].prompt), style="dim")
        console.print(shown(items[key].text) or "(nothing)")
        try:
            answer = console.input("values: ").strip()
        except (EOFError, KeyboardInterrupt):
            notice("")
            break
        if answer.lower() in ("q", "quit"):
            break
        if answer.lower() in ("h", "help"):
            console.print(_help())
        elif answer.lower() in ("s", "skip"):
            position += 1
        elif answer.lower() in ("b", "back"):
            position, came_back = max(position - 1, 0), True
        elif _store(answers, key, again, answer):
            position += 1
    return sum(question in answers.found for question in plan)


def _store(answers: Answers, key: str, again: int, answer: str) -> bool:
    """Store an answer, or report its error; returns whether it was stored."""
    from neva_tl.evaluation.judge_quality.annotation import parse

    try:
        labels = parse(answer)
    except InputError as error:
        notice(f"  {error}")
        return False
    answers.put(key, again, labels, datetime.now(UTC).isoformat(timespec="seconds"))
    return True


def _help() -> str:
    from neva_tl.core.theories.schwartz import SCHWARTZ, value
    from neva_tl.evaluation.judge_quality.annotation import KEYS

    lines = [f"  {key}  {name}: {value(name).definition}" for key, name in zip(KEYS, SCHWARTZ.names, strict=True)]
    return "\n".join(
        [
            "Which of these does the text (not the prompt above it) express or put first?",
            *lines,
            "Type the keys (14: the first and the fourth), n for none; ?4 leaves the fourth undecided, ? all of them.",
            "s skips for now, b goes back, q stops (the same command continues later), h shows this again.",
        ]
    )


def _print(record: dict[str, Any], judge: str) -> None:
    import pandas as pd

    print(f"{record['answered']} of {record['asked']} answered: {record['answers']}")
    if "methods" not in record:
        print("methods stay hidden until all texts are labelled (the same command continues; --reveal shows them now)")
    else:
        agreement = record["self_agreement"]
        if agreement["agreement"] is not None:
            kappa = "" if agreement["kappa"] is None else f", Cohen's kappa {agreement['kappa']:.2f}"
            print(
                f"self-agreement on {agreement['texts']} texts asked twice: {agreement['agreement']:.2f} of "
                f"{agreement['decisions']} decisions{kappa}"
            )
        columns = ("csr", "csr_base", "gain", "others")
        rows = [
            {"method": row["method"], "n": row["n"]} | {name: _interval(row, name) for name in columns}
            for row in record["methods"]
        ]
        print_table(pd.DataFrame(rows))
    print(f"labels for a judge: neva-tl validate-judge --judge {judge} --labels {record['labels']}")


def _interval(row: dict[str, Any], name: str) -> str:
    est, lo, hi = (row[f"{name}{end}"] for end in ("", "_lo", "_hi"))
    if est is None:
        return "-"
    return f"{est:.2f}" if lo is None or hi is None else f"{est:.2f} [{lo:.2f}, {hi:.2f}]"
