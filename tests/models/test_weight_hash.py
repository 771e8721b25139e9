"""A model's identity: sha256 of its weights in TransformerLens's layout, against the plain transformers model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

FAMILIES = ("llama", "gpt2")
STORIES3M_HASH = "10fa86a18ddd23c319a9966e4645f14802d2acd5c4ee0a0e5663289049adde51"


def hash_by_hand(hf: Any) -> str:
    """The definition read once more, from the plain transformers model: every weight in TransformerLens's layout."""
    heads, named = hf.config.num_attention_heads, {}
    if hasattr(hf, "model"):
        named |= {"embed.W_E": hf.model.embed_tokens.weight, "ln_final.w": hf.model.norm.weight}
        for i, block in enumerate(hf.model.layers):
            attn, mlp, kv = block.self_attn, block.mlp, hf.config.num_key_value_heads
            d_model = attn.q_proj.weight.shape[1]
            named |= {
                f"blocks.{i}.ln1.w": block.input_layernorm.weight,
                f"blocks.{i}.ln2.w": block.post_attention_layernorm.weight,
                f"blocks.{i}.attn.W_Q": attn.q_proj.weight.reshape(heads, -1, d_model).transpose(1, 2),
                f"blocks.{i}.attn.W_K": attn.k_proj.weight.reshape(kv, -1, d_model).transpose(1, 2),
                f"blocks.{i}.attn.W_V": attn.v_proj.weight.reshape(kv, -1, d_model).transpose(1, 2),
                f"blocks.{i}.attn.W_O": attn.o_proj.weight.T.reshape(heads, -1, d_model),
                f"blocks.{i}.mlp.W_in": mlp.up_proj.weight.T,
                f"blocks.{i}.mlp.W_gate": mlp.gate_proj.weight.T,
                f"blocks.{i}.mlp.W_out": mlp.down_proj.weight.T,
            }
    else:
        base = hf.transformer
        named |= {"embed.W_E": base.wte.weight, "pos_embed.W_pos": base.wpe.weight}
        named |= {"ln_final.w": base.ln_f.weight, "ln_final.b": base.ln_f.bias}
        for i, block in enumerate(base.h):
            parts = zip("QKV", block.attn.c_attn.weight.chunk(3, 1), block.attn.c_attn.bias.chunk(3), strict=True)
            for letter, weight, bias in parts:
                named[f"blocks.{i}.attn.W_{letter}"] = weight.reshape(weight.shape[0], heads, -1).transpose(0, 1)
                named[f"blocks.{i}.attn.b_{letter}"] = bias.reshape(heads, -1)
            named |= {
                f"blocks.{i}.attn.W_O": block.attn.c_proj.weight.reshape(heads, -1, base.wte.weight.shape[1]),
                f"blocks.{i}.attn.b_O": block.attn.c_proj.bias,
                f"blocks.{i}.mlp.W_in": block.mlp.c_fc.weight,
                f"blocks.{i}.mlp.b_in": block.mlp.c_fc.bias,
                f"blocks.{i}.mlp.W_out": block.mlp.c_proj.weight,
                f"blocks.{i}.mlp.b_out": block.mlp.c_proj.bias,
            }
            for ours, theirs in (("ln1", block.ln_1), ("ln2", block.ln_2)):
                named |= {f"blocks.{i}.{ours}.w": theirs.weight, f"blocks.{i}.{ours}.b": theirs.bias}
    named["unembed.W_U"] = hf.lm_head.weight.T
    digest = hashlib.sha256()
    for name in sorted(named):
        t = named[name].detach().contiguous()
        digest.update(f"{name}|{tuple(t.shape)}|{t.dtype}".encode())
        digest.update(t.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("family", FAMILIES)
def test_fingerprint_is_that_of_the_checkpoint(loaded: dict[str, Any], folders: dict[str, Path], family: str) -> None:
    hf = AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
    assert models.fingerprint(loaded[family])["weights_hash"] == hash_by_hand(hf)


def test_fingerprint_of_stories3m(stories3m: Any, shared_dir: Path) -> None:
    """One stored value for both TransformerLens lines."""
    hf = AutoModelForCausalLM.from_pretrained(shared_dir / "models" / "stories3M", dtype=torch.float32)
    print1 = models.fingerprint(stories3m)
    assert print1["weights_hash"] == hash_by_hand(hf) == STORIES3M_HASH


def test_fingerprint_sees_weights_and_dtype(tmp_path: Path, loaded: dict[str, Any], folders: dict[str, Path]) -> None:
    here = models.fingerprint(loaded["llama"])
    again = models.fingerprint(models.load(folders["llama"]))
    other = models.fingerprint(models.load(tiny_checkpoint(tmp_path / "other", seed=1)))
    half = models.fingerprint(models.load(folders["llama"], dtype="bfloat16"))
    assert here == again
    assert other["weights_hash"] != here["weights_hash"] and other["tokenizer_hash"] == here["tokenizer_hash"]
    assert half["weights_hash"] != here["weights_hash"]
    assert json.loads(json.dumps(here)) == here
