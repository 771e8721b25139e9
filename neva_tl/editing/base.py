"""What an edit is: a frozen description of changes at hook points, with a dose and a token scope.

An edit knows nothing of forward passes. `changes(model)` lists `Change(layer, site, apply)`; hooking.py puts them on the
model and takes them off again, session.py restricts them to the scope's tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.gate import RelevanceGate

#: Which tokens an edit touches. `prompt`: what the user gave; `generated`: what the model wrote (or the answer span that
#: is scored); `all`: both; `last`: the prompt's last token and every generated one (those that predict what comes).
Scope = Literal["all", "prompt", "generated", "last"]
SCOPES: tuple[str, ...] = ("all", "prompt", "generated", "last")

#: The edit's own class (`typing.Self` cannot be checked at run time on a single method).
E = TypeVar("E", bound="Edit")


@dataclass(frozen=True)
class Here:
    """What a change that asks for more than its activation is told of the running forward pass (b rows).

    Attributes:
        end: `[b]` place of each row's last prompt token (a text without prompt: of its first token); -1 where the prompt
            was run before, under the KV cache.
        inside: `[b]` whether the edit touches that token.
        held: the edit's own memory, tensors with one row per text: kept while the same texts go on, emptied when new prompts
            are run.
        sites: this layer's activations at the sites asked for.
    """

    end: Int[Tensor, " b"]
    inside: Bool[Tensor, " b"]
    held: dict[str, Tensor]
    sites: Mapping[str, Tensor]


@dataclass(frozen=True)
class Change:
    """One change at one hook point: `apply` maps the activation `[b, n, d]` to a new tensor of the same shape.

    Attributes:
        layer, site: the hook point.
        apply: `apply(x)`, or `apply(x, here)` where the change needs something.
        needs: other sites of the layer that fire before this one, and `prompt` where the change is worked out at the prompt
            (no run may then skip the prompt's forward pass).
    """

    layer: int
    site: str
    apply: Callable[..., Tensor]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Edit(ABC):
    """Base of all edits.

    Attributes:
        dose: strength, in the unit that each edit states.
        scope: which tokens are touched.
        gate: of those, only the tokens that it opens; None leaves them all open.
    """

    dose: float = field(default=1.0, kw_only=True)
    scope: Scope = field(default="all", kw_only=True)
    gate: RelevanceGate | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"unknown token scope {self.scope!r}: choose one of {', '.join(SCOPES)}")
        if not np.isfinite(self.dose):
            raise InputError(f"a dose must be a finite number, not {self.dose}")

    @abstractmethod
    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """The changes this edit makes to a model, checked against its sizes."""

    def with_dose(self: E, dose: float) -> E:
        """The same edit at another dose."""
        return replace(self, dose=float(dose))

    def with_scope(self: E, scope: Scope) -> E:
        """The same edit on other tokens."""
        return replace(self, scope=scope)

    def with_gate(self: E, gate: RelevanceGate | None) -> E:
        """The same edit behind a gate (None takes it off)."""
        return replace(self, gate=gate)

    @property
    def by_token(self) -> bool:
        """Whether what becomes of a token depends on no other text in the batch (else its texts cannot be cached)."""
        return True

    def rewrite(self, prompt: str) -> str:
        """The prompt as this edit wants it (only prompt-level methods change it)."""
        return prompt


@dataclass(frozen=True, eq=False)
class NeuronEdit(Edit):
    """An edit of single neurons at `hook_post`.

    A subclass says what becomes of them in `new_values`, or, where numbers of the neuron table have to be worked out first, in
    `per_neuron` and `moved`: those numbers are then made ready once for each layer and device, not in every forward pass.

    Attributes:
        neurons: whom to edit; the set's fingerprint must be the model's.
        effects: `positive` edits only neurons that are higher on the + pole, `all` edits every neuron of the set.
    """

    neurons: NeuronSet
    effects: Literal["positive", "all"] = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.neurons):
            raise InputError(
                f"the neuron set for {self.neurons.value} is empty: nothing to edit (relax the selection, or collect more pairs)"
            )
        if self.neurons.site != "post":
            raise InputError(f"edits act on site 'post', not {self.neurons.site!r}")
        if not len(self.chosen()):
            raise InputError(
                f"no neuron of the set for {self.neurons.value} is higher on the + pole: use effects='all'"
            )

    def chosen(self) -> pd.DataFrame:
        """The rows that are edited."""
        df = self.neurons.df
        return df if self.effects == "all" else df[df["mean_plus"] > df["mean_minus"]]

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """What `moved` is given beside the activations: a number for each of some rows of the neuron table, by that row alone."""
        return ()

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """New activations of the chosen neurons of one layer, from their present ones, out of place."""
        raise NotImplementedError(f"{type(self).__name__} says neither in `moved` nor in `new_values` what it does")

    def new_values(self, h: Float[Tensor, "b n s"], rows: pd.DataFrame) -> Float[Tensor, "b n s"]:
        """The same, from the rows of the neuron table."""
        return self.moved(h, *(column(numbers).to(h.device) for numbers in self.per_neuron(rows)))

    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """One change per layer that holds chosen neurons.

        Raises:
            InputError: the set was made on another model.
        """
        check_model(self.neurons, model)
        chosen = self.chosen()
        layer, neuron = (chosen[name].to_numpy(dtype=np.int64) for name in ("layer", "neuron"))
        # a subclass that has its own way reads the table itself
        own = type(self).new_values is not NeuronEdit.new_values
        # once for all layers: in a loop the table would take longer than the edit
        numbers = () if own else self.per_neuron(chosen)
        out = []
        for number in np.unique(layer):
            at = np.flatnonzero(layer == number)
            index = torch.from_numpy(neuron[at])
            if own:
                rows = chosen.iloc[at].reset_index(drop=True)
                apply = _replacing(index, (), lambda h, rows=rows: self.new_values(h, rows))
            else:
                apply = self._by_numbers(index, tuple(column(x[at]) for x in numbers))
            out.append(Change(int(number), "post", apply))
        return tuple(out)

    def _by_numbers(self, index: Int[Tensor, " s"], numbers: tuple[Tensor, ...]) -> Callable[[Tensor], Tensor]:
        return _replacing(index, numbers, self.moved)


def _replacing(
    index: Int[Tensor, " s"], numbers: tuple[Tensor, ...], new: Callable[..., Tensor]
) -> Callable[[Tensor], Tensor]:
    """Puts `new(h, *numbers)` in the place of the activations h of some neurons."""
    held = PerDevice(index, *numbers)

    def apply(x: Tensor) -> Tensor:
        at, *ready = held.on(x.device)
        # out of place: the activation may be held by a cache
        return x.index_copy(-1, at, new(x.index_select(-1, at), *ready).to(x.dtype))

    return apply


def check_model(neurons: NeuronSet, model: models.EditableModel) -> None:
    """Refuse neurons of another model.

    Raises:
        InputError: sizes or fingerprints differ.
    """
    info = models.info(model)
    if (neurons.n_layers, neurons.d_mlp) != (info.n_layers, info.d_mlp):
        raise InputError(
            f"this neuron set belongs to a model of {neurons.n_layers} layers x {neurons.d_mlp} neurons; "
            f"{info.name} has {info.n_layers} x {info.d_mlp}"
        )
    made_on = neurons.fingerprint.get("weights_hash")
    if made_on is not None and made_on != models.fingerprint(model)["weights_hash"]:
        dtype = neurons.fingerprint.get("dtype", info.dtype)
        if dtype != info.dtype:
            raise InputError(
                f"this neuron set was selected on a model in {dtype}, {info.name} is in {info.dtype}: load it with "
                f"dtype={dtype!r}, or select again on this model"
            )
        raise InputError(
            f"this neuron set was selected on other weights than {info.name}'s: select again on this model"
        )


def column(values: np.ndarray) -> Tensor:
    """Per-neuron numbers as a tensor `[s]`: flags as they are, all else float32 (half precision would round small steps away)."""
    return torch.tensor(values if values.dtype == bool else values.astype(np.float32))


def as_edits(edits: Edit | Sequence[Edit] | None) -> tuple[Edit, ...]:
    """One edit, several, or none, as a tuple."""
    if edits is None:
        return ()
    return (edits,) if isinstance(edits, Edit) else tuple(edits)


def rewrite(edits: Edit | Sequence[Edit] | None, prompt: str) -> str:
    """The prompt after every edit that works through the prompt."""
    for item in as_edits(edits):
        prompt = item.rewrite(prompt)
    return prompt
