"""Passes that start at a layer: what enters it is kept, and the blocks below are not run again.

A private part of models.py. In a resumed pass the blocks below hand back what was recorded instead of running; embedding,
positions, masks, final norm and head stay the model's own, so that nothing of an architecture is known here.
(TransformerBridge's own `start_at_layer` runs the blocks below as well, and throws their work away.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neva_tl.models.passes import KVCache, running
from neva_tl.models.types import Model


@dataclass(frozen=True)
class _Record:
    """What enters a layer in one pass: what the block below gave; and keys and values below, where the pass began a cache."""

    layer: int
    output: Any
    below: tuple[Any, ...]
    nbytes: int


class LayerCache:
    """What enters an edited layer, kept pass by pass, so that further edits there or above run the layers from it on.

    For many edits over the same tokens: `with edit(model, *edits, reuse=cache)`. Exact, since no edit changes what lies
    below it. One record per pass: it moves up with the lowest edited layer, so go through the layers in ascending order.
    Valid while the model stays as it was.

    Attributes:
        nbytes: memory held, at most `max_bytes` (passes beyond it are run whole).
        n_resumed, n_whole: passes that started at a record, and at the tokens.
    """

    def __init__(self, model: Model, *, max_bytes: int = 1 << 30) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.nbytes = self.n_resumed = self.n_whole = 0
        self._records: dict[bytes, _Record] = {}

    def run(
        self, layer: int, tokens: Tensor, mask: Tensor, past: KVCache | None, last: bool, go: Callable[[], Any]
    ) -> Any:
        """One pass `go()` in which nothing below `layer` is edited, from the highest record on.

        Args:
            layer: the lowest that is edited, at least 1.
            tokens, mask, past: what the pass runs.
            last: `past` is not used after it.
            go: runs it.
        """
        past_begins = past is not None and past.state is None
        key = _key(tokens, mask, past, layer, last)
        if key is None:
            self.n_whole += 1
            return go()
        blocks = self.model.blocks
        found = self._records.get(key)
        found = found if found is not None and found.layer <= layer else None
        first = self.model.hook_dict["blocks.0.hook_resid_pre"]
        with _skipped(blocks, first, found), _watched(blocks[layer - 1]) as outputs:
            out = go()
        self.n_resumed += found is not None
        self.n_whole += found is None
        below: tuple[Any, ...] = ()
        if past is not None and past_begins:
            past.fill(() if found is None else found.below)
            below = past.below(layer)
        elif past is not None and found is not None:
            past.clear()
        if found is None or found.layer < layer:
            self._keep(key, layer, outputs[-1], below)
        return out

    def _keep(self, key: bytes, layer: int, output: Any, below: tuple[Any, ...]) -> None:
        held = [output] if isinstance(output, Tensor) else [x for x in output if isinstance(x, Tensor)]
        size = sum(x.numel() * x.element_size() for x in held) + KVCache.size(below)
        old = self._records.get(key)
        grown = self.nbytes + size - (old.nbytes if old is not None else 0)
        if grown <= self.max_bytes:
            self._records[key] = _Record(layer, output, below, size)
            self.nbytes = grown


def _key(tokens: Tensor, mask: Tensor, past: KVCache | None, layer: int, last: bool) -> bytes | None:
    """What a pass runs, and behind what; None where it cannot be told, or must leave a whole cache behind."""
    parts: tuple[Tensor, ...] = (tokens, mask)
    if past is not None and past.state is not None:
        if not last or past.parts is None or past.clean < layer:
            return None
        parts = (*past.parts, *parts)
    found = hashlib.sha256(b"alone" if past is None else b"cached")
    for part in parts:
        found.update(f"{tuple(part.shape)} {part.dtype}".encode())
        found.update(part.cpu().numpy().tobytes())
    return found.digest()


@contextmanager
def _skipped(blocks: Any, first: Any, found: _Record | None) -> Iterator[None]:
    """The blocks below a record hand back its output; the hook in front of the first block still sees every pass."""
    if found is None:
        yield
        return
    output = found.output

    def opening(*args: Any, **kwargs: Any) -> Any:
        first(args[0] if args else kwargs["hidden_states"])
        return output

    def handing_back(*args: Any, **kwargs: Any) -> Any:
        return output

    with running([(blocks[number], handing_back if number else opening) for number in range(found.layer)]):
        yield


@contextmanager
def _watched(block: Any) -> Iterator[list[Any]]:
    """What a block gives, as the model gets it."""
    seen: list[Any] = []
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out))
    try:
        yield seen
    finally:
        handle.remove()


@dataclass(frozen=True, eq=False)
class Resumption:
    """A block in which the passes of one model start at a layer.

    Attributes:
        model: The model whose passes start there.
        cache: The cache that holds the layer inputs.
        layer: The layer, at least 1.
    """

    model: Model
    cache: LayerCache
    layer: int


#: The blocks in force, outermost first: an inner block, of this model or another, leaves the outer ones as they are.
_IN_FORCE: ContextVar[tuple[Resumption, ...]] = ContextVar("resumptions in force", default=())


def resumption(model: Model) -> Resumption | None:
    """The innermost block in force for a model; None outside such blocks."""
    return next((block for block in reversed(_IN_FORCE.get()) if block.model is model), None)


@contextmanager
def start_at(model: Model, cache: LayerCache, layer: int) -> Iterator[None]:
    """Start the passes of a model at a layer inside the block, without checking that this is exact.

    Args:
        model: The model.
        cache: The cache that holds the layer inputs.
        layer: The layer, at least 1.
    """
    token = _IN_FORCE.set((*_IN_FORCE.get(), Resumption(model, cache, layer)))
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def resumes(model: Model, forward: Callable[..., Any], silence: Callable[[int], Any]) -> bool:
    """Whether resumed passes of this model equal full ones: a trial on a few tokens.

    The tokens are padded, and run with and without a key-value cache.

    Args:
        model: The model; no hooks may be on it.
        forward: Runs a pass (`models.forward` of this model).
        silence: Sets a layer's neurons to zero, an edit with a visible effect; returns its handle.
    """
    n_layers, vocab = int(model.cfg.n_layers), int(model.cfg.d_vocab)
    device = next(model.parameters()).device
    tokens = (torch.arange(14, device=device).reshape(2, 7) * 7 + 1) % vocab
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, :2] = False

    def passes() -> list[Tensor]:
        past = KVCache()
        whole = forward(tokens, mask)
        prompt = forward(tokens[:, :5], mask[:, :5], past=past)
        answer = forward(tokens[:, 5:], mask[:, 5:], past=past.rows(torch.tensor([1, 0], device=device)), last=True)
        return [x[mask[:, : x.shape[1]]] if x.shape[1] > 2 else x for x in (whole, prompt, answer)]

    for layer in sorted({n_layers // 2, n_layers - 1} - {0}):
        handle = silence(layer)
        try:
            want = passes()
            cache = LayerCache(model)
            for _ in range(2):
                with start_at(model, cache, layer):
                    got = passes()
            if cache.n_resumed < len(want) or not all(map(_close, got, want)):
                return False
        # an architecture whose blocks hand on more than their output fails in its own way
        except (RuntimeError, TypeError, AttributeError, LookupError, ValueError):
            return False
        finally:
            handle.remove()
    return n_layers > 1


def _close(got: Tensor, want: Tensor) -> bool:
    scale = float(want.float().abs().max())
    return torch.allclose(got.float(), want.float(), rtol=0.0, atol=1e-5 * max(scale, 1.0))
