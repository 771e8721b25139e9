"""`neva-tl generate`: a text of the model, unedited and steered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli.options import Debug, Dtype, Gate, Json, Model, Prompts, Seed, check_method, collected, finite, path_of


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
        float | None, typer.Option("--dose", callback=finite, help="dose, in the method's unit; default: a typical one")
    ] = None,
    prompts: Prompts = "auto",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="new tokens")] = 40,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, callback=finite, help="0 is greedy")] = 0.0,
    scope: Annotated[
        str, typer.Option("--scope", help="tokens to edit: all, prompt, generated, last, or auto")
    ] = "auto",
    gate: Gate = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", parser=path_of, metavar="PATH", help="also write the text to this file")
    ] = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate a text, unedited and (with --value) steered."""
    import neva_tl as nv
    from neva_tl.core.files import atomic_write, check_output
    from neva_tl.core.values import value as lookup
    from neva_tl.models.inference.encoding import check_ids, encode_one
    from neva_tl.study import StudyConfig, build_edit

    # collecting takes minutes on a real model, so bad input is reported before
    if value is not None:
        lookup(value)
    check_method(method)
    decided = StudyConfig(model=model, prompts=prompts, scope=scope, gate=gate).resolved()
    if out is not None:
        check_output(out)

    def fits(language_model: Any) -> None:
        encoded = encode_one(language_model, [nv.Example("", prompt)])
        check_ids(language_model, encoded, [prompt], more=tokens)

    if value is None:
        loaded, edits = nv.load(model, dtype=dtype), None
    else:
        loaded, stats = collected(model, prompts, dtype, True, value=value, check=fits)
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
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            file.write_text(printed + "\n", encoding="utf-8")
