"""Random models with planted neurons of known population effect.

A text holds filler words and marker words of one value. Each marker comes as `up` or `down`; a + text draws `up` with
probability .5 + lean, a - text with probability .5 - lean. The two embeddings of a marker are `base + c u` and `base - c u`, u
a direction that only the plants read or write. So up and down have the same length and are the same to every norm, head and
neuron except the planted ones: the activation of any other neuron is independent of the pole. With plants in the last layer
all other neurons are null; with plants in a lower layer all other neurons up to that layer are null, and neurons above it may
respond to the plants' writes.

The noise of a plant has known size: the noise of its markers' draws, and the noise of a random direction of the normalised
stream that it reads in addition to u, weighted so that its paired d_z has the intended size on a large sample.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq

from neva_tl import models
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.models import tiny
from neva_tl.models.hooks import record_hooks
from neva_tl.models.quiet import quiet
from neva_tl.prompts import ContrastSet
from neva_tl.selection.planted.weights import Plant, plant

PLANTED = ("benevolence", "power", "security")
#: Population d_z of the plants of each kind, in turn.
SIZES = (0.9, 1.0, 1.2, 1.5)
#: Neurons planted per value: kind -> number. Shared neurons read this value and the next.
COUNTS = {"writer": 12, "shared": 4, "silent decoy": 6, "decoy": 6}
N_LAYERS, D_MODEL, N_HEADS, N_FILLERS, N_WORDS = 4, 64, 4, 60, 6
MARKERS, FILLERS = 6, 8
LEAN = 0.3
#: Length of u in an embedding (a word's own part has about 4), strength of input weights, length of a writer's write per unit.
_MARK, _READ, _WRITE = 4.0, 1.5, 0.5
_ROWS = 512


@dataclass(frozen=True, eq=False)
class World:
    """A model and its planted neurons.

    Attributes:
        model: The loaded model with the plants.
        plants: The planted neurons.
        truth: One row per plant and value that it represents: `value, layer, neuron, kind, aimed` (the intended d_z).
        words: Value -> its words (the tokens that writers write).

    Example:
        >>> world = nv.planting.make_world(0, d_mlp=128, calibration=100)
        >>> world.contrast(10, seed=0)
        ContrastSet(planted: 60 texts, 3 values, paired)
    """

    model: models.Model
    plants: tuple[Plant, ...]
    truth: pd.DataFrame
    words: dict[str, list[str]]

    __repr__ = brief

    def contrast(self, pairs: int, seed: int) -> ContrastSet:
        """New pairs of every value, each pair a cluster of its own.

        Args:
            pairs: Number of pairs per value.
            seed: Seed of the draw.
        """
        rng = np.random.default_rng(seed)
        names = models.tokenizer(self.model).convert_ids_to_tokens(list(range(models.info(self.model).d_vocab)))
        rows = []
        for value in self.words:
            draws = {pole: _texts(rng, value, pairs, pole, self.model) for pole in "+-"}
            for i in range(pairs):
                for pole, ids in draws.items():
                    text = " ".join(names[token] for token in ids[i])
                    pair = f"{value}-{seed}-{i}"
                    rows.append({"value": value, "pole": pole, "text": text, "pair_id": pair, "cluster": pair})
        return ContrastSet.from_rows(rows, "planted")

    def population(self, value: str, pairs: int = 3000, seed: int = 0) -> pd.DataFrame:
        """Paired d_z of a value's plants on new pairs (activation at `hook_post`).

        Args:
            value: The value.
            pairs: Number of pairs.
            seed: Seed of the draw.

        Returns:
            The value's rows of `truth` with `d_z` and its standard error `se` (`sqrt((1 + d^2 / 2) / n)`).
        """
        rng = np.random.default_rng([seed, 99])
        truth = self.truth[self.truth["value"] == value].reset_index(drop=True)
        layer = int(truth["layer"].iloc[0])
        columns = torch.as_tensor(truth["neuron"].to_numpy(copy=True))
        name = models.hook_name(self.model, layer, "post")
        h = {
            pole: _run(self.model, _texts(rng, value, pairs, pole, self.model), name, layer + 1, columns).mean(axis=1)
            for pole in "+-"
        }
        diff = h["+"] - h["-"]
        d = diff.mean(axis=0) / diff.std(axis=0, ddof=1)
        return truth.assign(d_z=d, se=np.sqrt((1 + d**2 / 2) / pairs))


def make_world(
    seed: int,
    *,
    early: bool = False,
    d_mlp: int = 512,
    values: Sequence[str] = PLANTED,
    sizes: Sequence[float] = SIZES,
    calibration: int = 1000,
) -> World:
    """A random Llama of 4 layers with planted neurons.

    Args:
        seed: Seed of weights, neuron indices and calibration.
        early: Plant in the second layer instead of the last.
        d_mlp: Number of neurons of a layer.
        values: The planted values, at least two.
        sizes: Population d_z of the plants, in turn.
        calibration: Number of pairs that calibrate the plants' noise weights.

    Raises:
        InputError: There are fewer than two values, more plants than neurons of a layer, or a size that the markers' own
            noise does not allow.

    Example:
        >>> world = nv.planting.make_world(0, d_mlp=128, calibration=100)
        >>> len(world.plants), world.truth.columns.tolist()
        (84, ['value', 'layer', 'neuron', 'kind', 'aimed'])
    """
    per_value = sum(COUNTS.values())
    if len(values) < 2 or per_value * len(values) > d_mlp:
        raise InputError(
            f"{len(values)} values of {per_value} plants each do not fit: two values at least, {d_mlp} neurons"
        )
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(D_MODEL, D_MODEL)))[0].T
    marks, writes, rest = basis[: len(values)], basis[len(values) : 2 * len(values)], basis[2 * len(values) :]
    model = _random_model(rng, values, marks, writes, d_mlp)
    layer = 1 if early else N_LAYERS - 1
    spots = iter(rng.permutation(d_mlp).tolist())
    streams = {
        value: _streams(model, value, layer, calibration, np.random.default_rng([seed, i]))
        for i, value in enumerate(values)
    }
    plants, rows = [], []
    for v, value in enumerate(values):
        following = (v + 1) % len(values)
        for kind, count in COUNTS.items():
            for index in range(count):
                aimed = float(sizes[index % len(sizes)])
                noise = rng.normal(size=len(rest)) @ rest
                noise /= np.linalg.norm(noise)
                signal = marks[v] + (marks[following] if kind == "shared" else 0)
                unrelated = rng.normal(size=len(rest)) @ rest
                output = {
                    "writer": writes[v],
                    "shared": writes[v] + writes[following],
                    "silent decoy": None,
                    "decoy": unrelated / np.linalg.norm(unrelated),
                }[kind]
                one = Plant(
                    layer,
                    next(spots),
                    _calibrated(streams[value], signal, noise, aimed),
                    None if output is None else _WRITE * output,
                    (value, values[following]) if kind == "shared" else (value,),
                    kind,
                )
                plants.append(one)
                rows += [(name, layer, one.neuron, kind, aimed) for name in one.values]
    plant(model, plants)
    truth = pd.DataFrame(rows, columns=["value", "layer", "neuron", "kind", "aimed"])
    return World(model, tuple(plants), truth, {value: _words(value) for value in values})


def _words(value: str) -> list[str]:
    return [f"{value}{i}" for i in range(N_WORDS)]


def _vocabulary(values: Sequence[str]) -> list[str]:
    """The words, one token each: specials, fillers, markers and words of values."""
    words = ["<unk>", "<s>", *(f"filler{i}" for i in range(N_FILLERS))]
    for value in values:
        words += [f"up-{value}", f"down-{value}", *_words(value)]
    return words


def _random_model(
    rng: np.random.Generator, values: Sequence[str], marks: np.ndarray, writes: np.ndarray, d_mlp: int
) -> Any:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    vocabulary = _vocabulary(values)
    raw = Tokenizer(kinds.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>", unk_token="<unk>")
    llama = tiny.llama(tokenizer, n_layers=N_LAYERS, d_model=D_MODEL, d_mlp=d_mlp, n_heads=N_HEADS, n_ctx=64)
    hidden = np.concatenate([marks, writes])

    def draw(*shape: int, scale: float) -> np.ndarray:
        return rng.normal(scale=scale, size=shape)

    def blind(weight: np.ndarray, to: np.ndarray) -> np.ndarray:
        """Rows with some directions projected out."""
        return weight - weight @ to.T @ to

    embed = blind(draw(len(vocabulary), D_MODEL, scale=0.5), hidden)
    head = blind(draw(len(vocabulary), D_MODEL, scale=0.2), hidden)
    for v, value in enumerate(values):
        up, down = vocabulary.index(f"up-{value}"), vocabulary.index(f"down-{value}")
        embed[down] = embed[up] - _MARK * marks[v]
        embed[up] = embed[up] + _MARK * marks[v]
        for word in _words(value):
            head[vocabulary.index(word)] += 2 * writes[v]
    weights = {"model.embed_tokens.weight": embed, "lm_head.weight": head}
    for layer in range(N_LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj"):
            weights[f"{prefix}.self_attn.{name}.weight"] = blind(draw(D_MODEL, D_MODEL, scale=0.12), marks)
        for name in ("gate_proj", "up_proj"):
            weights[f"{prefix}.mlp.{name}.weight"] = blind(draw(d_mlp, D_MODEL, scale=0.12), marks)
        # HF stores [out, in], so the writes are columns
        weights[f"{prefix}.self_attn.o_proj.weight"] = blind(draw(D_MODEL, D_MODEL, scale=0.06), hidden).T
        weights[f"{prefix}.mlp.down_proj.weight"] = blind(draw(d_mlp, D_MODEL, scale=0.02), hidden).T
    parameters = dict(llama.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(torch.as_tensor(np.ascontiguousarray(weight)))
    with tempfile.TemporaryDirectory() as folder, quiet():
        return models.load(tiny.save_checkpoint(Path(folder) / "planted", llama, tokenizer))


def _texts(rng: np.random.Generator, value: str, count: int, pole: str, model: models.Model) -> Int[np.ndarray, "n t"]:
    """Token ids of texts of one pole, without BOS.

    Fillers and markers in random order.
    """
    ids = models.tokenizer(model).get_vocab()
    chance = 0.5 + (LEAN if pole == "+" else -LEAN)
    marked = np.where(rng.random((count, MARKERS)) < chance, ids[f"up-{value}"], ids[f"down-{value}"])
    plain = ids["filler0"] + rng.integers(0, N_FILLERS, (count, FILLERS))
    return rng.permuted(np.concatenate([plain, marked], axis=1), axis=1)


def _run(
    model: models.Model, ids: Int[np.ndarray, "n t"], name: str, stop: int, columns: torch.Tensor | None = None
) -> Float[np.ndarray, "n t c"]:
    """Activations of a hook point at every token except BOS."""
    out = []
    for start in range(0, len(ids), _ROWS):
        rows = torch.as_tensor(ids[start : start + _ROWS])
        tokens = torch.cat([torch.ones(len(rows), 1, dtype=torch.long), rows], dim=1)
        with record_hooks(model, [name]) as recorded:
            models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), stop_at_layer=stop, logits=False)
        x = recorded[name][:, 1:]
        out.append((x if columns is None else x[..., columns]).double().cpu().numpy())
    return np.concatenate(out)


def _streams(
    model: models.Model, value: str, layer: int, pairs: int, rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "n t d"]]:
    """Pole -> the normalised stream that a layer's MLP reads."""
    name = models.hook_name(model, layer, "resid_mid")
    eps = models.mlp_norm(model, layer).eps
    streams = {pole: _run(model, _texts(rng, value, pairs, pole, model), name, layer + 1) for pole in "+-"}
    return {pole: x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) for pole, x in streams.items()}


def _calibrated(
    streams: dict[str, Float[np.ndarray, "n t d"]], signal: np.ndarray, noise: np.ndarray, aimed: float
) -> Float[np.ndarray, " d"]:
    """Input weights at which the pooled activation has the intended paired d_z.

    The weights lie along `cos a signal + sin a noise`.
    """
    read = {pole: (x @ signal, x @ noise) for pole, x in streams.items()}

    def weights(angle: float) -> tuple[float, float]:
        return _READ * np.cos(angle) / np.linalg.norm(signal), _READ * np.sin(angle)

    def excess(angle: float) -> float:
        a, b = weights(angle)
        h = {}
        for pole, (s, e) in read.items():
            z = a * s + b * e
            h[pole] = (z * z / (1 + np.exp(-z))).mean(axis=1)
        diff = h["+"] - h["-"]
        return float(diff.mean() / diff.std(ddof=1)) - aimed

    if excess(0.0) < 0:
        raise InputError(f"d_z = {aimed} is beyond what the markers' own noise allows ({excess(0.0) + aimed:.2f})")
    a, b = weights(float(brentq(excess, 0.0, np.pi / 2, xtol=1e-3)))
    return np.asarray(a * signal + b * noise)
