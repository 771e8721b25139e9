"""Margin effects: first-order effects of neurons, by all paths, on the margins of values.

The margin of a value is the difference of the poles' mean per-token log-probabilities,
`m_j = mean_+ log P(answer | prompt) - mean_- log P(answer | prompt)`. To first order, a constant added to a neuron at every
answer token changes the margin by that constant times the margin effect: the gradient of m_j with respect to the activation,
summed over answer tokens (attribution patching with a constant; Nanda 2023). One forward and backward pass over a value's
texts gives the effect of all neurons, so that a neuron's effects on its own value and on all others can be compared. Ours.
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

from neva_tl import models
from neva_tl.attribution.gradient import layer_probes
from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.files import DAMAGED, atomic_write, first_line
from neva_tl.core.ledger import check
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueName
from neva_tl.models import inference
from neva_tl.prompts.contrast import examples_of
from neva_tl.prompts.example import Example


@dataclass(frozen=True, eq=False)
class MarginEffects:
    """Margin effects of every neuron on every value.

    Attributes:
        values: Names of the values.
        effect: `[j, layer, neuron]` nats per token and unit of activation.
        se: Standard errors of the effects over texts (assumed independent).
        n: Texts of each pole, the minimum over values.
    """

    values: tuple[str, ...]
    effect: Float[np.ndarray, "j l k"]
    se: Float[np.ndarray, "j l k"]
    n: int

    def of(self, value: str) -> Float[np.ndarray, "l k"]:
        """Return the effects on one value.

        Args:
            value: Name of the value.

        Raises:
            InputError: The value was not measured.
        """
        if value not in self.values:
            raise InputError(f"no margin effects on {value}: the measured values are {', '.join(self.values)}")
        return self.effect[self.values.index(value)]

    def table(self) -> pd.DataFrame:
        """Summarise the effects per value and layer.

        Returns:
            Columns value, layer, `rms` of the effects (nats per token and unit of activation) and `clear`, the share of
            neurons with an effect more than two standard errors from 0.
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
        """Draw the size of the effects by value and layer with matplotlib."""
        from neva_tl.plots import margin_heatmap

        return margin_heatmap(self.table())

    def _repr_html_(self) -> str:
        shape = f"{self.effect.shape[1]} layers x {self.effect.shape[2]} neurons"
        facts = {"values": len(self.values), "neurons": shape, "texts of each pole": self.n}
        return card("Margin effects", facts, self.table())

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file (float32) atomically.

        Args:
            path: Path of the file.

        Returns:
            The path.
        """
        from safetensors.numpy import save

        target = Path(path)
        tensors = {"effect": self.effect.astype(np.float32), "se": self.se.astype(np.float32)}
        with atomic_write(target) as file:
            file.write_bytes(save(tensors, {"values": ",".join(self.values), "n": str(self.n)}))
        return target

    @classmethod
    def load(cls, path: str | Path) -> MarginEffects:
        """Read a file written by `save`.

        Args:
            path: Path of the file.

        Raises:
            InputError: The file is missing, was changed since its run wrote it, or does not contain margin effects.
        """
        from safetensors import safe_open

        check(Path(path))
        try:
            with safe_open(str(path), framework="np") as file:
                about = file.metadata()
                effect, se = file.get_tensor("effect"), file.get_tensor("se")
            return cls(tuple(about["values"].split(",")), effect, se, int(about["n"]))
        except (OSError, *DAMAGED) as error:
            raise InputError(
                f"{path} does not hold margin effects ({first_line(error)}): remove it, and measure again"
            ) from error

    def rotated(self, bases: Sequence[Float[np.ndarray, "k k"]]) -> MarginEffects:
        """Return the effects of the coordinates of `h Q`; standard errors assume independent neurons.

        Args:
            bases: Basis Q of each layer.
        """
        effect = np.stack([self.effect[:, layer] @ basis for layer, basis in enumerate(bases)], axis=1)
        variance = np.stack([self.se[:, layer] ** 2 @ basis**2 for layer, basis in enumerate(bases)], axis=1)
        return MarginEffects(self.values, effect, np.sqrt(variance), self.n)


@check_arguments
def margin_effects(
    model: models.Model,
    table: pd.DataFrame,
    values: Sequence[ValueName],
    *,
    texts: int = 20,
    chat: bool | None = None,
    seed: int = 0,
    token_budget: int = 1024,
    progress: bool = False,
) -> MarginEffects:
    """Measure margin effects on a sample of each value's training texts.

    Args:
        model: A TransformerLens model; it is not changed.
        table: Rows of a contrast set's training split (`value, pole, text, answer_start, answer_end, pair_id`), for
            example `stats.samples.table`. If some rows have a prompt, only those are used, since the margin is
            defined on answers.
        values: Names of the values.
        texts: Texts of each pole and value, drawn at random; if the texts are paired, whole pairs are drawn.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        seed: Seed of the draw.
        token_budget: Padded tokens of a batch (the backward pass stores the activations of all layers).
        progress: Show a bar on stderr.

    Raises:
        InputError: No texts in the table, a value with fewer than two texts of a pole, or `texts` below 2.
        WorkError: A gradient is not finite.
    """
    if not values:
        raise InputError("margin effects need at least one value")
    if texts < 2:
        raise InputError(f"texts = {texts}: margin effects need at least two texts of each pole")
    if "text" not in table:
        raise InputError("margin effects need the training texts: collect with samples=True (or a path)")
    if missing := {"value", "pole", "answer_start", "answer_end"} - set(table.columns):
        raise InputError(f"the table lacks {', '.join(sorted(missing))}: pass the `df` of a ContrastSet")
    answered = table["answer_start"].fillna(0) > 0
    effect, se, fewest = [], [], texts
    with progress_bar(total=2 * texts * len(values), desc="margins", unit="text", progress=progress, leaf=True) as bar:
        for value in values:
            value_rows = table[(table["value"] == value) & (answered if bool(answered.any()) else True)]
            mean = variance = np.zeros(())
            for pole, sign in (("+", 1.0), ("-", -1.0)):
                sample = value_rows.iloc[_sample_positions(value_rows, pole, texts, seed)]
                if len(sample) < 2:
                    raise InputError(f"{value} has {len(sample)} texts of the {pole} pole: margin effects need two")
                first, second = _moments(model, examples_of(sample), chat, token_budget, bar)
                mean = mean + sign * first
                variance = variance + (second - first**2) / (len(sample) - 1)
                fewest = min(fewest, len(sample))
            if not np.isfinite(mean).all():
                raise WorkError(f"the gradient of the margin of {value} is not finite: try dtype float32")
            effect.append(mean)
            se.append(np.sqrt(np.maximum(variance, 0.0)))
    return MarginEffects(tuple(values), np.stack(effect), np.stack(se), fewest)


def _sample_positions(rows: pd.DataFrame, pole: str, n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Draw positions of a pole's texts; if they are paired, of the same pairs in both poles."""
    positions = np.flatnonzero((rows["pole"] == pole).to_numpy())
    rng = np.random.default_rng(seed)
    if rows["pair_id"].notna().all():
        names = np.sort(rows["pair_id"].unique().astype(str))
        selected_pairs = set(rng.permutation(names)[:n])
        return positions[rows["pair_id"].astype(str).iloc[positions].isin(selected_pairs).to_numpy()]
    return np.sort(rng.permutation(positions)[:n])


def _moments(
    model: models.Model, examples: Sequence[Example], chat: bool | None, token_budget: int, bar: Any
) -> tuple[Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
    """Return mean and mean square over texts of the gradient of the per-token log-probability, summed over answer tokens."""
    info = models.info(model)
    layers = range(info.n_layers)
    first, second = np.zeros((2, info.n_layers, info.d_mlp))
    for _, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        gradients = layer_probes(model, batch, layers, partial(_total, batch))
        answer = batch.answer[..., None]
        for layer, gradient in gradients.items():
            one = (gradient * answer).sum(dim=1).double().cpu().numpy()
            first[layer] += one.sum(axis=0)
            second[layer] += (one**2).sum(axis=0)
        bar.update(len(batch.tokens))
    return first / len(examples), second / len(examples)


def _total(batch: inference.Batch, logits: Float[Tensor, "b n v"]) -> Float[Tensor, ""]:
    """Return the sum over rows of the mean log-probability of the answer tokens."""
    scored = batch.answer[:, 1:].float()
    logprob = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    return ((logprob * scored).sum(dim=1) / scored.sum(dim=1).clamp_min(1)).sum()
