"""What a run does not show, as a short list made from the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.study.report.control import controls_of, needs_control
from neva_tl.study.report.numbers import estimate, finite, fixed
from neva_tl.study.report.plain import items_word
from neva_tl.study.report.roles import Methods, main_method

#: Kind of judge -> what its scores leave open.
JUDGES = {
    "exact": "The exact judge knows the grammar of the demo world: nothing here says how well this works in a real model",
    "wordlist": "The judge counts words of a list: it takes no notice of what a sentence says",
    "logprob": "The measure is the model's probability of written answers, not what the model itself writes",
    "survey": "The measure is the model's answers to a questionnaire, not what it writes",
    "llm": "The judge is a language model, {name}: what it mistakes for the value counts as a gain",
    "chat": "The judge is a language model, {name}: what it mistakes for the value counts as a gain",
}
OTHER_JUDGE = "The scores are those of one judge, {name}: what it mistakes for the value counts as a gain"


def limits_of(results: Mapping[str, Any], manifest: Mapping[str, Any] | None, missing: int = 0) -> list[str]:
    """Return what the run leaves open: seed, prompts, judge, values without a control, targets not reached.

    Args:
        results: Content of results.json.
        manifest: Content of manifest.json, or None.
        missing: Number of parts that the page lists as left out.

    Returns:
        A line each, without a full stop.
    """
    methods: Methods = results.get("methods", {})
    main = methods.get(main_method(methods) or "", {})
    lines = [
        _judge(results),
        _control(results),
        _prompts(results, main, manifest),
        _reached(results, main),
        _leakage(results, main),
    ]
    if missing:
        lines.append(f"{missing} part{'s' if missing > 1 else ''} of this report could not be made: see Left out")
    return [line for line in lines if line]


def _judge(results: Mapping[str, Any]) -> str:
    judge = str(results.get("judge") or "")
    if not judge:
        return ""
    kind, _, name = judge.partition(":")
    line = JUDGES.get(kind, OTHER_JUDGE).format(name=name or judge)
    model = str(results.get("model", {}).get("name") or "")
    if name and name.partition("#")[0] == model:
        line += ", and it is the steered model itself"
    if "not calibrated" in str(results.get("unit", "")):
        line += "; its probabilities are not calibrated"
    return line


def _control(results: Mapping[str, Any]) -> str:
    judge = str(results.get("judge") or "")
    if not judge or not needs_control(judge):
        return ""
    controls = controls_of(results)
    if controls is None:
        return "No positive control: whether the measure responds to these values at all is unknown"
    names = controls["not_measurable"]
    if not names:
        return ""
    return f"Nothing about {', '.join(names)}: not even a role prompt raises {'its score' if len(names) == 1 else 'their scores'}"


def _prompts(results: Mapping[str, Any], main: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> str:
    seed = None if manifest is None else finite(manifest.get("seed"))
    n = finite((main.get("gain") or {}).get("n"))
    parts = ["one seed" if seed is None else f"one seed ({seed:.0f})"]
    if n:
        parts.append(f"{n:.0f} {items_word(results)}")
    return f"{' and '.join(parts).capitalize()}: intervals cover these, not the choice of neurons and doses"


def _reached(results: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    target = finite(results.get("target_gain"))
    reached, _, all_values = str(main.get("reached") or "").partition("/")
    if target is None or not (reached.isdigit() and all_values.isdigit()) or reached == all_values:
        return ""
    return (
        f"The target gain of {fixed(target, 1)} was reached for {reached} of {all_values} values on validation prompts"
    )


def _leakage(results: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    leakage = main.get("leakage")
    if leakage is None or estimate(leakage) is not None:
        return ""
    return "Leakage: no value besides the steered one was measured" if len(results.get("values") or ()) == 1 else ""
