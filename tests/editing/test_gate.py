"""RelevanceGate: its probes against scikit-learn on raw PyTorch hooks, and which tokens an edit behind it touches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, RelevanceGate, Shift, edit, fit_relevance, identity, touched_tokens
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
RELEVANT = [Example("Who rules?", f"The {w} king rules and commands") for w in ("old", "new", "good", "poor", "tall")]
NEUTRAL = ["Tom eats bread at noon.", "The cat sleeps on the chair.", "Rain falls on the hill."]
EXAMPLES = [Example("Who eats the bread?", "Tom eats it"), Example("Why?", "because he was hungry and cold")]


@pytest.fixture(scope="module")
def gate(tiny: Any) -> RelevanceGate:
    return fit_relevance(tiny, RELEVANT, NEUTRAL, pooling="mean")


@pytest.fixture
def shift(tiny: Any, make_set: Any) -> Shift:
    return Shift(make_set(tiny, AT), dose=2.0)


def constant(tiny: Any, bias: float) -> RelevanceGate:
    """A gate that is open (bias above 0) or closed everywhere."""
    info = models.info(tiny)
    n = info.n_layers
    return RelevanceGate(
        tuple(range(n)), np.zeros((n, info.d_mlp), np.float32), np.full(n, bias), np.ones(n), np.ones(n)
    )


def activations(model: Any, batch: inference.Batch, *edits: Any, layer: int = 0) -> Tensor:
    seen: list[Tensor] = []
    with edit(model, *edits) as session:
        name = models.hook_name(model, layer, "post")
        handle = models.add_hook(model, name, lambda x, hook=None: seen.append(x.clone()))
        inference.forward_batch(model, batch, session=session)
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_probes_equal_scikit_learn_on_raw_hooks(tmp_path: Path, pooling: Any) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    model = models.load(folder)
    found = fit_relevance(model, RELEVANT, NEUTRAL, pooling=pooling, layers=(0, 2))
    assert found.layers == (0, 2)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[int, Tensor] = {}
    for layer in (0, 2):
        hf.model.layers[layer].mlp.down_proj.register_forward_pre_hook(
            lambda m, args, layer=layer: seen.update({layer: args[0].detach()})
        )
    rows: dict[int, list[np.ndarray]] = {0: [], 2: []}
    label: list[bool] = []
    for example in [*RELEVANT, *(Example("", text) for text in NEUTRAL)]:
        (item,) = inference.encode_one(model, [example])
        with torch.no_grad():
            hf(torch.tensor([item.ids]))
        relevant = bool(example.prompt)
        first = (len(item.ids) - 1 if pooling == "last" else item.start) if relevant else 0
        label += [relevant] * (len(item.ids) - first)
        for layer in rows:
            rows[layer].append(seen[layer][0, first:].numpy())
    for place, layer in enumerate(found.layers):
        x = np.concatenate(rows[layer]).astype(np.float64)
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=2000))
        pipeline.fit(x, label)
        ours = 1 / (1 + np.exp(-(x @ found.weight[place] + found.bias[place])))
        np.testing.assert_allclose(ours, pipeline.predict_proba(x)[:, 1], atol=2e-3)
        opened = found.open(layer, torch.tensor(x, dtype=torch.float32)[None])[0].numpy()
        assert found.caught[place] == pytest.approx(opened[label].mean())
        assert found.passed[place] == pytest.approx(opened[~np.array(label)].mean())


@pytest.mark.parametrize("scope", ["all", "generated", "last"])
def test_touches_the_open_tokens_of_its_scope_and_no_other(
    tiny: Any, shift: Shift, gate: RelevanceGate, scope: Any
) -> None:
    batch = inference.encode(tiny, EXAMPLES)
    clean = activations(tiny, batch)
    opened = gate.open(0, clean)
    assert opened[batch.mask].any() and not opened[batch.mask].all(), "the gate must tell some tokens from others"
    whole = activations(tiny, batch, shift.with_scope(scope))
    gated = activations(tiny, batch, shift.with_scope(scope).with_gate(gate))
    assert torch.equal(gated[opened], whole[opened]) and torch.equal(gated[~opened], clean[~opened])


def test_gates_of_later_layers_see_the_earlier_edits(tiny: Any, shift: Shift, gate: RelevanceGate) -> None:
    batch = inference.encode(tiny, EXAMPLES)
    first = replace(shift, neurons=shift.neurons.with_df(shift.neurons.df.iloc[:1].reset_index(drop=True)))
    before = activations(tiny, batch, first.with_gate(gate), layer=1)
    after = activations(tiny, batch, shift.with_gate(gate), layer=1)
    changed = (after - before)[..., 7].abs() > 1e-6
    assert torch.equal(changed & batch.mask, gate.open(1, before) & batch.mask)


def test_an_open_gate_is_no_gate_and_a_closed_one_no_edit(tiny: Any, shift: Shift) -> None:
    batch = inference.encode(tiny, EXAMPLES)
    vector = AddVector({1: np.ones(models.info(tiny).d_model)}, dose=3.0)
    for item in (shift, vector):
        with edit(tiny, item) as session:
            plain = inference.forward_batch(tiny, batch, session=session)
        for bias, want in ((50.0, plain), (-50.0, inference.forward_batch(tiny, batch))):
            with edit(tiny, item.with_gate(constant(tiny, bias))) as session:
                assert torch.equal(inference.forward_batch(tiny, batch, session=session), want)


def test_generation_with_cache_equals_without(tiny: Any, shift: Shift, gate: RelevanceGate) -> None:
    texts = []
    for cache in (True, False):
        with edit(tiny, shift.with_scope("last").with_gate(gate)) as session:
            texts.append(inference.generate(tiny, ["Who rules", "Tom"], max_new_tokens=8, cache=cache, session=session))
    assert texts[0] == texts[1]


def test_touched_tokens_heed_the_gate(tiny: Any, shift: Shift, gate: RelevanceGate) -> None:
    one = replace(shift, neurons=shift.neurons.with_df(shift.neurons.df.iloc[:1].reset_index(drop=True)))
    batch = inference.encode(tiny, EXAMPLES[:1])
    opened = gate.open(0, activations(tiny, batch))[0]
    touched = touched_tokens(tiny, one.with_scope("generated").with_gate(gate), EXAMPLES[0].prompt, EXAMPLES[0].answer)
    assert touched["touched"].tolist() == (opened & batch.answer[0]).tolist()


def test_use_leaves_it_what_it_is_by_content(tiny: Any, shift: Shift, gate: RelevanceGate) -> None:
    """Texts written behind a gate are kept under what the edit holds: that may not change when it is used."""
    item = shift.with_gate(gate)
    before = identity(item)
    with edit(tiny, item):
        inference.generate(tiny, ["a b", "c"], max_new_tokens=2)
    assert identity(item) == before


def test_hooks_go_away(tiny: Any, shift: Shift, gate: RelevanceGate, count_hooks: Callable[[Any], int]) -> None:
    before = count_hooks(tiny)

    def fail() -> None:
        with edit(tiny, shift.with_gate(gate)):
            assert count_hooks(tiny) > before + len(AT)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert count_hooks(tiny) == before


def test_saved_and_read_again(gate: RelevanceGate, tmp_path: Path) -> None:
    again = RelevanceGate.load(gate.at(0.7).save(tmp_path / "gate.safetensors"))
    assert again.layers == gate.layers and again.threshold == pytest.approx(0.7)
    for name in ("weight", "bias", "caught", "passed"):
        np.testing.assert_array_equal(getattr(again, name), getattr(gate, name))
    with pytest.raises(InputError, match="does not exist"):
        RelevanceGate.load(tmp_path / "none.safetensors")
    save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not hold a relevance gate"):
        RelevanceGate.load(tmp_path / "other.safetensors")


def test_refusals(tiny: Any, shift: Shift, gate: RelevanceGate) -> None:
    for relevant, neutral in (([], NEUTRAL), (RELEVANT, [])):
        with pytest.raises(InputError, match="empty"):
            fit_relevance(tiny, relevant, neutral)
    for threshold in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"inside|finite"):
            gate.at(threshold)
    low = fit_relevance(tiny, RELEVANT, NEUTRAL, layers=(0,))
    with pytest.raises(InputError, match=r"layers \[0\]"), edit(tiny, shift.with_gate(low)) as session:
        inference.forward_batch(tiny, inference.encode(tiny, EXAMPLES), session=session)
    with pytest.raises(InputError, match="cannot gate"):
        gate.open(0, torch.zeros(1, 1, 7))
