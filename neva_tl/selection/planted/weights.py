"""Write neurons into a loaded model.

Input weights read a direction, output weights write one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from neva_tl import models
from neva_tl.attribution.direct import readout
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Plant:
    """A neuron to write into a model.

    Attributes:
        layer: Its layer.
        neuron: Its index in the layer.
        reads: `[d_model]` direction of the normalised residual stream (its length is the strength of the input weights). In a
            gated MLP both the gate and the linear branch read it.
        writes: `[d_model]` vector that a unit of activation adds to the stream; None writes nothing (a silent decoy).
        values: The values that it represents.
        kind: A name for tables, for example `writer` or `silent decoy`.

    Example:
        >>> direction = nv.planting.embedding_direction(model, [5])
        >>> nv.planting.Plant(layer=1, neuron=3, reads=direction, writes=None, values=("power",)).kind
        'writer'
    """

    layer: int
    neuron: int
    reads: Float[np.ndarray, " d"]
    writes: Float[np.ndarray, " d"] | None
    values: tuple[str, ...]
    kind: str = "writer"

    __repr__ = brief


def plant(model: models.Model, plants: Iterable[Plant]) -> None:
    """Overwrite neurons of a model in place; the biases of these neurons become 0.

    The input weights are divided by the norm's own weights, so that the neuron reads `reads` of the normalised stream.
    Statistics and neuron sets made before belong to another model afterwards (the fingerprint changes).

    Args:
        model: The loaded model.
        plants: The neurons to write.

    Raises:
        InputError: The layer or neuron does not exist, a direction has another width, or a norm weight of 0 hides a
            dimension that the neuron should read.

    Example:
        >>> other = nv.load("demo")  # weights change in place
        >>> reads, writes = nv.planting.embedding_direction(other, [5]), nv.planting.token_direction(other, [9])
        >>> nv.planting.plant(other, [nv.planting.Plant(1, 3, reads, writes, ("power",))])
        >>> np.allclose(nv.models.w_in(other, 1)[:, 3], nv.models.w_in(model, 1)[:, 3])
        False
    """
    facts = models.info(model)
    with torch.no_grad():
        for one in plants:
            _check(one, facts)
            weight = models.mlp_norm(model, one.layer).weight.detach().double().cpu().numpy()
            if ((weight == 0) & (one.reads != 0)).any():
                raise InputError(f"the norm of layer {one.layer} has weights of 0: the neuron cannot read through them")
            reads = torch.as_tensor(np.divide(one.reads, weight, out=np.zeros_like(weight), where=weight != 0))
            columns = [models.w_in(model, one.layer), models.w_gate(model, one.layer)]
            for matrix in (matrix for matrix in columns if matrix is not None):
                matrix[:, one.neuron].copy_(reads)
            out = models.w_out(model, one.layer)
            out[one.neuron].copy_(torch.zeros(facts.d_model) if one.writes is None else torch.as_tensor(one.writes))
            for name, bias in models.biases(model, one.layer).items():
                if name in ("b_in", "b_gate"):
                    bias[one.neuron] = 0.0
    models.weights_changed(model)


def _check(one: Plant, facts: Any) -> None:
    if not (0 <= one.layer < facts.n_layers and 0 <= one.neuron < facts.d_mlp):
        raise InputError(
            f"layer {one.layer}, neuron {one.neuron} does not exist: {facts.name} has {facts.n_layers} layers of {facts.d_mlp}"
        )
    for name, direction in (("reads", one.reads), ("writes", one.writes)):
        if direction is not None and (direction.shape != (facts.d_model,) or not np.isfinite(direction).all()):
            raise InputError(
                f"the vector that neuron {one.neuron} {name} must be {facts.d_model} finite numbers, one per dimension"
            )


def embedding_direction(model: models.Model, tokens: Sequence[int]) -> Float[np.ndarray, " d"]:
    """Unit direction from the average embedding to the tokens' mean embedding.

    An early neuron that reads it detects these tokens.

    Args:
        model: The model.
        tokens: Ids of the tokens.

    Example:
        >>> direction = nv.planting.embedding_direction(model, [5, 6])
        >>> direction.shape, round(float(np.linalg.norm(direction)), 3)
        ((128,), 1.0)
    """
    embed = models.w_e(model).detach().double().cpu().numpy()
    return _unit(
        embed[list(tokens)].mean(axis=0) - embed.mean(axis=0), "the embeddings of these tokens are the average one"
    )


def token_direction(model: models.Model, tokens: Sequence[int]) -> Float[np.ndarray, " d"]:
    """Unit direction of the stream that raises the tokens' mean logit most.

    Measured against the average token, with the norm frozen.

    Args:
        model: The model.
        tokens: Ids of the tokens.

    Example:
        >>> direction = nv.planting.token_direction(model, [5, 6])
        >>> direction.shape, round(float(np.linalg.norm(direction)), 3)
        ((128,), 1.0)
    """
    read = readout(model, list(tokens)).double().mean(dim=1).cpu().numpy()
    return _unit(read, "these tokens' logits cannot be told from the average token's")


def _unit(x: np.ndarray, why: str) -> np.ndarray:
    length = float(np.linalg.norm(x))
    if not length > 1e-12:
        raise InputError(f"no direction: {why}")
    return np.asarray(x / length)
