"""Summary sentences of the report, built from its numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neva_tl.circuits.drawing.wording import measurable, measures
from neva_tl.core.method_records import METHODS
from neva_tl.plots.style import method_label
from neva_tl.study.report.control import caveat, control_line
from neva_tl.study.report.numbers import estimate, excludes_zero, finite, fixed, measure, overlap, percent
from neva_tl.study.report.roles import Methods, main_method, peer_method

#: Measure of capability -> name and decimals in the summary.
CAPABILITY = {"perplexity": ("perplexity", 2), "kl": ("KL", 3)}
#: Names of the role prompt, whose capability the summary states besides that of the main method and of its peer.
ROLES = ("role", "role_prompt")


def subtitle(results: Mapping[str, Any]) -> str:
    """Return architecture, sizes and judge in one line."""
    model = results.get("model", {})
    size = f"{model['n_layers']} layers of {model['d_mlp']} neurons" if {"n_layers", "d_mlp"} <= set(model) else ""
    entries = [model.get("architecture"), size, f"judge: {results.get('judge', 'unknown')}"]
    return " · ".join(str(entry) for entry in entries if entry)


def sentences(
    results: Mapping[str, Any],
    run_tables: Mapping[str, pd.DataFrame],
    circuits: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Summarise selection, gain, leakage and cost in a sentence each.

    A sentence about scores of values names the values that the judge cannot measure.

    Args:
        results: content of results.json.
        run_tables: the run's tables by name.
        circuits: `meta` of every value's circuit.

    Returns:
        The sentences; one whose number is missing is left out.
    """
    methods: Methods = results.get("methods", {})
    note = caveat(results)
    lines = [
        _neurons(run_tables.get("neurons"), results.get("model", {})),
        _circuits(circuits),
        _gain(methods, note),
        _leakage(methods, note),
        _control(results),
        _texts(methods),
        _cost(methods),
    ]
    lines += [
        _gates(methods),
        _ablation(run_tables.get("ablation"), note),
        _placebo(methods, note),
        _role(methods, note),
    ]
    return [line for line in lines if line]


def _neurons(neurons: pd.DataFrame | None, model: Mapping[str, Any]) -> str:
    if neurons is None or "value" not in neurons.columns:
        return ""
    layers, values = neurons["layer"].astype(int), neurons["value"].nunique()
    # several values may select one neuron: it counts once
    distinct = len(neurons[["layer", "neuron"]].drop_duplicates())
    line = f"Selection: {distinct:,} distinct neurons"
    n_layers, d_mlp = finite(model.get("n_layers")), finite(model.get("d_mlp"))
    if n_layers and d_mlp:
        line += f" of the model's {n_layers * d_mlp:,.0f}"
    line += f" for {values} values" if values > 1 else " for one value"
    if values > 1:
        sizes = neurons.groupby("value").size()
        ends = f"{sizes.min():,}" if sizes.min() == sizes.max() else f"{sizes.min():,} to {sizes.max():,}"
        line += f" ({ends} per value; values share neurons)" if distinct < len(neurons) else f" ({ends} per value)"
    line += f", in layers {layers.min()} to {layers.max()}"
    if "g" in neurons.columns and neurons["g"].notna().any():
        best = neurons.iloc[int(neurons["g"].abs().fillna(-1.0).to_numpy().argmax())]
        line += f"; the largest effect is g = {fixed(best['g'])} (L{int(best['layer'])}.{int(best['neuron'])}, {best['value']})"
    return line + "."


def _circuits(circuits: Sequence[Mapping[str, Any]]) -> str:
    measured = [(meta, measures(meta)) for meta in circuits]
    measured = [(meta, m) for meta, m in measured if finite(m.get("f")) is not None]
    if not measured:
        return ""
    unclear = [m for _, m in measured if not measurable(m)]
    measured = [(meta, m) for meta, m in measured if m not in unclear]
    note = (
        f"F is not measurable on the texts of {_count(len(unclear))}: its interval contains both 0 and 1"
        if unclear
        else ""
    )
    if not measured:
        return f"Circuits: {note}."
    f = [float(m["f"]) for _, m in measured]
    line = f"Circuits: on held-out texts the circuits of {_count(len(f))}"
    sizes = [size for meta, _ in measured if (size := finite(meta.get("size"))) is not None]
    if sizes:
        ends = f"{min(sizes):.0f}" if min(sizes) == max(sizes) else f"{min(sizes):.0f} to {max(sizes):.0f}"
        line += f" ({ends} heads and neurons)"
    line += f" alone keep {fixed(sum(f) / len(f))} of the model's effect on average"
    if len(f) > 1:
        line += f" ({fixed(min(f))} to {fixed(max(f))})"
    random = [r for _, m in measured if (r := finite(m.get("random_mean"))) is not None]
    if random:
        line += f"; random circuits of the same size keep {fixed(sum(random) / len(random))}"
    return line + (f". {note}." if note else ".")


def _count(n: int) -> str:
    return f"{n} values" if n > 1 else "one value"


def _gain(methods: Methods, note: str) -> str:
    main = main_method(methods)
    if main is None or estimate((entry := methods[main]).get("gain")) is None:
        return ""
    moved = f"{method_label(main)} moves its score by {measure(entry['gain'])} on average over values"
    line = f"Gain: edited towards a value, {moved}"
    if not excludes_zero(entry["gain"]):
        line += ", which does not differ from 0"
    line += note
    if entry.get("gain_measurable"):
        line += f", by {measure(entry['gain_measurable'])} over the measurable ones"
    base, after = estimate(entry.get("csr_base")), estimate(entry.get("csr"))
    if base is not None and after is not None:
        line += f" (CSR {fixed(base)} before, {fixed(after)} after)"
    target = finite(entry.get("target_gain"))
    if target is not None:
        line += (
            f"; the target of {fixed(target)} on validation prompts was reached for {entry.get('reached', '–')} values"
        )
    return line + "."


def undefined_nlr(entry: Mapping[str, Any]) -> str:
    """Return the reason why a method has no NLR.

    Args:
        entry: the method's entry of results.json.
    """
    gain, leakage = entry.get("gain") or {}, entry.get("leakage")
    low = finite(gain.get("lo"))
    if leakage is not None and estimate(leakage) is None:
        return "no value besides the steered one was measured"
    if estimate(gain) is None:
        return "no gain was measured"
    if low is None:
        return "the gain has no interval"
    return "the interval of the gain reaches 0" if low <= 0 else "too few bootstrap draws define it"


def _leakage(methods: Methods, note: str) -> str:
    main, peer = main_method(methods), peer_method(methods)
    compared = [name for name in (main, peer) if name is not None]
    if not compared or all(methods[name].get("nlr") is None for name in compared):
        return ""
    undefined = [
        f"{method_label(name)} ({undefined_nlr(methods[name])})"
        for name in compared
        if estimate(methods[name].get("nlr")) is None
    ]
    if undefined:
        return f"Leakage: NLR is not defined for {' and '.join(undefined)}{note}."
    stated = " and ".join(f"{measure(methods[name]['nlr'])} for {method_label(name)}" for name in compared)
    line = f"Leakage: NLR is {stated}"
    if main is None or peer is None:
        return f"{line}{note}."
    return f"{line}; {_order(methods, main, peer)}{note}{_lowest(methods, (main, peer), note)}."


def _order(methods: Methods, main: str, peer: str) -> str:
    """The order of two NLRs, as far as their intervals show one."""
    first, second = methods[main]["nlr"], methods[peer]["nlr"]
    if fixed(estimate(first)) == fixed(estimate(second)):
        order = "the two are equal to two decimals"
        return order if excludes_zero(first) or excludes_zero(second) else f"{order}, and neither differs from 0"
    if overlap(first, second) and not (excludes_zero(first) or excludes_zero(second)):
        return "neither differs from 0, so neither method shows leakage"
    lower = main if float(first["est"]) < float(second["est"]) else peer
    order = f"{method_label(lower)} leaks less per unit of gain"
    if overlap(first, second):
        return f"{order}, but the two intervals overlap, so this order may be due to chance"
    return order


def _lowest(methods: Methods, compared: Sequence[str], note: str) -> str:
    """The other method with the lowest NLR, where its interval is below those of the two compared methods."""
    others = {
        name: entry["nlr"]
        for name, entry in methods.items()
        if name not in compared and not _placebo_record(name) and estimate(entry.get("nlr")) is not None
    }
    if not others:
        return ""
    name, nlr = min(others.items(), key=lambda item: float(item[1]["est"]))
    lower = all(
        float(nlr["est"]) < float(methods[other]["nlr"]["est"]) and not overlap(nlr, methods[other]["nlr"])
        for other in compared
    )
    return f". {method_label(name)} leaks least, with NLR {measure(nlr)}{note}" if lower else ""


def _placebo_record(name: str) -> bool:
    record = METHODS.get(name)
    return record is not None and record.family == "placebo"


def _control(results: Mapping[str, Any]) -> str:
    line = control_line(results, plain=False)
    return f"{line[0].upper()}{line[1:]}." if line else ""


def _texts(methods: Methods) -> str:
    rates = [
        f"{percent(rate)} with {method_label(name)}"
        for name in (main_method(methods), peer_method(methods))
        if name is not None and (rate := estimate(methods[name].get("invalid"))) is not None
    ]
    return f"Fluency: share of invalid texts {' and '.join(rates)}." if rates else ""


def _cost(methods: Methods) -> str:
    lines = []
    for method in dict.fromkeys(name for name in (main_method(methods), peer_method(methods), *ROLES) if name):
        changes = []
        for metric, levels in methods.get(method, {}).get("capability", {}).items():
            name, digits = CAPABILITY.get(metric, (metric.replace("_", " "), 2))
            base, edited = estimate(levels.get("base")), estimate(levels.get("edited"))
            if edited is None:
                continue
            # KL is measured from the unedited model, which has none
            before = "" if base is None or metric == "kl" else f"{fixed(base, digits)} → "
            unit = " nats per token" if metric == "kl" else ""
            changes.append(f"{name} {before}{fixed(edited, digits)}{unit}")
        if changes:
            lines.append(f"{method_label(method)}: {', '.join(changes)}")
    return f"Capability on neutral text, unedited → edited. {'; '.join(lines)}." if lines else ""


def _gates(methods: Methods) -> str:
    gates = {name: str(entry.get("gate", "none")) for name, entry in methods.items()}
    shared = [method_label(name) for name, gate in gates.items() if "relevance" in gate.split("+")]
    if not shared:
        return ""
    return f"Gates: the same relevance gate, which decides where an edit acts, is part of {', '.join(shared)}."


def _ablation(table: pd.DataFrame | None, note: str) -> str:
    if table is None or not {"operation", "change"} <= set(table.columns):
        return ""
    changes = [
        f"{fixed(rows['change'].mean())} (to {operation})" for operation, rows in table.groupby("operation", sort=False)
    ]
    change = ", ".join(changes)
    return f"Ablating the same neurons changes the value's score on prompts that express it by {change}{note}."


def _placebo(methods: Methods, note: str) -> str:
    entry = methods.get("random")
    if not entry or estimate(entry.get("gain")) is None:
        return ""
    record = METHODS["random"]
    dose = "" if record.dose_of is None else f" at the doses of {method_label(record.dose_of)}"
    return f"Placebo: random neurons with the same norm of edit{dose} gain {measure(entry['gain'])}{note}."


def _role(methods: Methods, note: str) -> str:
    entry = methods.get("role") or methods.get("role_prompt")
    if not entry or estimate(entry.get("gain")) is None:
        return ""
    line = f"Role prompt: an instruction that names the value gains {measure(entry['gain'])}{note}"
    if estimate(entry.get("nlr")) is None:
        return f"{line}; its NLR is not defined ({undefined_nlr(entry)})."
    return f"{line} with NLR {measure(entry['nlr'])}."
