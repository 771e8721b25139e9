"""Ablate: replace a neuron's activation by zero, a mean, or its activation at another token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, NeuronEdit, PromptContext
from neva_tl.editing.constant import PerDevice
from neva_tl.models import EditableModel

Mode = Literal["zero", "mean", "plus", "resample"]


@dataclass(frozen=True, eq=False)
class Ablate(NeuronEdit):
    """`h_k = r_k`: ablation of neurons to a replacement value r (METHODS 4; ours).

    r is zero, the mean of the two poles' means, the + pole's mean, or the same neuron at another token. `resample` draws that
    token uniformly from the other tokens of the same text's prompt (never from padding), with the edit's seed: the neuron keeps
    its distribution and loses its information. A text that is scored without a prompt draws from its own tokens. The draw
    depends on the seed and the token's position alone, so that a text is the same in every batch, with any padding, and with
    and without the KV cache. A dose below 1 mixes: `h_k + dose * (r_k - h_k)`.

    Attributes:
        mode: `zero`, `mean`, `plus` (how LAPE activates a neuron) or `resample`.
        seed: Seed of the draw.
    """

    unit: ClassVar[DoseUnit] = "share"
    mode: Mode = field(default="zero", kw_only=True)
    seed: int = field(default=0, kw_only=True)
    effects: Literal["positive", "all"] = field(default="positive", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in get_args(Mode):
            raise InputError(f"unknown ablation {self.mode!r}: choose {', '.join(get_args(Mode))}")

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Replacement value of each neuron, where it is a mean."""
        plus = rows["mean_plus"].to_numpy(dtype=np.float64)
        if self.mode == "mean":
            return ((plus + rows["mean_minus"].to_numpy(dtype=np.float64)) / 2,)
        return (plus,) if self.mode == "plus" else ()

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        target = torch.zeros_like(h) if self.mode == "zero" else per_neuron[0].expand_as(h)
        return self._mixed(h, target)

    def _mixed(self, h: Tensor, target: Tensor) -> Tensor:
        return target if self.dose == 1.0 else h + self.dose * (target - h)

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per layer that contains edited neurons.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: The set was selected on another model.
        """
        plain = super().changes(model)
        if self.mode != "resample":
            return plain
        rows = self.chosen()
        layer, neuron = (rows[name].to_numpy(dtype=np.int64) for name in ("layer", "neuron"))
        return tuple(
            Change(x.layer, x.site, self._resampler(x.layer, torch.from_numpy(neuron[layer == x.layer])), ("prompt",))
            for x in plain
        )

    def _resampler(self, layer: int, index: Int[Tensor, " s"]) -> Callable[[Tensor, PromptContext], Tensor]:
        stored, draws = PerDevice(index), _Draws(self.seed)

        def apply(x: Tensor, context: PromptContext) -> Tensor:
            (neurons,) = stored.on(x.device)
            h = x.index_select(-1, neurons)
            drawn = _drawn(h, context, str(layer), draws)
            return x.index_copy(-1, neurons, self._mixed(h, drawn).to(x.dtype))

        return apply


class _Draws:
    """Uniforms of a seed, by position: those of a longer text begin with those of a shorter one."""

    def __init__(self, seed: int) -> None:
        self._seed, self._values = seed, torch.zeros(0, dtype=torch.float64)

    def at(self, positions: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The uniforms in [0, 1) at some positions."""
        longest = int(positions.max()) + 1
        if longest > len(self._values):
            size = max(256, 2 * longest)
            self._values = torch.from_numpy(np.random.default_rng(self._seed).random(size))
        self._values = self._values.to(positions.device)
        return self._values[positions]


def _drawn(h: Float[Tensor, "b n s"], context: PromptContext, name: str, draws: _Draws) -> Float[Tensor, "b n s"]:
    """Activations of the drawn tokens.

    Raises:
        InputError: A text with a single token to draw from.
    """
    generated, real = (mask.to(h.device) for mask in context.tokens())
    memory = context.memory
    if name not in memory or bool((context.end >= 0).any()):
        prompt = real & ~generated
        # a text without a prompt to draw from (a BOS alone is none) draws from itself
        alone = prompt.sum(dim=1, keepdim=True) < _LEAST
        pool = torch.where(alone, real, prompt)
        _store(h, pool, memory, name)
        before = torch.zeros(len(h), dtype=torch.long, device=h.device)
    else:
        before = memory[f"{name} run"]
    size = memory[f"{name} size"][:, None]
    if bool((size < _LEAST).any()):
        raise InputError(
            "resampling draws from the other tokens of the prompt, and a prompt here has a single token: use a longer "
            "prompt, or mode='mean'"
        )
    position = (before[:, None] + real.long().cumsum(1) - 1).clamp_min(0)
    memory[f"{name} run"] = before + real.sum(dim=1)
    u = draws.at(position)
    inside = position < size
    # the other tokens of the pool: one fewer for a token that is in it
    target = (u * torch.where(inside, size - 1, size).clamp_min(1)).long()
    target = torch.minimum(target + (inside & (target >= position)).long(), size - 1)
    return memory[name].gather(1, target[..., None].expand(-1, -1, h.shape[-1]))


#: Least number of tokens to draw from.
_LEAST = 2


def _store(h: Float[Tensor, "b n s"], pool: Bool[Tensor, "b n"], memory: dict[str, Tensor], name: str) -> None:
    """Store the activations of the tokens to draw from, in reading order without padding."""
    # a stable sort brings the pool's tokens to the front
    order = (~pool).to(torch.uint8).argsort(dim=1, stable=True)
    size = pool.sum(dim=1)
    width = max(int(size.max()), 1)
    memory[name] = h.gather(1, order[:, :width, None].expand(-1, -1, h.shape[-1]))
    memory[f"{name} size"] = size
