"""Selector `neva`: effect-size screen, ranked by the neuron's write.

The write is that of a move from the - mean to the + mean.

    write_k  = (mean_plus_k - mean_minus_k) * W_out[k, :] . u_t
    score_k  = (|g_t| - lam * max(0, leak)) * (write_k - lam_write * mean_j max(0, write_kj))

`u_t` is the unit mean-difference direction of the residual stream (+ minus -) of value t some layers above the neuron, with
the other values' directions projected out; `write_kj` is the same product with value j's own unit direction. A neuron that
only reads a value has a large g and writes nothing along u_t: it ranks low. A neuron that writes other values too is penalised
by that amount. Where a norm follows the MLP (Gemma 2, OLMo 2), `W_out[k, :]` is what passes that norm, its scale frozen. The
paper's (arXiv 2602.07356) formula is not public; this one is ours.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.attribution.outputs import written
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.selection.base import Request, finish, need_model
from neva_tl.selection.effect_size import add_familywise, screen
from neva_tl.selection.write_scales import write_scales


def select_neva(
    stats: ActivationStats,
    request: Request,
    *,
    offset: int | None = None,
    lam_write: float = 2.0,
    other: Literal["mean", "max"] = "mean",
    project: bool = True,
    flips: int = 1000,
) -> NeuronSet:
    """Neurons that pass the effect-size screen and write the value.

    Ranked by specific effect times specific write.

    Both factors must be above 0.

    Args:
        stats: Activation statistics with residual means.
        request: The request; its model provides the output weights.
        offset: Layers between the neuron and the direction that its write is projected on, up to the last layer; None is an
            eighth of the model's layers, at least 1. At offset 0, as in the last layer, a neuron's own write is part of that
            direction, which favours it a little.
        lam_write: Weight of the neuron's write to other values.
        other: Whether that write is the mean or the largest of the positive writes to other values.
        project: Project the other values' directions out of `u_t`.
        flips: Number of sign flips for `p_fwe` (with samples); 0 omits it.

    Raises:
        InputError: The model is missing, the site is `gate` (a gate alone writes nothing), residual means are missing, or a
            direction has length 0.
    """
    if request.site != "post":
        raise InputError("method neva ranks by W_out, which reads site post: select at post, or use effect_size")
    model = need_model(request, "method neva")
    screened, counts = screen(stats, request)
    passed = screened.frame()
    writes = write_table(stats, request.value, model, offset=offset, other=other, project=project)
    at = passed["layer"].to_numpy() * stats.d_mlp + passed["neuron"].to_numpy()
    ranked = passed.assign(**{name: column.ravel()[at] for name, column in writes.items()})
    specific_write = ranked["write"] - lam_write * ranked["write_other"]
    keep = (ranked["specific"] > 0) & (ranked["write"] > 0)
    counts["writes"] = int(keep.sum())
    ranked = ranked.assign(score=ranked["specific"] * specific_write)[keep & (specific_write > 0)]
    ranked = ranked.sort_values("score", ascending=False, kind="stable")
    counts["writes_this_value"] = len(ranked)
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "neva", ranked.drop(columns=["value"]), counts)


@check_arguments
def write_table(
    stats: ActivationStats,
    value: ValueName,
    model: models.Model,
    *,
    offset: int | None = None,
    other: str = "mean",
    project: bool = True,
) -> dict[str, Float[np.ndarray, "l k"]]:
    """Each neuron's write along a value's direction, from - to + (residual units).

    Args:
        stats: Activation statistics with residual means.
        value: The value.
        model: The model (its output weights are read).
        offset: See `select_neva`.
        other: `mean` or `max` over the other values.
        project: Project the other values' directions out of `u_t`.

    Returns:
        `write` (along u_t) and `write_other` (mean or max over other values j of the positive part of the write along j's own
        unit direction, without projection; 0 if no other value was collected).

    Raises:
        InputError: `other` or `offset` is invalid, the model does not fit the statistics, or `directions` raises it.

    Example:
        >>> writes = nv.selection.write_table(stats, "power", model)
        >>> sorted(writes)
        ['write', 'write_other']
    """
    if other not in ("mean", "max"):
        raise InputError(f"unknown summary {other!r} of the writes to other values: mean or max")
    target, others = directions(stats, value, project=project)
    step = max(1, round(stats.n_layers / 8)) if offset is None else offset
    if step < 0:
        raise InputError(f"offset = {offset} is negative: the direction lies at or above the neuron's layer")
    delta, scales = stats.delta(value), write_scales(stats, model)
    write, write_other = np.zeros_like(delta), np.zeros_like(delta)
    for layer in range(stats.n_layers):
        above = min(layer + step, stats.n_layers - 1)
        basis = np.concatenate([target[None, above], others[:, above]])
        weight = (written(model, layer) / scales[layer]).cpu().numpy()
        if weight.shape != (stats.d_mlp, basis.shape[1]):
            raise InputError(
                f"W_out at layer {layer} is {weight.shape}, the statistics have {stats.d_mlp} neurons and residual "
                f"width {basis.shape[1]}: these statistics do not belong to this model, or hold no residual means"
            )
        along = delta[layer][:, None] * (weight @ basis.T.astype(np.float32))
        write[layer] = along[:, 0]
        if len(others):
            positive = np.maximum(0.0, along[:, 1:])
            write_other[layer] = positive.mean(axis=1) if other == "mean" else positive.max(axis=1)
    return {"write": write, "write_other": write_other}


def directions(
    stats: ActivationStats, value: str, *, project: bool = True
) -> tuple[Float[np.ndarray, "l d"], Float[np.ndarray, "j l d"]]:
    """Unit directions per layer: the value's own, and the other values'.

    Args:
        stats: Activation statistics with residual means.
        value: The value.
        project: Project the other values' directions out of the value's own.

    Raises:
        InputError: A direction has length 0: no residual means were collected, or (projected) the value's direction lies in
            the span of the others'.
    """
    names = [name for name in stats.values if name != value]
    raw = np.stack([stats.direction(name) for name in (value, *names)])
    length = np.linalg.norm(raw, axis=-1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise InputError("a value has no residual direction at some layer: neva needs residual means in the statistics")
    unit = raw / length
    target, others = unit[0], unit[1:]
    if not project or not len(others):
        return target, others
    out = np.empty_like(target)
    for layer, u in enumerate(target):
        # least squares instead of QR, because other values' directions may be linearly dependent
        basis = others[:, layer].T
        rest = u - basis @ np.linalg.lstsq(basis, u, rcond=1e-8)[0]
        size = np.linalg.norm(rest)
        if size < 1e-6:
            raise InputError(
                f"the direction of {value} at layer {layer} lies within the others' directions: pass project=False"
            )
        out[layer] = rest / size
    return out, others
