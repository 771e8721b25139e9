"""ContextAware: change a token only as much as it needs (METHODS 5; the closed form is ours).

Per layer, a logistic probe on the selected neurons S of that layer measures how strongly a token's activations express the
value: `p = sigmoid(w . h_S + b)`. Where p is below p0, the smallest change along a direction u with `w . u = 1` raises it to
p0: `h_S += max(0, logit(p0) - b - w . h_S) * u`. Layers act in order, so that a later probe sees the earlier edits.

A negative dose (p0 < .5) suppresses: tokens above p0 are lowered to it, `h_S += min(0, logit(p0) - b - w . h_S) * u`.

Two guards, both ours: a layer whose probe hardly responds to one full contrast is not edited (meeting a need there would move
its neurons far outside the observed range), and a token outside the range of the training texts counts as the outermost of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Bound
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import AutoScope, Change, check_model, decided_scope
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
    """Probe-gated minimal edit.

    The dose is `logit(p0)`: the log-odds to which touched tokens are raised, or lowered where it is negative.
    `ContextAware.at(p0)` converts. Build one with `fit_context`.

    Attributes:
        neurons: The set on which the probes were fitted.
        probes: One per layer, in layer order.
    """

    neurons: NeuronSet
    probes: tuple[LayerProbe, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError(f"the neuron set for {self.neurons.value} is empty: no probe to fit, nothing to edit")

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per probe.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: The set was selected on another model.
        """
        check_model(self.neurons, model)
        return tuple(Change(probe.layer, "post", meet_need(probe, self.dose)) for probe in self.probes)


@check_arguments
def fit_context(
    stats: ActivationStats,
    neurons: NeuronSet,
    *,
    direction: Direction = "mean_difference",
    C: float = 0.05,
    others: int = 40,
    dose: float = 2.0,
    scope: AutoScope = "auto",
    least_reach: Bound = 1.0,
    seed: int = 0,
) -> ContextAware:
    """Fit the probes of a context-aware edit on the training samples of `stats`.

    One L2 logistic probe per layer with selected neurons: target + against target - and `others` + prompts of every
    other value, balanced, on standardised pooled activations; then de-standardised (`w / sigma`, `b - sum w mu / sigma`).

    Args:
        stats: Statistics collected with `samples`.
        neurons: The selected set S.
        direction: `mean_difference` moves S along `mean(+) - mean(-)`; `smallest` along `Sigma w` with Sigma the diagonal
            of variances (the smallest change in units of each neuron's spread).
        C: Inverse L2 strength, as in scikit-learn.
        others: Number of + prompts of each other value among the negatives.
        dose: Dose of the edit.
        scope: Token scope of the edit; `auto` is the study's: `last` on demo models, `generated` on all others.
        least_reach: Log-odds that one contrast must add to a layer's probe for the layer to be edited; if no layer reaches
            it, the layer with the largest reach is edited.
        seed: Seed of the draw of other values' prompts.

    Raises:
        InputError: The statistics lack samples or this value, have another size, or the set is empty.

    Warns:
        RuntimeWarning: A probe did not converge (the warning names layer and neurons).
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
    return ContextAware(neurons, far_enough(probes, least_reach), dose=dose, scope=decided_scope(scope, stats.demo))


def _fit_layer(
    h: Float[np.ndarray, "n s"],
    label: Bool[np.ndarray, " n"],
    opposing: Bool[np.ndarray, " n"],
    layer: int,
    index: Int[np.ndarray, " s"],
    direction: Direction,
    C: float,
) -> tuple[LayerProbe | None, bool]:
    """Probe of one layer (None where its neurons are constant), and whether it converged; `opposing` marks target -."""
    varies = h.std(axis=0) > 1e-8
    if not varies.any():
        return None, True
    h, index = h[:, varies], index[varies]
    weight, bias, converged = logistic(h, label, C)
    smallest = h.var(axis=0) * weight
    unit = smallest / (weight @ smallest)
    difference = h[label].mean(axis=0) - h[opposing].mean(axis=0)
    reach = float(weight @ difference)
    # against the probe's gradient the difference would have to be reversed: use the smallest change instead
    if direction == "mean_difference" and reach > 1e-6:
        unit = difference / reach
    odds = h @ weight + bias
    return LayerProbe(layer, index, weight, bias, unit, reach, float(odds.min()), float(odds.max())), converged
