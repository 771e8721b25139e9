"""Types around a model: the model itself, its facts, the handle of a hook, and a memo per model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol

from torch import Tensor, nn

from neva_tl.core.brief import brief
from neva_tl.core.kinds import MODEL
from neva_tl.models.sources import is_demo

if TYPE_CHECKING:

    class Model(Protocol):
        """A TransformerLens model: a `TransformerBridge` or a `HookedTransformer`.

        The members that neva_tl uses, and the two that notebooks use most (`generate`, `run_with_cache`).

        Attributes:
            cfg: The configuration (`n_layers`, `d_model`, `d_vocab`, ...).
            tokenizer: TransformerLens's own copy of the tokenizer; `models.tokenizer` gives the checkpoint's.
            blocks: The transformer blocks, in order.
            hook_dict: Hook points by name.
            embed: The token embedding.
            ln_final: The normalisation before the unembedding.
            unembed: The unembedding.
        """

        cfg: Any
        tokenizer: Any
        blocks: Sequence[Any]
        hook_dict: dict[str, Any]
        embed: Any
        ln_final: Any
        unembed: Any

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run a forward pass."""

        def generate(self, *args: Any, **kwargs: Any) -> Any:
            """Generate text as TransformerLens does."""

        def run_with_cache(self, *args: Any, **kwargs: Any) -> Any:
            """Run a forward pass and return all activations as well."""

        def parameters(self) -> Iterator[nn.Parameter]:
            """Iterate over the parameters."""

        def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
            """Iterate over the parameters, with their names."""

        def modules(self) -> Iterator[nn.Module]:
            """Iterate over all modules."""

        def eval(self) -> Any:
            """Switch to evaluation mode."""

    class BridgeModel(Model, Protocol):
        """A `TransformerBridge`: a `Model` around a transformers model.

        Attributes:
            original_model: The transformers model.
        """

        original_model: Any

else:
    # for mypy only: submodules live in nn.Module's tables, which run-time checks of a protocol do not search (from Python
    # 3.12 on), and tests replace models by small fakes
    Model = BridgeModel = Annotated[Any, MODEL]


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a model that other rooms need; sizes in units, `n_ctx` in tokens.

    Example:
        >>> info = nv.models.info(model)
        >>> info.name, info.n_ctx, info.activation, info.demo
        ('demo', 128, 'silu', True)
    """

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
        """Whether this is a demo model, shipped or not: its language is that of the demo world."""
        return is_demo(self.name)


class FinalNorm(NamedTuple):
    """The last normalisation before the unembedding; `kind` is `rms`, `layernorm` (which also centres) or `none`.

    Example:
        >>> norm = nv.models.final_norm(model)
        >>> norm.kind, tuple(norm.weight.shape)
        ('rms', (128,))
    """

    kind: str
    weight: Tensor
    bias: Tensor | None
    eps: float

    def __repr__(self) -> str:
        return brief(self)


class HookHandle:
    """Removes exactly one hook; removing twice is harmless.

    Example:
        >>> handle = nv.models.add_hook(model, nv.models.hook_name(model, 0, "post"), lambda x, hook: None)
        >>> handle.remove()
        >>> nv.models.has_hooks(model)
        False
    """

    def __init__(self, point: nn.Module, entry: Any) -> None:
        self._point, self._entry = point, entry

    def remove(self) -> None:
        """Remove the hook."""
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

    def get(self, model: object, key: Any, make: Callable[[], Any]) -> Any:
        """The fact under a key, computed by `make` the first time."""
        facts = self._facts.setdefault(model, {})
        if key not in facts:
            facts[key] = make()
        return facts[key]

    def drop(self, model: object, key: Any) -> None:
        """Forget the fact under a key."""
        self._facts.setdefault(model, {}).pop(key, None)

    def put(self, model: object, key: Any, fact: Any) -> None:
        """Store a fact under a key."""
        self._facts.setdefault(model, {})[key] = fact
