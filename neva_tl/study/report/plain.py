"""The two sentences that open the report: what was steered and gained, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neva_tl.plots.style import method_label
from neva_tl.study.report.control import controls_of
from neva_tl.study.report.numbers import estimate, excludes_zero, finite, fixed, limits, measure, percent
from neva_tl.study.report.roles import Methods, family, main_method, peer_method

#: Judge that reads the model's probabilities of given answers; judges that read no texts of the model.
LOGPROB = "logprob"
WITHOUT_TEXTS = (LOGPROB, "survey")
#: Values that a sentence names one by one.
NAMED = 3


def two_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say in plain words what was steered in which model, what it gained, leaked and cost.

    Args:
        results: Content of results.json.

    Returns:
        Two sentences; one that says so for a run that measured no method.
    """
    methods: Methods = results.get("methods", {})
    main = main_method(methods)
    if main is None:
        return [f"This run measured no steering method in {_model(results)}."]
    return [_gained(results, main), _leaked(results, main, peer_method(methods))]


def _gained(results: Mapping[str, Any], main: str) -> str:
    entry = results["methods"][main]
    edit, targets = _intervention(results, main), f"{_model(results)} towards {_targets(results)}"
    meant = f"{edit} was meant to steer {targets}"
    score, unit = _score(results)
    missing, values = _not_measurable(results)
    if values and len(missing) == values:
        named = missing[0] if values == 1 else "any of these values"
        return (
            f"{meant}; what it gained is not measurable here, because {score} does not rise even when a role prompt names "
            f"{named}."
        )
    measurable = entry.get("gain_measurable") if missing else None
    gain = measurable or entry.get("gain")
    if estimate(gain) is None:
        return f"{meant}; its gain was not measured."
    items = f"{_count(gain)} {items_word(results)}" if _count(gain) else f"the {items_word(results)}"
    numbers = f"a gain of {measure(gain)}{f' {unit}' if unit else ''} over {items}"
    if measurable:
        n = values - len(missing)
        numbers += f" and the {n} measurable value{'s' if n > 1 else ''}"
    base, after = estimate(entry.get("csr_base")), estimate(entry.get("csr"))
    levels = f" from {fixed(base)} to {fixed(after)}" if base is not None and after is not None and not missing else ""
    if limits(gain) is not None and not excludes_zero(gain):
        line = f"{meant}, but {score} did not change measurably: {numbers}"
    elif float(gain["est"]) > 0:
        line = f"{edit} steered {targets}: {score} rose{levels}, {numbers}"
    else:
        line = f"{meant}, but {score} fell{levels}, {numbers}"
    if missing:
        line += f" ({_names(missing)}: not measurable here, not even by a role prompt)"
    return line + "."


def _leaked(results: Mapping[str, Any], main: str, peer: str | None) -> str:
    entry = results["methods"][main]
    missing, values = _not_measurable(results)
    mute = bool(values) and len(missing) == values
    alone = entry.get("leakage") is not None and estimate(entry.get("leakage")) is None
    if mute and not alone:
        line = "Leakage into other values cannot be read from this measure either"
    else:
        line = _leakage(entry.get("leakage"))
    line += f"; {_cost(entry)}"
    if peer is not None and not mute:
        other = results["methods"][peer]
        numbers = [f"gained {fixed(gain)}"] if (gain := estimate(other.get("gain"))) is not None else []
        numbers += [f"leaked {fixed(leak)}"] if (leak := estimate(other.get("leakage"))) is not None else []
        if numbers:
            line += f"; for comparison, {_label(peer)} {' and '.join(numbers)}{_short_cost(other)}"
    return line + "."


def _leakage(leakage: Mapping[str, Any] | None) -> str:
    if not leakage:
        return "Leakage into other values was not measured"
    rise = estimate(leakage)
    if rise is None:
        return "No other value was measured, so leakage is unknown"
    if rise > 0 and excludes_zero(leakage):
        return f"Values that were not targets rose by {measure(leakage)} on average (leakage)"
    return f"Values that were not targets did not rise measurably (leakage {measure(leakage)} on average)"


def _cost(entry: Mapping[str, Any]) -> str:
    perplexity = entry.get("capability", {}).get("perplexity", {})
    base, edited = estimate(perplexity.get("base")), estimate(perplexity.get("edited"))
    if base and edited is not None:
        ratio = edited / base
        change = (
            "neutral text stayed as predictable as before"
            if abs(ratio - 1) < 0.01
            else f"neutral text became {'harder' if ratio > 1 else 'easier'} to predict"
        )
        return f"{change} (perplexity {fixed(base, 1)} before, {fixed(edited, 1)} after)"
    divergence = estimate(entry.get("capability", {}).get("kl", {}).get("edited"))
    if divergence is not None:
        return f"on neutral text the model moved by a KL of {fixed(divergence, 3)} nats per token"
    invalid = estimate(entry.get("invalid"))
    return f"{percent(invalid)} of its texts were invalid" if invalid is not None else "its cost was not measured"


def _short_cost(entry: Mapping[str, Any]) -> str:
    edited = estimate(entry.get("capability", {}).get("perplexity", {}).get("edited"))
    return f" at a perplexity of {fixed(edited, 1)}" if edited is not None else ""


def _intervention(results: Mapping[str, Any], main: str) -> str:
    label, kind = method_label(main), family(main)
    if kind == "neurons":
        sizes = [int(k) for cell in results.get("neurons", {}).values() if (k := finite(cell.get("k"))) is not None]
        if not sizes:
            return f"Editing selected neurons ({label})"
        ends = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        return f"Editing {ends} neurons{' per value' if len(sizes) > 1 else ''} ({label})"
    if kind == "vectors":
        return f"Adding a direction to the residual stream ({label})"
    return f"An instruction before the prompt ({label})" if kind == "prompt" else label


def _label(method: str) -> str:
    label = method_label(method)
    return f"a {label}" if family(method) == "prompt" and label.endswith("prompt") else label


def _model(results: Mapping[str, Any]) -> str:
    return f"the model {results.get('model', {}).get('name') or 'of this run'}"


def _targets(results: Mapping[str, Any]) -> str:
    steered = [str(name) for name in results.get("values") or ()]
    if not steered:
        return "a value"
    if len(steered) > NAMED:
        return f"each of {len(steered)} values"
    return _names(steered) if len(steered) == 1 else f"{_names(steered)} (one at a time)"


def _score(results: Mapping[str, Any]) -> tuple[str, str]:
    """The score in plain words, and the unit of its gain ("" for shares of 0 to 1)."""
    judge = str(results.get("judge", ""))
    value = "value" if len(results.get("values") or ()) == 1 else "steered value"
    if judge.split(":")[0] == LOGPROB:
        return f"the model's own preference for answers that express the {value}", "standard deviations"
    unit = str(results.get("unit", ""))
    if unit.startswith(("P(", "share", "1 - 2", "stated strength")):
        return f"the judge's score of the {value} (0 to 1)", ""
    return f"the judge's score of the {value}", f"({unit})" if unit else ""


def items_word(results: Mapping[str, Any]) -> str:
    """Return the word for what was measured: test prompts, or test items where no text is read.

    Args:
        results: Content of results.json.
    """
    return "test items" if str(results.get("judge", "")).split(":")[0] in WITHOUT_TEXTS else "test prompts"


def _not_measurable(results: Mapping[str, Any]) -> tuple[list[str], int]:
    """Values whose positive control fails, and the number of values with a control."""
    controls = controls_of(results)
    return ([], 0) if controls is None else (list(controls["not_measurable"]), len(controls["values"]))


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(gain: Mapping[str, Any]) -> int:
    return int(finite(gain.get("n")) or 0)
