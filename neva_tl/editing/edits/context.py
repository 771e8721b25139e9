"""ContextAware: change a token only as much as it needs (METHODS 5; the closed form is ours).

Per layer, a logistic probe on the selected neurons S of that layer says how strongly a token's activations express the
value: `p = sigmoid(w . h_S + b)`. Where p is below p0, the smallest change along a direction u with `w . u = 1` brings it
there: `h_S += max(0, logit(p0) - b - w . h_S) * u`. Layers act in order, so that a later probe sees the earlier edits.

A negative dose (p0 < .5) suppresses: tokens above p0 are brought down to it, `h_S += min(0, logit(p0) - b - w . h_S) * u`.

Two guards, both ours: a layer whose probe one whole contrast hardly moves is left alone (meeting a need there would throw its
neurons far outside anything seen), and a token beyond every training text is treated as the outermost of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import Change, Scope, check_model
from neva_tl.editing.edits.probe import (
    LayerProbe,
    TowardsProbability,
    far_enough,
    logistic,
    meet_need,
    warn_unconverged,
)
from neva_tl.models import EditableModel
from neva_tl.selection.contrast import probe_rows

Direction = Literal["mean_difference", "smallest"]


@dataclass(frozen=True, eq=False)
class ContextAware(TowardsProbability):
    """Probe-gated minimal edit. The dose is `logit(p0)`: the log-odds that every touched token is brought up to, or, where it
    is negative, down to.

    `ContextAware.at(p0)` converts. Build one with `fit_context`.

    Attributes:
        neurons: the set the probes were fitted on.
        probes: one per layer, in layer order.
    """

    neurons: NeuronSet
    probes: tuple[LayerProbe, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError(f"the neuron set for {self.neurons.value} is empty: no probe to fit, nothing to edit")

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per probe."""
        check_model(self.neurons, model)
        return tuple(Change(probe.layer, "post", meet_need(probe, self.dose)) for probe in self.probes)


def fit_context(
    stats: ActivationStats,
    neurons: NeuronSet,
    *,
    direction: Direction = "mean_difference",
    C: float = 0.05,
    others: int = 40,
    dose: float = 2.0,
    scope: Scope = "all",
    least_reach: float = 1.0,
    seed: int = 0,
) -> ContextAware:
    """Fit the probes of a context-aware edit on the training samples behind `stats`.

    One L2 logistic probe per layer that holds selected neurons: target + against target - and `others` + prompts of every
    other value, balanced, on standardised pooled activations; then de-standardised (`w / sigma`, `b - sum w mu / sigma`).

    Args:
        stats: collected with `samples`.
        neurons: the selected set S.
        direction: `mean_difference` moves S along `mean(+) - mean(-)`; `smallest` along `Sigma w` with Sigma the diagonal
            of variances (the smallest change in units of each neuron's spread).
        C: inverse L2 strength (scikit-learn's).
        others: + prompts of each other value among the negatives.
        dose, scope: of the edit.
        least_reach: log-odds that one contrast must add to a layer's probe for the layer to be edited; where no layer does,
            the one that comes nearest is kept.
        seed: of the draw of other values' prompts.

    Raises:
        InputError: the statistics carry no samples or not this value, are of another size, or the set is empty.

    Warns:
        RuntimeWarning: a probe did not converge (layer and neurons are named).
    """
    if stats.samples is None:
        raise InputError("context-aware edits need the prompts' own activations: collect with samples=True (or a path)")
    stats.index(neurons.value)
    if (stats.model_layers, stats.d_mlp) != (neurons.n_layers, neurons.d_mlp):
        raise InputError(
            f"this neuron set belongs to a model of {neurons.n_layers} layers x {neurons.d_mlp} neurons; the statistics "
            f"have {stats.model_layers} x {stats.d_mlp}"
        )
    if max(neurons.layers, default=0) >= stats.n_layers:
        raise InputError(f"the statistics hold layers 0 to {stats.n_layers - 1} only: collect without stop_at_layer")
    rows, label, opposing = probe_rows(stats, neurons.value, others=others, seed=seed)
    probes, unconverged = [], []
    for layer in neurons.layers:
        index = neurons.at(layer)["neuron"].to_numpy(dtype=np.int64)
        h = np.asarray(stats.samples.h[:, layer, :][rows][:, index], dtype=np.float64)
        probe, converged = _fit_layer(h, label, opposing, layer, index, direction, C)
        if probe is not None:
            probes.append(probe)
        if not converged:
            unconverged.append(layer)
    warn_unconverged(f"probe for {neurons.value} on selected neurons", unconverged)
    return ContextAware(neurons, far_enough(probes, least_reach), dose=dose, scope=scope)


def _fit_layer(
    h: Float[np.ndarray, "n s"],
    label: Bool[np.ndarray, " n"],
    opposing: Bool[np.ndarray, " n"],
    layer: int,
    index: Int[np.ndarray, " s"],
    direction: Direction,
    C: float,
) -> tuple[LayerProbe | None, bool]:
    """Probe of one layer, None where none of its neurons varies, and whether it converged. `opposing`: the target's own -."""
    varies = h.std(axis=0) > 1e-8
    if not varies.any():
        return None, True
    h, index = h[:, varies], index[varies]
    weight, bias, converged = logistic(h, label, C)
    smallest = h.var(axis=0) * weight
    unit = smallest / (weight @ smallest)
    difference = h[label].mean(axis=0) - h[opposing].mean(axis=0)
    reach = float(weight @ difference)
    # against the probe's own gradient the difference would have to be reversed: fall back on the smallest change
    if direction == "mean_difference" and reach > 1e-6:
        unit = difference / reach
    odds = h @ weight + bias
    return LayerProbe(layer, index, weight, bias, unit, reach, float(odds.min()), float(odds.max())), converged
