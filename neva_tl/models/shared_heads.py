"""Keys and values that several query heads share, without a copy for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class SharedHeads:
    """Keys or values that several query heads share, in place of the copies that `repeat_kv` of transformers makes.

    The copies took nearly all of attention's time in a decoding step (64 rows, 100 tokens, 7 query heads per key: 30 ms a
    layer, 2 ms without). A product with `torch.matmul` runs once per query head of a group, which gives the bits of the product
    with copies. Every other use makes the copies.

    Args:
        heads: Keys or values, `[b, kv_head, n, d_head]`.
        groups: Query heads per key and value head.
        repeated: Whether `repeat_kv` has run, so that the heads count `kv_head * groups`.
        transposed: Whether the last two axes are swapped.

    Example:
        >>> import torch
        >>> from neva_tl.models.shared_heads import SharedHeads
        >>> keys = SharedHeads(torch.ones(1, 2, 5, 4), 3, repeated=True)
        >>> torch.matmul(torch.ones(1, 6, 1, 4), keys.transpose(-2, -1)).shape
        torch.Size([1, 6, 1, 5])
    """

    def __init__(self, heads: Tensor, groups: int, *, repeated: bool = False, transposed: bool = False) -> None:
        self.heads, self.groups, self.repeated, self.transposed = heads, groups, repeated, transposed

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor in whose place the heads are."""
        rows, heads, *last = self.heads.shape
        return torch.Size(
            (rows, heads * self.groups if self.repeated else heads, *(last[::-1] if self.transposed else last))
        )

    def tensor(self) -> Tensor:
        """Return the tensor in whose place the heads are, with a copy for each query head after `repeat_kv`."""
        heads = self.heads.repeat_interleave(self.groups, dim=1) if self.repeated else self.heads
        return heads.transpose(-2, -1) if self.transposed else heads

    def __getitem__(self, index: Any) -> Any:
        # the three steps of repeat_kv: a new axis, its expansion, and the copy
        new_axis = index == (slice(None), slice(None), None, slice(None), slice(None))
        return _NewAxis(self) if new_axis and not self.repeated else self.tensor()[index]

    def transpose(self, one: int, other: int) -> Any:
        """Swap two axes; only a swap of the last two makes no copy."""
        if {one, other} != {-2, -1}:
            return self.tensor().transpose(one, other)
        return SharedHeads(self.heads, self.groups, repeated=self.repeated, transposed=not self.transposed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor(), name)

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is torch.matmul and len(args) == 2 and not kwargs and isinstance(args[0], Tensor):
            query, shared = args
            if shared.repeated and query.ndim == 4:
                return shared._product(query)
        copies = [arg.tensor() if isinstance(arg, cls) else arg for arg in args]
        named = {name: arg.tensor() if isinstance(arg, cls) else arg for name, arg in (kwargs or {}).items()}
        return function(*copies, **named)

    def _product(self, query: Tensor) -> Tensor:
        heads = self.heads.transpose(-2, -1) if self.transposed else self.heads
        grouped = query.unflatten(1, (-1, self.groups))
        out = query.new_empty((*grouped.shape[:-1], heads.shape[-1]))
        for number in range(self.groups):
            out[:, :, number] = torch.matmul(grouped[:, :, number], heads)
        return out.flatten(1, 2)


class _NewAxis:
    """Heads with the axis along which `repeat_kv` copies them."""

    def __init__(self, shared: SharedHeads) -> None:
        self.shared = shared

    def expand(self, *sizes: int) -> _NewAxis:
        rows, heads, *last = self.shared.heads.shape
        if sizes != (rows, heads, self.shared.groups, *last):
            raise ValueError(f"{sizes} is not the shape of {self.shared.groups} copies of {tuple(self.shared.shape)}")
        return self

    def reshape(self, *_sizes: int) -> SharedHeads:
        return SharedHeads(self.shared.heads, self.shared.groups, repeated=True)
