"""Membership in a circuit: masks over all heads and neurons of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from neva_tl import models
from neva_tl.core.brief import brief

#: (kind, layer, index) with kind head or neuron; inputs are ("input", -1, token id).
Name = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class Nodes:
    """Attention heads and MLP neurons, as masks.

    Attributes:
        heads: True for the heads of the circuit.
        neurons: True for the neurons of the circuit.

    Example:
        >>> nodes = nv.circuits.Nodes.of(model, heads=[(1, 0)], neurons=[(2, 7)])
        >>> nodes.head_list(), nodes.neuron_list(), len(nodes.flat())
        ([(1, 0)], [(2, 7)], 1552)
    """

    heads: Bool[Tensor, "n_layers n_heads"]
    neurons: Bool[Tensor, "n_layers d_mlp"]

    __repr__ = brief

    @classmethod
    def none(cls, model: models.Model) -> Nodes:
        """Return the empty circuit.

        Args:
            model: A TransformerLens model.
        """
        facts = models.info(model)
        return cls(
            torch.zeros(facts.n_layers, facts.n_heads, dtype=torch.bool),
            torch.zeros(facts.n_layers, facts.d_mlp, dtype=torch.bool),
        )

    @classmethod
    def of(
        cls, model: models.Model, heads: Iterable[tuple[int, int]] = (), neurons: Iterable[tuple[int, int]] = ()
    ) -> Nodes:
        """Return the circuit of these heads and neurons.

        Args:
            model: A TransformerLens model.
            heads: (layer, head) pairs.
            neurons: (layer, neuron) pairs.
        """
        nodes = cls.none(model)
        for mask, pairs in ((nodes.heads, heads), (nodes.neurons, neurons)):
            for layer, index in pairs:
                mask[layer, index] = True
        return nodes

    @classmethod
    def from_flat(cls, model: models.Model, mask: Tensor) -> Nodes:
        """Return the circuit of one mask over heads, then neurons (the order of `flat`).

        Args:
            model: A TransformerLens model.
            mask: `[n_nodes]`.
        """
        heads, neurons = split(model, mask)
        return cls(heads.bool(), neurons.bool())

    def flat(self) -> Bool[Tensor, " n_nodes"]:
        """One mask over heads, then neurons, layer by layer."""
        return torch.cat([self.heads.flatten(), self.neurons.flatten()])

    def __len__(self) -> int:
        return int(self.heads.sum()) + int(self.neurons.sum())

    def __invert__(self) -> Nodes:
        return Nodes(~self.heads, ~self.neurons)

    def head_list(self) -> list[tuple[int, int]]:
        """(layer, head) pairs, in order."""
        return [(int(a), int(b)) for a, b in self.heads.nonzero()]

    def neuron_list(self) -> list[tuple[int, int]]:
        """(layer, neuron) pairs, in order."""
        return [(int(a), int(b)) for a, b in self.neurons.nonzero()]

    def random_like(self, generator: torch.Generator) -> Nodes:
        """Draw a random circuit with as many heads and as many neurons, uniform over all layers.

        Args:
            generator: Source of randomness, on the CPU.
        """
        return Nodes(*(_shuffled(mask, generator) for mask in (self.heads, self.neurons)))


def split(model: models.Model, flat: Shaped[Tensor, " n_nodes"]) -> tuple[Shaped[Tensor, "l h"], Shaped[Tensor, "l k"]]:
    """Split one number per node into a table of heads and a table of neurons.

    Args:
        model: A TransformerLens model.
        flat: One number per head, then per neuron.
    """
    facts = models.info(model)
    cut = facts.n_layers * facts.n_heads
    return flat[:cut].reshape(facts.n_layers, -1), flat[cut:].reshape(facts.n_layers, -1)


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(mask.numel(), generator=generator)
    return mask.flatten()[order].reshape(mask.shape)
