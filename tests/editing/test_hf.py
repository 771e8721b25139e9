"""edit_hf(): a transformers model's own calls and `generate`, against `edit` on its TransformerLens twin and raw hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import neva_tl as nv
from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import (
    SCOPES,
    Ablate,
    AddVector,
    Change,
    Clamp,
    Edit,
    GateShift,
    LayerProbe,
    ProbedVector,
    PromptShift,
    RelevanceGate,
    Rescale,
    RolePrompt,
    Scale,
    Shift,
    edit,
    edit_hf,
)
from neva_tl.models import inference
from neva_tl.models.inference.sampling import SamplingSettings, decode
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
PROMPTS = ["Who eats the bread?", "Why", "The old king counts his coins and"]
NEW = 4


@dataclass(frozen=True)
class Pair:
    """The same weights twice: as transformers has them, and in TransformerLens."""

    hf: Any
    tl: Any
    folder: Path


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("hf") / request.param, request.param)
    return Pair(plain(folder), models.load(folder), folder)


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    hf.generation_config.eos_token_id = None  # texts of a stated length
    return hf


def left(pair: Pair) -> inference.Batch:
    """The prompts, left-padded and of unequal length."""
    batch = inference.encode(pair.tl, [Example(prompt, "") for prompt in PROMPTS], padding_side="left", chat=False)
    assert not batch.mask.all()
    return replace(batch, answer=torch.zeros_like(batch.mask))


def hooks(hf: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())


def gate(tl: Any, unit: Any = "token") -> RelevanceGate:
    """Open at about half of the tokens."""
    info = models.info(tl)
    n, rng = info.n_layers, np.random.default_rng(1)
    weight = rng.normal(size=(n, info.d_mlp)).astype(np.float32)
    return RelevanceGate(tuple(range(n)), weight, np.zeros(n), np.ones(n), np.ones(n), unit=unit)


def probe(tl: Any, layer: int) -> LayerProbe:
    width, rng = models.info(tl).d_model, np.random.default_rng(layer)
    weight = rng.normal(size=width)
    return LayerProbe(layer, np.arange(width), weight, -0.5, weight / (weight @ weight))


def npti(tl: Any, make_set: Any) -> GateShift:
    site = "gate" if models.info(tl).gated else "post"
    found: NeuronSet = make_set(tl, AT, site=site)
    return GateShift(found.with_df(found.df.assign(p_diff=[0.6, -0.4, 0.3], q95=1.0)), dose=1.5)


def kinds(pair: Pair, make_set: Any) -> dict[str, tuple[Edit, ...]]:
    tl = pair.tl
    vector = np.random.default_rng(3).normal(size=models.info(tl).d_model)
    shift = Shift(make_set(tl, AT), dose=3.0)
    return {
        "shift": (shift,),
        "several": (shift, Clamp(make_set(tl, AT[:2])), shift.with_dose(-1.0), Scale(make_set(tl, AT), dose=3.0)),
        "ablate": (Ablate(make_set(tl, AT), mode="mean"),),
        "vector": (AddVector({1: vector, 2: vector}),),
        "probed": (ProbedVector((probe(tl, 0), probe(tl, 2)), dose=6.0),),
        "prompt": (PromptShift((probe(tl, 0), probe(tl, 2)), dose=6.0),),
        "gate shift": (npti(tl, make_set),),
        "rescale": (Rescale(make_set(tl, AT), dose=3.0), Rescale(make_set(tl, AT[:2]), dose=-2.0, lowest=0.0)),
        "gated": (shift.with_gate(gate(tl)),),
        "gated per query": (shift.with_gate(gate(tl, "query")),),
    }


KINDS = (
    *("shift", "several", "ablate", "vector", "probed", "prompt", "gate shift", "rescale", "gated", "gated per query"),
)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_writes_what_the_transformer_lens_model_writes(pair: Pair, make_set: Any, kind: str, scope: Any) -> None:
    """Logits of left-padded prompts, and greedy tokens with and without the key-value cache."""
    edits = tuple(item.with_scope(scope) for item in kinds(pair, make_set)[kind])
    batch = left(pair)
    with edit(pair.tl, *edits) as session:
        want = inference.forward_batch(pair.tl, batch, session=session)
        texts = decode(
            pair.tl, batch.tokens, batch.mask, [0, 1, 2], SamplingSettings(NEW, 0.0, 0, frozenset()), session
        )
    given = {"input_ids": batch.tokens, "attention_mask": batch.mask.long()}
    with torch.no_grad(), edit_hf(pair.hf, *edits):
        # positions are generate's affair: a plain call of a padded batch must be told
        position = (batch.mask.long().cumsum(1) - 1).clamp_min(0)
        found = pair.hf(**given, position_ids=position).logits
        written = [
            pair.hf.generate(**given, max_new_tokens=NEW, do_sample=False, use_cache=cache) for cache in (True, False)
        ]
    assert want is not None
    torch.testing.assert_close(found[batch.mask], want[batch.mask], atol=1e-4, rtol=1e-4)
    assert torch.equal(written[0], written[1])
    assert written[0][:, batch.tokens.shape[1] :].tolist() == texts


def test_each_kind_changes_what_is_written(pair: Pair, make_set: Any) -> None:
    """Else the comparison above would say nothing."""
    ids = left(pair).tokens[2:]
    with torch.no_grad():
        clean = pair.hf(ids).logits[:, -1]
        for kind, edits in kinds(pair, make_set).items():
            if not kind.startswith("gated"):
                with edit_hf(pair.hf, *edits):
                    assert not torch.allclose(pair.hf(ids).logits[:, -1], clean, atol=1e-2), kind
        assert torch.equal(pair.hf(ids).logits[:, -1], clean)


def test_equals_a_raw_hook(pair: Pair, make_set: Any) -> None:
    item = Shift(make_set(pair.tl, AT), dose=3.0)
    blocks = pair.hf.model.layers if hasattr(pair.hf, "model") else pair.hf.transformer.h
    outputs = [getattr(block.mlp, "down_proj", None) or block.mlp.c_proj for block in blocks]
    ids = torch.tensor([[0, 70, 80, 90]])

    def adder(neuron: int) -> Callable[..., tuple[Tensor]]:
        def add(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            x = args[0].clone()
            x[..., neuron] += 3.0
            return (x,)

        return add

    raw = [outputs[layer].register_forward_pre_hook(adder(neuron)) for layer, neuron in AT]
    how = {"max_new_tokens": 6, "do_sample": False}
    want, tokens = pair.hf(ids).logits, pair.hf.generate(ids, **how)
    for handle in raw:
        handle.remove()
    with edit_hf(pair.hf, item):
        assert torch.equal(pair.hf(ids).logits, want)
        assert torch.equal(pair.hf.generate(ids, **how), tokens)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("beams", [1, 3])
def test_which_tokens_are_touched(pair: Pair, make_set: Any, scope: Any, cache: bool, beams: int) -> None:
    """Padding never; the prompt's end and new tokens as the scope says, also when beams change places; twice in a row."""
    item = Shift(make_set(pair.tl, AT), dose=3.0, scope=scope)
    whole = left(pair)
    for batch in (whole.tokens, whole.tokens[:1]):
        mask = whole.mask[: len(batch)]
        n = batch.shape[1]
        with edit_hf(pair.hf, item, record=True) as session:
            pair.hf.generate(
                batch, attention_mask=mask.long(), max_new_tokens=NEW, do_sample=False,
                num_beams=beams, use_cache=cache,
            )  # fmt: skip
        assert len(session.touched) == NEW
        for step, touched in enumerate(session.touched):
            real = torch.cat([mask, torch.ones(len(mask), step, dtype=torch.bool)], 1).repeat_interleave(beams, 0)
            generated = (torch.arange(n + step) >= n).expand_as(real)
            end = (torch.arange(n + step) == n - 1).expand_as(real)
            want = {
                "all": real, "prompt": real & ~generated, "generated": generated, "last": generated | end,
            }[scope]  # fmt: skip
            if cache and step:
                want = want[:, -1:]
            assert touched.equal(want), (step, touched)


def test_the_smallest_trained_checkpoint_writes_the_same(shared_dir: Path, stories260k: Any, make_set: Any) -> None:
    hf = plain(shared_dir / "models" / "stories260K")
    at = [(layer, k) for layer in (1, 2, 3) for k in range(0, 160, 16)]
    item = Shift(make_set(stories260k, at), dose=0.5, scope="last")
    (encoded,) = inference.encode_one(stories260k, [Example("Once upon a time", "")], chat=False)
    ids = torch.tensor([encoded.ids])
    with edit(stories260k, item) as session:
        want = decode(
            stories260k, ids, torch.ones_like(ids).bool(), [0], SamplingSettings(20, 0.0, 0, frozenset()), session
        )
    how = {"max_new_tokens": 20, "do_sample": False}
    with edit_hf(hf, item):
        found = hf.generate(ids, attention_mask=torch.ones_like(ids), **how)
    assert found[0, ids.shape[1] :].tolist() == want[0]
    assert not torch.equal(hf.generate(ids, attention_mask=torch.ones_like(ids), **how), found)


def test_hooks_go_away_whatever_happens(pair: Pair, make_set: Any) -> None:
    item, before = Shift(make_set(pair.tl, AT)), hooks(pair.hf)
    with edit_hf(pair.hf, item):
        assert hooks(pair.hf) == before + 4  # three layers and the first block's start
    assert hooks(pair.hf) == before
    with pytest.raises(KeyError, match="mine"), edit_hf(pair.hf, item):
        raise KeyError("mine")
    assert hooks(pair.hf) == before

    class Broken(Shift):
        def new_values(self, h: Any, rows: Any) -> Any:
            raise ZeroDivisionError("inside the hook")

    with pytest.raises(ZeroDivisionError), edit_hf(pair.hf, Broken(make_set(pair.tl, AT))):
        pair.hf(torch.tensor([[0, 70]]))
    with pytest.raises(InputError), edit_hf(pair.hf, Shift(make_set(pair.tl, AT, n_layers=9))):
        pass
    assert hooks(pair.hf) == before


def test_the_model_is_left_as_it_was(pair: Pair, make_set: Any, tmp_path: Path) -> None:
    """Not rewired, weights not copied or changed: it can still be saved, and its fingerprint is the TransformerLens model's."""
    fresh = plain(pair.folder)
    before = {name: (p.data_ptr(), p.clone()) for name, p in fresh.named_parameters()}
    with edit_hf(fresh, Shift(make_set(pair.tl, AT))):
        pass
    after = dict(fresh.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name].data_ptr() == at and torch.equal(after[name], p) for name, (at, p) in before.items())
    fresh.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    ours, theirs = models.fingerprint(models.plain(fresh)), models.fingerprint(pair.tl)
    assert {k: v for k, v in ours.items() if k != "tokenizer_hash"} == {
        k: v for k, v in theirs.items() if k != "tokenizer_hash"
    }


def test_other_weights_dtypes_and_models_are_refused(pair: Pair, make_set: Any, tmp_path: Path) -> None:
    item = Shift(make_set(pair.tl, AT))
    family: Any = "llama" if hasattr(pair.hf, "model") else "gpt2"
    other = plain(tiny_checkpoint(tmp_path / "other", family, seed=1))
    with pytest.raises(InputError, match="other weights"), edit_hf(other, item):
        pass
    wider = plain(tiny_checkpoint(tmp_path / "wider", family, d_mlp=64))
    with pytest.raises(InputError, match="48 neurons"), edit_hf(wider, item):
        pass
    half = plain(pair.folder, torch.bfloat16)
    with pytest.raises(InputError, match=r"in float32.*in bfloat16.*dtype='float32'"), edit_hf(half, item):
        pass
    with pytest.raises(InputError, match="TransformerLens model: edit it with"), edit_hf(pair.tl, item):
        pass
    with pytest.raises(InputError, match="expected a transformers language model"), edit_hf("gpt2", item):
        pass
    with pytest.raises(InputError, match="rewrite the prompt"), edit_hf(pair.hf, RolePrompt("Be kind.")):
        pass


def test_mixtures_and_unknown_architectures_are_refused() -> None:
    from transformers import (
        CTRLConfig,
        CTRLLMHeadModel,
        MixtralConfig,
        MixtralForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    small: dict[str, Any] = {"vocab_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    mixture = MixtralForCausalLM(
        MixtralConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_local_experts=2, **small)
    )
    with pytest.raises(InputError, match="mixture of experts"), edit_hf(mixture, AddVector({0: np.ones(16)})):
        pass
    strange = T5ForConditionalGeneration(
        T5Config(d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, vocab_size=32)
    )
    with pytest.raises(InputError, match="encoder-decoder"), edit_hf(strange, AddVector({0: np.ones(16)})):
        pass
    odd = CTRLLMHeadModel(CTRLConfig(vocab_size=32, n_positions=16, n_embd=16, dff=16, n_layer=1, n_head=2))
    with pytest.raises(InputError, match="TransformerLens cannot read"), edit_hf(odd, AddVector({0: np.ones(16)})):
        pass


def test_a_hook_point_without_a_module_is_refused(pair: Pair) -> None:
    @dataclass(frozen=True, eq=False)
    class AtPattern(Edit):
        def changes(self, model: Any) -> tuple[Change, ...]:
            return (Change(0, "pattern", lambda x: x),)

    before = hooks(pair.hf)
    with pytest.raises(InputError, match=r"no module of .*attn\.hook_pattern"), edit_hf(pair.hf, AtPattern()):
        pass
    assert hooks(pair.hf) == before


def test_what_cannot_be_told_is_refused_or_marked(pair: Pair, make_set: Any) -> None:
    """Several tokens behind a cache: prompt or generated?"""
    item = Shift(make_set(pair.tl, AT), dose=3.0, scope="last")
    ids = torch.tensor([[0, 70, 80, 90, 60, 61]])
    ones = torch.ones_like(ids)
    with torch.no_grad(), edit_hf(pair.hf, item, record=True) as session:
        past = pair.hf(ids[:, :3], use_cache=True).past_key_values
        with pytest.raises(WorkError, match=r"may be prompt or generated.*session\.mark"):
            pair.hf(ids[:, 3:], attention_mask=ones, past_key_values=past)
        session.mark(torch.tensor([[False, True, True]]), torch.ones(1, 3, dtype=torch.bool))
        pair.hf(ids[:, 3:], attention_mask=ones, past_key_values=past)
        assert session.touched[-1].tolist() == [[True, True, True]]
        with pytest.raises(InputError, match="cache_implementation='dynamic'"):
            pair.hf(ids, attention_mask=torch.zeros(1, 1, 6, 6))
        with pytest.raises(WorkError, match="call the whole model"):
            pair.hf.base_model(ids)
    with torch.no_grad(), edit_hf(pair.hf, item.with_scope("all")):  # the same whatever they are
        whole = pair.hf(ids).logits
        past = pair.hf(ids[:, :3], use_cache=True).past_key_values
        rest = pair.hf(ids[:, 3:], attention_mask=ones, past_key_values=past).logits
    torch.testing.assert_close(rest, whole[:, 3:], atol=1e-4, rtol=1e-4)
    with pytest.raises(WorkError, match="may be prompt or generated"), edit_hf(pair.hf, item):
        pair.hf.generate(ids, max_new_tokens=2, prefill_chunk_size=2)
    with pytest.raises(WorkError, match="may be prompt or generated"), edit_hf(pair.hf, item):
        pair.hf.generate(
            ids.repeat(1, 4), max_new_tokens=8, prompt_lookup_num_tokens=2, do_sample=False, eos_token_id=319
        )


def test_edits_nest_and_more_than_one_model_can_be_edited(pair: Pair, make_set: Any) -> None:
    item, ids = Shift(make_set(pair.tl, AT), dose=2.0, scope="last"), torch.tensor([[0, 70, 80, 90]])
    with torch.no_grad():
        with edit_hf(pair.hf, item.with_dose(4.0)):
            want = pair.hf(ids).logits
        with edit_hf(pair.hf, item), edit(pair.tl, item):
            with edit_hf(pair.hf, item):
                torch.testing.assert_close(pair.hf(ids).logits, want, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(pair.hf(ids).logits, pair.tl(ids), atol=1e-4, rtol=1e-4)


def test_pipelines_run_edited(pair: Pair) -> None:
    from transformers import AutoTokenizer, pipeline

    item = AddVector({2: np.random.default_rng(3).normal(size=models.info(pair.tl).d_model)}, dose=50.0)
    text = AutoTokenizer.from_pretrained(pair.folder)
    text.pad_token = text.eos_token
    write = pipeline("text-generation", model=pair.hf, tokenizer=text)
    how = {"max_new_tokens": 6, "do_sample": False, "return_tensors": True}
    clean = write(PROMPTS[0], **how)
    with nv.edit_hf(pair.hf, item):
        assert write(PROMPTS[0], **how) != clean
    assert write(PROMPTS[0], **how) == clean
