"""Margin effects: a neuron's first-order effect, by all paths, on how much likelier a model finds what expresses a value.

The margin of a value is the difference of the poles' mean per-token log-probabilities,
`m_j = mean_+ log P(answer | prompt) - mean_- log P(answer | prompt)`. Adding a constant to a neuron at every answer token
changes it, to first order, by that constant times the margin effect: the gradient of m_j by the activation, summed over answer
tokens (attribution patching with a constant; Nanda 2023). One pass forward and back over a value's texts gives it for all
neurons of the model, so that what a neuron does to its own value and to all others can be compared. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from neva_tl import models
from neva_tl.attribution.gradient import layer_probes
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.files import atomic_write
from neva_tl.models import inference
from neva_tl.prompts.contrast import examples_of
from neva_tl.prompts.example import Example


@dataclass(frozen=True, eq=False)
class MarginEffects:
    """Margin effects of every neuron on every value.

    Attributes:
        values: names.
        effect: `[j, layer, neuron]` nats per token and unit of activation.
        se: their standard errors over texts (taken as independent).
        n: texts of each pole behind them, the fewest over values.
    """

    values: tuple[str, ...]
    effect: Float[np.ndarray, "j l k"]
    se: Float[np.ndarray, "j l k"]
    n: int

    def of(self, value: str) -> Float[np.ndarray, "l k"]:
        """Effects on one value.

        Raises:
            InputError: it was not measured.
        """
        if value not in self.values:
            raise InputError(f"no margin effects on {value}: there are {', '.join(self.values)}")
        return self.effect[self.values.index(value)]

    def table(self) -> pd.DataFrame:
        """Per value and layer: `rms` of the effects (nats per token and unit of activation) and `clear`, the share of neurons
        whose effect is more than two standard errors from 0.
        """
        rows = [
            {
                "value": value,
                "layer": layer,
                "rms": float(np.sqrt((e**2).mean())),
                "clear": float((np.abs(e) > 2 * s).mean()),
            }
            for value, effects, errors in zip(self.values, self.effect, self.se, strict=True)
            for layer, (e, s) in enumerate(zip(effects, errors, strict=True))
        ]
        return pd.DataFrame(rows)

    def show(self) -> Any:
        """Size of the effects by value and layer, as a matplotlib figure."""
        from neva_tl.plots import margin_heatmap

        return margin_heatmap(self.table())

    def _repr_html_(self) -> str:
        shape = f"{self.effect.shape[1]} layers x {self.effect.shape[2]} neurons"
        facts = {"values": len(self.values), "neurons": shape, "texts of each pole": self.n}
        return card("Margin effects", facts, self.table())

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file (float32), whole or not at all."""
        from safetensors.numpy import save

        target = Path(path)
        tensors = {"effect": self.effect.astype(np.float32), "se": self.se.astype(np.float32)}
        with atomic_write(target) as file:
            file.write_bytes(save(tensors, {"values": ",".join(self.values), "n": str(self.n)}))
        return target

    @classmethod
    def load(cls, path: str | Path) -> MarginEffects:
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(str(path), framework="np") as file:
            about = file.metadata()
            effect, se = file.get_tensor("effect"), file.get_tensor("se")
        return cls(tuple(about["values"].split(",")), effect, se, int(about["n"]))

    def rotated(self, bases: Sequence[Float[np.ndarray, "k k"]]) -> MarginEffects:
        """Effects of the coordinates of `h Q`, a basis Q per layer (standard errors as if neurons were independent)."""
        effect = np.stack([self.effect[:, layer] @ basis for layer, basis in enumerate(bases)], axis=1)
        variance = np.stack([self.se[:, layer] ** 2 @ basis**2 for layer, basis in enumerate(bases)], axis=1)
        return MarginEffects(self.values, effect, np.sqrt(variance), self.n)


def margin_effects(
    model: models.Model,
    table: pd.DataFrame,
    values: Sequence[str],
    *,
    texts: int = 20,
    chat: bool | None = None,
    seed: int = 0,
    token_budget: int = 1024,
    progress: bool = False,
) -> MarginEffects:
    """Margin effects from some training texts of each value.

    Args:
        model: weights are read, nothing is changed.
        table: rows of a contrast set's training split (`value, pole, text, answer_start, answer_end, pair_id`), for example
            `stats.samples.table`. Where some rows have a prompt, only those are used: the margin is one of answers.
        values: whose margins.
        texts: texts of each pole and value, drawn by `seed`; whole pairs where they are paired.
        chat: force or forbid the chat template.
        token_budget: padded tokens of a batch (activations of all layers are kept for the backward pass).

    Raises:
        InputError: no texts in the table, a value without two texts of each pole, or `texts` below 2.
        WorkError: a gradient is not finite.
    """
    if texts < 2:
        raise InputError(f"texts = {texts}: margin effects need at least two texts of each pole")
    if "text" not in table:
        raise InputError("margin effects run the training texts again: collect with samples=True (or a path)")
    asked = table["answer_start"].fillna(0) > 0
    effect, se, fewest = [], [], texts
    with tqdm(total=2 * texts * len(values), desc="margins", unit="text", disable=not progress) as bar:
        for value in values:
            own = table[(table["value"] == value) & (asked if bool(asked.any()) else True)]
            mean = variance = np.zeros(())
            for pole, sign in (("+", 1.0), ("-", -1.0)):
                part = own.iloc[_drawn(own, pole, texts, seed)]
                if len(part) < 2:
                    raise InputError(f"{value} has {len(part)} texts of the {pole} pole: margin effects need two")
                first, second = _moments(model, examples_of(part), chat, token_budget, bar)
                mean = mean + sign * first
                variance = variance + (second - first**2) / (len(part) - 1)
                fewest = min(fewest, len(part))
            if not np.isfinite(mean).all():
                raise WorkError(f"the gradient of the margin of {value} is not finite: try dtype float32")
            effect.append(mean)
            se.append(np.sqrt(np.maximum(variance, 0.0)))
    return MarginEffects(tuple(values), np.stack(effect), np.stack(se), fewest)


def _drawn(own: pd.DataFrame, pole: str, most: int, seed: int) -> Int[np.ndarray, " n"]:
    """Places of a pole's texts: of the same pairs in both poles, where they are paired."""
    at = np.flatnonzero((own["pole"] == pole).to_numpy())
    rng = np.random.default_rng(seed)
    if own["pair_id"].notna().all():
        names = np.sort(own["pair_id"].unique().astype(str))
        chosen = set(rng.permutation(names)[:most])
        return at[own["pair_id"].astype(str).iloc[at].isin(chosen).to_numpy()]
    return np.sort(rng.permutation(at)[:most])


def _moments(
    model: models.Model, examples: Sequence[Example], chat: bool | None, token_budget: int, bar: Any
) -> tuple[Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
    """Mean and mean square over texts of the gradient of the per-token log-probability, summed over answer tokens."""
    info = models.info(model)
    layers = range(info.n_layers)
    first, second = np.zeros((2, info.n_layers, info.d_mlp))
    for _, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        found = layer_probes(model, batch, layers, partial(_total, batch))
        answer = batch.answer[..., None]
        for layer, gradient in found.items():
            one = (gradient * answer).sum(dim=1).double().cpu().numpy()
            first[layer] += one.sum(axis=0)
            second[layer] += (one**2).sum(axis=0)
        bar.update(len(batch.tokens))
    return first / len(examples), second / len(examples)


def _total(batch: inference.Batch, logits: Float[Tensor, "b n v"]) -> Float[Tensor, ""]:
    """Sum over rows of the mean log-probability of the answer tokens, given what is before them."""
    scored = batch.answer[:, 1:].float()
    logprob = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    return ((logprob * scored).sum(dim=1) / scored.sum(dim=1).clamp_min(1)).sum()
