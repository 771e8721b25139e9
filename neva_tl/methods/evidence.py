"""Evidence: everything a method may build its edit from. Training data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import RelevanceGate, Scope
from neva_tl.methods.residuals import TextResiduals
from neva_tl.models import Model


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known from the training split.

    Attributes:
        model: the model.
        stats: collected statistics, with samples where a method fits probes.
        neurons: value -> selected neurons, shared by the neuron-level methods.
        scope: token scope that every method uses.
        margins: margin effects that selected the neurons, where the selector is `margin`; placebos that select alike read
            them, or measure their own.
        gate: relevance gate that every method carries; None for none.
        layers: layers of vector methods; chosen on validation prompts by the study, None for the method's default.
        chat: whether prompts go through a chat template (role prompts are worded for it).
        seed: of placebos and probe data.
        residuals: of training texts that were run again, kept for the methods and values that ask for the same texts.
    """

    model: Model
    stats: ActivationStats
    neurons: Mapping[str, NeuronSet]
    scope: Scope = "all"
    layers: tuple[int, ...] | None = None
    chat: bool = False
    seed: int = 0
    gate: RelevanceGate | None = None
    margins: MarginEffects | None = None
    residuals: TextResiduals = field(default_factory=TextResiduals, repr=False)
