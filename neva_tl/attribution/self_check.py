"""Checks that attributions add up to what the model computes, on a pass of a few tokens, once per model.

Architectures differ in what lies between a neuron and the logits: norms after attention and MLP, multipliers, biases,
parallel blocks. Each check compares the parts as this package reads them from weights with the model's own activations, so
that an unknown operation is refused with the size of its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.outputs import OutputMap, attn_output, divisor, mlp_output
from neva_tl.core.errors import InputError
from neva_tl.models.checkpoint import trial_tokens
from neva_tl.models.comparison import rounding
from neva_tl.models.facts import MEMO, weight_check_key
from neva_tl.models.hooks import record_hooks

#: Rounding units of the stream by which a difference of two streams may be off (float32: about 1 on tiny models).
UNITS = 16
Part = Literal["mlp", "block", "read", "activation"]


@dataclass(frozen=True)
class Gap:
    """The largest error of a part over layers.

    Attributes:
        error: Relative to the norm of what the model computes; 0 is exact.
        layer: The layer.
    """

    error: float
    layer: int


def tolerance(model: models.Model) -> float:
    """Return the largest relative error of a sum of parts that rounding explains, by the dtype of the weights.

    Args:
        model: A TransformerLens model.
    """
    return rounding(next(model.parameters()).dtype)


def check_writes(model: models.Model) -> None:
    """Check that what neurons write, by their weights, is what each MLP adds to the stream.

    Args:
        model: A TransformerLens model.

    Raises:
        InputError: It is not; the message says where and by how much.
    """
    _check(model, "mlp", "what the MLP adds to the residual stream, as its neurons' output weights give it,")


def check_blocks(model: models.Model) -> None:
    """Check that each block adds its heads', neurons' and biases' outputs to the stream and nothing else.

    Args:
        model: A TransformerLens model.

    Raises:
        InputError: It adds something else; the message says where and by how much.
    """
    _check(model, "block", "the sum of all heads, neurons and biases")


def check_reads(model: models.Model) -> None:
    """Check that pre-activations are those of input norm and input weights.

    Args:
        model: A TransformerLens model.

    Raises:
        InputError: They are not; the message says where and by how much.
    """
    _check(model, "read", "the neurons' pre-activation, by norm and input weights,")


def check_activations(model: models.Model) -> None:
    """Check that activations are those of activation function and gate, by the first layer's activation function.

    Args:
        model: A TransformerLens model.

    Raises:
        InputError: They are not; the message says where and by how much.
    """
    _check(model, "activation", "the neurons' activation, by activation function and gate,")


def refusal(model: models.Model, what: str, error: float, layer: int | None = None) -> InputError:
    """Return the error for parts that do not add up.

    Args:
        model: A TransformerLens model.
        what: The sum of parts.
        error: Its relative error.
        layer: The layer; None for the whole model.
    """
    facts = models.info(model)
    where = "" if layer is None else f" at layer {layer}"
    return InputError(
        f"{what} does not add up to the model's own on {facts.name} ({facts.architecture}){where}: off by {error:.2g} of its "
        "norm, because its blocks do something that is not known here; use measured effects (ablation_effects)"
    )


def _check(model: models.Model, part: Part, what: str) -> None:
    # under an edit, activations need not be those of the weights; a later call without hooks checks
    if models.has_hooks(model):
        return
    gaps: dict[Part, Gap] = MEMO.get(model, weight_check_key(model, "additivity"), lambda: _gaps(model))
    gap = gaps[part]
    if not gap.error <= tolerance(model):
        raise refusal(model, what, gap.error, gap.layer)


def _gaps(model: models.Model) -> dict[Part, Gap]:
    """Return the largest error of each part over the layers."""
    facts = models.info(model)
    worst: dict[Part, Gap] = {}
    activations = _recorded(model)
    for layer in range(facts.n_layers):
        streams = {
            site: activations.get(models.hook_name(model, layer, site))
            for site in ("resid_pre", "resid_mid", "resid_post", "z", "post", "pre", "up")
            if site != "up" or facts.gated
        }
        errors = _layer_errors(model, layer, streams)
        if layer:  # what lies between two blocks belongs to no component
            last, first = (
                activations.get(models.hook_name(model, *at))
                for at in ((layer - 1, "resid_post"), (layer, "resid_pre"))
            )
            between = float("inf") if last is None or first is None else _error(first, last)
            errors |= {"mlp": max(errors["mlp"], between), "block": max(errors["block"], between)}
        for part, error in errors.items():
            if part not in worst or not error <= worst[part].error:
                worst[part] = Gap(error, layer)
    return worst


def _recorded(model: models.Model) -> Mapping[str, Tensor]:
    facts = models.info(model)
    sites = ["resid_pre", "resid_mid", "resid_post", "z", "post", "pre", *(["up"] if facts.gated else [])]
    names = [models.hook_name(model, layer, site) for layer in range(facts.n_layers) for site in sites]
    tokens = trial_tokens(facts.d_vocab, next(model.parameters()).device)[:1]
    with record_hooks(model, [name for name in names if name in model.hook_dict]) as activations:
        models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), logits=False)
    return {name: x[0] for name, x in activations.items()}


def _layer_errors(model: models.Model, layer: int, sites: Mapping[str, Tensor | None]) -> dict[Part, float]:
    before, middle, after = (sites[name] for name in ("resid_pre", "resid_mid", "resid_post"))
    h, z = sites["post"], sites["z"]
    infinite: dict[Part, float] = {part: float("inf") for part in ("mlp", "block", "read", "activation")}
    if before is None or after is None or h is None:
        return infinite
    parallel = models.parallel_blocks(model)
    by_mlp = OutputMap.of(model, layer, "mlp").added(mlp_output(model, layer, h))
    out = dict(infinite)
    if z is not None and _fits(model, layer, z):
        by_attn = OutputMap.of(model, layer, "attn").added(attn_output(model, layer, z))
        out["block"] = _increment_error(before, after, by_mlp + by_attn)
    if parallel or middle is None:
        out["mlp"] = out["block"]
    else:
        out["mlp"] = _increment_error(middle, after, by_mlp)
    stream = before if parallel else middle
    if stream is not None:
        out |= _read_errors(model, layer, stream, sites)
    return out


def _fits(model: models.Model, layer: int, z: Tensor) -> bool:
    try:
        return z.shape[-2:] == models.w_o(model, layer).shape[:2]
    except (AttributeError, KeyError, NotImplementedError, RuntimeError):  # attention that is not made of heads
        return False


def _read_errors(
    model: models.Model, layer: int, stream: Tensor, sites: Mapping[str, Tensor | None]
) -> dict[Part, float]:
    from neva_tl.attribution.reads import mlp_reader

    facts = models.info(model)
    kind, _, _, eps = models.mlp_norm(model, layer)
    x = stream.float()
    scale = divisor(x, kind, eps)[:, None]
    errors = []
    for site in ("pre", "up") if facts.gated else ("pre",):
        own = sites.get(site)
        if own is None:
            errors.append(float("inf"))
            continue
        read, offset = mlp_reader(model, layer, range(facts.d_mlp), "pre" if site == "pre" else "up")
        errors.append(_error(x @ read / scale + offset, own))
    pre, up, h = sites.get("pre"), sites.get("up"), sites["post"]
    out: dict[Part, float] = {"read": max(errors), "activation": float("inf")}
    if pre is not None and h is not None and (up is not None or not facts.gated):
        act = models.activation(model)(pre.float())
        out["activation"] = _error(act if up is None else act * up.float(), h)
    return out


def _increment_error(before: Tensor, after: Tensor, ours: Tensor) -> float:
    own = after.double() - before.double()
    # a difference of two streams carries their rounding
    noise = UNITS * torch.finfo(after.dtype).eps * float(after.double().norm())
    gap = float((ours.double().to(own.device) - own).norm())
    return max(0.0, gap - noise) / max(float(own.norm()), 1e-30) if gap == gap else float("nan")


def _error(ours: Tensor, own: Tensor) -> float:
    own = own.double()
    return float((ours.double().to(own.device) - own).norm() / own.norm().clamp_min(1e-30))
