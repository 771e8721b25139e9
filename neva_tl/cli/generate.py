"""`neva-tl generate`: a text of the model, unedited and steered."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Dtype, Gate, Json, Model, Prompts, Seed, Theory, check_value, collected, writable
from neva_tl.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(generate)


def generate(
    prompt: Annotated[str, typer.Argument(help="the prompt")],
    model: Model = "demo",
    value: Annotated[str | None, typer.Option("--value", help="steer towards this value")] = None,
    method: Annotated[
        str, typer.Option("--method", help="method to steer with: neva, neva_shift, caa, caa_projected, role, ...")
    ] = "neva",
    dose: Annotated[
        float | None, typer.Option("--dose", help="dose, in the method's unit; default: a typical one")
    ] = None,
    prompts: Prompts = "auto",
    theory: Theory = None,
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
    from neva_tl.methods import METHODS
    from neva_tl.study import StudyConfig, build_edit

    # collecting takes minutes on a real model, so bad input is reported before
    if value is not None:
        check_value(value, prompts, theory)
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    decided = StudyConfig(model=model, prompts=prompts, theory=theory, scope=scope, gate=gate).resolved()
    if dose is not None and not math.isfinite(dose):
        raise InputError(f"a dose must be a finite number, not {dose}")
    if out is not None:
        writable(out)
    if value is None:
        loaded, edits = nv.load(model, dtype=dtype), None
    else:
        loaded, stats = collected(model, prompts, dtype, True, theory=theory)
        neurons = None
        if decided.gate == "relevance":
            texts_of = nv.prompts.gate_texts(decided.load_prompts())
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
