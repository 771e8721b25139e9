"""`neva-tl steer`: from a model and a file of pairs to a saved, measured edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    Debug,
    Definition,
    Dtype,
    Gate,
    Json,
    K,
    Matmul,
    Opposite,
    Quiet,
    Seed,
    Theory,
    Verbose,
    WordsJudge,
    finite,
    named,
    path_of,
    say_note,
)
from neva_tl.cli.tables import print_report
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(steer)


def steer(
    model: Annotated[
        str,
        typer.Argument(
            help="demo, a short name (neva-tl models), a .gguf file, a local Hugging Face folder, or a hub name"
        ),
    ],
    pairs: Annotated[
        str | None,
        typer.Argument(
            help="a csv or jsonl file with prompt, plus, minus (or chosen, rejected), or any --prompts source; none with "
            "--concept"
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            "--value",
            autocompletion=completion.value_names,
            help="concept to steer towards; default: the only one of the pairs",
        ),
    ] = None,
    theory: Theory = None,
    concept: Annotated[
        str | None,
        typer.Option(
            "--concept", callback=named, help="concept to steer towards, for which the model writes the pairs"
        ),
    ] = None,
    definition: Definition = "",
    opposite: Opposite = "",
    judge: WordsJudge = "auto",
    gain: Annotated[
        float, typer.Option("--gain", callback=finite, help="gain to reach on held-out pairs, in the judge's unit")
    ] = 0.4,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_of, metavar="PATH", help="folder for the edit and its results"),
    ] = None,
    method: Annotated[
        str,
        typer.Option("--method", autocompletion=completion.method, help="steering method; auto: neva, else neva_shift"),
    ] = "auto",
    selector: Annotated[
        str, typer.Option("--selector", autocompletion=completion.selector, help="selector of the neurons, or auto")
    ] = "auto",
    k: K = None,
    scope: Annotated[
        str, typer.Option("--scope", autocompletion=completion.scope, help="all, prompt, generated, last, or auto")
    ] = "auto",
    gate: Gate = "auto",
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="also continue this prompt, unedited and edited (repeatable)")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="new tokens of each text")] = 40,
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Steer a model towards a concept, given by pairs or by its name, and say what that gains, leaks and costs.

    It collects and selects on training pairs, finds the dose on validation pairs, and measures on test pairs.
    """
    import neva_tl as nv
    from neva_tl.core.files import check_output_folder
    from neva_tl.core.locks import lock_folder, refuse_locked
    from neva_tl.study.own_words.concept import find_concepts
    from neva_tl.study.own_words.judging import find_scorer
    from neva_tl.study.steering.output import check_steering_folder
    from neva_tl.study.steering.own_pairs import check_concept

    if out is not None:
        check_output_folder(out)
    if pairs is None or concept is not None:
        check_concept(pairs, value, concept, theory)
        find_scorer(judge, find_concepts(str(concept), definition, opposite))
    contrast = None if pairs is None else nv.prompts.load(pairs, theory=theory)
    if out is not None:
        target = concept
        if contrast is not None:
            target = contrast.for_value(value).values[0] if value is not None else None
        request = {"model": model, "value": target, "target": gain, "method": method}
        request |= {} if contrast is None else {"prompt_hash": contrast.hash}
        request |= {"selector": selector, "scope": scope, "gate": gate, "dtype": dtype, "matmul": matmul, "seed": seed}
        check_steering_folder(out, request)
        refuse_locked(out)
    result = nv.steer(
        model,
        contrast,
        value,
        concept=concept,
        definition=definition,
        opposite=opposite,
        judge=judge,
        gain=gain,
        method=method,
        selector=selector,
        k=k,
        scope=scope,
        gate=gate,
        dtype=dtype,
        matmul=matmul,
        seed=seed,
    )
    say_note("prompts", "" if contrast is None else contrast.note)
    texts = [result.generate(text, max_new_tokens=tokens, seed=seed) for text in prompt or ()]
    if out is not None:
        with lock_folder(out):
            result.save(out)
    if as_json:
        facts: dict[str, Any] = {
            "status": result.status,
            "dose": result.dose,
            "validation_gain": result.validation_gain,
        }
        facts |= {"gain": result.gain.to_json(), "leakage": result.leakage.to_json()}
        facts |= {"cost": {name: estimate.to_json() for name, estimate in result.cost.items()}, "card": result.card}
        print(json.dumps(facts | {"texts": [vars(text) for text in texts]}, allow_nan=False))
    else:
        plain = "\n\n".join([str(result), *map(str, texts)])
        print_report(plain, lambda: [*result.parts(), *(f"\n{text}" for text in texts)])
    if out is not None:
        say(f'written: {out}; try: neva-tl generate --edit {out} "..." or neva-tl chat --edit {out}')
