"""What tells two models with the same main weights apart, and how stored fingerprints are compared."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Olmo2Config, Qwen3Config

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import identity
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
IDS = torch.tensor([[3, 8, 21, 40, 5, 60, 11]])


def random_model(config: Any) -> Any:
    """A model with random weights, the same for equal sizes, and norms that are not all ones or zeros."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        weight.data.normal_(0, 0.2).add_(0.1 * (weight.ndim == 1))
    return model


def prints(first: Any, second: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return models.fingerprint(models.plain(first)), models.fingerprint(models.plain(second))


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (LlamaConfig, {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "rope_parameters"),
        (
            LlamaConfig,
            {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}},
            "rope_parameters",
        ),
        (LlamaConfig, {"rms_norm_eps": 1e-2}, "norm_eps"),
        (LlamaConfig, {"hidden_act": "gelu"}, "activation"),
        (Gemma2Config, {"attn_logit_softcapping": 1.0}, "attn_logit_softcapping"),
        (Gemma2Config, {"final_logit_softcapping": None}, "final_logit_softcapping"),
        (Gemma2Config, {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
        (Gemma2Config, {"sliding_window": 2}, "sliding_window"),
    ],
)
def test_settings_that_change_the_function(config: Any, change: dict[str, Any], named: str) -> None:
    first, second = random_model(config(**SIZES)), random_model(config(**{**SIZES, **change}))
    assert not torch.allclose(first(IDS).logits, second(IDS).logits, atol=1e-5), "an oracle: the functions differ"
    one, other = prints(first, second)
    assert one["weights_hash"] == other["weights_hash"], "version 0.1 could not tell them apart"
    assert named in models.function_difference(one, other) and named in models.fingerprint_difference(one, other)
    assert json.loads(json.dumps(one)) == one


@pytest.mark.parametrize(
    ("config", "parameter"),
    [
        (Qwen3Config, "self_attn.q_norm"),
        (Qwen3Config, "self_attn.k_norm"),
        (Gemma2Config, "post_attention_layernorm"),
        (Gemma2Config, "post_feedforward_layernorm"),
        (Olmo2Config, "self_attn.k_norm"),
        (Olmo2Config, "post_feedforward_layernorm"),
    ],
)
def test_every_norm_counts(config: Any, parameter: str) -> None:
    first, second = random_model(config(**SIZES)), random_model(config(**SIZES))
    assert models.fingerprint_difference(*prints(first, second)) == ""
    changed = copy.deepcopy(first)
    with torch.no_grad():
        changed.model.layers[1].get_submodule(parameter).weight[3] += 0.5
    assert not torch.allclose(first(IDS).logits, changed(IDS).logits, atol=1e-6)
    # TransformerLens 3.9 has some of these norms in its common layout, where weights_hash covers them
    assert models.fingerprint_difference(*prints(first, changed)) in ("other norms or further weights", "other weights")


class LoraLinear(nn.Module):
    """A linear map with a low-rank adapter, in PEFT's names."""

    def __init__(self, base: nn.Linear, scale: float) -> None:
        super().__init__()
        self.base_layer, self.scaling, self.active_adapters = base, {"default": scale}, ["default"]
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> None:
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))


def with_adapter(scale: float, seed: int = 1) -> Any:
    model = random_model(LlamaConfig(**SIZES))
    torch.manual_seed(seed)
    mlp = model.model.layers[0].mlp
    mlp.down_proj = LoraLinear(mlp.down_proj, scale)
    model.peft_config = {}
    return model.eval()


def test_adapters_and_their_scales_count() -> None:
    base = random_model(LlamaConfig(**SIZES))
    one, other = prints(base, with_adapter(1.0))
    assert one["weights_hash"] == other["weights_hash"]
    assert models.function_difference(one, other) == "other adapters, or other scales of them"
    assert models.fingerprint_difference(*prints(with_adapter(1.0), with_adapter(1.0))) == ""
    assert models.function_difference(*prints(with_adapter(1.0), with_adapter(2.0)))
    assert models.function_difference(*prints(with_adapter(1.0), with_adapter(1.0, seed=2)))


def test_an_adapter_added_in_place_is_seen() -> None:
    model = random_model(LlamaConfig(**SIZES))
    before = models.fingerprint(models.plain(model))
    mlp = model.model.layers[0].mlp
    mlp.down_proj, model.peft_config = LoraLinear(mlp.down_proj, 1.0), {}
    assert models.function_difference(before, models.fingerprint(models.plain(model)))


def test_loaded_and_plain_model_agree(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    loaded = models.fingerprint(models.load(folder))
    plain = models.fingerprint(models.plain(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)))
    assert models.function_difference(loaded, plain) == "" and loaded["function"] == plain["function"]


def test_only_shared_facts_are_compared() -> None:
    full = {"weights_hash": "a", "function": {"settings": {"norm_eps": 1e-5, "new": 1}, "other_weights": "hf:1"}}
    assert models.function_difference({"weights_hash": "a"}, full) == ""
    assert (
        models.function_difference({"function": {"settings": {"norm_eps": 1e-5}, "other_weights": "tl:2"}}, full) == ""
    )
    assert models.function_difference({"function": {"settings": {"norm_eps": 1e-6}, "other_weights": "hf:1"}}, full)
    assert models.function_difference({"function": [1]}, full) == ""
    assert models.fingerprint_difference({}, full) and models.fingerprint_difference({"weights_hash": "b"}, full)


def test_an_old_fingerprint_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_NOTED", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            models.note_old({"weights_hash": "a"}, "this set")
        models.note_old({"weights_hash": "a", "function": {}}, "another set")
        models.note_old({}, "a third set")
    assert len(caught) == 1 and "made by version 0.1" in str(caught[0].message)


def test_settings_of_a_hooked_transformer_without_configuration() -> None:
    cfg = SimpleNamespace(act_fn="gelu_pytorch_tanh", eps=1e-6, rotary_base=1e4, attn_scale=float("inf"))
    settings = identity._from_hooked(cfg)
    assert (settings["activation"], settings["norm_eps"], settings["tl_rotary_base"]) == ("gelu_tanh", 1e-6, 1e4)


def test_a_quantised_model_is_refused_in_one_line(tmp_path: Path) -> None:
    model = random_model(
        LlamaConfig(**SIZES, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    )
    with pytest.raises(InputError, match=r"is quantised \(bitsandbytes\): call model\.dequantize\(\)"):
        models.plain(model)
    folder = tiny_checkpoint(tmp_path / "q")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(InputError, match=r"is quantised \(gptq\)"):
        models.load(folder)


def test_a_peft_wrapper_is_refused_in_one_line() -> None:
    class PeftModel(nn.Module):
        peft_config = "default"

        def get_base_model(self) -> None: ...

    with pytest.raises(InputError, match=r"PeftModel wraps a model: give model\.get_base_model\(\)"):
        models.plain(PeftModel())
