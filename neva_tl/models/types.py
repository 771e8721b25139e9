"""Small types around a model: its facts, a hook's handle, a memo that forgets with the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from neva_tl.models.sources import is_demo


@dataclass(frozen=True)
class ModelInfo:
    """What the rest of neva_tl needs to know of a model; sizes in units, `n_ctx` in tokens."""

    name: str
    architecture: str
    n_layers: int
    d_model: int
    d_mlp: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_vocab: int
    n_ctx: int
    gated: bool
    chat: bool
    positional: str
    normalisation: str
    activation: str
    dtype: str
    device: str
    tl_class: str

    @property
    def demo(self) -> bool:
        """Whether it is a demo model, shipped or not: it speaks the demo world's language."""
        return is_demo(self.name)


class FinalNorm(NamedTuple):
    """The last normalisation before the unembedding; `kind` is `rms`, `layernorm` (which also centres) or `none`."""

    kind: str
    weight: Tensor
    bias: Tensor | None
    eps: float


class HookHandle:
    """Takes exactly one hook off again; removing twice is harmless."""

    def __init__(self, point: nn.Module, entry: Any) -> None:
        self._point, self._entry = point, entry

    def remove(self) -> None:
        """Take the hook off."""
        if self._entry is None:
            return
        entry, self._entry = self._entry, None
        entry.hook.remove()
        # by identity: two entries of the same function compare equal as dataclasses
        hooks: Any = self._point.fwd_hooks
        hooks[:] = [item for item in hooks if item is not entry]


class Memo:
    """Facts about a model that cost work: computed once, forgotten with the model."""

    def __init__(self) -> None:
        self._facts: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()

    def get(self, model: Any, key: Any, make: Callable[[], Any]) -> Any:
        facts = self._facts.setdefault(model, {})
        if key not in facts:
            facts[key] = make()
        return facts[key]

    def drop(self, model: Any, key: Any) -> None:
        self._facts.setdefault(model, {}).pop(key, None)

    def put(self, model: Any, key: Any, fact: Any) -> None:
        self._facts.setdefault(model, {})[key] = fact
