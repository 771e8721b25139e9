"""`neva-tl generate`: a text of the model, unedited and steered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    AllowMismatch,
    Debug,
    Dtype,
    Gate,
    Json,
    Matmul,
    Prompts,
    Quiet,
    Seed,
    Theory,
    Verbose,
    check_method,
    finite,
    load_pairs,
    path_of,
    say_note,
)
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
        str | None,
        typer.Option(
            "--model",
            autocompletion=completion.model,
            help="as in `neva-tl run`; default: the model of --edit, else demo",
        ),
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Option(
            "--edit", parser=path_of, metavar="PATH", help="steer with the edit in this folder (neva-tl steer --out)"
        ),
    ] = None,
    allow_mismatch: AllowMismatch = False,
    value: Annotated[
        str | None,
        typer.Option("--value", autocompletion=completion.value_names, help="steer towards this value of --prompts"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            autocompletion=completion.method,
            help="method: neva, neva_shift, caa, role, ...; auto: neva, else neva_shift",
        ),
    ] = "auto",
    dose: Annotated[
        float | None,
        typer.Option(
            "--dose", callback=finite, help="dose, in the method's unit; default: that of gain .4 on held-out pairs"
        ),
    ] = None,
    prompts: Prompts = "auto",
    theory: Theory = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="new tokens")] = 40,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, callback=finite, help="0 is greedy")] = 0.0,
    scope: Annotated[
        str,
        typer.Option(
            "--scope", autocompletion=completion.scope, help="tokens to edit: all, prompt, generated, last, or auto"
        ),
    ] = "auto",
    gate: Gate = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", parser=path_of, metavar="PATH", help="also write the text to this file")
    ] = None,
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Generate a text, unedited and (with --edit or --value) steered."""
    import neva_tl as nv
    from neva_tl.core.files import atomic_write, check_output
    from neva_tl.models.inference.encoding import check_ids, encode_one

    if out is not None:
        check_output(out)
    if allow_mismatch and edit is None:
        raise InputError("--allow-mismatch is for a saved edit: name its folder with --edit")

    def fits(loaded: Any) -> None:
        encoded = encode_one(loaded, [nv.Example("", prompt)])
        check_ids(loaded, encoded, [prompt], more=tokens)

    if edit is not None:
        if value is not None:
            raise InputError("--edit brings its own value: leave out --value")
        loaded, edits, label = _saved(edit, model, None if dtype == "float32" else dtype, matmul, dose, allow_mismatch)
        fits(loaded)
    else:
        settings = {"scope": scope, "gate": gate, "seed": seed}
        precision = {"dtype": dtype, "matmul": matmul}
        loaded, edits, label = _steered(
            "demo" if model is None else model, value, method, dose, prompts, theory, precision, settings, fits
        )
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
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            file.write_text(printed + "\n", encoding="utf-8")


def _saved(
    folder: Path, model: str | None, dtype: str | None, matmul: str, dose: float | None, allow_mismatch: bool
) -> tuple[Any, Any, str]:
    """The model and the edit of a folder, and the edit's name."""
    import neva_tl as nv
    from neva_tl.study.steering.saved_model import model_of_edit

    saved = nv.load_edit(folder)
    loaded = model_of_edit(folder, saved, model, dtype, matmul, allow_mismatch=allow_mismatch)
    edit = saved.for_model(loaded, folder, allow_mismatch=allow_mismatch).edit
    label = str(saved.about.get("value") or folder.name)
    return loaded, edit if dose is None else edit.with_dose(dose), label


def _steered(
    model: str,
    value: str | None,
    method: str,
    dose: float | None,
    prompts: str,
    theory: str | None,
    precision: dict[str, Any],
    settings: dict[str, Any],
    fits: Callable[[Any], None],
) -> tuple[Any, Any, str]:
    """The model, the edit of a method towards a value (None without a value), and the method."""
    import neva_tl as nv
    from neva_tl.core.auto import AUTO
    from neva_tl.study import StudyConfig
    from neva_tl.study.steering.steer import steered_edit

    if method != AUTO:
        check_method(method)
    StudyConfig(model=model, scope=settings["scope"], gate=settings["gate"], **precision).resolved()
    # collecting takes minutes on a real model, so bad input is reported before
    pairs = None if value is None else load_pairs(prompts, model, value, theory)
    loaded = nv.load(model, **precision)
    fits(loaded)
    if pairs is None:
        return loaded, None, method
    used, edit = steered_edit(loaded, pairs, value, method=method, dose=dose, progress=True, **settings)
    say_note("prompts", pairs.note)
    return loaded, edit, used
