"""The training texts behind an evidence's statistics, run again for what pooled neuron activations do not hold."""

from __future__ import annotations

from functools import partial
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.activations import Samples
from neva_tl.activations.pooling import Weighted, pool_weights
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.tokens import chosen_tokens
from neva_tl.methods.evidence import Evidence
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts import Example
from neva_tl.prompts.contrast import examples_of


def kept_samples(evidence: Evidence, why: str) -> Samples:
    """The statistics' samples, whose training texts can be run again.

    Raises:
        InputError: the statistics hold no texts; `why` says what needs them.
    """
    samples = evidence.stats.samples
    if samples is None or "text" not in samples.table:
        raise InputError(f"{why} reads the training texts again: collect with samples=True (or a path)")
    return samples


def training_texts(evidence: Evidence, rows: Int[np.ndarray, " n"], why: str) -> list[Example]:
    """Some rows of the statistics' table as prompts and answers.

    Raises:
        InputError: see `kept_samples`.
    """
    return examples_of(kept_samples(evidence, why).table.iloc[rows])


def residuals(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], pooling: Weighted, why: str
) -> dict[int, Float[np.ndarray, "n d"]]:
    """Layer -> `resid_post` of some training texts, over their answer tokens (`mean`) or at the last of them (`last`).

    Several methods ask for the same texts, and values share those that are other values' counterexamples: where they fit,
    the evidence keeps them (in float32), and each text is run once.
    """
    kept, info = evidence.residuals, models.info(evidence.model)
    size = (len(kept_samples(evidence, why).table), info.n_layers, info.d_model)
    if not kept.fits(size):
        found = _pooled(evidence, rows, layers, why)[pooling]
        return {layer: found[:, place] for place, layer in enumerate(layers)}
    missing = kept.missing(rows)
    if len(missing):
        kept.put(size, missing, _pooled(evidence, missing, tuple(range(info.n_layers)), why))
    return {layer: kept.read(rows, layer, pooling) for layer in layers}


def _pooled(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], why: str
) -> dict[Weighted, Float[np.ndarray, "n l d"]]:
    """`resid_post` of training texts, pooled both ways in one pass, on the device: no token outlives its layer's hook."""
    model, examples = evidence.model, training_texts(evidence, rows, why)
    hooks = [models.hook_name(model, layer, "resid_post") for layer in layers]
    poolings: tuple[Weighted, ...] = get_args(Weighted)
    found = np.empty((len(poolings), len(examples), len(layers), models.info(model).d_model), dtype=np.float32)
    for places, batch in inference.batches(model, examples, chat=evidence.chat):
        weights = torch.stack([pool_weights(batch.answer, pooling) for pooling in poolings])
        with record_hooks(model, hooks, partial(_weighted, weights)) as seen:
            inference.forward_batch(model, batch, stop_at_layer=max(layers) + 1, logits=False)
        found[:, places] = torch.stack([seen[name] for name in hooks], dim=2).numpy()
    return dict(zip(poolings, found, strict=True))


def _weighted(weights: Float[Tensor, "p b n"], x: Float[Tensor, "b n d"]) -> Float[Tensor, "p b d"]:
    return torch.einsum("pbn,bnd->pbd", weights.to(x.device), x.float()).cpu()


def token_quantiles(evidence: Evidence, value: str, neurons: NeuronSet, q: float, why: str) -> Float[np.ndarray, " k"]:
    """Quantile of each neuron's activation over all answer tokens of the value's training texts, both poles.

    Order of `neurons.df`; activations at the set's site (`gate`: `act(gate)`).
    """
    samples = kept_samples(evidence, why)
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
