"""Which heads and neurons are in a circuit: two masks over the whole model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from neva_tl import models

#: (kind, layer, index): head or neuron; inputs are ("input", -1, token id).
Name = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class Nodes:
    """Attention heads and MLP neurons, as masks."""

    heads: Bool[Tensor, "n_layers n_heads"]
    neurons: Bool[Tensor, "n_layers d_mlp"]

    @classmethod
    def none(cls, model: models.Model) -> Nodes:
        """The empty circuit."""
        facts = models.info(model)
        return cls(
            torch.zeros(facts.n_layers, facts.n_heads, dtype=torch.bool),
            torch.zeros(facts.n_layers, facts.d_mlp, dtype=torch.bool),
        )

    @classmethod
    def of(
        cls, model: models.Model, heads: Iterable[tuple[int, int]] = (), neurons: Iterable[tuple[int, int]] = ()
    ) -> Nodes:
        """The circuit of these (layer, head) and (layer, neuron)."""
        made = cls.none(model)
        for mask, chosen in ((made.heads, heads), (made.neurons, neurons)):
            for layer, index in chosen:
                mask[layer, index] = True
        return made

    @classmethod
    def from_flat(cls, model: models.Model, mask: Tensor) -> Nodes:
        """From one mask over heads, then neurons (the order of `flat`)."""
        heads, neurons = split(model, mask)
        return cls(heads.bool(), neurons.bool())

    def flat(self) -> Bool[Tensor, " n_nodes"]:
        """Heads, then neurons, layer by layer."""
        return torch.cat([self.heads.flatten(), self.neurons.flatten()])

    def __len__(self) -> int:
        return int(self.heads.sum()) + int(self.neurons.sum())

    def __invert__(self) -> Nodes:
        return Nodes(~self.heads, ~self.neurons)

    def head_list(self) -> list[tuple[int, int]]:
        """(layer, head), in order."""
        return [(int(a), int(b)) for a, b in self.heads.nonzero()]

    def neuron_list(self) -> list[tuple[int, int]]:
        """(layer, neuron), in order."""
        return [(int(a), int(b)) for a, b in self.neurons.nonzero()]

    def random_like(self, generator: torch.Generator) -> Nodes:
        """A random circuit with as many heads and as many neurons, drawn evenly over all layers."""
        return Nodes(*(_shuffled(mask, generator) for mask in (self.heads, self.neurons)))


def split(model: models.Model, flat: Shaped[Tensor, " n_nodes"]) -> tuple[Shaped[Tensor, "l h"], Shaped[Tensor, "l k"]]:
    """One number per node (heads, then neurons) as a table of heads and one of neurons."""
    facts = models.info(model)
    cut = facts.n_layers * facts.n_heads
    return flat[:cut].reshape(facts.n_layers, -1), flat[cut:].reshape(facts.n_layers, -1)


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(mask.numel(), generator=generator)
    return mask.flatten()[order].reshape(mask.shape)
