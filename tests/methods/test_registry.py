"""The registry: every method builds its edit, with its gate and its unit of dose."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from neva_tl.core.errors import InputError
from neva_tl.editing import (
    Ablate,
    AddVector,
    ContextAware,
    GateShift,
    ProbedVector,
    PromptShift,
    Rescale,
    RolePrompt,
    Shift,
    fit_relevance,
)
from neva_tl.editing.edits import probe
from neva_tl.methods import METHODS, Evidence, build, dose_unit, gate_name
from neva_tl.prompts import Example

pytestmark = pytest.mark.core
#: Placebos that select anew: the neurons of this file come from no selector.
SELECT_ANEW = ("label_shuffled", "rotated")
#: Methods that are not built here: those, and the one that needs a chat model (test_visa.py).
NOT_HERE = (*SELECT_ANEW, "visa")


def test_every_method_builds_an_edit_of_its_kind(evidence: Evidence) -> None:
    kinds = {
        "neva": ContextAware,
        "neva_shift": Shift,
        "caa": AddVector,
        "caa_projected": AddVector,
        "caa_layers": AddVector,
        "caa_layers_projected": AddVector,
        "caa_probe": ProbedVector,
        "caa_projected_probe": ProbedVector,
        "conva": PromptShift,
        "sae": AddVector,
        "npti": GateShift,
        "dpn_le": Shift,
        "lape": Ablate,
        "persona_vector": AddVector,
        "austeer": Rescale,
        "cna": Rescale,
        "random": Shift,
        "role": RolePrompt,
        "role_few_shot": RolePrompt,
    }
    assert set(METHODS) == set(kinds) | set(NOT_HERE)
    for name, kind in kinds.items():
        item = build(name, evidence, "power")
        assert type(item) is kind, name
        if kind is not RolePrompt:
            # persona vectors are added from the prompt's last token on
            scope = "last" if name == "persona_vector" else "generated"
            assert item.scope == scope and item.changes(evidence.model)
    with pytest.raises(InputError, match="unknown method"):
        build("nonsense", evidence, "power")


def test_gates_and_doses_say_what_the_edits_do(evidence: Evidence) -> None:
    """A method is gated by a probe exactly when its edit measures a need, and its dose is then in log-odds."""
    gates = {ContextAware: "probe", ProbedVector: "probe", PromptShift: "prompt_probe"}
    units = {GateShift: "gamma", Ablate: "share", Rescale: "factor", RolePrompt: "none"}
    for name in set(METHODS) - set(NOT_HERE):
        kind = type(build(name, evidence, "power"))
        assert METHODS[name].gate == gates.get(kind, "none"), name
        assert dose_unit(name) == ("log-odds" if kind in gates else units.get(kind, "contrasts")), name
    assert [METHODS[name].gate for name in SELECT_ANEW] == ["none", "none"]
    # the factor {neurons, vectors} x {no gate, same probe gate} has all its cells
    cells = {"neva_shift": "none", "neva": "probe", "caa": "none", "caa_probe": "probe"}
    cells |= {"caa_projected": "none", "caa_projected_probe": "probe"}
    assert {name: METHODS[name].gate for name in cells} == cells


def test_every_method_but_the_role_carries_the_evidences_gate(evidence: Evidence) -> None:
    relevant = [Example("", f"The king rules {i}") for i in range(4)]
    gate = fit_relevance(evidence.model, relevant, ["Rain falls.", "Tom eats."])
    for name in set(METHODS) - set(NOT_HERE):
        item = build(name, replace(evidence, gate=gate), "power")
        if name == "conva":  # asked once per text, as its paper does
            assert item.gate is not None and item.gate.unit == "query" and item.gate.weight is gate.weight
        else:
            assert item.gate is (None if isinstance(item, RolePrompt) else gate), name
    names = {name: gate_name(name, True) for name in ("neva", "neva_shift", "caa", "caa_probe", "conva", "role")}
    assert names == {
        "neva": "probe+relevance",
        "neva_shift": "relevance",
        "caa": "relevance",
        "caa_probe": "probe+relevance",
        "conva": "prompt_probe+relevance",
        "role": "none",
    }
    assert all(gate_name(name, False) == METHODS[name].gate for name in METHODS)


def test_methods_that_need_texts_say_so(evidence: Evidence) -> None:
    assert evidence.stats.samples is not None
    bare = replace(evidence, stats=replace(evidence.stats, samples=None))
    for method in ("conva", "npti", "caa_probe", "caa_projected_probe", "austeer", "cna", "sae"):
        with pytest.raises(InputError, match="samples=True"):
            build(method, bare, "power")
    no_gate = replace(evidence, stats=replace(evidence.stats, gate_mean=None, gate_m2=None, gate_positive=None))
    with pytest.raises(InputError, match="gate=True"):
        build("npti", no_gate, "power")


def test_probes_that_do_not_converge_say_so_in_one_line(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_STEPS", 1)
    for method, layers in (("conva", r"layer 0, 1, 2"), ("caa_probe", r"layer 0, 1"), ("neva", r"layer 0, 1, 2")):
        with pytest.warns(RuntimeWarning) as seen:
            build(method, evidence, "power")
        (line,) = [str(w.message) for w in seen if "did not converge" in str(w.message)]
        assert re.search(layers, line) and "\n" not in line, method
