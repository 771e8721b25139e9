"""The training texts behind an evidence's statistics, run again for what pooled neuron activations do not hold."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from neva_tl import inference, models
from neva_tl.activations import Pooling
from neva_tl.baselines.evidence import Evidence
from neva_tl.editing.tokens import chosen_tokens
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.prompts import Example
from neva_tl.prompts.contrast import examples_of


def training_texts(evidence: Evidence, rows: Int[np.ndarray, " n"], why: str) -> list[Example]:
    """Some rows of the statistics' table as prompts and answers.

    Raises:
        InputError: the statistics hold no texts; `why` says what needs them.
    """
    samples = evidence.stats.samples
    if samples is None or "text" not in samples.table:
        raise InputError(f"{why} reads the training texts again: collect with samples=True (or a path)")
    return examples_of(samples.table.iloc[rows])


def residuals(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], pooling: Pooling, why: str
) -> dict[int, Float[np.ndarray, "n d"]]:
    """Layer -> `resid_post` of some training texts, over their answer tokens (`mean`) or at the last of them (`last`).

    Several methods ask for the same texts, and values share those that are other values' counterexamples: where they fit,
    the evidence keeps them (in float32), and each text is run once.
    """
    training_texts(evidence, rows[:0], why)
    kept, info = evidence.residuals, models.info(evidence.model)
    assert evidence.stats.samples is not None
    size = (len(evidence.stats.samples.table), info.n_layers, info.d_model)
    if not kept.fits(size):
        found = _pooled(evidence, rows, layers, why)[pooling]
        return {layer: found[:, place] for place, layer in enumerate(layers)}
    missing = kept.missing(rows)
    if len(missing):
        kept.put(size, missing, _pooled(evidence, missing, tuple(range(info.n_layers)), why))
    return {layer: kept.read(rows, layer, pooling) for layer in layers}


def _pooled(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], why: str
) -> dict[Pooling, Float[np.ndarray, "n l d"]]:
    """`resid_post` of training texts, pooled both ways in one pass."""
    examples = training_texts(evidence, rows, why)
    found: dict[Pooling, np.ndarray] = {}
    for places, batch in inference.batches(evidence.model, examples, chat=evidence.chat):
        tokens = chosen_tokens(evidence.model, batch, batch.answer, layers, "resid_post").astype(np.float64)
        ends = np.cumsum(batch.answer.sum(dim=1).cpu().numpy())
        starts = np.concatenate([[0], ends[:-1]])
        mean = np.add.reduceat(tokens, starts, axis=0) / (ends - starts)[:, None, None]
        parts: dict[Pooling, np.ndarray] = {"mean": mean, "last": tokens[ends - 1]}
        for name, part in parts.items():
            if name not in found:
                found[name] = np.empty((len(examples), *part.shape[1:]))
            found[name][places] = part
    return found


def token_quantiles(evidence: Evidence, value: str, neurons: NeuronSet, q: float, why: str) -> Float[np.ndarray, " k"]:
    """Quantile of each neuron's activation over all answer tokens of the value's training texts, both poles.

    Order of `neurons.df`; activations at the set's site (`gate`: `act(gate)`).
    """
    samples = evidence.stats.samples
    if samples is None:
        raise InputError(f"{why} reads the training texts again: collect with samples=True (or a path)")
    rows = np.flatnonzero((samples.table["value"] == value).to_numpy())
    examples = training_texts(evidence, rows, why)
    layers = neurons.layers
    place = np.searchsorted(layers, neurons.df["layer"].to_numpy())
    index = neurons.df["neuron"].to_numpy(dtype=np.int64)
    seen = []
    for _, batch in inference.batches(evidence.model, examples, chat=evidence.chat):
        tokens = chosen_tokens(evidence.model, batch, batch.answer.to(torch.bool), layers, neurons.site)
        seen.append(tokens[:, place, index])
    return np.quantile(np.concatenate(seen), q, axis=0)
