"""The card of a saved edit: README.md of its folder, with front matter as the Hugging Face hub reads it.

It shows what the writer of the folder measured (`about["measures"]`), and names what was not measured:

    gain, wrong_way, control    estimates {est, lo, hi, n}; `control` is the gain of the role prompt on the same items
    judge, unit, status, target, lowest_target, validation_gain, advice
    curves                      [{judge, unit, rows: [{dose, gain, invalid, admissible}]}]
    leakage                     {mean: estimate, rows: [{measured, d, lo, hi, n}]}
    cost                        [{name, unedited, edited}], numbers or estimates; None where it is not defined
    texts                       [{prompt, unedited, edited}]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.files import atomic_write
from neva_tl.core.theories import THEORIES
from neva_tl.editing.base import Edit
from neva_tl.editing.edit_card import edit_facts
from neva_tl.editing.readme_sections import (
    EXACT,
    control_lines,
    cost_lines,
    curve_lines,
    estimate,
    front_matter,
    gain_lines,
    inline,
    is_positive,
    leakage_lines,
    limits_lines,
    loading_lines,
    missing_measures,
    table,
    text_lines,
)
from neva_tl.models.sources import label

README = "README.md"
#: The front matter's line by which a card of ours is told from a README of another hand.
MARK = "library_name: neva_tl"
#: Sites in words.
HOOKS = {
    "post": "neurons of the MLPs (hook_post)",
    "gate": "gates of the MLPs (the activation function's output)",
    "resid_post": "residual stream after a layer (hook_resid_post)",
    "prompt": "none: the prompt's text changes",
    "answer": "none: the finished answer is rewritten",
}


def write_readme(
    folder: Path, edit: Edit, model: Mapping[str, Any], about: Mapping[str, Any], origin: Mapping[str, Any]
) -> bool:
    """Write the card of an edit; a README.md of another hand stays as it is.

    Args:
        folder: Folder of the edit.
        edit: The edit.
        model: See `SavedEdit`.
        about: See `SavedEdit`.
        origin: See `SavedEdit`.

    Returns:
        Whether the card was written.
    """
    target = folder / README
    if target.exists() and not is_card(target):
        return False
    with atomic_write(target) as file:
        file.write_text(card_text(edit, model, about, origin), encoding="utf-8")
    return True


def is_card(file: Path) -> bool:
    """Return whether a file is a card that neva_tl wrote.

    Args:
        file: A Markdown file.
    """
    try:
        head = file.read_text(encoding="utf-8")[:2000]
    except (OSError, UnicodeDecodeError):
        return False
    return head.startswith("---\n") and MARK in head.splitlines()


def card_text(edit: Edit, model: Mapping[str, Any], about: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Return the card of an edit as Markdown.

    Args:
        edit: The edit.
        model: See `SavedEdit`.
        about: See `SavedEdit`.
        origin: See `SavedEdit`.
    """
    stored = about.get("measures")
    measures: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    facts = edit_facts(edit)
    value = str(about.get("value") or facts.get("value") or type(edit).__name__)
    name = label(str(model["name"])) if model.get("name") else "a model that the folder does not name"
    sections = [
        *front_matter(value, model, about),
        f"# {inline(value)}: a steering edit for {inline(name)}",
        "",
        *_summary(edit, measures),
        "",
        "## What it steers",
        "",
        *table(("fact", ""), _facts(edit, facts, value, name, model, about, origin)),
        "",
        "## Gain",
        "",
        *gain_lines(measures),
        *control_lines(measures),
        "",
        "## Dose against gain",
        "",
        *curve_lines(measures, edit.dose),
        "## Leakage to other values",
        "",
        *leakage_lines(measures),
        "",
        "## Capability and fluency, before and after",
        "",
        *cost_lines(measures),
        "",
        "## Texts",
        "",
        *text_lines(measures, value),
        "## Limits",
        "",
        *limits_lines(edit, measures, model),
        "",
        "## How to load it",
        "",
        *loading_lines(model, name),
        "",
        "## Licence",
        "",
        "The folder holds numbers that were computed with the weights of the model above, and no weights: the licence of that "
        "model decides how an edited model may be used. "
        + (
            f"Licence of the edit: {inline(str(about['license']))}."
            if about.get("license")
            else "The folder adds no terms of its own."
        ),
        "",
    ]
    return "\n".join(sections)


def _summary(edit: Edit, measures: Mapping[str, Any]) -> list[str]:
    missing = missing_measures(measures)
    if len(missing) == len(missing_measures({})):
        return [f"At dose {edit.dose:.4g} the edit {edit.what()}. It was saved without measurements."]
    lines = [f"At dose {edit.dose:.4g} the edit {edit.what()}."]
    if gain := measures.get("gain"):
        unit = inline(str(measures.get("unit")))
        lines.append(f"It gains {estimate(gain)} on test items ({unit}, judge {inline(str(measures.get('judge')))}).")
    if measures.get("status") == "unreached":
        lines.append(f"The target, a gain of {measures.get('target')}, was not reached at an admissible dose.")
    control = measures.get("control")
    if control and measures.get("judge") != EXACT and not is_positive(control):
        lines.append("The positive control fails: do not take this gain as shown (see Gain).")
    return [" ".join([*lines, *([f"Not measured: {', '.join(missing)}."] if missing else [])])]


def _facts(
    edit: Edit,
    facts: Mapping[str, Any],
    value: str,
    name: str,
    model: Mapping[str, Any],
    about: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Rows of the first table."""
    sizes = [f"{model[key]} {unit}" for key, unit in (("n_layers", "layers"), ("d_model", "wide")) if key in model]
    weights = str(model.get("weights_hash", ""))[:16]
    sets = origin.get("neurons") or []
    versions = origin.get("versions") or {}
    used = [
        f"{key} {versions[key]}" for key in ("neva_tl", "torch", "transformers", "transformer-lens") if key in versions
    ]
    settings = [
        ", ".join(f"{key} {x}" for key, x in one["settings"].items() if isinstance(x, int | float | str | bool))
        for one in sets
    ]
    prompts = " ".join(filter(None, (str(origin.get("prompts") or ""), f"hash {str(origin.get('prompt_hash'))[:16]}")))
    rows = {
        "value": value,
        "meaning": _meaning(value, str(origin.get("theory"))),
        "theory": "none: a concept of its own" if origin.get("theory") == "names" else origin.get("theory"),
        "model": ", ".join(
            filter(None, (name, *sizes, str(model.get("dtype") or ""), weights and f"weights {weights}"))
        ),
        "method": about.get("method"),
        "class": type(edit).__name__,
        "hook points": ", ".join(HOOKS.get(site, site) for site in origin.get("site") or ()),
        "neurons": facts.get("neurons"),
        "layers": facts.get("layers"),
        "instruction": facts.get("instruction"),
        "dose": f"{edit.dose:.6g} ({_unit(edit)})",
        "tokens": {"all": "all", "prompt": "of the prompt", "generated": "generated ones"}.get(
            edit.scope, "the prompt's last one and generated ones"
        ),
        "gate": facts.get("gate"),
        "selector": "; ".join(f"{one['selector']} ({text})" for one, text in zip(sets, settings, strict=True)),
        "prompts": prompts if origin.get("prompt_hash") else None,
        "seed": origin.get("seed"),
        "made with": ", ".join(used),
    }
    return [(key, str(fact)) for key, fact in rows.items() if fact not in (None, "")]


def _meaning(value: str, theory: str) -> str:
    """Return the definition of a value of a built-in theory; empty for others."""
    known = THEORIES.get(theory)
    return known.value(value).definition if known is not None and value in known else ""


def _unit(edit: Edit) -> str:
    words = {"contrasts": "multiples of the contrast between the poles", "log-odds": "log-odds of the probe"}
    return words.get(edit.unit, f"unit: {edit.unit}") if edit.unit != "none" else "without a unit"
