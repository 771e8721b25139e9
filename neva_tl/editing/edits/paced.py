"""Paced: another edit whose step fades over the generated tokens, or stops while the text repeats itself (ours).

    x <- x + f_t (edit(x) - x),    f_t = .5 ** (t / half_life) * [the n-gram that ends here is new]

t is the number of tokens generated before this one in the same text; tokens of the prompt count as t = 0. A strong step moves a
text within its first sentences and later pushes it into repetition: fading keeps the first and loses the second, and a step
that stops at repeated n-grams leaves the model free to end the loop. The n-grams are those of the generated tokens of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, PromptContext
from neva_tl.models import EditableModel

#: Names of the tensors in `PromptContext.memory`.
_FACTOR, _COUNT, _IDS = "paced factor", "paced count", "paced ids"


@dataclass(frozen=True, eq=False)
class Paced(Edit):
    """Another edit at a pace of its own over the generated tokens.

    The dose is that of the other edit.

    Attributes:
        edit: The other edit; its dose, scope and gate are replaced by those of this one (see `paced`).
        half_life: Number of generated tokens over which the step halves; None keeps it.
        no_repeat: Length n of the n-grams: no step on a generated token that completes an n-gram which the generated text
            contains already; None steps on every token.

    Example:
        >>> fading = nv.editing.paced(nv.Shift(neurons, dose=4.0), half_life=20.0)
        >>> fading.dose, fading.with_dose(8.0).dose
        (4.0, 8.0)
    """

    edit: Edit
    half_life: float | None = field(default=None, kw_only=True)
    no_repeat: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.edit, Edit) or isinstance(self.edit, Paced):
            raise InputError(f"a pace is set on an edit without one, not on a {type(self.edit).__name__}")
        if self.half_life is None and self.no_repeat is None:
            raise InputError("a pace needs half_life (tokens), no_repeat (length of the n-grams), or both")
        if self.half_life is not None and not self.half_life > 0:
            raise InputError(f"half_life is a positive number of tokens, not {self.half_life}")
        if self.no_repeat is not None and self.no_repeat < 1:
            raise InputError(f"no_repeat is the length of an n-gram, at least 1, not {self.no_repeat}")

    @property
    def unit(self) -> DoseUnit:  # type: ignore[override]
        """Unit of the dose: that of the other edit."""
        return self.edit.unit

    @property
    def by_token(self) -> bool:
        """See `Edit.by_token`."""
        return self.edit.by_token

    def rewrite(self, prompt: str) -> str:
        """See `Edit.rewrite`."""
        return self.edit.rewrite(prompt)

    def what(self) -> str:
        """See `Edit.what`."""
        fades = "" if self.half_life is None else f", halved every {self.half_life:g} generated tokens"
        stops = "" if self.no_repeat is None else f", not on tokens that repeat a {self.no_repeat}-gram"
        return f"{self.edit.what()}{fades}{stops}"

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """The other edit's changes, each at the pace of the running token.

        Args:
            model: A TransformerLens model.
        """
        changes = self.edit.with_dose(self.dose).changes(model)
        # the change that runs first in a pass computes the factor of all
        lead = min(range(len(changes)), key=lambda i: changes[i].layer, default=0)
        needs = ("prompt",) if self.no_repeat is None else ("prompt", "tokens")
        return tuple(
            Change(
                change.layer,
                change.site,
                self._at_pace(change, first=i == lead),
                tuple(dict.fromkeys((*change.needs, *needs))),
            )
            for i, change in enumerate(changes)
        )

    def _at_pace(self, change: Change, *, first: bool) -> Callable[[Tensor, PromptContext], Tensor]:
        def apply(x: Tensor, context: PromptContext) -> Tensor:
            if first:
                context.memory[_FACTOR] = self.factor(context)
            factor = context.memory[_FACTOR].to(x.device)[..., None]
            new = change.apply(x, context) if change.needs else change.apply(x)
            # a full step is the other edit's, bit for bit
            return torch.where(factor == 1, new, torch.lerp(x.float(), new.float(), factor).to(x.dtype))

        return apply

    def factor(self, context: PromptContext) -> Float[Tensor, "b n"]:
        """Share of the step at each token of the running pass; counts its tokens in the context's memory.

        Args:
            context: The running pass.
        """
        generated, real = context.tokens()
        new = generated & real
        factor = torch.ones(new.shape, device=new.device)
        if self.half_life is not None:
            before = context.memory.get(_COUNT, torch.zeros(len(new), dtype=torch.long, device=new.device))
            number = before[:, None] + new.long().cumsum(1) - 1
            factor = torch.where(new, 0.5 ** (number / self.half_life), factor)
            context.memory[_COUNT] = before + new.sum(1)
        if self.no_repeat is not None:
            # tokens of the prompt and padding are part of no n-gram
            ids = torch.where(new, context.ids().to(new.device), -1)
            history = torch.cat([context.memory[_IDS], ids], 1) if _IDS in context.memory else ids
            factor = factor * ~repeats(history, ids.shape[1], self.no_repeat)
            context.memory[_IDS] = history
        return factor


def repeats(ids: Int[Tensor, "b t"], last: int, n: int) -> Bool[Tensor, "b last"]:
    """Whether the n-gram that ends at each of the last tokens occurred earlier in its row.

    Args:
        ids: Token ids, -1 for tokens that belong to no n-gram.
        last: Number of tokens at the end to return.
        n: Length of the n-grams.
    """
    out = torch.zeros((len(ids), last), dtype=torch.bool, device=ids.device)
    if ids.shape[1] < n:
        return out
    grams = ids.unfold(1, n, 1)  # [b, t - n + 1, n]; gram i ends at token i + n - 1
    count = grams.shape[1]
    ends = min(last, count)
    equal = (grams[:, -ends:, None] == grams[:, None]).all(-1) & (grams >= 0).all(-1)[:, None]
    number = torch.arange(count, device=ids.device)
    out[:, -ends:] = (equal & (number < number[-ends:, None])).any(-1)
    return out


@check_arguments
def paced(edit: Edit, *, half_life: float | None = None, no_repeat: int | None = None) -> Paced:
    """Set a pace on an edit, at the edit's own dose, scope and gate.

    Args:
        edit: The edit.
        half_life: Number of generated tokens over which its step halves; None keeps it.
        no_repeat: Length of the n-grams at whose repetition it does not step; None steps on every token.

    Raises:
        InputError: Neither is named, or one is not positive.

    Example:
        >>> careful = nv.editing.paced(nv.Shift(neurons, dose=4.0), no_repeat=3)
        >>> with nv.edit(model, careful):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=8)
    """
    return Paced(edit, half_life=half_life, no_repeat=no_repeat, dose=edit.dose, scope=edit.scope, gate=edit.gate)
