"""`neva-tl generate`: a text of the model, unedited and steered."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli.options import Debug, Dtype, Gate, Json, Prompts, Seed, writable
from neva_tl.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(generate)


def generate(
    prompt: Annotated[str, typer.Argument(help="the prompt")],
    model: Annotated[
        str | None, typer.Option("--model", help="as in `neva-tl run`; default: the model of --edit, else demo")
    ] = None,
    edit: Annotated[
        Path | None, typer.Option("--edit", help="steer with the edit in this folder (neva-tl steer --out)")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", help="steer towards this value")] = None,
    method: Annotated[
        str, typer.Option("--method", help="method to steer with: neva, neva_shift, caa, caa_projected, role, ...")
    ] = "neva",
    dose: Annotated[
        float | None,
        typer.Option("--dose", help="dose, in the method's unit; default: that of gain .4 on held-out pairs"),
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
    """Generate a text, unedited and (with --edit or --value) steered."""
    import neva_tl as nv

    # collecting takes minutes on a real model, so bad input is reported before
    if dose is not None and not math.isfinite(dose):
        raise InputError(f"a dose must be a finite number, not {dose}")
    if out is not None:
        writable(out)
    if edit is not None:
        if value is not None:
            raise InputError("--edit brings its own value: leave out --value")
        from neva_tl.study.steering.saved_model import model_of_edit

        saved = nv.load_edit(edit)
        loaded = model_of_edit(edit, saved, model, None if dtype == "float32" else dtype)
        edits: Any = saved.edit if dose is None else saved.edit.with_dose(dose)
        label = str(saved.about.get("value") or edit.name)
    else:
        loaded, edits = _steered(model or "demo", value, method, dose, prompts, scope, gate, dtype, seed)
        label = method
    texts = {"unedited": nv.generate(loaded, [prompt], max_new_tokens=tokens, temperature=temperature, seed=seed)[0]}
    if edits is not None:
        with nv.edit(loaded, edits) as session:
            shown_prompts = [nv.editing.rewrite(edits, prompt)]
            texts[label] = nv.generate(
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


def _steered(
    model: str,
    value: str | None,
    method: str,
    dose: float | None,
    prompts: str,
    scope: str,
    gate: str,
    dtype: str,
    seed: int,
) -> tuple[Any, Any]:
    """The model, and the edit of a method towards a value (None without a value)."""
    import neva_tl as nv
    from neva_tl.core.values import value as lookup
    from neva_tl.methods import METHODS
    from neva_tl.study import StudyConfig
    from neva_tl.study.steering.steer import steered_edit

    if value is not None:
        lookup(value)
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    decided = StudyConfig(model=model, prompts=prompts, scope=scope, gate=gate).resolved()
    loaded = nv.load(model, dtype=dtype)
    if value is None:
        return loaded, None
    options: dict[str, Any] = {"method": method, "dose": dose, "scope": scope, "gate": gate, "seed": seed}
    return loaded, steered_edit(loaded, decided.prompts, value, progress=True, **options)
