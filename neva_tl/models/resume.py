"""Passes that start at a layer: its input is cached, and the blocks below do not run again.

In a resumed pass the blocks below return the recorded output instead of running; embedding, positions, masks, final norm and
head are the model's own, so that this module needs no knowledge of architectures. (TransformerBridge's own `start_at_layer`
runs the blocks below as well, and discards their output.)
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
    """The input of a layer in one pass, and the keys and values below it where the pass began a cache."""

    layer: int
    output: Any
    below: tuple[Any, ...]
    nbytes: int


class LayerCache:
    """Cache of layer inputs, so that edits over the same tokens run only the layers from the lowest edited one on.

    Use: `with edit(model, *edits, reuse=cache)`. Exact, since an edit does not change the layers below it. One record per
    pass: it moves up with the lowest edited layer, so go through the layers in ascending order. Valid while the model does
    not change.

    Attributes:
        nbytes: Memory of the records, at most `max_bytes` (passes beyond it run in full).
        n_resumed: Passes that started at a record.
        n_whole: Passes that started at the tokens.

    Example:
        >>> cache = nv.models.LayerCache(model)
        >>> with nv.edit(model, edit, reuse=cache) as session:  # later edits of these layers skip the layers below
        ...     scores, n = nv.answer_logprobs(model, [nv.Example("mara says", "that")], session=session)
    """

    def __init__(self, model: Model, *, max_bytes: int = 1 << 30) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.nbytes = self.n_resumed = self.n_whole = 0
        self._records: dict[bytes, _Record] = {}

    def run(
        self, layer: int, tokens: Tensor, mask: Tensor, past: KVCache | None, last: bool, go: Callable[[], Any]
    ) -> Any:
        """Run one pass without edits below `layer`, from the highest record on.

        Args:
            layer: The lowest edited layer, at least 1.
            tokens: Token ids of the pass.
            mask: True for real tokens, False for padding.
            past: Key-value cache of the pass.
            last: `past` is not used after the pass.
            go: Runs the pass.
        """
        past_begins = past is not None and past.state is None
        key = _key(tokens, mask, past, layer, last)
        if key is None:
            self.n_whole += 1
            return go()
        blocks = self.model.blocks
        stored = self._records.get(key)
        record = stored if stored is not None and stored.layer <= layer else None
        first = self.model.hook_dict["blocks.0.hook_resid_pre"]
        with _skipped(blocks, first, record), _recorded(blocks[layer - 1]) as outputs:
            out = go()
        self.n_resumed += record is not None
        self.n_whole += record is None
        below: tuple[Any, ...] = ()
        if past is not None and past_begins:
            past.fill(() if record is None else record.below)
            below = past.below(layer)
        elif past is not None and record is not None:
            past.clear()
        if record is None or record.layer < layer:
            self._keep(key, layer, outputs[-1], below)
        return out

    def _keep(self, key: bytes, layer: int, output: Any, below: tuple[Any, ...]) -> None:
        tensors = [output] if isinstance(output, Tensor) else [x for x in output if isinstance(x, Tensor)]
        size = sum(x.numel() * x.element_size() for x in tensors) + KVCache.size(below)
        old = self._records.get(key)
        grown = self.nbytes + size - (old.nbytes if old is not None else 0)
        if grown <= self.max_bytes:
            self._records[key] = _Record(layer, output, below, size)
            self.nbytes = grown


def _key(tokens: Tensor, mask: Tensor, past: KVCache | None, layer: int, last: bool) -> bytes | None:
    """Key of a pass: its tokens and those before them; None where they are unknown, or the cache must stay complete."""
    parts: tuple[Tensor, ...] = (tokens, mask)
    if past is not None and past.state is not None:
        if not last or past.parts is None or past.clean < layer:
            return None
        parts = (*past.parts, *parts)
    digest = hashlib.sha256(b"alone" if past is None else b"cached")
    for tensor in parts:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()


@contextmanager
def _skipped(blocks: Any, first: Any, record: _Record | None) -> Iterator[None]:
    """Let the blocks below a record return its output; the hook before the first block still fires in every pass."""
    if record is None:
        yield
        return
    output = record.output

    def opening(*args: Any, **kwargs: Any) -> Any:
        first(args[0] if args else kwargs["hidden_states"])
        return output

    def returning(*_: Any, **__: Any) -> Any:
        return output

    with running([(blocks[number], returning if number else opening) for number in range(record.layer)]):
        yield


@contextmanager
def _recorded(block: Any) -> Iterator[list[Any]]:
    """Record the outputs of a block inside the `with` block."""
    outputs: list[Any] = []
    handle = block.register_forward_hook(lambda *call: outputs.append(call[-1]))
    try:
        yield outputs
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
        full = forward(tokens, mask)
        prompt = forward(tokens[:, :5], mask[:, :5], past=past)
        answer = forward(tokens[:, 5:], mask[:, 5:], past=past.rows(torch.tensor([1, 0], device=device)), last=True)
        return [x[mask[:, : x.shape[1]]] if x.shape[1] > 2 else x for x in (full, prompt, answer)]

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
        # architectures whose blocks pass on more than their output fail in different ways
        except (RuntimeError, TypeError, AttributeError, LookupError, ValueError):
            return False
        finally:
            handle.remove()
    return n_layers > 1


def _close(got: Tensor, want: Tensor) -> bool:
    scale = float(want.float().abs().max())
    return torch.allclose(got.float(), want.float(), rtol=0.0, atol=1e-5 * max(scale, 1.0))
