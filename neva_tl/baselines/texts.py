"""The training texts behind an evidence's statistics, run again for what pooled neuron activations do not hold."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from neva_tl import inference
from neva_tl.activations import Pooling
from neva_tl.baselines.evidence import Evidence
from neva_tl.editing.tokens import chosen_tokens, last_answer_token
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
    """Layer -> `resid_post` of some training texts, over their answer tokens (`mean`) or at the last of them (`last`)."""
    examples = training_texts(evidence, rows, why)
    found: np.ndarray | None = None
    for places, batch in inference.batches(evidence.model, examples, chat=evidence.chat):
        chosen = last_answer_token(batch) if pooling == "last" else batch.answer
        tokens = chosen_tokens(evidence.model, batch, chosen, layers, "resid_post").astype(np.float64)
        counts = chosen.sum(dim=1).cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        pooled = np.add.reduceat(tokens, starts, axis=0) / counts[:, None, None]
        if found is None:
            found = np.empty((len(examples), *pooled.shape[1:]))
        found[places] = pooled
    assert found is not None
    return {layer: found[:, place] for place, layer in enumerate(layers)}


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
