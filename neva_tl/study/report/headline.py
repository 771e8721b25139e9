"""Summary sentences of the report, built from its numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neva_tl.circuits.drawing.wording import measures
from neva_tl.plots.style import method_label
from neva_tl.study.report.numbers import estimate, finite, fixed, measure, percent

Methods = Mapping[str, Mapping[str, Any]]


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

    Args:
        results: content of results.json.
        run_tables: the run's tables by name.
        circuits: `meta` of every value's circuit.

    Returns:
        The sentences; one whose number is missing is left out.
    """
    methods: Methods = results.get("methods", {})
    lines = [
        _neurons(run_tables.get("neurons")),
        _circuits(circuits),
        _gain(methods),
        _leakage(methods),
        _texts(methods),
        _cost(methods),
    ]
    lines += [_gates(methods), _ablation(run_tables.get("ablation")), _placebo(methods), _role(methods)]
    return [line for line in lines if line]


def tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the four main numbers with their labels."""
    neva, caa = results.get("methods", {}).get("neva"), results.get("methods", {}).get("caa")
    if not neva:
        return []
    out = [{"number": fixed(estimate(neva.get("gain"))), "label": "gain of the target value, NeVA"}]
    out.append({"number": fixed(estimate(neva.get("nlr"))), "label": "NLR of NeVA (lower: less leakage)"})
    if caa:
        out.append({"number": fixed(estimate(caa.get("nlr"))), "label": "NLR of CAA"})
    out.append({"number": percent(estimate(neva.get("invalid"))), "label": "invalid texts, NeVA"})
    return out


def _neurons(neurons: pd.DataFrame | None) -> str:
    if neurons is None or "value" not in neurons.columns:
        return ""
    layers = neurons["layer"].astype(int)
    line = f"Selection: {len(neurons)} neurons for {neurons['value'].nunique()} values"
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
    f = [float(m["f"]) for _, m in measured]
    count = f"{len(f)} values" if len(f) > 1 else "one value"
    line = f"Circuits: on held-out texts the circuits of {count}"
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
    return line + "."


def _gain(methods: Methods) -> str:
    neva = methods.get("neva")
    if not neva or estimate(neva.get("gain")) is None:
        return ""
    line = f"Gain: edited towards a value, NeVA moves its score by {measure(neva['gain'])} on average over values"
    base, after = estimate(neva.get("csr_base")), estimate(neva.get("csr"))
    if base is not None and after is not None:
        line += f" (CSR {fixed(base)} before, {fixed(after)} after)"
    target = finite(neva.get("target_gain"))
    if target is not None:
        line += (
            f"; the target of {fixed(target)} on validation prompts was reached for {neva.get('reached', '–')} values"
        )
    return line + "."


def _leakage(methods: Methods) -> str:
    neva, caa = methods.get("neva"), methods.get("caa")
    if not neva or not caa:
        return ""
    neva_nlr, caa_nlr = estimate(neva.get("nlr")), estimate(caa.get("nlr"))
    if neva_nlr is None or caa_nlr is None:
        undefined = " and ".join(method_label(n) for n, x in (("neva", neva_nlr), ("caa", caa_nlr)) if x is None)
        return f"Leakage: NLR is not defined for {undefined} (the gain is not above 0)."
    line = f"Leakage: NLR is {measure(neva['nlr'])} for NeVA and {measure(caa['nlr'])} for CAA; "
    if fixed(neva_nlr) == fixed(caa_nlr):
        line += "the two are equal to two decimals"
    else:
        line += f"{'NeVA' if neva_nlr < caa_nlr else 'CAA'} leaks less per unit of gain"
    others = {name: estimate(entry.get("nlr")) for name, entry in methods.items() if name not in ("neva", "random")}
    best = min((x, name) for name, x in others.items() if x is not None)
    if best[1] != "caa":
        line += f". The lowest of the other methods is {method_label(best[1])} with {fixed(best[0])}"
    if _overlap(neva["nlr"], caa["nlr"]):
        line += ". The two intervals overlap, so this order may be due to chance"
    return line + "."


def _overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    ends = [end for x in (a, b) for side in ("lo", "hi") if (end := finite(x.get(side))) is not None]
    return len(ends) == 4 and max(ends[0], ends[2]) <= min(ends[1], ends[3])


def _texts(methods: Methods) -> str:
    rates = [
        f"{percent(rate)} with {method_label(name)}"
        for name in ("neva", "caa")
        if (rate := estimate(methods.get(name, {}).get("invalid"))) is not None
    ]
    return f"Fluency: share of invalid texts {' and '.join(rates)}." if rates else ""


def _cost(methods: Methods) -> str:
    capability = methods.get("neva", {}).get("capability", {})
    changes = []
    for metric, levels in capability.items():
        base, edited = estimate(levels.get("base")), estimate(levels.get("edited"))
        name = metric.replace("_", " ")
        if edited is not None and base is not None and not (metric == "kl" and base == 0):
            changes.append(f"{name} {fixed(base)} → {fixed(edited)}")
        elif edited is not None:
            changes.append(f"{name} {fixed(edited, 3)}")
    return f"Capability with NeVA, unedited → edited: {', '.join(changes)}." if changes else ""


def _gates(methods: Methods) -> str:
    gates = {name: str(entry.get("gate", "none")) for name, entry in methods.items()}
    shared = [method_label(name) for name, gate in gates.items() if "relevance" in gate.split("+")]
    if not shared:
        return ""
    return f"Gates: the same relevance gate, which decides where an edit acts, is part of {', '.join(shared)}."


def _ablation(table: pd.DataFrame | None) -> str:
    if table is None or not {"operation", "change"} <= set(table.columns):
        return ""
    changes = [
        f"{fixed(rows['change'].mean())} (to {operation})" for operation, rows in table.groupby("operation", sort=False)
    ]
    return f"Ablating the same neurons changes the value's score on prompts that express it by {', '.join(changes)}."


def _placebo(methods: Methods) -> str:
    entry = methods.get("random")
    if not entry or estimate(entry.get("gain")) is None:
        return ""
    return f"Placebo: random neurons with the same norm of edit gain {measure(entry['gain'])}."


def _role(methods: Methods) -> str:
    entry = methods.get("role") or methods.get("role_prompt")
    if not entry or estimate(entry.get("gain")) is None:
        return ""
    gain, nlr = measure(entry["gain"]), measure(entry.get("nlr"))
    return f"Role prompt: an instruction that names the value gains {gain} with NLR {nlr}."
