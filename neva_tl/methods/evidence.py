"""Evidence: the training data and models that a method may build its edit from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.arguments import CheckedArguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.names import did_you_mean
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import AutoScope, RelevanceGate, Scope, decided_scope
from neva_tl.methods.residuals import TextResiduals
from neva_tl.models import Model


@dataclass(frozen=True, eq=False)
class Evidence(metaclass=CheckedArguments):
    """Evidence of the training split.

    Attributes:
        model: The model.
        stats: Collected statistics, with samples where a method fits probes.
        neurons: Value -> selected neurons, shared by the neuron-level methods.
        scope: Token scope of every method; `auto` becomes the study's: `last` on demo models, `generated` on all others.
        layers: Layers of vector methods, chosen on validation prompts by the study; None takes the method's default.
        chat: Whether prompts are formatted with the chat template (role prompts are worded for it).
        seed: Seed of placebos and of probe data.
        gate: Relevance gate of every method; None for no gate.
        margins: Margin effects that selected the neurons, where the selector is `margin`; placebos that repeat the selection
            read them, or measure their own.
        sae: Folder, or repository of the hub, of sparse autoencoders in the format of `eai-sparsify`; None lets the method
            `sae` train one.
        residuals: Residuals of training texts, cached for all methods and values that read the same texts.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {"benevolence": neurons}, scope="last")
        >>> len(evidence.of("benevolence")) == len(neurons)
        True
    """

    model: Model
    stats: ActivationStats
    neurons: Mapping[ValueName, NeuronSet]
    scope: AutoScope = "auto"
    layers: tuple[int, ...] | None = None
    chat: bool = False
    seed: int = 0
    gate: RelevanceGate | None = None
    margins: MarginEffects | None = None
    sae: str | None = None
    residuals: TextResiduals = field(default_factory=TextResiduals, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", decided_scope(self.scope, self.stats.demo))

    @property
    def token_scope(self) -> Scope:
        """The decided scope."""
        return decided_scope(self.scope, self.stats.demo)

    def of(self, value: str) -> NeuronSet:
        """The selected neurons of a value.

        Args:
            value: Name of the value.

        Raises:
            InputError: The evidence has no neurons of the value.
        """
        if value not in self.neurons:
            hint = did_you_mean(value, self.neurons)
            raise InputError(
                f"no neurons of {value!r}: {hint}this evidence has those of {', '.join(self.neurons) or 'no value'}"
            )
        return self.neurons[value]
