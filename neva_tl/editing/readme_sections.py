"""Sections of a card (see readme.py), as lines of Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from neva_tl.core.formatting import DASH, finite_number, fixed, interval
from neva_tl.editing.base import Edit
from neva_tl.models.short_names import is_short_name
from neva_tl.models.sources import is_demo

#: Judge that reads log-probabilities of given answers; every other judge reads generated texts.
LOGPROB = "logprob"
#: Judge of the demo model, which knows the truth and needs no positive control.
EXACT = "exact"
#: Values that are usable as a tag of the hub.
_TAG = re.compile(r"[\w -]+")
#: Largest number of texts, and of characters of each, on a card.
TEXTS, LONGEST = 3, 700


def front_matter(value: str, model: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Return the YAML that the hub reads: library, licence, tags, and the base model where it is one of the hub.

    Args:
        value: The steered value.
        model: Facts of the model.
        about: Facts of the writer; `license` is a hub identifier.
    """
    name = str(model.get("name") or "")
    on_hub = name.count("/") == 1 and "folder" not in model and not is_demo(name) and not is_short_name(name)
    # JSON strings are YAML strings, whatever they hold
    base = [f"base_model: {json.dumps(name)}", "base_model_relation: adapter"] if on_hub else []
    known = about.get("license")
    licence = [f"license: {json.dumps(known)}"] if known else ["license: other", "license_name: that-of-the-base-model"]
    tags = ["steering", "activation-steering", "interpretability", *([value] if _TAG.fullmatch(value) else [])]
    return [
        "---",
        "library_name: neva_tl",
        *licence,
        *base,
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags),
        "---",
        "",
    ]


def gain_lines(measures: Mapping[str, Any]) -> list[str]:
    """Return the gain on test items and how it was measured.

    Args:
        measures: The measures (see readme.py).
    """
    gain = measures.get("gain")
    if not gain:
        return ["Not measured."]
    target = finite_number(measures.get("target"))
    status = measures.get("status")
    rows = [
        ("gain on test items", f"{estimate(gain)}, n = {gain.get('n')}"),
        ("gain on validation items", fixed(measures.get("validation_gain"))),
        ("target of the dose", DASH if target is None else f"gain {target:g}, {status}"),
        (
            "items pushed the wrong way",
            estimate(measures["wrong_way"]) if measures.get("wrong_way") else "not measured",
        ),
        ("judge", f"{measures.get('judge')}, which {_reads(measures)}"),
        ("unit", measures.get("unit")),
    ]
    advice = [inline(str(measures["advice"])).capitalize() + ".", ""] if measures.get("advice") else []
    return [
        *table(("measure", "result"), rows),
        "",
        *advice,
        "Intervals are 95 % intervals over items (bootstrap by topic). The dose was chosen on validation items.",
        "",
    ]


def control_lines(measures: Mapping[str, Any]) -> list[str]:
    """Return the positive control: the gain of an instruction that names the value, on the same items.

    Args:
        measures: The measures.
    """
    control, judge = measures.get("control"), inline(str(measures.get("judge")))
    if judge == EXACT:
        return ["**Positive control**: the exact judge knows the truth of the demo model's world and needs none."]
    if not control:
        return ["**Positive control**: not measured."]
    verdict = (
        f"judge {judge} can measure the value on this model."
        if is_positive(control)
        else f"judge {judge} **does not see** the value even in prompted answers of this model. Read the gain with care."
    )
    return [
        f"**Positive control**: a role prompt that names the value gains {estimate(control)} on the same items: {verdict}"
    ]


def curve_lines(measures: Mapping[str, Any], dose: float) -> list[str]:
    """Return the curves of dose against gain, one in log-probability and one in the text.

    Args:
        measures: The measures.
        dose: Dose of the edit, whose row is marked.
    """
    lines = []
    for title, in_text in (("In log-probability", False), ("In the text", True)):
        lines += [f"### {title}", ""]
        curves = [c for c in measures.get("curves", ()) if (c.get("judge") != LOGPROB) == in_text and c.get("rows")]
        if not curves:
            lines += ["Not measured.", ""]
        for curve in curves:
            lines += [
                f"Judge {inline(str(curve.get('judge')))}, validation items, unit: {inline(str(curve.get('unit')))}.",
                "",
            ]
            rows = [
                _dose_row(row, dose, measures, in_text) for row in sorted(curve["rows"], key=lambda row: row["dose"])
            ]
            lines += [*table(("dose", "gain", "degenerate texts", "admissible"), rows), ""]
            if not in_text:
                lines += [
                    "Texts were generated only where the gain reaches the target, and once for several doses.",
                    "",
                ]
    return lines


def leakage_lines(measures: Mapping[str, Any]) -> list[str]:
    """Return what the edit does to each measured value.

    Args:
        measures: The measures.
    """
    stored = measures.get("leakage") or {}
    rows = stored.get("rows") or []
    if len(rows) < 2:
        known = "the pairs cover one value only" if rows else "no other value was scored"
        return [f"Not measured: {known}."]
    names = [str(row["measured"]) for row in rows]
    numbers = [interval(row.get("d"), row.get("lo"), row.get("hi")) for row in rows]
    mean = estimate(stored.get("mean") or {})
    return [
        "Change of each value under the edit, test items, in the unit of the gain.",
        "",
        *table(("value", *names), [("change", *numbers)]),
        "",
        f"Mean rise of the other values: {mean}.",
    ]


def cost_lines(measures: Mapping[str, Any]) -> list[str]:
    """Return capability and fluency without and with the edit.

    Args:
        measures: The measures.
    """
    rows = [(row["name"], _cell(row, "unedited"), _cell(row, "edited")) for row in measures.get("cost", ())]
    public = "Public sets of questions (MMLU, LAMBADA and others) were not measured: `neva-tl capability` does."
    if not rows:
        return ["Not measured.", "", public]
    return [*table(("", "unedited", "edited"), rows), "", public]


def text_lines(measures: Mapping[str, Any], value: str) -> list[str]:
    """Return prompts with the unedited and the edited continuation, as they came.

    Args:
        measures: The measures.
        value: The steered value.
    """
    lines = []
    for text in list(measures.get("texts", ()))[:TEXTS]:
        lines += [f"**Prompt**: {inline(text['prompt'])}", ""]
        rows = [("unedited", inline(text["unedited"])), (value, inline(text["edited"]))]
        lines += [*table(("model", "continuation"), rows), ""]
    if not lines:
        return ["None were generated.", ""]
    return [
        "The first test prompts, not selected; each text ends after the study's number of new tokens at the latest.",
        "",
        *lines,
    ]


def limits_lines(edit: Edit, measures: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Return what the numbers do not show.

    Args:
        edit: The edit.
        measures: The measures.
        model: Facts of the model.
    """
    gain, control, judge = measures.get("gain"), measures.get("control"), inline(str(measures.get("judge")))
    limits = [
        "The edit fits the model above alone. Other weights are refused; another dtype of the same weights is accepted, and "
        "activations then differ by rounding."
        if model
        else "The folder records no model: nothing checks that the edit fits."
    ]
    if gain:
        limits.append(f"The gain comes from {gain.get('n')} test items, one seed and one judge ({judge}).")
        if (finite_number(gain.get("lo")) or 0.0) <= 0:
            limits.append("The interval of the gain reaches 0: an effect is not shown.")
        if judge == LOGPROB:
            limits.append(
                "The gain is one of log-probability of given answers. What the model writes may change less: see the texts."
            )
    if control and judge != EXACT and not is_positive(control):
        limits.append("The positive control fails: this judge cannot show whether the edit works here.")
    if measures and measures.get("status") == "unreached":
        limits.append("The target gain was not reached at an admissible dose.")
    if missing := missing_measures(measures):
        limits.append(f"Not measured: {', '.join(missing)}.")
    if edit.unit == "none":
        limits.append("The edit has no dose to change.")
    elif measures.get("curves"):
        limits.append(
            "A larger dose gains more and breaks texts at some point; only the doses of the curve were tried."
        )
    else:
        limits.append("Only the dose above is known; other doses were not tried.")
    return [f"- {line}" for line in limits]


def missing_measures(measures: Mapping[str, Any]) -> list[str]:
    """Name what a card should show and the writer did not measure.

    Args:
        measures: The measures.
    """
    judges = {c.get("judge") for c in measures.get("curves", ()) if c.get("rows")}
    missing = {
        "gain on test items": not measures.get("gain"),
        "dose against gain in log-probability": LOGPROB not in judges,
        "dose against gain in the text": not judges - {LOGPROB},
        "leakage to other values": len((measures.get("leakage") or {}).get("rows") or ()) < 2,
        "positive control": not measures.get("control") and measures.get("judge") != EXACT,
        "capability and fluency": not measures.get("cost"),
        "texts": not measures.get("texts"),
    }
    return [name for name, absent in missing.items() if absent]


def loading_lines(model: Mapping[str, Any], shown: str) -> list[str]:
    """Return the three ways to load the folder.

    Args:
        model: Facts of the model.
        shown: Name of the model without a user's path.
    """
    name = shown if model.get("name") else "MODEL"
    where = f"path/to/{name}" if "folder" in model and not is_demo(name) else name
    hf = "nv.demo.path()" if name == "demo" else json.dumps(where)
    dtype = json.dumps(str(model.get("dtype") or "float32"))
    return [
        "With neva_tl, on a TransformerLens model:",
        "",
        "```python",
        "import neva_tl as nv",
        "",
        f"model = nv.load({json.dumps(where)})",
        'saved = nv.load_edit("FOLDER", model=model)  # refuses another model',
        "with nv.edit(model, saved.edit):",
        '    print(nv.generate(model, ["..."], max_new_tokens=40)[0])',
        "```",
        "",
        "On a transformers model, for `generate`, pipelines and chat:",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM",
        "import neva_tl as nv",
        "",
        f"hf_model = AutoModelForCausalLM.from_pretrained({hf}, dtype={dtype})",
        'handle = nv.attach(hf_model, "FOLDER")  # handle.dose = ..., handle.off(), handle.on(), handle.remove()',
        "```",
        "",
        "From the shell:",
        "",
        "```console",
        f'$ neva-tl generate "..." --edit FOLDER --model {where}',
        "```",
    ]


def estimate(stored: Mapping[str, Any]) -> str:
    """Return an estimate `{est, lo, hi}` with its interval.

    Args:
        stored: The estimate.
    """
    return interval(stored.get("est"), stored.get("lo"), stored.get("hi"))


def is_positive(stored: Mapping[str, Any]) -> bool:
    """Return whether the interval of an estimate lies above 0.

    Args:
        stored: The estimate.
    """
    low = finite_number(stored.get("lo"))
    return low is not None and low > 0


def percent(share: Any) -> str:
    """Return a share in percent.

    Args:
        share: The share; a dash where it is missing.
    """
    number = finite_number(share)
    return DASH if number is None else f"{number:.0%}".replace("%", " %")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return a Markdown table.

    Args:
        head: Names of the columns.
        rows: The rows.
    """
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(inline(str(cell)) for cell in line) + " |" for line in lines]


def inline(text: str) -> str:
    """Return a text that Markdown and HTML leave as it is, on one line.

    Args:
        text: The text; a long one is cut.
    """
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = one_line if len(one_line) <= LONGEST else f"{one_line[:LONGEST]}..."
    escaped = short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`|*":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped.replace("](", "]\\(")


def _dose_row(row: Mapping[str, Any], dose: float, measures: Mapping[str, Any], in_text: bool) -> tuple[str, ...]:
    mark = " (this edit)" if abs(row["dose"] - dose) < 1e-9 else ""
    # below the target no text is written: the stored 0 is not a measurement
    least = finite_number(measures.get("lowest_target", measures.get("target"))) or 0.0
    written = in_text or (finite_number(row.get("gain")) or 0.0) >= least
    invalid = percent(row.get("invalid")) if written else "not measured"
    return (f"{row['dose']:.4g}{mark}", fixed(row.get("gain")), invalid, "yes" if row.get("admissible") else "no")


def _cell(row: Mapping[str, Any], key: str) -> str:
    entry = row.get(key)
    if isinstance(entry, Mapping):
        return estimate(entry)
    if row.get("share"):
        return percent(entry)
    return fixed(entry)


def _reads(measures: Mapping[str, Any]) -> str:
    if measures.get("judge") == LOGPROB:
        return "compares log-probabilities of given answers"
    return "reads generated texts"
