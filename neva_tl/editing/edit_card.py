"""An edit in words: one line for a terminal, an HTML card for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.core.brief import TEXT
from neva_tl.core.cards import card


def edit_facts(edit: Any) -> dict[str, Any]:
    """Return what an edit changes, where, on which tokens and how strongly.

    Args:
        edit: An `Edit`.

    Returns:
        Name -> fact: `changes`; `value`, `neurons`, `layers`, `instruction` and `model`, as far as the edit has them; `dose`,
        `scope` and `gate`.
    """
    gate = edit.gate
    opened = "none" if gate is None else f"{gate.unit} open at p > {gate.threshold:g}"
    common = {"dose": float(edit.dose), "scope": edit.scope, "gate": opened}
    return {"changes": edit.what(), **_target(edit), **common}


def edit_line(edit: Any) -> str:
    """Describe an edit in one line.

    Args:
        edit: An `Edit`.
    """
    facts = edit_facts(edit)
    named = [str(facts["value"])] if "value" in facts else []
    where = [f"{name} {facts[name]}" for name in ("neurons", "layers", "instruction") if name in facts]
    gate = [] if edit.gate is None else [f"gate {facts['gate']}"]
    return (
        f"{type(edit).__name__}({', '.join([*named, *where, f'dose {edit.dose:.4g}', f'scope {edit.scope}', *gate])})"
    )


def edit_card(edit: Any) -> str:
    """Render an edit as HTML.

    Args:
        edit: An `Edit`.
    """
    facts = edit_facts(edit)
    return card(
        f"Edit {type(edit).__name__}",
        {name: x for name, x in facts.items() if name != "changes"},
        note=facts["changes"],
    )


def _target(edit: Any) -> dict[str, Any]:
    """Neurons, vectors, probes or prompts that an edit works on, whichever it has."""
    facts: dict[str, Any] = {}
    edit = getattr(edit, "edit", edit)  # an edit at a pace has the neurons of the other one
    if (neurons := getattr(edit, "neurons", None)) is not None:
        chosen = edit.chosen() if hasattr(edit, "chosen") else neurons.df
        total = neurons.n_layers * neurons.d_mlp
        facts |= {
            "value": neurons.value,
            "neurons": f"{len(chosen):,} of {total:,} ({neurons.method}, site {neurons.site})",
        }
        facts |= {"layers": _span(chosen["layer"]), "model": _model(neurons.fingerprint, neurons)}
    elif parts := getattr(edit, "parts", ()):
        facts["value"] = " + ".join(f"{shift.neurons.value} (dose {shift.dose:.4g})" for shift in parts)
        facts["neurons"] = f"{len(edit.steps()):,}"
    if (vectors := getattr(edit, "vectors", None)) is not None:
        facts |= {"layers": f"{_span(vectors)}, site {edit.site}", "width": len(next(iter(vectors.values())))}
    elif probes := getattr(edit, "probes", ()):
        facts["layers"] = _span(probe.layer for probe in probes)
    if instruction := getattr(edit, "instruction", ""):
        facts["instruction"] = instruction if len(instruction) <= TEXT else f"{instruction[:TEXT]}..."
    return {name: fact for name, fact in facts.items() if fact}


def _model(fingerprint: Mapping[str, Any], neurons: Any) -> str:
    size = f"{neurons.n_layers} layers x {neurons.d_mlp:,} neurons"
    weights = str(fingerprint.get("weights_hash", ""))[:8]
    return f"{size}, weights {weights}" if weights else size


def _span(layers: Any) -> str:
    """The layers as a short list: `3`, `2, 5, 7`, or `1 to 30 (12 layers)`."""
    numbers = sorted({int(layer) for layer in layers})
    if len(numbers) <= 6:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} to {numbers[-1]} ({len(numbers)} layers)"
