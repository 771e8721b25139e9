"""Selector `write`: neurons by their write along the direction of the contrast.

    score_k = (mean_plus_k - mean_minus_k) * W_out[k, :] . u_L - lam_write * mean_j max(0, write_kj)

`u_L` is the unit mean difference of the residual stream (+ minus -) after the neuron's own layer L, so that the neurons with the
largest part in that direction are selected. In contrast to `neva`, the ranking does not read effect sizes, no screen removes
neurons (q is a column), and only the middle of the model is read, since later layers rewrite early writes and the last layers
write the next token. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, best_first, family_size, finish, limit_of, need_model, neurons_of
from neva_tl.selection.effect_size import add_familywise, measure_neurons, screen
from neva_tl.selection.neva import write_table

#: Number of neurons without k.
K = 300
#: First and last layer as shares of the model's layers: 6 to 19 of 24, 7 to 22 of 28.
DEPTH = (0.25, 0.8)


def select_write(
    stats: ActivationStats,
    request: Request,
    *,
    depth: Sequence[float] = DEPTH,
    offset: int = 0,
    lam_write: float = 0.0,
    other: Literal["mean", "max"] = "mean",
    project: bool = False,
    screened: bool = False,
    flips: int = 0,
) -> NeuronSet:
    """Neurons by what their mean difference writes along the value's direction.

    The score must be above 0.

    Args:
        stats: Activation statistics with residual means.
        request: The request; its model provides the output weights. Its layers, where it names some, replace `depth`; without k,
            `K` neurons are kept.
        depth: First and last layer as shares of the model's layers, both ends included.
        offset: Layers between the neuron and the direction that its write is projected on, up to the last collected layer.
        lam_write: Weight of the neuron's write along other values' own directions.
        other: Whether that write is the mean or the largest of the positive writes to other values.
        project: Project the other values' directions out of `u_L`.
        screened: Keep only neurons that pass the effect-size screen of the request.
        flips: Number of sign flips for `p_fwe` (with samples); 0 omits it.

    Returns:
        The effect table's columns and `write`, `write_other` (residual units).

    Raises:
        InputError: The model is missing, the site is `gate` (a gate alone writes nothing), `depth` holds no collected layer, or
            `write_table` raises it.
    """
    if request.site != "post":
        raise InputError("method write ranks by W_out, which reads site post: select at post, or use effect_size")
    model = need_model(request, "method write")
    layers = layers_between(stats, depth) if request.layers is None else request.layers
    # the settings of the set's file must not name a screen that was not applied
    request = replace(
        request,
        layers=layers,
        k=min(K, family_size(stats, layers)) if request.k is None else request.k,
        k_requested=request.k is not None and request.k_requested,
        require_q=screened and request.require_q,
        require_split_half=screened and request.require_split_half,
    )
    writes = write_table(stats, request.value, model, offset=offset, other=other, project=project)
    if screened:
        passed, counts = screen(stats, request)
        candidates = passed.at
    else:
        candidates, counts = neurons_of(stats, layers), {}
    write, write_other = (writes[name].ravel()[candidates] for name in ("write", "write_other"))
    score = write - lam_write * write_other
    counts["writes"] = int((write > 0).sum())
    counts["writes_this_value"] = int((score > 0).sum())
    best = best_first(score, limit_of(stats, request))
    best = best[score[best] > 0]
    order = np.argsort(candidates[best])  # a family's q-values are read in the model's order
    table = measure_neurons(stats, request, candidates[best][order]).frame()
    ranked = table.iloc[np.argsort(order)].assign(write=write[best], write_other=write_other[best], score=score[best])
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "write", ranked.drop(columns=["value"]), counts)


def layers_between(stats: ActivationStats, depth: Sequence[float]) -> tuple[int, ...]:
    """The collected layers between two shares of the model's depth, both ends included.

    Args:
        stats: Activation statistics.
        depth: First and last layer as shares of the model's layers.

    Raises:
        InputError: `depth` is not two ascending shares, or no collected layer lies between them.
    """
    shares = tuple(depth)
    if len(shares) != 2 or not 0 <= shares[0] <= shares[1] <= 1:
        raise InputError(f"depth = {depth!r} is not a range of shares of the model's layers, such as (0.25, 0.8)")
    n = stats.model_layers
    # 1e-9: a share such as .7 of 10 layers must not miss its layer by round-off
    first, last = math.ceil(shares[0] * n - 1e-9), math.floor(shares[1] * n + 1e-9)
    layers = tuple(range(first, min(last, stats.n_layers - 1) + 1))
    if not layers:
        raise InputError(
            f"no collected layer lies between {shares[0]:g} and {shares[1]:g} of the model's {n} layers: widen depth, or pass "
            "layers=..."
        )
    return layers
