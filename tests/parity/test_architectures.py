"""Other families than Llama and GPT-2, random weights: hooks, padding, cache and prefix cache right, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, edit
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "mistral": ("Mistral", GROUPED | {"sliding_window": 6}, "model.layers.{}.mlp.down_proj"),
    "qwen2": (
        "Qwen2",
        {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"vocab_size": 340},
        "model.layers.{}.mlp.down_proj",
    ),
    "qwen3": ("Qwen3", GROUPED, "model.layers.{}.mlp.down_proj"),
    "gemma": ("Gemma", GROUPED, "model.layers.{}.mlp.down_proj"),
    "gemma2": ("Gemma2", GROUPED | {"sliding_window": 6}, "model.layers.{}.mlp.down_proj"),
    "phi3": (
        "Phi3",
        {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"pad_token_id": 0},
        "model.layers.{}.mlp.down_proj",
    ),
    "neox": ("GPTNeoX", SMALL | {"max_position_embeddings": 128}, "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
    "bloom": (
        "Bloom",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 320},
        "transformer.h.{}.mlp.dense_4h_to_h",
    ),
}
EXAMPLES = [
    Example("Should Dana help her aunt who lives by the river?", "Yes, she should help her at once."),
    Example("Why?", "No."),
    Example("The old king", "counts his golden coins"),
]


def save(folder: Path, name: str) -> Path:
    kind, fields, _ = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**fields, initializer_range=0.2)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", list(FAMILIES))
def test_family(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, name)
    model = models.load(folder)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = inference.encode_one(model, EXAMPLES)
    for side in ("left", "right"):
        batch = inference.pad(model, encoded, side)
        ours: list[torch.Tensor] = []
        name_ = models.hook_name(model, 1, "post")
        handle = models.add_hook(model, name_, lambda x, hook=None, ours=ours: ours.append(x))
        inference.forward_batch(model, batch)
        handle.remove()
        for row, item in enumerate(encoded):
            theirs: list[torch.Tensor] = []
            raw = hf.get_submodule(FAMILIES[name][2].format(1)).register_forward_pre_hook(
                lambda m, a, theirs=theirs: theirs.append(a[0])
            )
            with torch.no_grad():
                hf(torch.tensor([item.ids]))
            raw.remove()
            error = float((ours[0][row][batch.mask[row]] - theirs[0][0]).abs().max())
            assert error <= 1e-5 * max(1.0, float(theirs[0].abs().max())), side
    prompts = [e.prompt for e in EXAMPLES]
    texts = inference.generate(model, prompts, max_new_tokens=12)
    assert texts == inference.generate(model, prompts, max_new_tokens=12, cache=False)
    plain, _ = inference.answer_logprobs(model, EXAMPLES)
    cache = inference.PrefixCache(model, EXAMPLES)
    assert np.allclose(plain, inference.answer_logprobs(model, EXAMPLES, prefix=cache)[0], atol=1e-3)
    assert np.allclose(plain, inference.answer_logprobs(model, EXAMPLES, token_budget=1)[0], atol=1e-3)
    layers, push = models.LayerCache(model), AddVector({1: np.linspace(-1, 1, 32)})
    with edit(model, push) as session:
        whole = inference.answer_logprobs(model, EXAMPLES, session=session)[0]
    for _ in range(2):
        with edit(model, push, reuse=layers) as session:
            resumed = inference.answer_logprobs(model, EXAMPLES, session=session)[0]
        assert np.allclose(resumed, whole, atol=1e-5) and not np.allclose(whole, plain, atol=1e-2)
    assert layers.n_resumed == 1


#: Whose attention asks for nothing that texts in one row lack (Gemma 2 caps its scores; the others' weights are rearranged
#: copies, or their attention is transformers' old kind).
PACKED = ("mistral", "qwen2", "qwen3", "gemma", "phi3")


@pytest.mark.parametrize("name", list(FAMILIES))
def test_packed_passes(tmp_path: Path, name: str) -> None:
    """Real tokens alone, against each text run by transformers; windows shorter than the texts included."""
    folder = save(tmp_path, name)
    model = models.load(folder)
    assert models.packable(model) is (name in PACKED)
    if name not in PACKED:
        return
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = inference.encode_one(model, EXAMPLES)
    assert max(len(item.ids) for item in encoded) > 12
    ours: list[torch.Tensor] = []
    handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: ours.append(x[0]))
    inference.forward_batch(model, inference.pad(model, encoded), packed=True)
    handle.remove()
    theirs: list[torch.Tensor] = []
    hf.get_submodule(FAMILIES[name][2].format(1)).register_forward_pre_hook(lambda m, a: theirs.append(a[0][0]))
    with torch.no_grad():
        for item in encoded:
            hf(torch.tensor([item.ids]))
    want = torch.cat(theirs)
    assert float((ours[0] - want).abs().max()) <= 1e-5 * float(want.abs().max())


def test_mixtral_is_refused(tmp_path: Path) -> None:
    config = transformers.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path, safe_serialization=True)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="mixture of experts"):
        models.load(tmp_path)


def test_a_mixture_loaded_by_transformerlens_is_refused(tmp_path: Path) -> None:
    """Passed through `load`, it is caught by the hook's width or the config before anything is collected."""
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    config = transformers.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path, safe_serialization=True)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = models.load(bridge.boot_transformers(str(tmp_path), device="cpu"))
    with pytest.raises(InputError, match="mixture of experts"):
        models.check_mlp(model)


def test_a_users_own_bridge_passes(tmp_path: Path) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder = tiny_checkpoint(tmp_path / "m")
    theirs = bridge.boot_transformers(str(folder), device="cpu").eval()
    mine = models.load(folder)
    models.check_mlp(theirs)
    assert models.load(theirs) is theirs
    assert models.fingerprint(theirs)["weights_hash"] == models.fingerprint(mine)["weights_hash"]
    assert inference.generate(theirs, ["The old king"], max_new_tokens=8) == inference.generate(
        mine, ["The old king"], max_new_tokens=8
    )
