"""AUSteer (2602.04428, ICLR 2026): scale a few single dimensions.

An atomic unit is one input dimension `x_k` of a block's weight matrix. As in the published code (zijian678/AUSteer): the
activation momentum `beta_k` is the share of contrastive pairs on which the difference `x_k(+) - x_k(-)` has the majority's
sign, with that sign; the units with the largest `|beta_k|` over all layers are edited, at most 100 of them;

    x_k <- x_k + dose * gamma_k * x_k,   gamma_k = beta_k * sign(mean activation of k)

The step is a multiple of the activation itself, and so it adapts to the input.

Ours: the units are the MLP neurons, the input dimensions of the output projection (the published code also offers the
projection's output and the heads' output); activations are those of the statistics (the published code reads the last token of
prompt and answer); units of equal momentum, which few pairs give by the hundred, are ordered by the mean difference over its
spread (published: by layer); without pairs every + text is compared with every - text, and ties count half; the sign of the
mean activation. The published step, `sign="published"`, lacks it: it makes a unit larger in size wherever `beta_k` is above 0,
also one that is negative and should rise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from neva_tl.activations import ActivationStats
from neva_tl.activations.accumulate import CellIndex
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import Rescale
from neva_tl.methods.evidence import Evidence
from neva_tl.selection.base import Request, finish
from neva_tl.selection.contrast import is_paired
from neva_tl.selection.effect_size import measure_neurons

MOST_UNITS = 100


@check_arguments
def austeer(evidence: Evidence, value: ValueName, *, sign: Literal["towards", "published"] = "towards") -> Rescale:
    """Scale the 100 neurons of the largest activation momentum.

    Args:
        evidence: Training data with samples.
        value: The value to steer towards.
        sign: `towards` moves an average activation towards the + pole; `published` takes the momentum's sign alone.

    Raises:
        InputError: The statistics hold no samples, or no neuron differs between the poles.

    Example:
        >>> steer = nv.baselines.austeer(nv.baselines.Evidence(model, stats, {}), "benevolence")
        >>> len(steer.neurons), steer.weights
        (100, 'gamma')
    """
    neurons = atomic_units(evidence.stats, value, sign=sign)
    return Rescale(neurons, weights="gamma", scope=evidence.token_scope)


def atomic_units(
    stats: ActivationStats,
    value: str,
    *,
    most: int = MOST_UNITS,
    sign: Literal["towards", "published"] = "towards",
) -> NeuronSet:
    """The neurons of the largest activation momentum, best first.

    Args:
        stats: Statistics with samples.
        value: The value.
        most: Maximum number of neurons.
        sign: See `austeer`.

    Returns:
        The effect table's columns, `momentum` (beta) and `gamma`; score = |beta|.

    Raises:
        InputError: The statistics hold no samples, or no neuron differs between the poles.
    """
    momentum, ratio = (array.ravel() for array in activation_momentum(stats, value))
    order = np.lexsort((-np.abs(ratio), -np.abs(momentum)))
    best = order[np.abs(ratio[order]) > 0][:most]
    if not len(best):
        raise InputError(f"no neuron differs between the poles of {value}: austeer has nothing to edit")
    request = Request(value, k=len(best), k_requested=False)
    table = measure_neurons(stats, request, best).frame().drop(columns=["value"])
    middle = (table["mean_plus"] + table["mean_minus"]).to_numpy(dtype=np.float64)
    gamma = momentum[best] * (np.sign(middle) if sign == "towards" else 1.0)
    ranked = table.assign(momentum=momentum[best], gamma=gamma, score=np.abs(momentum[best]))
    return finish(stats, request, "austeer", ranked, {})


def activation_momentum(
    stats: ActivationStats, value: str
) -> tuple[Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
    """Activation momentum of every neuron, and the mean difference over its spread.

    Args:
        stats: Statistics with samples.
        value: The value.

    Returns:
        The momentum, in [-1, -.5] and [.5, 1], or 0 for neurons without a difference; the mean difference over the standard
        deviation of the differences (without pairs: over the one within poles), 0 where that is 0.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("austeer compares single texts: collect with samples=True (or a path)")
    plus, minus, paired = _rows(stats, value)
    momentum, ratio = (np.zeros((stats.n_layers, stats.d_mlp)) for _ in range(2))
    for layer in range(stats.n_layers):
        x = [np.asarray(stats.samples.h[rows, layer], dtype=np.float64) for rows in (plus, minus)]
        higher, lower = _shares_of_pairs(x[0] - x[1]) if paired else _shares_of_all(x[0], x[1])
        size = np.maximum(higher, lower)
        momentum[layer] = np.where(higher >= lower, size, -size) * (size > 0)
        mean, spread = _difference(x[0], x[1], paired)
        np.divide(mean, spread, out=ratio[layer], where=spread > 0)
    return momentum, ratio


def _rows(stats: ActivationStats, value: str) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"], bool]:
    """Row numbers of the + and - texts, pair by pair if there are pairs."""
    assert stats.samples is not None
    table = stats.samples.table
    rows = np.flatnonzero((table["value"] == value).to_numpy())
    if is_paired(stats):
        update = CellIndex.of(table, stats.values).update(rows)
        return rows[update.plus], rows[update.minus], True
    positive = (table["pole"].iloc[rows] == "+").to_numpy()
    return rows[positive], rows[~positive], False


def _shares_of_pairs(difference: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Shares of the pairs whose difference is above and below 0."""
    return (difference > 0).mean(axis=0), (difference < 0).mean(axis=0)


def _shares_of_all(
    plus: Float[np.ndarray, "n k"], minus: Float[np.ndarray, "m k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Shares of all (+, -) combinations of texts in which + is higher and lower.

    They follow from the ranks (Mann and Whitney's U).
    """
    n, m = len(plus), len(minus)
    ranks = rankdata(np.concatenate([plus, minus]), axis=0)[:n].sum(axis=0)
    higher = (ranks - n * (n + 1) / 2) / (n * m)
    return higher, 1 - higher


def _difference(
    plus: Float[np.ndarray, "n k"], minus: Float[np.ndarray, "m k"], paired: bool
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Mean difference, and the spread of the pairs' differences or within poles."""
    mean = plus.mean(axis=0) - minus.mean(axis=0)
    if paired:
        return mean, (plus - minus).std(axis=0, ddof=1)
    squares = sum(((x - x.mean(axis=0)) ** 2).sum(axis=0) for x in (plus, minus))
    return mean, np.sqrt(squares / max(len(plus) + len(minus) - 2, 1))
