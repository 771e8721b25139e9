"""Refuse models whose `hook_post` is not the neurons of the MLP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.models.facts import MEMO, info
from neva_tl.models.forward_pass import forward
from neva_tl.models.hooks import add_hook, hook_name
from neva_tl.models.types import Model


def check_mlp(model: Model) -> None:
    """Refuse models whose `hook_post` is not the neurons of the MLP.

    Runs one forward pass of one token, once per model.

    Raises:
        InputError: A mixture of experts, or a `hook_post` that does not fire exactly once or is not d_mlp wide.

    Example:
        >>> nv.models.check_mlp(model)  # raises InputError on a mixture of experts
    """
    MEMO.get(model, "mlp checked", lambda: _check_mlp(model))


def _check_mlp(model: Model) -> bool:
    facts = info(model)
    experts = getattr(model.cfg, "num_experts", None)
    if experts and experts > 1:
        raise InputError(
            f"{facts.name} is a mixture of experts ({experts}): its MLP has no single set of neurons to edit"
        )
    widths: dict[int, list[int]] = {layer: [] for layer in range(facts.n_layers)}
    handles = []
    try:
        for layer, layer_widths in widths.items():
            handles.append(add_hook(model, hook_name(model, layer, "post"), _width_recorder(layer_widths)))
        token = torch.zeros((1, 1), dtype=torch.long, device=facts.device)
        forward(model, token, torch.ones_like(token, dtype=torch.bool), logits=False)
    finally:
        for handle in handles:
            handle.remove()
    for layer, layer_widths in widths.items():
        if layer_widths != [facts.d_mlp]:
            raise InputError(
                f"blocks.{layer}.mlp.hook_post of {facts.name} fired with widths {layer_widths}, expected once with d_mlp = "
                f"{facts.d_mlp}: this architecture (a mixture of experts?) has no neurons at that hook point"
            )
    return True


def _width_recorder(widths: list[int]) -> Callable[..., None]:
    def record(x: Tensor, **_: object) -> None:
        widths.append(int(x.shape[-1]))

    return record
