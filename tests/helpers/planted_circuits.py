"""Models with a circuit put in by hand: a trigger word, heads that carry it, neurons that read it, words they write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from neva_tl.prompts.example import Example

TRIGGER = "trigger"
VALUE_WORDS = {
    "power": [f"rule{i}" for i in range(6)],
    "security": [f"safe{i}" for i in range(6)],
    "benevolence": [f"help{i}" for i in range(6)],
}
FILLERS = [f"word{i}" for i in range(40)]
LAYERS, HEADS, D_MODEL, D_MLP = 3, 4, 64, 48


@dataclass(frozen=True)
class Truth:
    """What was planted."""

    heads: tuple[tuple[int, int], ...]
    neurons: tuple[tuple[int, int], ...]
    edges: frozenset[tuple[str, str]]
    folder: Path


def tokenizer() -> Any:
    """One word, one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", TRIGGER, "the", *FILLERS, *(word for group in VALUE_WORDS.values() for word in group)]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>", unk_token="<unk>")


def plant(folder: Path, family: Literal["llama", "gpt2"], seed: int, noise: float = 0.01) -> Truth:
    """Save a random model in which two heads carry the trigger to three neurons that write the words of power.

    Head A feeds one neuron of layer 1 and one of layer 2, head B another of layer 1; each neuron writes all six words.
    Everything else is noise of the given spread.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    rng = np.random.default_rng(seed)
    text = tokenizer()
    ids = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id}
    if family == "llama":
        model: Any = LlamaForCausalLM(
            LlamaConfig(hidden_size=D_MODEL, intermediate_size=D_MLP, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                        num_key_value_heads=HEADS, vocab_size=len(text), max_position_embeddings=64,
                        tie_word_embeddings=False, **ids)
        )  # fmt: skip
    else:
        model = GPT2LMHeadModel(
            GPT2Config(n_embd=D_MODEL, n_inner=D_MLP, n_layer=LAYERS, n_head=HEADS, n_positions=64, vocab_size=len(text),
                       tie_word_embeddings=False, **ids)
        )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            weight.data = torch.randn(weight.shape, generator=generator) * noise
            if "wpe" in name:
                weight.data *= 0.1
        else:
            weight.data = torch.ones_like(weight) if "norm" in name or "ln_" in name else torch.zeros_like(weight)
            if "bias" in name:
                weight.data = torch.zeros_like(weight)
    vocabulary = text.get_vocab()
    # directions of their own; LayerNorm takes the mean out, so none may lie along it
    basis = torch.linalg.qr(torch.randn(D_MODEL, 9, generator=generator))[0]
    basis = basis - basis.mean(dim=0)
    basis = (basis / basis.norm(dim=0)).T
    trigger, mid_a, mid_b, out = basis[:4]
    embed = model.get_input_embeddings().weight.data
    embed += torch.randn(embed.shape, generator=generator) * 0.15
    # fillers share a direction and hold nothing of the planted ones, else they would be weak triggers too
    embed -= embed @ basis[:4].T @ basis[:4]
    embed += 2 * basis[6]
    embed[vocabulary[TRIGGER]] += 4 * trigger
    heads = ((0, int(rng.integers(HEADS))), (0, 0))
    heads = (heads[0], (0, int(rng.choice([h for h in range(HEADS) if h != heads[0][1]]))))
    first = [int(i) for i in rng.choice(D_MLP, 2, replace=False)]
    neurons = ((1, first[0]), (1, first[1]), (2, int(rng.integers(D_MLP))))
    reads = (mid_a, mid_b, mid_a)
    for (layer, head), middle in zip(heads, (mid_a, mid_b), strict=True):
        _carry(model, family, layer, head, trigger, middle)
    for (layer, index), source in zip(neurons, reads, strict=True):
        _neuron(model, family, layer, index, source, out)
    unembed = model.get_output_embeddings().weight.data
    words = VALUE_WORDS["power"]
    for word in words:
        unembed[vocabulary[word]] += out
    model.save_pretrained(folder, safe_serialization=True)
    text.save_pretrained(folder)
    head = [f"head:L{layer}.H{index}" for layer, index in heads]
    neuron = [f"neuron:L{layer}.{index}" for layer, index in neurons]
    edges = {(f"input:{TRIGGER}", name) for name in head}
    edges |= {(head[0], neuron[0]), (head[1], neuron[1]), (head[0], neuron[2])}
    edges |= {(name, f"token:{vocabulary[word]}") for name in neuron for word in words}
    return Truth(heads, neurons, frozenset(edges), Path(folder))


def _carry(model: Any, family: str, layer: int, head: int, source: torch.Tensor, target: torch.Tensor) -> None:
    """A head that attends evenly and copies one direction into another."""
    width = D_MODEL // HEADS
    rows = slice(head * width, (head + 1) * width)
    inner = torch.zeros(width)
    inner[0] = 1.0
    if family == "llama":
        attention = model.model.layers[layer].self_attn
        attention.v_proj.weight.data[rows] += torch.outer(inner, source)
        attention.o_proj.weight.data[:, rows] += 1.0 * torch.outer(target, inner)
    else:
        attention = model.transformer.h[layer].attn
        shift = 2 * D_MODEL  # q, k, v side by side; Conv1D keeps [in, out]
        attention.c_attn.weight.data[:, shift + rows.start : shift + rows.stop] += torch.outer(source, inner)
        attention.c_proj.weight.data[rows] += 1.0 * torch.outer(inner, target)


def _neuron(model: Any, family: str, layer: int, index: int, source: torch.Tensor, target: torch.Tensor) -> None:
    """A neuron that reads one direction and writes another."""
    if family == "llama":
        mlp = model.model.layers[layer].mlp
        mlp.gate_proj.weight.data[index] += 0.5 * source
        mlp.up_proj.weight.data[index] += 0.5 * source
        mlp.down_proj.weight.data[:, index] += 0.3 * target
    else:
        mlp = model.transformer.h[layer].mlp
        mlp.c_fc.weight.data[:, index] += 0.5 * source
        mlp.c_proj.weight.data[index] += 0.5 * target


def texts(seed: int, per_pole: int = 24) -> tuple[list[Example], np.ndarray]:
    """Fillers, with the trigger among them (+) or not (-)."""
    rng = np.random.default_rng([seed, 5])
    examples, signs = [], []
    for number in range(2 * per_pole):
        words = [str(word) for word in rng.choice(FILLERS, size=int(rng.integers(5, 9)))]
        if number % 2 == 0:
            words[int(rng.integers(1, len(words) - 1))] = TRIGGER
        examples.append(Example("", " ".join(words)))
        signs.append(1.0 if number % 2 == 0 else -1.0)
    return examples, np.array(signs)
