"""From the output of attention or an MLP to what the block adds to the residual stream.

Most blocks add outputs as they are. Some normalise them first (Gemma 2 and 3, OLMo 2 and 3, GLM-4), or multiply them by a
constant (Granite). With the norm's divisor s of each token fixed, a part x_c of an output (a head's, a neuron's
`h_k W_out[k]`) adds exactly `factor * (C x_c * w) / s` to the stream, C = I for RMSNorm, C = I - 11'/d for LayerNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example

Side = Literal["attn", "mlp"]


def divisor(x: Float[Tensor, "*rows d_model"], kind: str, eps: float) -> Float[Tensor, "*rows"]:
    """Return the divisor of each vector in a norm.

    Args:
        x: The vectors.
        kind: `rms`, `layernorm` or `none` (divisor 1).
        eps: Epsilon of the norm.
    """
    if kind == "none":
        return torch.ones_like(x[..., 0])
    if kind == "layernorm":
        x = x - x.mean(dim=-1, keepdim=True)
    return (x.pow(2).mean(dim=-1) + eps).sqrt()


@dataclass(frozen=True, eq=False)
class OutputMap:
    """The map from an output of attention or an MLP to the stream.

    Attributes:
        norm: The norm of the output; None without one.
        factor: The constant that multiplies the normalised output.
    """

    norm: models.FinalNorm | None
    factor: float

    @classmethod
    def of(cls, model: models.Model, layer: int, side: Side) -> OutputMap:
        """Return the map of a block.

        Args:
            model: A TransformerLens model.
            layer: The block, 0-based.
            side: `attn` or `mlp`.
        """
        return cls(models.output_norm(model, layer, side), models.output_factor(model))

    def divisor(self, output: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Return the norm's divisor of each full output; 1 without a norm.

        Args:
            output: Outputs of attention or the MLP, all parts together.
        """
        return divisor(output, "none", 0.0) if self.norm is None else divisor(output, self.norm.kind, self.norm.eps)

    def linear(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Return `factor * (C x * w)`: what parts of an output add to the stream, times the divisor.

        Args:
            x: Parts of an output.
        """
        if self.norm is None:
            return x if self.factor == 1 else self.factor * x
        if self.norm.kind == "layernorm":
            x = x - x.mean(dim=-1, keepdim=True)
        return self.factor * (x * self.norm.weight.detach().to(x.device, x.dtype))

    def bias(self, like: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """Return what the norm's bias adds to the stream; zeros without one.

        Args:
            like: A vector of the result's device and dtype.
        """
        if self.norm is None or self.norm.bias is None:
            return torch.zeros_like(like)
        return self.factor * self.norm.bias.detach().to(like.device, like.dtype)

    def added(self, output: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Return what the block adds to the stream.

        Args:
            output: Outputs of attention or the MLP, all parts together.
        """
        if self.norm is None:
            return self.linear(output)
        return self.linear(output) / self.divisor(output)[..., None] + self.bias(self.norm.weight.float())


def attn_output(model: models.Model, layer: int, z: Float[Tensor, "*rows h c"]) -> Float[Tensor, "*rows d_model"]:
    """Return the output of attention, all heads and the bias, before any norm (float32).

    Args:
        model: A TransformerLens model.
        layer: The block, 0-based.
        z: Activations at site `z`.
    """
    weight = models.w_o(model, layer).detach().float()
    return torch.einsum("...hc,hcd->...d", z.float(), weight) + models.biases(model, layer)["b_O"].detach().float()


def mlp_output(model: models.Model, layer: int, h: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows d_model"]:
    """Return the output of an MLP, all neurons and the bias, before any norm (float32).

    Args:
        model: A TransformerLens model.
        layer: The block, 0-based.
        h: Activations at site `post`.
    """
    return (
        h.float() @ models.w_out(model, layer).detach().float() + models.biases(model, layer)["b_out"].detach().float()
    )


def written(model: models.Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """Return what each neuron adds to the stream per unit of activation, times the divisor of its output's norm (float32).

    This is `W_out` where blocks add outputs as they are.

    Args:
        model: A TransformerLens model.
        layer: The block, 0-based.
    """
    return OutputMap.of(model, layer, "mlp").linear(models.w_out(model, layer).detach().float())


def normalises_outputs(model: models.Model) -> bool:
    """Return whether a norm follows the MLP of a block.

    Args:
        model: A TransformerLens model.
    """
    return any(models.output_norm(model, layer, "mlp") is not None for layer in range(len(model.blocks)))


def output_scales(model: models.Model, examples: Sequence[Example], *, chat: bool | None = None) -> tuple[float, ...]:
    """Return the divisor of the norm after each layer's MLP, averaged over answer tokens; 1 without such a norm.

    Args:
        model: A TransformerLens model.
        examples: The texts.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Raises:
        InputError: No examples, or examples without answer tokens (only where a norm follows the MLP).

    Example:
        >>> nv.attribution.output_scales(model, pairs.examples()[:4])
        (1.0, 1.0, 1.0, 1.0)
    """
    from neva_tl.models import inference

    layers = range(models.info(model).n_layers)
    if not normalises_outputs(model):
        return (1.0,) * len(layers)
    names = {layer: models.hook_name(model, layer, "post") for layer in layers}
    total, count = torch.zeros(len(layers), dtype=torch.float64), 0
    for _, batch in inference.batches(model, examples, chat=chat):
        with record_hooks(model, names.values()) as activations:
            inference.forward_batch(model, batch, logits=False)
        count += int(batch.answer.sum())
        for layer, name in names.items():
            h = activations[name]
            output = mlp_output(model, layer, h[batch.answer.to(h.device)])
            total[layer] += float(OutputMap.of(model, layer, "mlp").divisor(output).double().sum())
    if not count:
        raise InputError("no answer tokens in the examples: the scales of the norms after the MLPs cannot be measured")
    return tuple((total / count).tolist())


def scales_of(model: models.Model, scales: Sequence[float] | None) -> tuple[float, ...]:
    """Return one divisor per layer, 1 where no norm follows the MLP.

    Args:
        model: A TransformerLens model.
        scales: Divisors from `output_scales`; None where the model needs none.

    Raises:
        InputError: The model needs them and there are none, or not one positive number per layer.
    """
    n_layers = len(model.blocks)
    if scales is None:
        if normalises_outputs(model):
            raise InputError(
                f"{models.info(model).name} normalises what its MLPs write, so that neurons of different layers have no common "
                "unit: give texts to measure the norms' scales on (output_scales(model, examples); circuit: examples=...)"
            )
        return (1.0,) * n_layers
    if len(scales) != n_layers or not all(scale > 0 for scale in scales):
        raise InputError(f"output_scales needs one positive number for each of the {n_layers} layers")
    return tuple(float(scale) for scale in scales)
