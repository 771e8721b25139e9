"""Rotated basis: a placebo that tests whether single neurons are special (ours).

Each layer's `hook_post` is rotated by a random orthogonal matrix Q. The same selector with the same settings selects as many
rotated coordinates (a coordinate writes `Q^T W_out`), and the edit shifts along them:
`h += dose * Q_S (mean_plus_S - mean_minus_S)`. With all coordinates selected this equals the shift of all neurons.
"""

from __future__ import annotations

import warnings
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
from neva_tl.attribution.outputs import written
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import AddVector
from neva_tl.methods.evidence import Evidence
from neva_tl.selection.registry import quick
from neva_tl.selection.write_scales import write_scales


@check_arguments
def rotated(evidence: Evidence, value: ValueName) -> AddVector:
    """Shift along as many rotated coordinates as the value has neurons.

    Args:
        evidence: Training data with samples.
        value: The value whose neurons are matched.

    Raises:
        InputError: The statistics hold no samples, no selector made the neurons, or no coordinate passes the selector.
    """
    like = evidence.of(value)
    selector = selection.SELECTORS.get(like.method)
    if selector is None or selector.placebo:
        raise InputError(f"a rotated placebo needs neurons that a selector chose, not ones made by {like.method!r}")
    bases = rotations(evidence.stats.n_layers, evidence.stats.d_mlp, evidence.seed)
    stats = rotated_stats(evidence.stats, bases)
    selected = select_like(stats, like, _rotated_weights(evidence, bases), **_effects(evidence, like, bases))
    if not len(selected):
        raise InputError(f"no rotated coordinate passes the selector for {value}: nothing to edit")
    vectors = {}
    for layer in selected.layers:
        rows = selected.at(layer)
        step = (rows["mean_plus"] - rows["mean_minus"]).to_numpy(dtype=np.float64)
        vectors[layer] = (bases[layer][:, rows["neuron"].to_numpy()] @ step).astype(np.float32)
    return AddVector(vectors, name="rotated", site="post", scope=evidence.token_scope)


def rotations(n_layers: int, width: int, seed: int) -> list[Float[np.ndarray, "k k"]]:
    """A random orthogonal matrix per layer, uniformly distributed.

    QR of Gaussian numbers with the signs fixed (Mezzadri 2007).

    Args:
        n_layers: Number of matrices.
        width: Size of each matrix.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng([seed, 7])
    out = []
    for _ in range(n_layers):
        q, r = qr(rng.normal(size=(width, width)))
        out.append(q * np.sign(np.diag(r)))
    return out


def rotated_stats(stats: ActivationStats, bases: list[Float[np.ndarray, "k k"]]) -> ActivationStats:
    """Statistics of `h Q` per layer, from the samples; residual means are unchanged.

    Args:
        stats: Statistics with samples.
        bases: The matrix Q of each layer.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("rotating the basis needs single prompts: collect with samples=True (or a path)")
    h = np.empty(stats.samples.h.shape, dtype=np.float32)
    for layer, basis in enumerate(bases):
        h[:, layer] = np.asarray(stats.samples.h[:, layer], dtype=np.float32) @ basis.astype(np.float32)
    turned = ActivationStats.from_samples(
        h, stats.samples.table, pooling=stats.pooling, keep=False, theory=stats.theory
    )
    # no fingerprint, because a coordinate of a rotated basis is not a neuron of the model
    return replace(turned, resid=stats.resid)


def select_like(stats: ActivationStats, like: NeuronSet, model: models.Model, **more: Any) -> NeuronSet:
    """Repeat the selection of a set, with its settings and size, on other statistics.

    Args:
        stats: The other statistics.
        like: The set.
        model: The model that the selector reads.
        more: Options that replace the set's own.
    """
    # quick: the familywise p is not read
    options = {**like.settings.get("options", {}), **quick(like.method), **more}
    names = ("alpha", "delta", "lam", "require_split_half", "require_q", "layers", "seed")
    settings = {name: like.settings[name] for name in names if name in like.settings}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", selection.SelectionWarning
        )  # the caller refuses an empty set, and named no number
        return selection.select(
            stats, like.value, method=like.method, k=max(1, len(like)), model=model, **settings, **options
        )


def _effects(evidence: Evidence, like: NeuronSet, bases: list[Float[np.ndarray, "k k"]]) -> dict[str, Any]:
    """Options of selector `margin` in the rotated basis; empty for other selectors."""
    if like.method != "margin":
        return {}
    margins = evidence.margins
    if margins is None:
        assert evidence.stats.samples is not None  # `rotated_stats` has checked it
        margins = margin_effects(
            evidence.model, evidence.stats.samples.table, evidence.stats.values, seed=evidence.seed
        )
    return {"effects": margins.rotated(bases)}


def _rotated_weights(evidence: Evidence, bases: list[Float[np.ndarray, "k k"]]) -> Any:
    """What rotated coordinates of the model write, in the shape of a model whose MLPs have no norm after them.

    Selectors read no other weights.
    """
    blocks = []
    scales = write_scales(evidence.stats, evidence.model)
    for layer, basis in enumerate(bases):
        weight = written(evidence.model, layer).cpu() / scales[layer]
        turned = torch.as_tensor(basis.T, dtype=torch.float32) @ weight
        blocks.append(SimpleNamespace(mlp=SimpleNamespace(W_out=turned)))
    return SimpleNamespace(blocks=blocks)
