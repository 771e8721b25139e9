"""`neva-tl prompts write`: contrastive pairs in a model's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    Debug,
    Definition,
    Dtype,
    Json,
    Opposite,
    Quiet,
    Seed,
    Verbose,
    WordsJudge,
    finite,
    named,
    path_of,
    say_note,
)
from neva_tl.cli.tables import print_table
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say

prompts = typer.Typer(help="Write contrastive prompts.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: The command line of `neva-tl`.
    """
    app.add_typer(prompts, name="prompts")


@prompts.callback()
def group() -> None:
    """Write contrastive prompts."""


@prompts.command()
def write(
    model: Annotated[
        str, typer.Argument(help="an instruct model: smollm2, a .gguf file, a local folder, or a hub name")
    ],
    concept: Annotated[
        str | None, typer.Option("--concept", callback=named, help="name of the concept to write pairs for")
    ] = None,
    definition: Definition = "",
    opposite: Opposite = "",
    theory: Annotated[
        str | None,
        typer.Option(
            "--theory",
            autocompletion=completion.theory,
            callback=named,
            help="in place of a concept, the values of a theory: schwartz, schwartz20, moral-foundations, a .yaml or .json file",
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value", autocompletion=completion.value_names, help="only this value of the theory (repeatable)"
        ),
    ] = None,
    judge: WordsJudge = "auto",
    out: Annotated[
        Path, typer.Option("--out", parser=path_of, metavar="PATH", help="file of the pairs: .parquet, .jsonl or .csv")
    ] = Path("pairs.parquet"),
    questions: Annotated[
        int | None, typer.Option("--questions", min=16, help="number of open questions; default: all")
    ] = None,
    answers: Annotated[int, typer.Option("--answers", min=1, help="sampled answers per question and role")] = 2,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="largest length of an answer")] = 60,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, callback=finite, help="sampling temperature")
    ] = 0.7,
    paired: Annotated[
        bool, typer.Option("--paired/--unpaired", help="pairs by question, or every answer that the judge keeps")
    ] = True,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let a model write contrastive pairs in its own words: for one concept, or for the values of a theory.

    It answers open questions under roles for the value and without it; a judge keeps the answers that it tells apart.
    """
    import neva_tl as nv
    from neva_tl.core.files import check_output
    from neva_tl.prompts.readers.own import SUFFIXES
    from neva_tl.study.own_words import write as write_answers
    from neva_tl.study.own_words.concept import find_concepts
    from neva_tl.study.own_words.judging import find_scorer
    from neva_tl.study.own_words.writing import question_table

    if (concept is None) == (theory is None):
        raise InputError("name either a concept (--concept thrift --definition ...) or a theory (--theory schwartz)")
    check_output(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: pairs are written as {', '.join(SUFFIXES)}")
    subject = concept if concept is not None else nv.ValueTheory.load(str(theory))
    concepts = find_concepts(subject, definition, opposite, None if value is None else tuple(value))
    scorer = find_scorer(judge, concepts)
    if hasattr(scorer, "check"):
        scorer.check()
    question_table(questions)
    nv.evaluation.Decoding(tokens, temperature, answers, seed)
    result = write_answers(
        nv.load(model, dtype=dtype),
        subject,
        definition=definition,
        opposite=opposite,
        values=value,
        judge=scorer,
        questions=questions,
        answers=answers,
        max_new_tokens=tokens,
        temperature=temperature,
        paired=paired,
        seed=seed,
        progress=True,
    )
    pairs = result.pairs
    pairs.save(out)
    if as_json:
        print(json.dumps(dict(pairs.provenance) | {"out": str(out)}, allow_nan=False))
    else:
        columns = ["value", "auroc", "lo", "hi", "questions", "invalid", "train", "validation", "test", "pairs"]
        print_table(result.figures[columns].round(2), missing="n/a")
    say_note("prompts", pairs.note)
    say(
        f"written: {out} ({f'{len(pairs) // 2} pairs' if paired else f'{len(pairs)} answers'}); try: neva-tl steer {model} {out}"
    )
