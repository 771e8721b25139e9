"""Pooling of activations over answer tokens, on the device, layer by layer during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.activations.accumulate import CellUpdate, Pooled, Reduced, float_for, reduced, summed
from neva_tl.core.auto import AUTO, auto_of
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks
from neva_tl.models.inference.encoding import Batch

#: `mean`, `last`, `max`: one observation per text, pooled over its answer tokens; `token`: one per answer token.
Pooling = Literal["mean", "last", "max", "token"]
#: Poolings that are a weighted sum over tokens.
Weighted = Literal["mean", "last"]

#: Recorded name -> site of the hook point.
_SITE_OF = {"post": "post", "gate": "gate", "resid": "resid_post"}
_SHARE_OF = {"post": "positive", "gate": "gate_positive"}


def check_pooling(pooling: str) -> None:
    """Check the name of a pooling.

    Args:
        pooling: The name.

    Raises:
        InputError: The name is unknown.
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(get_args(Pooling))}")


def decided_pooling(pooling: str, demo: bool) -> Pooling:
    """Return a pooling with `auto` decided.

    Args:
        pooling: Its name, or `auto`.
        demo: Whether the model is a demo model.

    Raises:
        InputError: The name is unknown.
    """
    if pooling == AUTO:
        return auto_of(demo).pooling
    check_pooling(pooling)
    return cast(Pooling, pooling)


def pool_weights(answer: Bool[Tensor, "b n"], pooling: Weighted) -> Float[Tensor, "b n"]:
    """Return weights that sum to 1 over the pooled tokens of each row.

    Args:
        answer: True for answer tokens.
        pooling: `mean` or `last`.

    Raises:
        InputError: A row has no answer token.
    """
    if not bool(answer.any(dim=1).all()):
        raise InputError("a prompt has no answer token to pool over: its text is empty after tokenisation")
    if pooling == "mean":
        return answer.float() / answer.sum(dim=1, keepdim=True)
    position = torch.arange(answer.shape[1], device=answer.device)
    last = torch.where(answer, position, -1).amax(dim=1)
    return torch.nn.functional.one_hot(last, answer.shape[1]).float()


class Recorder:
    """Hooks that pool `hook_post`, the gate and the residual stream of a batch.

    `on` installs them on the first `layers` layers for all batches. They act only in the passes of `run`, which stop after
    those layers.

    Args:
        model: A TransformerLens model.
        gate: Also record `act(gate)`.
        pooling: Reduction over answer tokens.
        layers: Number of layers to record.
    """

    def __init__(self, model: models.Model, *, gate: bool, pooling: Pooling, layers: int) -> None:
        self._model, self._pooling = model, pooling
        # determined before these hooks are installed: with hooks of other code, passes must not be packed
        self._packed = models.packable(model)
        self._names = ("post", "gate", "resid") if gate else ("post", "resid")
        self._layers = range(layers)
        self._stop = None if layers == models.info(model).n_layers else layers
        # if the model computes act(gate) in a module, its output is recorded; otherwise it is computed again
        modules = models.gate_modules(model) if gate else {}
        self._gates = {layer: module for layer, module in modules.items() if layer in self._layers}
        self._reduce: Callable[[int, str, Tensor], None] | None = None
        self._fired: dict[tuple[str, int], int] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Install the hooks within a `with` block."""
        # the gate's hook point precedes its activation function
        act = models.activation(self._model) if "gate" in self._names else None

        def hook_for(layer: int, name: str, by_module: bool = False) -> Callable[..., None]:
            def record(x: Tensor, **_: Any) -> None:
                if self._reduce is not None:
                    self._fired[name, layer] = self._fired.get((name, layer), 0) + 1
                    self._reduce(layer, name, act(x) if act and name == "gate" and not by_module else x)

            return record

        def module_hook_for(layer: int) -> Callable[..., None]:
            record = hook_for(layer, "gate", by_module=True)
            return lambda _module, _args, out: record(out)

        points = [
            (models.hook_name(self._model, layer, _SITE_OF[name]), hook_for(layer, name))
            for layer in self._layers
            for name in self._names
            if not (name == "gate" and layer in self._gates)
        ]
        with ExitStack() as stack:
            stack.enter_context(temporary_hooks(self._model, points))
            for layer, module in self._gates.items():
                stack.callback(module.register_forward_hook(module_hook_for(layer)).remove)
            yield

    def run(self, batch: Batch, update: CellUpdate, past: models.KVCache | None = None) -> list[Pooled]:
        """Run one forward pass of a batch, without LM head.

        Args:
            batch: The batch.
            update: Cells of the batch's observations; with pooling `token` the moments are computed per cell.
            past: Keys and values of the tokens before the batch's tokens.

        Returns:
            Per layer `post`, `positive`, `gate`, `gate_positive` `[b, k]` and `resid` `[b, d]`, float32, on the layer's device.

        Raises:
            InputError: A row has no answer token, or a hook did not fire once.
        """
        pooled: list[dict[str, Tensor | Reduced]] = [{} for _ in self._layers]
        packed = self._packed and past is None
        if self._pooling == "token":
            self._reduce = _pool_tokens(batch.answer[batch.mask][None] if packed else batch.answer, update, pooled)
        else:
            self._reduce = _pool_rows(batch, self._pooling, pooled, packed)
        self._fired.clear()
        try:
            with torch.inference_mode():
                if past is None:
                    inference.forward_batch(self._model, batch, logits=False, packed=packed, stop_at_layer=self._stop)
                else:
                    models.forward(self._model, batch.tokens, batch.mask, logits=False, past=past)
        finally:
            self._reduce = None
        self._check_fired()
        return list(pooled)

    def _check_fired(self) -> None:
        """Check that every hook fired exactly once, since a missed one would leave a gap in the moments."""
        for layer in self._layers:
            for name in self._names:
                if self._fired.get((name, layer), 0) != 1:
                    raise InputError(
                        f"the hook for {name} at layer {layer} fired {self._fired.get((name, layer), 0)} times in one "
                        "forward pass: this architecture is not supported by the collector"
                    )


class _Bags(NamedTuple):
    """Tokens that are pooled for each row of a pass.

    Attributes:
        tokens: Flat positions of the tokens, row after row.
        starts: Position in `tokens` at which each row begins.
    """

    tokens: Int[Tensor, " m"]
    starts: Int[Tensor, " b"]

    def pool(self, x: Float[Tensor, "*pass k"], mode: Literal["mean", "max"] = "mean") -> Float[Tensor, "b k"]:
        """Pool the tokens of each row with `embedding_bag`: no copy, no product with zeros, the same on every device.

        Args:
            x: Activations of the pass.
            mode: Reduction.
        """
        rows = x.reshape(-1, x.shape[-1]).float()
        return torch.nn.functional.embedding_bag(self.tokens.to(x.device), rows, self.starts.to(x.device), mode=mode)

    def in_float32(self, x: Float[Tensor, "*pass k"]) -> tuple[Float[Tensor, "*rows k"], _Bags]:
        """Return activations in float32 and their bags; of half precision only the pooled tokens are converted.

        Args:
            x: Activations of the pass.
        """
        if x.dtype == torch.float32:
            return x, self
        pooled = x.reshape(-1, x.shape[-1]).index_select(0, self.tokens.to(x.device)).float()
        return pooled, _Bags(torch.arange(len(self.tokens), device=self.tokens.device), self.starts)


def _bags(answer: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"], last: bool, packed: bool) -> _Bags:
    """Return the pooled tokens of each row: all answer tokens, or the last one.

    Args:
        answer: True for answer tokens.
        mask: True for real tokens, False for padding.
        last: Pool the last answer token only.
        packed: The pass runs without padding.
    """
    weight = pool_weights(answer, "last" if last else "mean") > 0
    # position of each token in the pass
    position = mask.reshape(-1).cumsum(0) - 1 if packed else torch.arange(mask.numel(), device=mask.device)
    count = weight.sum(dim=1)
    return _Bags(position[weight.reshape(-1)], count.cumsum(0) - count)


def _pool_rows(
    batch: Batch, pooling: Pooling, pooled: list[dict[str, Tensor | Reduced]], packed: bool
) -> Callable[[int, str, Tensor], None]:
    """Return a function that pools the answer tokens of each row to one vector."""
    bags = _bags(batch.answer, batch.mask, pooling == "last", packed)
    buffers: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def share(x: Tensor, bags: _Bags) -> Tensor:
        # one buffer for all layers: a new mask and its conversion took four times as long
        key = (x.shape, x.device)
        if key not in buffers:
            buffers[key] = torch.empty_like(x, dtype=torch.float32)
        return bags.pool(torch.gt(x, 0, out=buffers[key]))

    def reduce(layer: int, name: str, x: Tensor) -> None:
        out = pooled[layer]
        x, local_bags = bags.in_float32(x)
        # reduced at once and out of place: no tensor of the batch outlives the hook
        out[name] = local_bags.pool(x, "max" if pooling == "max" and name != "resid" else "mean")
        if name in _SHARE_OF:
            out[_SHARE_OF[name]] = share(x, local_bags)

    return reduce


def _pool_tokens(
    answer: Tensor, update: CellUpdate, pooled: list[dict[str, Tensor | Reduced]]
) -> Callable[[int, str, Tensor], None]:
    """Return a function that computes the moments of all answer tokens by cell, one layer at a time."""
    pool_weights(answer, "mean")  # raises for rows without an answer
    groups = len(update.cells)

    def reduce(layer: int, name: str, x: Tensor) -> None:
        selected = x[answer.to(x.device)]
        out = pooled[layer]
        exact = float_for(x.device)
        if name == "resid":
            out[name] = summed(selected.to(exact), update.cell_index, groups)
            return
        out[name] = reduced(selected, update.cell_index, groups)
        out[_SHARE_OF[name]] = summed((selected > 0).to(exact), update.cell_index, groups)

    return reduce
