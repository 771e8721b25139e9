"""Planted neurons read and write what is stated; decoys do nothing; the rest of a world is null."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats as sps

import neva_tl as nv
from helpers.scripts import load_script
from neva_tl import models
from neva_tl.activations import collect
from neva_tl.core.errors import InputError
from neva_tl.models.hooks import record_hooks, temporary_hooks
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.selection.planted import (
    Plant,
    World,
    embedding_direction,
    make_world,
    measure_selectors,
    plant,
    summary,
    token_direction,
)
from neva_tl.selection.planted.null import null_table
from neva_tl.selection.planted.world import COUNTS

pytestmark = pytest.mark.core


@cache
def world() -> World:
    return make_world(3, d_mlp=128, calibration=400)


@cache
def stats() -> Any:
    return collect(world().model, world().contrast(40, 1), split=None, samples=True)


def logits(model: Any, text: str, ablate: Plant | None = None) -> torch.Tensor:
    """Logits of a text, with one neuron held at zero."""
    ids = models.tokenizer(model)(text, add_special_tokens=False)["input_ids"]
    tokens = torch.tensor([[1, *ids]])

    def zero(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        assert ablate is not None
        x = x.clone()
        x[..., ablate.neuron] = 0.0
        return x

    hooks = [] if ablate is None else [(models.hook_name(model, ablate.layer, "post"), zero)]
    with temporary_hooks(model, hooks):
        found = models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert found is not None
    return found[0]


def of_kind(kind: str) -> Plant:
    """The strongest plant of a kind for power (weak ones hear their noise more than their markers)."""
    aimed = world().truth.set_index(["neuron", "value"])["aimed"]
    mine = [one for one in world().plants if one.kind == kind and one.values[0] == "power"]
    return max(mine, key=lambda one: float(aimed[one.neuron, "power"]))


def test_a_writer_reads_its_markers_and_writes_its_words() -> None:
    model, writer = world().model, of_kind("writer")
    name = models.hook_name(model, writer.layer, "post")
    post, change = {}, {}
    for side in ("up", "down"):
        texts = [f"filler{i} {side}-power filler{i + 20}" for i in range(20)]
        with record_hooks(model, [name]) as seen:
            held = []
            for text in texts:
                full = logits(model, text)
                held.append(float(seen[name][0, 2, writer.neuron]))
                change[side, text] = (full - logits(model, text, writer))[2]
        post[side] = np.mean(held)
    assert post["up"] > post["down"] + 0.5
    mean = torch.stack([x for (side, _), x in change.items() if side == "up"]).mean(dim=0)
    ids = models.tokenizer(model).convert_tokens_to_ids(world().words["power"])
    others = np.setdiff1d(np.arange(len(mean)), ids)
    # the final norm makes other logits smaller; none but its own words rise
    assert float(mean[ids].min()) > 0.1 and float(mean[ids].min()) > 3 * float(mean[others].max())


def test_a_silent_decoy_reads_and_has_no_effect_on_any_logit() -> None:
    text = "filler3 up-power filler5 down-power"
    decoy = of_kind("silent decoy")
    assert torch.equal(logits(world().model, text), logits(world().model, text, decoy))
    found = world().population("power", 400).set_index("neuron")
    assert found.loc[decoy.neuron, "d_z"] > 0.7


def test_population_effects_are_those_asked_for() -> None:
    found = world().population("security", 3000, seed=7)
    own = found[found["kind"] != "shared"]
    # calibrated on 400 pairs, measured on 3,000: both sampling errors
    error = np.sqrt((1 + own["aimed"] ** 2 / 2) * (1 / 400 + 1 / 3000))
    assert (np.abs(own["d_z"] - own["aimed"]) < 4 * error).all()
    assert found["kind"].value_counts().to_dict() == {**COUNTS, "shared": 2 * COUNTS["shared"]}


def test_unplanted_neurons_do_not_see_the_pole() -> None:
    """Markers up and down look the same to all neurons but the plants: exactly, not on average."""
    model = world().model
    names = [models.hook_name(model, layer, "post") for layer in range(4)]
    seen = {}
    for side in ("up", "down"):
        with record_hooks(model, names) as found:
            logits(model, f"filler3 {side}-power filler5 {side}-power filler9")
        seen[side] = torch.stack([found[name][0] for name in names])
    gap = (seen["up"] - seen["down"]).abs().amax(dim=1)
    planted = torch.zeros_like(gap, dtype=torch.bool)
    for one in world().plants:
        planted[one.layer, one.neuron] = True
    mine = torch.tensor([[one.layer, one.neuron] for one in world().plants if "power" in one.values])
    assert float(gap[~planted].max()) < 1e-4
    assert float(gap[mine[:, 0], mine[:, 1]].min()) > 0.05


def test_shared_neurons_stand_for_two_values() -> None:
    truth = world().truth
    pairs = truth[truth["kind"] == "shared"].groupby("neuron")["value"].nunique()
    assert (pairs == 2).all() and len(pairs) == 3 * COUNTS["shared"]
    assert (truth[truth["kind"] != "shared"].groupby("neuron")["value"].nunique() == 1).all()


def test_causal_leaves_decoys_out_that_effect_size_takes() -> None:
    found = {}
    planted = {(one.layer, one.neuron) for one in world().plants if one.kind in ("decoy", "silent decoy")}
    mine = {(one.layer, one.neuron) for one in world().plants if one.kind == "writer" and one.values == ("power",)}
    for method, options in (("effect_size", {}), ("causal", {"words": world().words})):
        df = nv.select(stats(), "power", method=method, model=world().model, require_q=False, **options).df
        found[method] = set(zip(df["layer"], df["neuron"], strict=True))
    assert len(found["effect_size"] & planted) >= 6
    assert len(found["causal"] & planted) <= 1
    assert len(found["causal"] & mine) >= 10


def test_counts_and_summary() -> None:
    counts, plants = measure_selectors(
        2, pairs=40, d_mlp=128, population=200, methods=["effect_size", "random"], seed=3
    )
    assert len(counts) == 4 and set(counts["refused"]) == {""} and plants["world"].nunique() == 2
    assert (counts["writers_found"] <= counts["writers"]).all() and counts["fdp"].between(0, 1).all()
    table = summary(counts).set_index(["method", "measure"])
    of = counts[counts["method"] == "effect_size"]
    assert table.loc[("effect_size", "recall_at_k"), "est"] == of["writers_at_k"].sum() / of["writers"].sum()
    assert table.loc[("effect_size", "recall_at_k"), "est"] > 0.7
    assert table.loc[("effect_size", "auroc"), "est"] > 0.95 > table.loc[("random", "auroc"), "est"]
    with pytest.raises(InputError, match="unknown selector"):
        measure_selectors(1, methods=["magic"])


def test_null_p_values_are_a_paired_t_tests() -> None:
    result = null_table(stats(), "power", shuffles=3, flips=200, seed=1)
    samples = stats().samples
    own = samples.table[samples.table["value"] == "power"]
    wide = own.assign(row=own.index).pivot(index="pair_id", columns="pole", values="row").loc[own["pair_id"].unique()]
    diff = (samples.h[wide["+"]] - samples.h[wide["-"]]).reshape(len(wide), -1).astype(np.float64)
    sign = np.where(np.random.default_rng(1).random(len(wide)) < 0.5, -1.0, 1.0)
    theirs = sps.ttest_1samp(diff * sign[:, None], 0.0).pvalue
    np.testing.assert_allclose(result.p[0.0][0], theirs, rtol=1e-2, atol=1e-6)
    assert (result.p[0.2] >= result.p[0.0] - 1e-9).all()
    table = result.table().set_index(["delta", "measure"])
    assert table.loc[(0.0, "any_bh"), "n"] == 3 and table.loc[(0.2, "ks_rejected_small"), "est"] == 0.0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_planting_in_any_model(family: Any, tmp_path: Path) -> None:
    """The planted neuron's activation is the activation function of the normalised stream's product, by hand."""
    model = nv.load(tiny_checkpoint(tmp_path / family, family))
    before = models.fingerprint(model)["weights_hash"]
    rng = np.random.default_rng(0)
    reads, writes = rng.normal(size=32), rng.normal(size=32)
    plant(model, [Plant(1, 7, reads, writes, ("power",))])
    assert models.fingerprint(model)["weights_hash"] != before
    np.testing.assert_allclose(models.w_out(model, 1)[7].numpy(), writes, rtol=1e-5)
    at = [models.hook_name(model, 1, site) for site in ("resid_mid", "post")]
    with record_hooks(model, at) as seen:
        model("she climbs the highest tower")
    x = seen[at[0]].double().numpy()
    norm = models.mlp_norm(model, 1)
    if family == "gpt2":
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + norm.eps)
    z = x @ reads
    if norm.bias is not None:  # LayerNorm's own bias is read too
        z = z + float(np.dot(norm.bias.numpy(), reads / norm.weight.numpy()))
    act = models.activation(model)(torch.tensor(z)).numpy()
    np.testing.assert_allclose(seen[at[1]][..., 7].numpy(), act * z if family == "llama" else act, rtol=1e-3, atol=1e-4)


def test_a_neuron_that_reads_a_word_of_a_real_model(demo: Any) -> None:
    """On the trained demo model: a copy, so that other tests keep theirs."""
    import copy

    model = copy.deepcopy(demo)
    token = models.tokenizer(model)(" help", add_special_tokens=False)["input_ids"][-1]
    writes = token_direction(model, [token])
    plant(model, [Plant(0, 5, 2 * embedding_direction(model, [token]), 5 * writes, ("benevolence",))])
    name = models.hook_name(model, 0, "post")
    tokens = torch.arange(models.info(model).d_vocab)[:, None]
    with record_hooks(model, [name]) as seen:
        edited = models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    h = seen[name][:, 0, 5]
    assert int(h.argmax()) == token and float(h[token]) > 3 * float(h.median().abs())
    plain = models.forward(demo, tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert edited is not None and plain is not None
    change = (edited - plain)[token, 0]
    assert float(change[token] - change.mean()) > 0


def test_refusals(tmp_path: Path) -> None:
    model = nv.load(tiny_checkpoint(tmp_path / "tiny"))
    good = np.ones(32)
    for message, one in {
        "does not exist": Plant(9, 0, good, None, ("power",)),
        "32 finite numbers": Plant(0, 0, np.ones(5), None, ("power",)),
        "neuron 0 writes": Plant(0, 0, good, np.full(32, np.nan), ("power",)),
    }.items():
        with pytest.raises(InputError, match=message):
            plant(model, [one])
    with pytest.raises(InputError, match="no direction"):
        embedding_direction(model, list(range(models.info(model).d_vocab)))
    with pytest.raises(InputError, match="do not fit"):
        make_world(0, d_mlp=20)
    with pytest.raises(InputError, match="beyond what the markers"):
        make_world(0, d_mlp=128, sizes=[9.0], calibration=50)


def test_the_script_refuses_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("planted_neurons")
    for option, value in (("--models", "0"), ("--pairs", "3")):
        monkeypatch.setattr("sys.argv", ["planted_neurons.py", option, value])
        assert script.main() == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and "too small" in err
