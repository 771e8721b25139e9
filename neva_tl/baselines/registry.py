"""Name -> builder, and the gate each method carries. A new method is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from neva_tl.baselines.caa import caa, caa_projected
from neva_tl.baselines.evidence import Evidence
from neva_tl.baselines.neva import neva, neva_shift
from neva_tl.baselines.random import label_shuffled, random_neurons
from neva_tl.baselines.role import role_prompt
from neva_tl.editing import Edit
from neva_tl.errors import InputError

METHODS: dict[str, Callable[[Evidence, str], Edit]] = {
    "neva": neva,
    "neva_shift": neva_shift,
    "caa": caa,
    "caa_projected": caa_projected,
    "random": random_neurons,
    "label_shuffled": label_shuffled,
    "role": role_prompt,
}

#: The gate that is part of a method: `probe` decides per token how much it needs, `none` acts everywhere.
GATES: dict[str, str] = {name: "probe" if name == "neva" else "none" for name in METHODS}
#: Methods that edit no activation: no gate can be put on them.
UNGATED = ("role",)


def gate_name(method: str, relevance: bool) -> str:
    """The gate of a condition, for tables: the method's own, and `relevance` where one is put on it."""
    own = GATES[method]
    if not relevance or method in UNGATED:
        return own
    return "relevance" if own == "none" else f"{own}+relevance"


def build(method: str, evidence: Evidence, value: str) -> Edit:
    """The edit of a method for a value, at dose 1, behind the evidence's relevance gate.

    Raises:
        InputError: there is no such method.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    edit = METHODS[method](evidence, value)
    return edit if evidence.gate is None or method in UNGATED else edit.with_gate(evidence.gate)
