"""What is kept of a forward pass: activations pooled over answer tokens on the device, layer by layer as they appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.activations.accumulate import CellUpdate, Pooled, Reduced, float_for, reduced, summed
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks
from neva_tl.models.inference.encoding import Batch

#: `mean`, `last`, `max`: one observation a text, pooled over its answer tokens; `token`: every answer token is one.
Pooling = Literal["mean", "last", "max", "token"]
#: Poolings that are a weighted sum over tokens.
Weighted = Literal["mean", "last"]

#: What is recorded -> the hook point's site.
_SITE_OF = {"post": "post", "gate": "gate", "resid": "resid_post"}
_SHARE_OF = {"post": "positive", "gate": "gate_positive"}


def check_pooling(pooling: str) -> None:
    """Refuse what is no pooling.

    Raises:
        InputError: it is none.
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(get_args(Pooling))}")


def pool_weights(answer: Bool[Tensor, "b n"], pooling: Weighted) -> Float[Tensor, "b n"]:
    """Weights that sum to 1 over each row's pooled tokens."""
    if not bool(answer.any(dim=1).all()):
        raise InputError("a prompt has no answer token to pool over: its text is empty after tokenisation")
    if pooling == "mean":
        return answer.float() / answer.sum(dim=1, keepdim=True)
    position = torch.arange(answer.shape[1], device=answer.device)
    last = torch.where(answer, position, -1).amax(dim=1)
    return torch.nn.functional.one_hot(last, answer.shape[1]).float()


class Recorder:
    """Hooks that pool `hook_post`, the gate and the residual stream of the batch at hand.

    They are put on the first `layers` layers once for all batches (`on`), and do nothing in passes that are not `run`'s, which
    stop behind those layers.
    """

    def __init__(self, model: models.Model, *, gate: bool, pooling: Pooling, layers: int) -> None:
        self._model, self._pooling = model, pooling
        # asked before the hooks are there: other people's must see what they always see
        self._packed = models.packable(model)
        self._names = ("post", "gate", "resid") if gate else ("post", "resid")
        self._layers = range(layers)
        self._stop = None if layers == models.info(model).n_layers else layers
        # where the model computes act(gate) in a module, its output is listened to; elsewhere it is computed once more
        modules = models.gate_modules(model) if gate else {}
        self._gates = {layer: module for layer, module in modules.items() if layer in self._layers}
        self._reduce: Callable[[int, str, Tensor], None] | None = None
        self._seen: dict[tuple[str, int], int] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """The hooks, for the length of a `with` block."""
        # the gate's hook point sees what its activation function is applied to
        act = models.activation(self._model) if "gate" in self._names else None

        def look(layer: int, name: str, by_module: bool = False) -> Callable[..., None]:
            def record(x: Tensor, hook: Any = None) -> None:
                if self._reduce is not None:
                    self._seen[name, layer] = self._seen.get((name, layer), 0) + 1
                    self._reduce(layer, name, act(x) if act and name == "gate" and not by_module else x)

            return record

        def listen(layer: int) -> Callable[..., None]:
            record = look(layer, "gate", by_module=True)
            return lambda module, args, out: record(out)

        points = [
            (models.hook_name(self._model, layer, _SITE_OF[name]), look(layer, name))
            for layer in self._layers
            for name in self._names
            if not (name == "gate" and layer in self._gates)
        ]
        with ExitStack() as stack:
            stack.enter_context(temporary_hooks(self._model, points))
            for layer, module in self._gates.items():
                stack.callback(module.register_forward_hook(listen(layer)).remove)
            yield

    def run(self, batch: Batch, part: CellUpdate, past: models.KVCache | None = None) -> list[Pooled]:
        """One forward pass of a batch, without LM head.

        Args:
            part: the cells that the batch's observations join; with pooling `token` moments are taken by it at once.
            past: keys and values of what comes before the batch's tokens; they see it.

        Returns:
            Per layer `post`, `positive`, `gate`, `gate_positive` `[b, k]` and `resid` `[b, d]`, float32, on the layer's device.
        """
        found: list[dict[str, Tensor | Reduced]] = [{} for _ in self._layers]
        packed = self._packed and past is None
        if self._pooling == "token":
            self._reduce = _tokens(batch.answer[batch.mask][None] if packed else batch.answer, part, found)
        else:
            self._reduce = _rows(batch, self._pooling, found, packed)
        self._seen.clear()
        try:
            with torch.inference_mode():
                if past is None:
                    inference.forward_batch(self._model, batch, logits=False, packed=packed, stop_at_layer=self._stop)
                else:
                    models.forward(self._model, batch.tokens, batch.mask, logits=False, past=past)
        finally:
            self._reduce = None
        self._check_fired()
        return list(found)

    def _check_fired(self) -> None:
        """Every hook must fire exactly once per forward: a silent miss would leave a hole in the moments."""
        for layer in self._layers:
            for name in self._names:
                if self._seen.get((name, layer), 0) != 1:
                    raise InputError(
                        f"the hook for {name} at layer {layer} fired {self._seen.get((name, layer), 0)} times in one "
                        "forward pass: this architecture is not supported by the collector"
                    )


class _Bags(NamedTuple):
    """Which tokens of a pass each row's vector is pooled from: flat numbers, one row's behind the other, and where rows begin."""

    tokens: Int[Tensor, " m"]
    starts: Int[Tensor, " b"]

    def pool(self, x: Float[Tensor, "*pass k"], mode: Literal["mean", "max"] = "mean") -> Float[Tensor, "b k"]:
        """A look-up of embeddings, as torch has it: no product with zeros, no copy, the same on every device."""
        rows = x.reshape(-1, x.shape[-1]).float()
        return torch.nn.functional.embedding_bag(self.tokens.to(x.device), rows, self.starts.to(x.device), mode=mode)


def _bags(answer: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"], last: bool, packed: bool) -> _Bags:
    """The pooled tokens of each row: all of its answer, or the last one.

    Args:
        packed: the pass sees the real tokens alone.
    """
    weight = pool_weights(answer, "last" if last else "mean") > 0
    # where each token lies in the pass
    place = mask.reshape(-1).cumsum(0) - 1 if packed else torch.arange(mask.numel(), device=mask.device)
    count = weight.sum(dim=1)
    return _Bags(place[weight.reshape(-1)], count.cumsum(0) - count)


def _rows(
    batch: Batch, pooling: Pooling, found: list[dict[str, Tensor | Reduced]], packed: bool
) -> Callable[[int, str, Tensor], None]:
    """Pool each row's answer tokens to one vector."""
    bags = _bags(batch.answer, batch.mask, pooling == "last", packed)
    above: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def share(x: Tensor) -> Tensor:
        # straight into one buffer for all layers: a new mask and its copy as numbers took four times as long
        key = (x.shape, x.device)
        if key not in above:
            above[key] = torch.empty_like(x, dtype=torch.float32)
        return bags.pool(torch.gt(x, 0, out=above[key]))

    def reduce(layer: int, name: str, x: Tensor) -> None:
        out = found[layer]
        # out of place and reduced at once: nothing of the batch outlives the hook
        out[name] = bags.pool(x, "max" if pooling == "max" and name != "resid" else "mean")
        if name in _SHARE_OF:
            out[_SHARE_OF[name]] = share(x)

    return reduce


def _tokens(
    answer: Tensor, part: CellUpdate, found: list[dict[str, Tensor | Reduced]]
) -> Callable[[int, str, Tensor], None]:
    """Moments of all answer tokens by cell; no pass holds more than one layer's tokens."""
    pool_weights(answer, "mean")  # refuses rows without an answer
    groups = len(part.cells)

    def reduce(layer: int, name: str, x: Tensor) -> None:
        chosen = x[answer.to(x.device)]
        out = found[layer]
        exact = float_for(x.device)
        if name == "resid":
            out[name] = summed(chosen.to(exact), part.place, groups)
            return
        out[name] = reduced(chosen, part.place, groups)
        out[_SHARE_OF[name]] = summed((chosen > 0).to(exact), part.place, groups)

    return reduce
