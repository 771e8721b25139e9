"""Tiny configurations of many architectures, and the plain transformers model of each as an oracle.

Random weights from a seed, two layers, 48 neurons each, one shared tokenizer of 320 tokens. The oracle is transformers' own
model with raw PyTorch hooks on the down projection, one text at a time and without a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from neva_tl.models.tiny import save_checkpoint, tiny_tokenizer

D_MLP = 48
N_LAYERS = 2
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": D_MLP,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 128,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_HEADS = _GROUPED | {"head_dim": 8}
_LLAMA_LIKE = "model.layers.{}.mlp.down_proj"
_GPT2_LIKE = "transformer.h.{}.mlp.c_proj"
# what nv.load says
_EXPERTS = "is a mixture of experts"
_NOT_CAUSAL = "is not a causal language model"
_OTHER_NEURONS = "TransformerLens computes other neurons than transformers"
_CANNOT_RUN = "TransformerLens cannot run"
_UNKNOWN = "has no architecture"


@dataclass(frozen=True)
class Architecture:
    """One configuration of one family.

    Attributes:
        family: Name of the family.
        variant: The particulars of this configuration; empty for the plain one.
        classes: Prefix of transformers' classes, e.g. `Llama`.
        fields: Fields of its config.
        down: Name of the down projection, with `{}` for the layer.
        packs: Whether `neva_tl` runs packed passes.
        seed: Seed of the weights.
        refusal: Part of the message with which `nv.load` refuses; empty where it loads.
        core: Also run on TransformerLens 3.9.
        config: Prefix of the config's class where it is another one.
        head: End of the model class's name.
    """

    family: str
    variant: str
    classes: str
    fields: Mapping[str, Any]
    down: str = _LLAMA_LIKE
    packs: bool = True
    seed: int = 0
    refusal: str = ""
    core: bool = False
    config: str = ""
    head: str = "ForCausalLM"

    @property
    def name(self) -> str:
        """Family and variant."""
        return f"{self.family}, {self.variant}" if self.variant else self.family


def _llama3_rope() -> dict[str, Any]:
    factors = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    length = {"original_max_position_embeddings": 64}
    return {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0} | factors | length}


_GPT_SIZES = {"n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "vocab_size": 320, "n_positions": 128}
_GPT2_SIZES = _GPT_SIZES | {"n_inner": D_MLP}
_ROTARY_GPT = _GPT2_SIZES | {"rotary_dim": 4}
_NEO = {"hidden_size": 32, "num_layers": N_LAYERS, "num_heads": 4, "intermediate_size": D_MLP, "vocab_size": 320}
_BLOOM = {"hidden_size": 32, "n_layer": N_LAYERS, "n_head": 4, "vocab_size": 320}
_MPT = {"d_model": 32, "n_layers": N_LAYERS, "n_heads": 4, "expansion_ratio": 2, "vocab_size": 320, "max_seq_len": 128}
_OPT = {key: size for key, size in _SIZES.items() if key != "intermediate_size"} | {
    "ffn_dim": D_MLP,
    "word_embed_proj_dim": 32,
}
_XGLM = {"d_model": 32, "ffn_dim": D_MLP, "num_layers": N_LAYERS, "attention_heads": 4, "vocab_size": 320}
_FALCON = _SIZES | {"ffn_hidden_size": D_MLP}
_SEQUENTIAL_FALCON = _FALCON | {"parallel_attn": False, "multi_query": False, "bias": True}
_WINDOW = {"sliding_window": 6}
_PAD = {"pad_token_id": 0}
_GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0, "attention_multiplier": 0.3}
_TWO_OF_FOUR = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": D_MLP,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
_IMAGES = {"mm_tokens_per_image": 4, "image_token_index": 310, "boi_token_index": 311, "eoi_token_index": 312}
_LATENT = {"kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
_NEOX_DOWN = "gpt_neox.layers.{}.mlp.dense_4h_to_h"
_H_DOWN = "transformer.h.{}.mlp.dense_4h_to_h"

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("Llama", "", "Llama", _GROUPED, core=True),
    Architecture("Llama", "rope scaled as in Llama 3", "Llama", _GROUPED | _llama3_rope(), core=True),
    Architecture(
        "Llama",
        "biases and tied embeddings, as InternLM",
        "Llama",
        _SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        core=True,
    ),
    Architecture("Mistral", "window of 6 tokens", "Mistral", _HEADS | _WINDOW),
    Architecture("Ministral", "window of 6 tokens", "Ministral", _HEADS | _WINDOW, refusal=_UNKNOWN),
    Architecture("Ministral 3", "", "Ministral3", _HEADS),
    Architecture(
        "Qwen 2", "larger vocabulary than the tokenizer's", "Qwen2", _GROUPED | {"vocab_size": 340}, core=True
    ),
    Architecture("Qwen 3", "", "Qwen3", _HEADS),
    Architecture("Gemma 1", "", "Gemma", _HEADS),
    Architecture("Gemma 2", "window of 6 tokens", "Gemma2", _HEADS | _WINDOW, packs=False, core=True),
    Architecture(
        "Gemma 3", "window of 6 tokens", "Gemma3", _HEADS | _WINDOW | {"query_pre_attn_scalar": 8}, config="Gemma3Text"
    ),
    Architecture(
        "Gemma 3",
        "with images",
        "Gemma3",
        {"text_config": _HEADS, "vision_config": _VISION} | _IMAGES,
        "model.language_model.layers.{}.mlp.down_proj",
        seed=1,
        head="ForConditionalGeneration",
    ),
    Architecture("VaultGemma", "window of 6 tokens", "VaultGemma", _HEADS | _WINDOW, packs=False),
    Architecture("Phi", "", "Phi", _SIZES, "model.layers.{}.mlp.fc2"),
    Architecture("Phi-3", "", "Phi3", _GROUPED | _PAD),
    Architecture("GPT", "", "OpenAIGPT", _GPT_SIZES, _GPT2_LIKE, refusal=_OTHER_NEURONS, head="LMHeadModel"),
    Architecture("GPT-2", "", "GPT2", _GPT2_SIZES, _GPT2_LIKE, core=True, head="LMHeadModel"),
    Architecture(
        "GPT-2",
        "attention scaled by layer",
        "GPT2",
        _GPT2_SIZES | {"scale_attn_by_inverse_layer_idx": True},
        _GPT2_LIKE,
        core=True,
        head="LMHeadModel",
    ),
    Architecture("GPT-BigCode", "", "GPTBigCode", _GPT2_SIZES, _GPT2_LIKE),
    Architecture("GPT-NeoX", "parallel residual", "GPTNeoX", _SIZES, _NEOX_DOWN, packs=False),
    Architecture(
        "GPT-NeoX",
        "sequential residual",
        "GPTNeoX",
        _SIZES | {"use_parallel_residual": False},
        _NEOX_DOWN,
        packs=False,
    ),
    Architecture(
        "GPT-Neo",
        "global attention, and local in 6 tokens",
        "GPTNeo",
        _NEO | {"attention_types": [[["global", "local"], 1]], "window_size": 6, "max_position_embeddings": 128},
        _GPT2_LIKE,
        packs=False,
    ),
    Architecture("GPT-J", "", "GPTJ", _ROTARY_GPT, "transformer.h.{}.mlp.fc_out", packs=False),
    Architecture("CodeGen", "", "CodeGen", _ROTARY_GPT, "transformer.h.{}.mlp.fc_out", packs=False),
    Architecture("BLOOM", "", "Bloom", _BLOOM, _H_DOWN, packs=False, core=True),
    Architecture("MPT", "", "Mpt", _MPT, "transformer.blocks.{}.ffn.down_proj", packs=False),
    Architecture("OPT", "norms before", "OPT", _OPT, "model.decoder.layers.{}.fc2"),
    Architecture("OPT", "norms after", "OPT", _OPT | {"do_layer_norm_before": False}, refusal=_CANNOT_RUN),
    Architecture("XGLM", "", "XGLM", _XGLM | {"max_position_embeddings": 128}, "model.layers.{}.fc2", packs=False),
    Architecture("Falcon", "rotary, parallel, one key head", "Falcon", _FALCON, _H_DOWN, packs=False),
    Architecture("Falcon", "rotary, sequential", "Falcon", _SEQUENTIAL_FALCON, _H_DOWN, packs=False),
    Architecture(
        "Falcon",
        "rotary, new decoder",
        "Falcon",
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
        refusal=_CANNOT_RUN,
    ),
    Architecture("Falcon", "ALiBi", "Falcon", _SEQUENTIAL_FALCON | {"alibi": True}, refusal=_OTHER_NEURONS),
    Architecture("StableLM", "", "StableLm", _GROUPED),
    Architecture(
        "StableLM",
        "parallel residual, q/k norms",
        "StableLm",
        _GROUPED | {"use_parallel_residual": True, "qk_layernorm": True},
    ),
    Architecture("Cohere", "", "Cohere", _GROUPED | {"logit_scale": 0.25} | _PAD),
    Architecture("Cohere 2", "window of 6 tokens", "Cohere2", _HEADS | {"logit_scale": 0.25} | _WINDOW | _PAD),
    Architecture("Granite", "", "Granite", _GROUPED | _GRANITE),
    Architecture("OLMo 1", "", "Olmo", _GROUPED),
    Architecture("OLMo 2", "", "Olmo2", _GROUPED),
    Architecture("OLMo 3", "window of 6 tokens", "Olmo3", _GROUPED | _WINDOW),
    Architecture("SmolLM3", "a layer without rotation", "SmolLM3", _GROUPED | {"no_rope_layers": [1, 0]} | _PAD),
    Architecture("GLM", "", "Glm", _HEADS | _PAD),
    Architecture("GLM-4", "", "Glm4", _HEADS | _PAD),
    Architecture("Starcoder 2", "", "Starcoder2", _GROUPED, "model.layers.{}.mlp.c_proj"),
    Architecture("Nemotron", "", "Nemotron", _GROUPED),
    Architecture("Arcee", "", "Arcee", _GROUPED),
    Architecture("Apertus", "", "Apertus", _GROUPED),
    Architecture("Seed-OSS", "", "SeedOss", _HEADS),
    Architecture("Hunyuan", "", "HunYuanDenseV1", _HEADS | _PAD),
    Architecture("ERNIE 4.5", "", "Ernie4_5", _HEADS),
    Architecture("EXAONE 4", "window of 6 tokens", "Exaone4", _HEADS | _WINDOW),
    Architecture("Jais 2", "", "Jais2", _HEADS),
    Architecture("NanoChat", "", "NanoChat", _HEADS, "model.layers.{}.mlp.fc2"),
    Architecture("Youtu", "latent attention", "Youtu", _SIZES | _LATENT | _PAD),
    Architecture(
        "LFM 2",
        "a convolution and an attention layer",
        "Lfm2",
        _GROUPED | {"layer_types": ["conv", "full_attention"]},
        "model.layers.{}.feed_forward.w2",
        packs=False,
    ),
    Architecture("Helium", "", "Helium", _HEADS, refusal=_UNKNOWN),
    Architecture("CWM", "", "Cwm", _HEADS, refusal=_UNKNOWN),
    Architecture(
        "Mixtral", "", "Mixtral", _HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}, refusal=_EXPERTS
    ),
    Architecture("Qwen 2", "experts", "Qwen2Moe", _GROUPED | {"num_experts": 4} | _TWO_OF_FOUR, refusal=_EXPERTS),
    Architecture("Qwen 3", "experts", "Qwen3Moe", _HEADS | {"num_experts": 4} | _TWO_OF_FOUR, refusal=_EXPERTS),
    Architecture("OLMoE", "", "Olmoe", _GROUPED | {"num_experts": 4} | _TWO_OF_FOUR, refusal=_EXPERTS),
    Architecture(
        "gpt-oss", "", "GptOss", _HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}, refusal=_EXPERTS
    ),
    Architecture(
        "Mamba",
        "",
        "Mamba",
        {"hidden_size": 32, "num_hidden_layers": N_LAYERS, "vocab_size": 320},
        refusal="has no hook point 'blocks.0.mlp.hook_post'",
    ),
    Architecture("BERT", "", "Bert", _SIZES, refusal=_NOT_CAUSAL, core=True, head="ForMaskedLM"),
    Architecture(
        "T5",
        "",
        "T5",
        {"d_model": 32, "d_ff": D_MLP, "num_layers": N_LAYERS, "num_heads": 4, "d_kv": 8, "vocab_size": 320},
        refusal=_NOT_CAUSAL,
        head="ForConditionalGeneration",
    ),
)


def save(item: Architecture, folder: Path) -> Path:
    """Save a configuration with random weights and the shared tokenizer as an HF folder; return the folder.

    Weights have a standard deviation of .2, far from linear; norms and biases get random parts too.
    """
    config_class = getattr(transformers, f"{item.config or item.classes}Config")
    model_class = getattr(transformers, item.classes + item.head)
    model = model_class(config_class(**{"bos_token_id": 0, "eos_token_id": 1} | dict(item.fields)))
    generator = torch.Generator().manual_seed(item.seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if parameter.ndim == 1 and name.endswith("weight") else noise)
    return save_checkpoint(folder, model, tiny_tokenizer())


class Oracle:
    """Transformers' own model of a checkpoint with raw hooks on its down projections; one text at a time, no cache.

    Args:
        folder: The checkpoint.
        down: Name of the down projection, with `{}` for the layer.
    """

    def __init__(self, folder: Path, down: str) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.down = [self.model.get_submodule(down.format(layer)) for layer in range(N_LAYERS)]

    def logits(self, ids: Sequence[int]) -> Tensor:
        """`[n, d_vocab]`."""
        with torch.no_grad():
            return self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]

    def neurons(self, ids: Sequence[int]) -> list[Tensor]:
        """The input of each layer's down projection, `[n, d_mlp]` each."""
        inputs: list[Tensor] = []
        hooks = [
            module.register_forward_pre_hook(lambda _, args: inputs.append(args[0].reshape(-1, args[0].shape[-1])))
            for module in self.down
        ]
        self.logits(ids)
        for hook in hooks:
            hook.remove()
        return inputs

    @contextmanager
    def zeroed(self, neurons: Mapping[int, Sequence[int]]) -> Iterator[None]:
        """Set the output weights of neurons (by layer) to zero inside the block."""
        weights = {layer: self.down[layer].weight for layer in neurons}
        stored = {layer: weight.detach().clone() for layer, weight in weights.items()}
        with torch.no_grad():
            for layer, index in neurons.items():
                # a Linear stores [out, in], GPT-2's Conv1D [in, out]
                linear = isinstance(self.down[layer], torch.nn.Linear)
                (weights[layer].T if linear else weights[layer])[list(index)] = 0.0
        try:
            yield
        finally:
            with torch.no_grad():
                for layer, weight in weights.items():
                    weight.copy_(stored[layer])

    def greedy(
        self, ids: Sequence[int], n_new: int, steps: Mapping[int, Tensor], tokens: Callable[[int, int], slice]
    ) -> list[int]:
        """The most probable continuation, every pass run in full, with constants added to the neurons of some tokens.

        Args:
            ids: Prompt.
            n_new: Number of new tokens.
            steps: Layer -> `[d_mlp]`, added.
            tokens: `tokens(n_prompt, n)` is the slice of edited tokens among n.
        """
        text = list(ids)
        for _ in range(n_new):
            edited = tokens(len(ids), len(text))
            with self._added(steps, edited):
                text.append(int(self.logits(text)[-1].argmax()))
        return text[len(ids) :]

    @contextmanager
    def _added(self, steps: Mapping[int, Tensor], edited: slice) -> Iterator[None]:
        def adder(step: Tensor) -> Callable[..., tuple[Tensor]]:
            def add(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
                x = args[0].clone()
                x[..., edited, :] += step  # [1, n, d_mlp], or [n, d_mlp] (OPT)
                return (x,)

            return add

        hooks = [self.down[layer].register_forward_pre_hook(adder(step)) for layer, step in steps.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
