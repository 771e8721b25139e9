"""Training texts, run again for numbers that the statistics do not contain."""

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


def need_samples(evidence: Evidence, why: str) -> Samples:
    """The statistics' samples, whose training texts can be run again.

    Args:
        evidence: Training data.
        why: Start of the error message: the method that needs the texts.

    Raises:
        InputError: The statistics hold no texts.
    """
    samples = evidence.stats.samples
    if samples is None or "text" not in samples.table:
        raise InputError(f"{why} reads the training texts again: collect with samples=True (or a path)")
    return samples


def training_texts(evidence: Evidence, rows: Int[np.ndarray, " n"], why: str) -> list[Example]:
    """Rows of the statistics' table as prompts and answers.

    Args:
        evidence: Training data.
        rows: Row numbers in the samples' table.
        why: See `need_samples`.

    Raises:
        InputError: The statistics hold no texts.
    """
    return examples_of(need_samples(evidence, why).table.iloc[rows])


def residuals(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], pooling: Weighted, why: str
) -> dict[int, Float[np.ndarray, "n d"]]:
    """`resid_post` of training texts, pooled over their answer tokens.

    Several methods read the same texts, and values share the texts that are other values' counterexamples. Each text is
    therefore run once and cached in the evidence (in float32), unless the cache would be too large.

    Args:
        evidence: Training data.
        rows: Row numbers in the samples' table.
        layers: Layers to return.
        pooling: `mean` over the answer tokens, or the `last` of them.
        why: See `need_samples`.

    Returns:
        Layer -> residuals, in the order of `rows`.

    Raises:
        InputError: The statistics hold no texts.
    """
    cache, info = evidence.residuals, models.info(evidence.model)
    size = (len(need_samples(evidence, why).table), info.n_layers, info.d_model)
    if not cache.fits(size):
        pooled = _pooled(evidence, rows, layers, why)[pooling]
        return {layer: pooled[:, index] for index, layer in enumerate(layers)}
    missing = cache.missing(rows)
    if len(missing):
        cache.put(size, missing, _pooled(evidence, missing, tuple(range(info.n_layers)), why))
    return {layer: cache.read(rows, layer, pooling) for layer in layers}


def _pooled(
    evidence: Evidence, rows: Int[np.ndarray, " n"], layers: tuple[int, ...], why: str
) -> dict[Weighted, Float[np.ndarray, "n l d"]]:
    """`resid_post` of training texts, pooled both ways in one pass.

    Pooling runs on the device inside the hook, so that no token's residual outlives its layer.
    """
    model, examples = evidence.model, training_texts(evidence, rows, why)
    hooks = [models.hook_name(model, layer, "resid_post") for layer in layers]
    poolings: tuple[Weighted, ...] = get_args(Weighted)
    pooled = np.empty((len(poolings), len(examples), len(layers), models.info(model).d_model), dtype=np.float32)
    for batch_rows, batch in inference.batches(model, examples, chat=evidence.chat):
        weights = torch.stack([pool_weights(batch.answer, pooling) for pooling in poolings])
        with record_hooks(model, hooks, partial(_weighted, weights)) as recorded:
            inference.forward_batch(model, batch, stop_at_layer=max(layers) + 1, logits=False)
        pooled[:, batch_rows] = torch.stack([recorded[name] for name in hooks], dim=2).numpy()
    return dict(zip(poolings, pooled, strict=True))


def _weighted(weights: Float[Tensor, "p b n"], x: Float[Tensor, "b n d"]) -> Float[Tensor, "p b d"]:
    return torch.einsum("pbn,bnd->pbd", weights.to(x.device), x.float()).cpu()


def token_quantiles(evidence: Evidence, value: str, neurons: NeuronSet, q: float, why: str) -> Float[np.ndarray, " k"]:
    """Quantile of each neuron's activation over the value's answer tokens.

    The answer tokens are those of the value's training texts, of both poles.

    Args:
        evidence: Training data.
        value: The value whose texts are read.
        neurons: The neurons; activations are read at the set's site (`gate`: `act(gate)`).
        q: The quantile, in [0, 1].
        why: See `need_samples`.

    Returns:
        Quantiles in the order of `neurons.df`.

    Raises:
        InputError: The statistics hold no texts.
    """
    samples = need_samples(evidence, why)
    rows = np.flatnonzero((samples.table["value"] == value).to_numpy())
    examples = training_texts(evidence, rows, why)
    layers = neurons.layers
    layer_index = np.searchsorted(layers, neurons.df["layer"].to_numpy())
    neuron_index = neurons.df["neuron"].to_numpy(dtype=np.int64)
    activations = []
    for _, batch in inference.batches(evidence.model, examples, chat=evidence.chat):
        tokens = chosen_tokens(evidence.model, batch, batch.answer.to(torch.bool), layers, neurons.site)
        activations.append(tokens[:, layer_index, neuron_index])
    return np.quantile(np.concatenate(activations), q, axis=0)
