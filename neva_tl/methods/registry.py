"""Name -> builder, the gate each method carries, and the unit of its dose. A new method is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from neva_tl.core.errors import InputError
from neva_tl.editing import Edit
from neva_tl.methods.caa import caa, caa_projected
from neva_tl.methods.caa_layers import caa_layers, caa_layers_projected
from neva_tl.methods.caa_probe import caa_probe, caa_projected_probe
from neva_tl.methods.conva import conva
from neva_tl.methods.dpn_le import dpn_le
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.lape import lape
from neva_tl.methods.neva import neva, neva_shift
from neva_tl.methods.npti import npti
from neva_tl.methods.placebos import label_shuffled, random_neurons
from neva_tl.methods.role import role_prompt
from neva_tl.methods.rotated import rotated

METHODS: dict[str, Callable[[Evidence, str], Edit]] = {
    "neva": neva,
    "neva_shift": neva_shift,
    "caa": caa,
    "caa_projected": caa_projected,
    "random": random_neurons,
    "label_shuffled": label_shuffled,
    "role": role_prompt,
    "caa_layers": caa_layers,
    "caa_layers_projected": caa_layers_projected,
    "caa_probe": caa_probe,
    "caa_projected_probe": caa_projected_probe,
    "conva": conva,
    "npti": npti,
    "dpn_le": dpn_le,
    "lape": lape,
    "rotated": rotated,
}

#: The gate that is part of a method: `probe` decides per token how much it needs, `prompt_probe` once per text at the prompt's
#: last token, `none` acts everywhere.
GATES: dict[str, str] = dict.fromkeys(METHODS, "none") | {
    "neva": "probe",
    "caa_probe": "probe",
    "caa_projected_probe": "probe",
    "conva": "prompt_probe",
}
#: Unit of each method's dose: `contrasts` (multiples of the poles' difference) where it is not named here; `log-odds` that
#: tokens are brought up to; NPTI's `gamma`; `share` of the way to a level.
DOSES: dict[str, str] = {name: "log-odds" for name, gate in GATES.items() if gate != "none"} | {
    "npti": "gamma",
    "lape": "share",
}
#: What a method edits: `neurons`, `vectors` (the residual stream), the `prompt`; a `placebo` stands for no finding.
FAMILIES: dict[str, str] = dict.fromkeys(METHODS, "vectors") | {
    **dict.fromkeys(("neva", "neva_shift", "npti", "dpn_le", "lape"), "neurons"),
    **dict.fromkeys(("random", "label_shuffled", "rotated"), "placebo"),
    "role": "prompt",
}
#: Methods that edit no activation: no gate can be put on them.
UNGATED = ("role",)
#: Methods whose relevance gate is asked once per text, as their papers do.
PER_QUERY = ("conva",)


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
    if evidence.gate is None or method in UNGATED:
        return edit
    return edit.with_gate(evidence.gate.per_query() if method in PER_QUERY else evidence.gate)


def dose_unit(method: str) -> str:
    """The unit of a method's dose (see `DOSES`)."""
    return DOSES.get(method, "contrasts")
