"""Base classes of edits: frozen descriptions of changes at hook points, with a dose and a token scope.

An edit is independent of forward passes. `changes(model)` lists `Change(layer, site, apply)`; hooking.py installs them as
hooks and removes them, session.py restricts them to the tokens of the scope.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.auto import AUTO, DoseUnit, auto_of
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.edit_card import edit_card, edit_line
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.pretrained import Pretrained

#: Token scope of an edit. `prompt`: the tokens of the prompt; `generated`: generated tokens (or the answer span that is
#: scored); `all`: both; `last`: the prompt's last token and every generated token (the tokens that predict the continuation).
Scope = Literal["all", "prompt", "generated", "last"]
SCOPES: tuple[str, ...] = ("all", "prompt", "generated", "last")

#: A scope, or `auto`: the study's scope for the model.
AutoScope = Literal["auto", "all", "prompt", "generated", "last"]


def decided_scope(scope: AutoScope, demo: bool) -> Scope:
    """Return a scope with `auto` decided.

    Args:
        scope: The scope, or `auto`.
        demo: Whether the model is a demo model.

    Example:
        >>> nv.editing.decided_scope("auto", demo=True), nv.editing.decided_scope("generated", demo=True)
        ('last', 'generated')
    """
    return auto_of(demo).scope if scope == AUTO else scope


#: Class of the edit itself (`typing.Self` cannot be checked at run time on a single method).
E = TypeVar("E", bound="Edit")


def _no_ids() -> Int[Tensor, "b n"]:
    raise InputError("a change reads token ids only where its `needs` has 'tokens'")


@dataclass(frozen=True)
class PromptContext:
    """Facts of the running forward pass (b rows) for changes that need more than their activation.

    Attributes:
        end: `[b]` position of each row's last prompt token (of the first token in a text without prompt); -1 where the prompt
            was run before, under the KV cache.
        inside: `[b]` whether the edit touches that token.
        memory: Tensors of the edit with one row per text: stored while the same texts continue, emptied when new prompts
            are run.
        sites: Activations of this layer at the sites in `Change.needs`.
        tokens: Returns two masks `[b, n]`: True for generated tokens, and True for real ones (no padding).
        ids: Returns the token ids `[b, n]` of the running pass, where `Change.needs` has `tokens`.

    Example:
        >>> def shift(x, context):  # moves generated tokens by 0.1
        ...     generated, real = context.tokens()
        ...     return x + 0.1 * generated[..., None]
        >>> nv.editing.Change(2, "resid_post", shift, needs=("prompt",)).needs
        ('prompt',)
    """

    end: Int[Tensor, " b"]
    inside: Bool[Tensor, " b"]
    memory: dict[str, Tensor]
    sites: Mapping[str, Tensor]
    tokens: Callable[[], tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]]
    ids: Callable[[], Int[Tensor, "b n"]] = _no_ids

    __repr__ = brief


@dataclass(frozen=True)
class Change:
    """One change at one hook point: `apply` maps the activation `[b, n, d]` to a new tensor of the same shape.

    Attributes:
        layer: The layer.
        site: Short name of the hook point.
        apply: `apply(x)`, or `apply(x, context)` with a `PromptContext` where `needs` is not empty.
        needs: Other sites of the layer that fire before this one, `prompt` where the change is computed at the prompt (no run
            may then skip the prompt's forward pass), and `tokens` where it reads token ids.

    Example:
        >>> from neva_tl.editing import Change
        >>> change = Change(2, "resid_post", lambda x: x + 0.1)
        >>> change.layer, change.site
        (2, 'resid_post')
    """

    layer: int
    site: str
    apply: Callable[..., Tensor]
    needs: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def reads(self) -> tuple[str, ...]:
        """The sites among `needs`."""
        return tuple(name for name in self.needs if name not in ("prompt", "tokens"))


@dataclass(frozen=True, eq=False)
class Edit(Pretrained, metaclass=CheckedArguments):
    """Base of all edits.

    Attributes:
        dose: Strength, in the unit that each edit states.
        scope: Tokens that are touched.
        gate: Restricts the edit to the tokens in scope that it opens; None opens all of them.
        unit: Unit of the dose, which decides the grid of `calibrate`.

    Example:
        >>> stronger = edit.with_dose(16.0).with_scope("generated")
        >>> stronger.dose, stronger.scope
        (16.0, 'generated')
        >>> [change.layer for change in edit.changes(model)]
        [2, 3]
    """

    unit: ClassVar[DoseUnit] = "contrasts"

    dose: float = field(default=1.0, kw_only=True)
    scope: Scope = field(default="all", kw_only=True)
    gate: RelevanceGate | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # @dataclass would write one that prints whole arrays
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"unknown token scope {self.scope!r}: choose one of {', '.join(SCOPES)}")
        if not np.isfinite(self.dose):
            raise InputError(f"a dose must be a finite number, not {self.dose}")

    def __repr__(self) -> str:
        return edit_line(self)

    def _repr_html_(self) -> str:
        return edit_card(self)

    def what(self) -> str:
        """Say in words what the edit does to the model; the default is the first line of the class's docstring."""
        return (type(self).__doc__ or type(self).__name__).partition("\n")[0].strip()

    @abstractmethod
    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """The changes this edit makes to a model, checked against its sizes.

        Args:
            model: A TransformerLens model.
        """

    @check_arguments
    def with_dose(self: E, dose: float) -> E:
        """The same edit at another dose.

        Example:
            >>> edit.with_dose(4.0).dose, edit.dose
            (4.0, 2.0)
        """
        return replace(self, dose=float(dose))

    @check_arguments
    def with_scope(self: E, scope: Scope) -> E:
        """The same edit on other tokens.

        Example:
            >>> edit.with_scope("generated").scope
            'generated'
        """
        return replace(self, scope=scope)

    @check_arguments
    def with_gate(self: E, gate: RelevanceGate | None) -> E:
        """The same edit with a gate (None removes it).

        Example:
            >>> edit.with_gate(gate).gate is gate
            True
        """
        return replace(self, gate=gate)

    @property
    def by_token(self) -> bool:
        """Whether a token's change is independent of the other texts in the batch (only then are its texts cacheable)."""
        return True

    @check_arguments
    def rewrite(self, prompt: str) -> str:
        """The prompt under this edit (only prompt-level methods change it).

        Args:
            prompt: The prompt.
        """
        return prompt


@dataclass(frozen=True, eq=False)
class NeuronEdit(Edit):
    """An edit of single neurons at `hook_post`.

    A subclass defines the new activations in `new_values`, or, where it derives numbers from the neuron table, in `per_neuron`
    and `moved`: those numbers are then computed once for each layer and device, not in every forward pass.

    Attributes:
        neurons: The neurons to edit; they must have been selected on this model.
        effects: `positive` edits only neurons that are higher on the + pole, `all` edits every neuron of the set.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, eq=False)
        ... class Flip(nv.editing.NeuronEdit):
        ...     def moved(self, h, *per_neuron):
        ...         return h - 2 * self.dose * h
        >>> with nv.edit(model, Flip(neurons, dose=1.0)):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4)
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
        """Further arguments of `moved`: arrays with one number per row of the neuron table, computed from that row alone.

        Args:
            rows: Rows of the neuron table.
        """
        del rows
        return ()

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """New activations of the edited neurons of one layer, computed out of place.

        Args:
            h: Their present activations.
            *per_neuron: The arrays of `per_neuron` for these neurons, as tensors `[s]`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither `moved` nor `new_values`")

    def new_values(self, h: Float[Tensor, "b n s"], rows: pd.DataFrame) -> Float[Tensor, "b n s"]:
        """The same, from the rows of the neuron table.

        Args:
            h: Present activations of the edited neurons.
            rows: Their rows of the neuron table.
        """
        return self.moved(h, *(column(numbers).to(h.device) for numbers in self.per_neuron(rows)))

    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """One change per layer that contains edited neurons.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: The set was selected on another model.
        """
        check_model(self.neurons, model)
        edited = self.chosen()
        layer, neuron = (edited[name].to_numpy(dtype=np.int64) for name in ("layer", "neuron"))
        # a subclass with `new_values` reads the table itself
        reads_table = type(self).new_values is not NeuronEdit.new_values
        # once for all layers: in a loop the table would take longer than the edit
        numbers = () if reads_table else self.per_neuron(edited)
        out = []
        for number in np.unique(layer):
            position = np.flatnonzero(layer == number)
            index = torch.from_numpy(neuron[position])
            if reads_table:
                rows = edited.iloc[position].reset_index(drop=True)
                apply = _replacing(index, (), lambda h, rows=rows: self.new_values(h, rows))
            else:
                apply = self._by_numbers(index, tuple(column(x[position]) for x in numbers))
            out.append(Change(int(number), "post", apply))
        return tuple(out)

    def _by_numbers(self, index: Int[Tensor, " s"], numbers: tuple[Tensor, ...]) -> Callable[[Tensor], Tensor]:
        return _replacing(index, numbers, self.moved)


def _replacing(
    index: Int[Tensor, " s"], numbers: tuple[Tensor, ...], new: Callable[..., Tensor]
) -> Callable[[Tensor], Tensor]:
    """A change that replaces the activations h of some neurons by `new(h, *numbers)`."""
    stored = PerDevice(index, *numbers)

    def apply(x: Tensor) -> Tensor:
        neurons, *local_numbers = stored.on(x.device)
        # out of place: a cache may share the activation
        return x.index_copy(-1, neurons, new(x.index_select(-1, neurons), *local_numbers).to(x.dtype))

    return apply


def check_model(neurons: NeuronSet, model: models.EditableModel) -> None:
    """Refuse neurons of another model.

    Args:
        neurons: The neuron set.
        model: A TransformerLens model.

    Raises:
        InputError: Sizes or fingerprints differ.
    """
    info = models.info(model)
    if (neurons.n_layers, neurons.d_mlp) != (info.n_layers, info.d_mlp):
        raise InputError(
            f"this neuron set belongs to a model of {neurons.n_layers} layers x {neurons.d_mlp} neurons; "
            f"{info.name} has {info.n_layers} x {info.d_mlp}"
        )
    weights_hash = neurons.fingerprint.get("weights_hash")
    what = f"the neuron set for {neurons.value}"
    current = models.fingerprint_for(neurons.fingerprint, model, what) if weights_hash is not None else {}
    if weights_hash is not None and weights_hash != current["weights_hash"]:
        dtype = neurons.fingerprint.get("dtype", info.dtype)
        if dtype != info.dtype:
            raise InputError(
                f"this neuron set was selected on a model in {dtype}, {info.name} is in {info.dtype}: load it with "
                f"dtype={dtype!r}, or select again on this model"
            )
        raise InputError(
            f"this neuron set was selected on other weights than {info.name}'s: select again on this model"
        )
    if difference := models.function_difference(neurons.fingerprint, current):
        raise InputError(
            f"this neuron set was selected on a model that computes something else than {info.name} ({difference}): select "
            "again on this model"
        )
    models.note_old(neurons.fingerprint, what)


def column(values: np.ndarray) -> Tensor:
    """Per-neuron numbers as a tensor `[s]`: bool, or float32 (half precision would round small steps away)."""
    return torch.tensor(values if values.dtype == bool else values.astype(np.float32))


def as_edits(edits: Edit | Sequence[Edit] | None) -> tuple[Edit, ...]:
    """Normalise one edit, several or none to a tuple.

    Example:
        >>> from neva_tl.editing import as_edits
        >>> len(as_edits(edit)), as_edits(None)
        (1, ())
    """
    if edits is None:
        return ()
    return (edits,) if isinstance(edits, Edit) else tuple(edits)


@check_arguments
def rewrite(edits: Edit | Sequence[Edit] | None, prompt: str) -> str:
    """Rewrite a prompt by every edit that works through the prompt.

    Args:
        edits: The edits, applied in order.
        prompt: The prompt.

    Example:
        >>> role = nv.RolePrompt("Be kind.", joiner=" ")
        >>> nv.editing.rewrite([role, edit], "Should I help?")
        'Be kind. Should I help?'
    """
    for item in as_edits(edits):
        prompt = item.rewrite(prompt)
    return prompt
