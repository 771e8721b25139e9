"""Baselines against NumPy on raw residuals, and the registry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl import models
from neva_tl.activations import collect
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.values import value as lookup
from neva_tl.editing import (
    Ablate,
    AddVector,
    ContextAware,
    GateShift,
    ProbedVector,
    PromptShift,
    RolePrompt,
    Shift,
    fit_relevance,
    rewrite,
)
from neva_tl.editing.edits import probe
from neva_tl.methods import METHODS, Evidence, build, conva, dose_unit, gate_name, random_neurons
from neva_tl.methods.caa import default_layers, project_out
from neva_tl.methods.caa_layers import spread_layers
from neva_tl.methods.conva import first_rows, usable_layers
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet, Example

pytestmark = pytest.mark.core

#: Placebos that select anew: the neurons of this file come from no selector.
SELECT_ANEW = ("label_shuffled", "rotated")
WORDS = {"power": ("rules", "yields"), "benevolence": ("helps", "hurts"), "security": ("guards", "risks")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("baselines") / "llama")


@pytest.fixture(scope="module")
def pairs() -> ContrastSet:
    rows = [
        {
            "value": value,
            "pair_id": f"{value}{i}",
            "pole": pole,
            "text": f"The village number {i} has a king who {verb}",
            "cluster": f"c{i}",
            "split": "train",
            "source": "test",
        }
        for value, verbs in WORDS.items()
        for i in range(8)
        for pole, verb in zip("+-", verbs, strict=True)
    ]
    return ContrastSet.from_rows(rows, "test")


@pytest.fixture(scope="module")
def evidence(folder: Path, pairs: ContrastSet) -> Evidence:
    model = models.load(folder)
    stats = collect(model, pairs, samples=True)
    info = models.info(model)
    at = pd.DataFrame({"layer": [0, 1, 1, 2, 2, 2], "neuron": [3, 7, 2, 5, 6, 40]})
    plus, minus, sd = stats.moments("power", "+")[1], stats.moments("power", "-")[1], stats.sd("power")
    where = (at["layer"].to_numpy(), at["neuron"].to_numpy())
    df = at.assign(mean_plus=plus[where], mean_minus=minus[where], sd=sd[where], score=1.0)
    neurons = NeuronSet("power", "test", df, info.n_layers, info.d_mlp, fingerprint=models.fingerprint(model))
    return Evidence(model, stats, {"power": neurons}, scope="generated", layers=(1,), seed=4)


def raw_residuals(folder: Path, texts: Iterable[str], layer: int) -> list[np.ndarray]:
    """Output of a block at every token of each text (BOS first), by plain transformers: `[n, d]` each."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen: list[torch.Tensor] = []
    hf.model.layers[layer].register_forward_hook(
        lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        for text in texts:
            hf(torch.tensor([tokenizer(text)["input_ids"]]))
    return [x.reshape(-1, hf.config.hidden_size).double().numpy() for x in seen]


def raw_mean_residuals(folder: Path, pairs: ContrastSet, layer: int) -> dict[tuple[str, str], np.ndarray]:
    """Mean over prompts of the mean over tokens (BOS left out) of the block's output, by plain transformers."""
    out: dict[tuple[str, str], list[np.ndarray]] = {}
    for row, x in zip(pairs.df.itertuples(), raw_residuals(folder, pairs.df["text"], layer), strict=True):
        out.setdefault((row.value, row.pole), []).append(x[1:].mean(0))
    return {key: np.mean(rows, axis=0) for key, rows in out.items()}


def test_caa_is_the_mean_difference_of_raw_residuals(evidence: Evidence, folder: Path, pairs: ContrastSet) -> None:
    means = raw_mean_residuals(folder, pairs, 1)
    item = build("caa", evidence, "power")
    assert isinstance(item, AddVector) and list(item.vectors) == [1]
    assert (item.scope, item.dose, item.name) == ("generated", 1.0, "caa")
    want = means["power", "+"] - means["power", "-"]
    np.testing.assert_allclose(item.vectors[1], want, atol=1e-4 * np.abs(want).max())


def test_projected_caa_is_orthogonal_to_the_other_values(evidence: Evidence, folder: Path, pairs: ContrastSet) -> None:
    means = raw_mean_residuals(folder, pairs, 1)
    plain, projected = (build(m, evidence, "power").vectors[1] for m in ("caa", "caa_projected"))  # type: ignore[attr-defined]
    assert np.linalg.norm(projected) == pytest.approx(np.linalg.norm(plain), rel=1e-5)
    for other in ("benevolence", "security"):
        d = means[other, "+"] - means[other, "-"]
        assert abs(projected @ d) / np.linalg.norm(projected) / np.linalg.norm(d) < 1e-4


def test_several_layers_share_one_dose(evidence: Evidence) -> None:
    item = build("caa", replace(evidence, layers=(0, 2)), "power")
    assert isinstance(item, AddVector) and sorted(item.vectors) == [0, 2]
    for layer, vector in item.vectors.items():
        np.testing.assert_allclose(vector, evidence.stats.direction("power")[layer] / 2, rtol=1e-5)
    assert list(build("caa", replace(evidence, layers=None), "power").vectors) == [default_layers(3)[0]]  # type: ignore[attr-defined]
    assert [default_layers(n)[0] for n in (1, 2, 11, 30)] == [0, 1, 6, 17]


matrices = st.integers(2, 8).flatmap(lambda d: st.tuples(st.just(d), st.integers(0, d + 2), st.integers(0, 2**32 - 1)))


@settings(max_examples=50, deadline=None)
@given(matrices, st.booleans())
def test_project_out(shape: tuple[int, int, int], repeat: bool) -> None:
    """Orthogonal to all of the others, same norm; zero when they leave no room. Repeated directions change nothing."""
    d, m, seed = shape
    rng = np.random.default_rng(seed)
    vector, others = rng.normal(size=d), rng.normal(size=(d, m))
    if repeat and m:
        # dependent columns in front of independent ones: what plain QR gets wrong
        others = np.concatenate([others[:, :1], 2 * others[:, :1], others], axis=1)
    got = project_out(vector, others)
    scale = np.linalg.norm(vector)
    assert np.abs(others.T @ got).max(initial=0.0) < 1e-6 * scale * max(1.0, np.abs(others).max(initial=0.0))
    if m < d:
        assert np.linalg.norm(got) == pytest.approx(scale, rel=1e-8)
        rest = vector - others @ np.linalg.lstsq(others, vector, rcond=None)[0] if m else vector
        np.testing.assert_allclose(got, rest * scale / np.linalg.norm(rest), atol=1e-6 * scale)
    else:
        assert (got == 0).all()


def test_project_out_of_a_repeated_direction_then_another() -> None:
    e = np.eye(3)
    others = np.stack([e[0], e[0], e[1]], axis=1)
    np.testing.assert_allclose(project_out(np.array([1.0, 2.0, 3.0]), others), [0, 0, np.sqrt(14)], atol=1e-12)
    np.testing.assert_allclose(project_out(e[0], others), 0)


def test_random_neurons_match_layers_and_write(evidence: Evidence) -> None:
    item = random_neurons(evidence, "power")
    chosen, placebo = evidence.neurons["power"].df, item.neurons.df
    assert isinstance(item, Shift) and item.scope == "generated"
    assert placebo["layer"].value_counts().to_dict() == chosen["layer"].value_counts().to_dict()
    assert not set(map(tuple, placebo[["layer", "neuron"]].to_numpy())) & set(
        map(tuple, chosen[["layer", "neuron"]].to_numpy())
    )
    hf = evidence.model.original_model if hasattr(evidence.model, "original_model") else None
    for layer in (0, 1, 2):
        weight = models.w_out(evidence.model, layer).double().numpy()
        if hf is not None:
            assert weight.shape == (48, 32)

        def write(df: pd.DataFrame, layer: int = layer, weight: np.ndarray = weight) -> float:
            rows = df[df["layer"] == layer]
            step = (rows["mean_plus"] - rows["mean_minus"]).to_numpy()
            return float(np.linalg.norm(step @ weight[rows["neuron"].to_numpy()]))

        assert write(placebo) == pytest.approx(write(chosen), rel=1e-5)


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
        "npti": GateShift,
        "dpn_le": Shift,
        "lape": Ablate,
        "random": Shift,
        "role": RolePrompt,
    }
    assert set(METHODS) == set(kinds) | set(SELECT_ANEW)
    for name, kind in kinds.items():
        item = build(name, evidence, "power")
        assert type(item) is kind, name
        if name != "role":
            assert item.scope == "generated" and item.changes(evidence.model)
    with pytest.raises(InputError, match="unknown method"):
        build("nonsense", evidence, "power")


def test_gates_and_doses_say_what_the_edits_do(evidence: Evidence) -> None:
    """A method is gated by a probe exactly when its edit measures a need, and its dose is then in log-odds."""
    gates = {ContextAware: "probe", ProbedVector: "probe", PromptShift: "prompt_probe"}
    units = {GateShift: "gamma", Ablate: "share", RolePrompt: "none"}
    for name in set(METHODS) - set(SELECT_ANEW):
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
    for name in set(METHODS) - set(SELECT_ANEW):
        item = build(name, replace(evidence, gate=gate), "power")
        if name == "conva":  # asked once per text, as its paper does
            assert item.gate is not None and item.gate.unit == "query" and item.gate.weight is gate.weight
        else:
            assert item.gate is (None if name == "role" else gate), name
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


@pytest.mark.parametrize("method", ["label_shuffled", "rotated"])
def test_placebos_that_select_anew_need_a_selector_to_follow(evidence: Evidence, method: str) -> None:
    with pytest.raises(InputError, match=r"unknown selection method 'test'|that a selector chose"):
        build(method, evidence, "power")


def test_methods_that_need_texts_say_so(evidence: Evidence) -> None:
    assert evidence.stats.samples is not None
    bare = replace(evidence, stats=replace(evidence.stats, samples=None))
    for method in ("conva", "npti", "caa_probe", "caa_projected_probe"):
        with pytest.raises(InputError, match="samples=True"):
            build(method, bare, "power")
    no_gate = replace(evidence, stats=replace(evidence.stats, gate_mean=None, gate_m2=None, gate_positive=None))
    with pytest.raises(InputError, match="gate=True"):
        build("npti", no_gate, "power")


@pytest.mark.parametrize("p0", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_conva_refuses_a_p0_that_is_no_probability(evidence: Evidence, p0: float) -> None:
    with pytest.raises(InputError, match=r"inside \(0, 1\)"):
        conva(evidence, "power", p0=p0)
    for method in ("conva", "caa_probe"):
        with pytest.raises(InputError, match=r"inside \(0, 1\)"):
            build(method, evidence, "power").at(p0)  # type: ignore[attr-defined]
    assert conva(evidence, "power", p0=0.9).dose == pytest.approx(np.log(9))


def test_conva_says_when_no_layer_tells_the_poles_apart(evidence: Evidence) -> None:
    """Poles shuffled within clusters: held-out accuracy is chance, the best layer alone is used, in one warning line."""
    assert evidence.stats.samples is not None
    table = evidence.stats.samples.table.copy()
    swap = table["cluster"].isin([f"c{i}" for i in range(0, 8, 2)])
    table.loc[swap, "pole"] = table.loc[swap, "pole"].map({"+": "-", "-": "+"})
    noise = replace(evidence, stats=replace(evidence.stats, samples=replace(evidence.stats.samples, table=table)))
    with pytest.warns(RuntimeWarning, match="is used alone") as seen:
        item = conva(noise, "power")
    assert len(item.probes) == 1 and "\n" not in str(seen[0].message)


def test_conva_needs_two_clusters(evidence: Evidence) -> None:
    assert evidence.stats.samples is not None
    one = replace(evidence.stats.samples, table=evidence.stats.samples.table.assign(cluster="only"))
    with pytest.raises(InputError, match="at least two clusters"):
        conva(replace(evidence, stats=replace(evidence.stats, samples=one)), "power")


def test_probes_that_do_not_converge_say_so_in_one_line(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_STEPS", 1)
    for method, layers in (("conva", r"layer 0, 1, 2"), ("caa_probe", r"layer 0, 1"), ("neva", r"layer 0, 1, 2")):
        with pytest.warns(RuntimeWarning) as seen:
            build(method, evidence, "power")
        (line,) = [str(w.message) for w in seen if "did not converge" in str(w.message)]
        assert re.search(layers, line) and "\n" not in line, method


def test_first_rows_and_usable_layers() -> None:
    table = pd.DataFrame(
        {
            "value": ["power"] * 8 + ["security"] * 2,
            "pole": list("+-+-+-+-+-"),
            "pair_id": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"],
        }
    )
    assert first_rows(table, "power", 2).tolist() == [0, 1, 2, 3]
    assert first_rows(table, "security", 100).tolist() == [8, 9]
    unpaired = table.assign(pair_id=None, pole=list("+++++---+-"))
    assert first_rows(unpaired, "power", 2).tolist() == [0, 1, 5, 6]
    assert usable_layers(30) == tuple(range(25)) and usable_layers(10) == tuple(range(5))
    assert usable_layers(9) == tuple(range(9)) and usable_layers(3) == (0, 1, 2)


@given(st.integers(1, 80), st.data())
def test_spread_layers(n_layers: int, data: st.DataObject) -> None:
    chosen = data.draw(st.none() | st.integers(0, n_layers - 1).map(lambda layer: (layer,)))
    got = spread_layers(n_layers, chosen)
    assert len(got) == min(n_layers, max(2, min(10, n_layers // 3)))
    assert list(got) == list(range(got[0], got[0] + len(got))) and got[0] >= 0 and got[-1] < n_layers
    assert (chosen or default_layers(n_layers))[0] in got
    several = tuple(sorted({0, n_layers - 1}))
    if len(several) > 1:
        assert spread_layers(n_layers, several) == several


def test_neva_and_its_shift_share_the_neurons(evidence: Evidence) -> None:
    neva, shift = build("neva", evidence, "power"), build("neva_shift", evidence, "power")
    assert neva.neurons is shift.neurons is evidence.neurons["power"]  # type: ignore[attr-defined]


def test_role_prompt_names_the_value(evidence: Evidence) -> None:
    role = build("role", evidence, "power")
    prompt = rewrite(role, "What should Tom do?")
    assert "power" in prompt and lookup("power").definition.rstrip(".") in prompt
    assert prompt.endswith("\n\nWhat should Tom do?")
