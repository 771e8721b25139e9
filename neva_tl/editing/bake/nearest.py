"""nearest_edits(): the edits that weights can hold and that come closest to others, with the measured difference.

A scope or a gate is dropped. An edit whose step depends on the token (a bound, a probe, a gate of the MLP) is replaced by its
mean step at each hook point, measured on some texts. Edits that work through the prompt have no such substitute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing.bake.check import logits_of, mark_second_half, mean_kl
from neva_tl.editing.bake.fold import obstacle
from neva_tl.editing.base import Edit, as_edits
from neva_tl.editing.edits.paced import Paced
from neva_tl.editing.edits.vector import AddVector
from neva_tl.editing.hf import edit_hf


def nearest_edits(hf: Any, edits: Sequence[Edit], rows: Sequence[Int[Tensor, "1 _"]]) -> tuple[Edit, ...]:
    """The nearest edits that weights can hold, in the same order.

    Args:
        hf: The model.
        edits: The edits.
        rows: Token ids on which mean steps are measured.

    Raises:
        InputError: An edit works through the prompt, or has no mean step.
    """
    out: list[Edit] = []
    for item in edits:
        if isinstance(item, Paced):
            raise InputError(f"{obstacle(item)}: bake that one, or use nv.attach(model, edit), which keeps the pace")
        if type(item).rewrite is not Edit.rewrite:
            raise InputError(f"{obstacle(item)}: no edit of weights comes near it; rewrite the prompts instead")
        plain = replace(item, scope="all", gate=None)
        out += [plain] if not obstacle(plain) else _mean_steps(hf, item, rows)
    return tuple(out)


def difference_of(hf: Any, edits: Sequence[Edit], others: Sequence[Edit], rows: Sequence[Int[Tensor, "1 _"]]) -> float:
    """Mean KL(edits || others) in nats per token; the second half of each text counts as generated.

    Args:
        hf: The model.
        edits: The edits.
        others: The edits to compare with.
        rows: Token ids.
    """
    return mean_kl(logits_of(hf, rows, edits), logits_of(hf, rows, others))


def refusal(hf: Any, edits: Sequence[Edit], rows: Sequence[Int[Tensor, "1 _"]]) -> str:
    """One line: why the edits cannot become weights, and what can be done instead, with the measured difference.

    Args:
        hf: The model.
        edits: The edits, one of which cannot.
        rows: Token ids.
    """
    reason = next(filter(None, map(obstacle, as_edits(edits))))
    other = "nv.attach(model, edit) keeps the edit as it is, and so does an exported file"
    try:
        near = nearest_edits(hf, edits, rows)
        kl = difference_of(hf, edits, near, rows)
    except InputError:
        return f"{reason}: {other}"
    tokens = sum(row.shape[1] for row in rows)
    return (
        f"{reason}: nearest=True (--nearest) bakes the nearest edit that weights can hold (mean KL {kl:.3g} nats per token from "
        f"this one, on {tokens} tokens); {other}"
    )


def _mean_steps(hf: Any, item: Edit, rows: Sequence[Int[Tensor, "1 _"]]) -> list[Edit]:
    """Vectors with the mean step of an edit at its hook points, averaged over the tokens that it touches and does not.

    Raises:
        InputError: The edit changes a site that no vector edit has.
    """
    model = models.plain(hf)
    points = sorted({(change.layer, change.site) for change in item.changes(model)})
    if not points or any(site not in ("post", "resid_post") for _, site in points):
        raise InputError(obstacle(item))
    before: dict[tuple[int, str], list[Tensor]] = {point: [] for point in points}
    after: dict[tuple[int, str], list[Tensor]] = {point: [] for point in points}

    def record(store: list[Tensor]) -> Any:
        def hook(x: Tensor, **_: Any) -> None:
            store.append(x.detach().reshape(-1, x.shape[-1]).double().sum(0).cpu())

        return hook

    handles = []
    try:
        # hooks of a module run in the order in which they were added: one before the edit's, one after
        handles += [model.add_hook(models.hook_name(model, *point), record(before[point])) for point in points]
        with edit_hf(hf, item) as session:
            handles += [model.add_hook(models.hook_name(model, *point), record(after[point])) for point in points]
            for row in rows:
                mark_second_half(session, row)
                with torch.no_grad():
                    hf(input_ids=row, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    tokens = sum(row.shape[1] for row in rows)
    out: list[Edit] = []
    for site in ("post", "resid_post"):
        steps = {
            layer: ((sum(after[layer, site]) - sum(before[layer, site])) / tokens).float().numpy()  # type: ignore[union-attr]
            for layer, other in points
            if other == site
        }
        if steps:
            out.append(AddVector(steps, name=f"mean step of {type(item).__name__}", site=site))  # type: ignore[arg-type]
    return out
