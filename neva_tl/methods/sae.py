"""SAE features: the features of a sparse autoencoder that tell a value's poles apart, added along their decoder rows.

Features of a sparse autoencoder as steering directions: arXiv 2501.00581 among others. The score, the number of features and
the sizes of the steps are ours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.numpy import save_file
from torch import Tensor

from neva_tl import models
from neva_tl.activations.pooling import pool_weights
from neva_tl.core.arguments import check_arguments
from neva_tl.core.cache import content_key
from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, read_tensors
from neva_tl.core.locks import lock_folder
from neva_tl.core.statistics import hedges_g
from neva_tl.core.theories import ValueName
from neva_tl.core.user_cache import entry_folder
from neva_tl.editing import AddVector
from neva_tl.methods.caa import default_layers
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.sae_files import SparseAutoencoder, nearest_layer
from neva_tl.methods.sae_residuals import trained_sae
from neva_tl.methods.texts import need_samples
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.contrast import examples_of

#: Features of a value's edit, and the weight of specificity in their score.
K, LAM = 16, 1.0
#: Spread of a feature over texts, relative to its mean, that counts as rounding.
NOISE = 1e-4
_WHY = "sae"


@check_arguments
def sae(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the decoder rows of a value's features, each times the feature's mean difference between the poles.

    `x += dose * sum_f (mean_plus_f - mean_minus_f) W_dec[f]`, over the `K` features with the largest score (`sae_features`).

    Args:
        evidence: Training data; its `sae` names a folder of trained autoencoders, else a small one is trained and cached.
        value: The value to steer towards.

    Raises:
        InputError: No autoencoder is named and `eai-sparsify` is not installed, or no feature tells the poles apart.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from neva_tl.methods.sae_files import SparseAutoencoder
        >>> weights = torch.randn(2, 512, 128, generator=torch.Generator().manual_seed(0))
        >>> coder = SparseAutoencoder(weights[0], torch.zeros(512), weights[1], torch.zeros(128), k=16)
        >>> folder = str(coder.save(Path("sae/layers.2")))
        >>> evidence = nv.baselines.Evidence(model, stats, {}, layers=(2,), sae=folder)
        >>> nv.baselines.sae(evidence, "benevolence").vectors[2].shape
        (128,)
    """
    layer, coder = _autoencoder(evidence)
    features = _ranked(evidence, value, layer, coder).head(K)
    if not len(features):
        raise InputError(f"no feature of the sparse autoencoder of layer {layer} tells the poles of {value} apart")
    steps = (features["mean_plus"] - features["mean_minus"]).to_numpy()
    vector = steps @ coder.decoder[features["feature"].tolist()].double().numpy()
    return AddVector({layer: vector.astype(np.float32)}, name="sae", scope=evidence.token_scope)


@check_arguments
def sae_features(evidence: Evidence, value: ValueName) -> pd.DataFrame:
    """Rank the features that tell a value's poles apart, those that raise other values lower.

    Activations are pooled over the answer's tokens of the training texts, as the statistics are; g is Hedges' g of `+` against
    `-` texts, and the score is `|g| - max(0, leak)`, the largest g of another value in the same direction.

    Args:
        evidence: Training data, see `sae`.
        value: The value.

    Returns:
        `feature, g, leak, score, mean_plus, mean_minus` of the features with a score above 0, best first.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from neva_tl.methods.sae_files import SparseAutoencoder
        >>> eye, zeros = torch.eye(128), torch.zeros(128)  # its features are the dimensions of the residual stream
        >>> folder = str(SparseAutoencoder(eye, zeros, eye, zeros, k=16).save(Path("sae/layers.2")))
        >>> evidence = nv.baselines.Evidence(model, stats, {}, layers=(2,), sae=folder)
        >>> nv.baselines.sae_features(evidence, "benevolence").columns.tolist()
        ['feature', 'g', 'leak', 'score', 'mean_plus', 'mean_minus']
    """
    return _ranked(evidence, value, *_autoencoder(evidence))


def _autoencoder(evidence: Evidence) -> tuple[int, SparseAutoencoder]:
    """The layer and its autoencoder: the layer of the vector methods, or the nearest one that the folder has."""
    layers = evidence.layers if evidence.layers is not None else default_layers(evidence.stats.n_layers)
    layer = layers[len(layers) // 2]
    if evidence.sae is None:
        return layer, trained_sae(evidence, layer)
    layer, folder = nearest_layer(evidence.sae, layer)
    coder = SparseAutoencoder.load(folder)
    info = models.info(evidence.model)
    if layer >= info.n_layers or coder.width != info.d_model:
        raise InputError(
            f"the sparse autoencoder in {folder} reads {coder.width} dimensions of layer {layer}: {info.name} has "
            f"{info.n_layers} layers of {info.d_model}"
        )
    return layer, coder


class _Moments(NamedTuple):
    """Moments of pooled feature activations per value and pole (`+`, `-`): n `[v, 2]`, mean and M2 `[v, 2, m]`."""

    n: Float[np.ndarray, "v 2"]
    mean: Float[np.ndarray, "v 2 m"]
    m2: Float[np.ndarray, "v 2 m"]

    def g(self, index: int) -> Float[np.ndarray, " m"]:
        """Hedges' g of a value's poles; 0 where the spread is rounding noise or a pole has fewer than two texts."""
        plus, minus = ((int(self.n[index, p]), self.mean[index, p], self.m2[index, p]) for p in (0, 1))
        if min(plus[0], minus[0]) < 2:
            return np.zeros(self.mean.shape[-1])
        g = np.asarray(hedges_g(plus, minus).g)
        # a feature of the words that all texts share differs between texts by the rounding of float32 alone
        sd = np.sqrt((plus[2] + minus[2]) / (plus[0] + minus[0] - 2))
        return np.where(sd > NOISE * np.maximum(plus[1], minus[1]), g, 0.0)


def _ranked(evidence: Evidence, value: str, layer: int, coder: SparseAutoencoder) -> pd.DataFrame:
    stats = evidence.stats
    moments, target = _cached_moments(evidence, layer, coder), stats.index(value)
    g = moments.g(target)
    others = [np.sign(g) * moments.g(j) for j in range(len(stats.values)) if j != target]
    leak = np.max(others, axis=0) if others else np.zeros_like(g)
    table = pd.DataFrame(
        {
            "feature": np.arange(len(g)),
            "g": g,
            "leak": leak,
            "score": np.abs(g) - LAM * np.maximum(0.0, leak),
            "mean_plus": moments.mean[target, 0],
            "mean_minus": moments.mean[target, 1],
        }
    )
    table = table[(table["score"] > 0) & (table["g"] != 0)]
    return table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)


def _cached_moments(evidence: Evidence, layer: int, coder: SparseAutoencoder) -> _Moments:
    """Moments of the features on the training texts, in the user's cache: all values share one pass."""
    stats, table = evidence.stats, need_samples(evidence, _WHY).table
    texts = [[str(x) for x in table[name]] for name in ("value", "pole", "text", "answer_start", "answer_end")]
    encoding = inference.encoding_change(evidence.model, evidence.chat)
    facts = [list(stats.values), stats.pooling, evidence.chat, encoding, layer]
    key = content_key(models.fingerprint(evidence.model), content_hash(coder), texts, facts)
    folder = entry_folder("sae", f"features-{key[:20]}")
    file = folder / "moments.safetensors"
    with lock_folder(folder, wait=True):
        if not file.is_file():
            found = _moments(evidence, layer, coder)
            with atomic_write(file, recorded=False) as path:
                save_file(dict(zip(_Moments._fields, map(np.ascontiguousarray, found), strict=True)), path)
        tensors = read_tensors(file.read_bytes(), file, "moments of features")
    return _Moments(*(tensors[name] for name in _Moments._fields))


def _moments(evidence: Evidence, layer: int, coder: SparseAutoencoder) -> _Moments:
    """One pass over the training texts; each token is encoded in the hook, so that no batch of features is stored."""
    model, stats = evidence.model, evidence.stats
    table = need_samples(evidence, _WHY).table
    value = np.array([stats.index(str(name)) for name in table["value"]])
    pole = (table["pole"] != "+").to_numpy().astype(int)
    size = (len(stats.values), 2, coder.n_features)
    n, total, square = np.zeros(size[:2]), np.zeros(size), np.zeros(size)
    name = models.hook_name(model, layer, "resid_post")
    for rows, batch in inference.batches(model, examples_of(table), chat=evidence.chat):
        weights = pool_weights(batch.answer, "last" if stats.pooling == "last" else "mean").cpu()
        with record_hooks(model, [name], partial(_pooled, weights=weights, coder=coder)) as recorded:
            inference.forward_batch(model, batch, stop_at_layer=layer + 1, logits=False)
        pooled = recorded[name].double().numpy()
        cell = (value[rows], pole[rows])
        np.add.at(n, cell, 1.0)
        np.add.at(total, cell, pooled)
        np.add.at(square, cell, pooled**2)
    mean = total / np.maximum(n, 1)[..., None]
    return _Moments(n, mean, np.maximum(square - n[..., None] * mean**2, 0.0))


def _pooled(x: Float[Tensor, "b n d"], weights: Float[Tensor, "b n"], coder: SparseAutoencoder) -> Float[Tensor, "b m"]:
    """Weighted mean of the features over the tokens of each text."""
    row, token = weights.nonzero(as_tuple=True)
    values, features = coder.top(x.detach().float().cpu()[row, token])
    pooled = torch.zeros(len(weights), coder.n_features)
    weighted = values * weights[row, token][:, None]
    return pooled.index_put_((row[:, None].expand_as(features), features), weighted, accumulate=True)
