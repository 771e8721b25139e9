"""Linear maps from the residual stream to the pre-activations of an MLP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models


def mlp_reader(
    model: models.Model, layer: int, neurons: Sequence[int], site: Literal["pre", "up"]
) -> tuple[Float[Tensor, "d_model n_neurons"], Float[Tensor, " n_neurons"]]:
    """Return the linear map `C diag(w) W` from the stream, divided by the norm's scale, to pre-activations, and its offset.

    Args:
        model: A TransformerLens model.
        layer: Layer of the MLP.
        neurons: Indices of the neurons.
        site: `pre` or `up` (see `pre_activation`).
    """
    gated = models.info(model).gated
    weight = models.w_gate(model, layer) if gated and site == "pre" else models.w_in(model, layer)
    bias = models.biases(model, layer)["b_gate" if gated and site == "pre" else "b_in"]
    assert weight is not None
    index = torch.as_tensor(list(neurons), dtype=torch.long, device=weight.device)
    kind, scaling, norm_bias, _ = models.mlp_norm(model, layer)
    columns = weight.detach().float()[:, index]
    offset = bias.detach().float()[index]
    if norm_bias is not None:
        offset = offset + norm_bias.detach().float() @ columns
    read = scaling.detach().float()[:, None] * columns
    return (read - read.mean(dim=0, keepdim=True) if kind == "layernorm" else read), offset
