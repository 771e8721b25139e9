"""Rotated basis: is there anything special about single neurons? (Placebo; ours.)

Each layer's `hook_post` is rotated by a random orthogonal matrix Q, the same selector with the same settings chooses as many
rotated coordinates (what a coordinate writes is `Q^T W_out`), and the edit shifts along them:
`h += dose * Q_S (mean_plus_S - mean_minus_S)`. With all coordinates chosen it would be the very shift of all neurons.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import qr

from neva_tl import models, selection
from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import margin_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import AddVector
from neva_tl.methods.evidence import Evidence
from neva_tl.selection.registry import quick


def rotated(evidence: Evidence, value: str) -> AddVector:
    """A shift along as many rotated coordinates as the value has neurons.

    Raises:
        InputError: no samples, neurons that no selector chose, or no coordinate that passes the selector.
    """
    like = evidence.neurons[value]
    if like.method not in selection.SELECTORS or like.method in ("random", "label_shuffled"):
        raise InputError(f"a rotated placebo needs neurons that a selector chose, not ones made by {like.method!r}")
    bases = rotations(evidence.stats.n_layers, evidence.stats.d_mlp, evidence.seed)
    stats = rotated_stats(evidence.stats, bases)
    found = select_like(stats, like, _writes(evidence.model, bases), **_effects(evidence, like, bases))
    if not len(found):
        raise InputError(f"no rotated coordinate passes the selector for {value}: nothing to edit")
    vectors = {}
    for layer in found.layers:
        rows = found.at(layer)
        step = (rows["mean_plus"] - rows["mean_minus"]).to_numpy(dtype=np.float64)
        vectors[layer] = (bases[layer][:, rows["neuron"].to_numpy()] @ step).astype(np.float32)
    return AddVector(vectors, name="rotated", site="post", scope=evidence.scope)


def rotations(n_layers: int, width: int, seed: int) -> list[Float[np.ndarray, "k k"]]:
    """A random orthogonal matrix per layer, evenly distributed (QR of Gaussian numbers with signs fixed: Mezzadri 2007)."""
    rng = np.random.default_rng([seed, 7])
    out = []
    for _ in range(n_layers):
        q, r = qr(rng.normal(size=(width, width)))
        out.append(q * np.sign(np.diag(r)))
    return out


def rotated_stats(stats: ActivationStats, bases: list[Float[np.ndarray, "k k"]]) -> ActivationStats:
    """Statistics of `h Q` per layer, from the samples; the residual means stay.

    Raises:
        InputError: the statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("rotating the basis needs single prompts: collect with samples=True (or a path)")
    h = np.empty(stats.samples.h.shape, dtype=np.float32)
    for layer, basis in enumerate(bases):
        h[:, layer] = np.asarray(stats.samples.h[:, layer], dtype=np.float32) @ basis.astype(np.float32)
    turned = ActivationStats.from_samples(h, stats.samples.table, pooling=stats.pooling, keep=False)
    # no fingerprint: a coordinate of a rotated basis is no neuron of the model
    return replace(turned, resid=stats.resid)


def select_like(stats: ActivationStats, like: NeuronSet, model: models.Model, **more: Any) -> NeuronSet:
    """The selector behind a set, with its settings and `more` options, for as many coordinates of other statistics."""
    known = like.settings
    # no familywise p is read here
    options = {**known.get("options", {}), **quick(like.method), **more}
    names = ("alpha", "delta", "lam", "require_split_half", "require_q", "layers", "seed")
    settings = {name: known[name] for name in names if name in known}
    return selection.select(
        stats, like.value, method=like.method, k=max(1, len(like)), model=model, **settings, **options
    )


def _effects(evidence: Evidence, like: NeuronSet, bases: list[Float[np.ndarray, "k k"]]) -> dict[str, Any]:
    """What selector `margin` measures by running the model, in the rotated basis."""
    if like.method != "margin":
        return {}
    found = evidence.margins
    if found is None:
        assert evidence.stats.samples is not None  # or there were no rotated statistics
        found = margin_effects(evidence.model, evidence.stats.samples.table, evidence.stats.values, seed=evidence.seed)
    return {"effects": found.rotated(bases)}


def _writes(model: models.Model, bases: list[Float[np.ndarray, "k k"]]) -> Any:
    """What selectors read of a model, in the rotated basis: its output weights."""
    blocks = []
    for layer, basis in enumerate(bases):
        weight = models.w_out(model, layer).detach().float().cpu()
        turned = torch.as_tensor(basis.T, dtype=torch.float32) @ weight
        blocks.append(SimpleNamespace(mlp=SimpleNamespace(W_out=turned)))
    return SimpleNamespace(blocks=blocks)
