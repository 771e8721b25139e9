"""Pooled residuals of training texts, kept for every method and value that asks for the same texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from neva_tl.activations.pooling import Weighted

#: Beyond this nothing is kept, and texts are run for each call.
MAX_BYTES = 1 << 30


class TextResiduals:
    """`resid_post` of training texts at all layers, pooled over answer tokens (`mean`) and at the last of them (`last`).

    Holds texts x layers x d_model x 8 bytes, filled as texts are asked for. A forked or pickled copy starts from what was there.

    Attributes:
        max_bytes: most that is held.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._held: dict[Weighted, np.ndarray] = {}
        self._known = np.zeros(0, dtype=bool)

    def fits(self, size: tuple[int, int, int]) -> bool:
        """Whether `(texts, layers, d_model)` may be held."""
        return 2 * 4 * int(np.prod(size, dtype=np.int64)) <= self.max_bytes

    def missing(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Those of some texts that are not held, each once, ascending."""
        wanted = np.unique(rows)
        return wanted[~self._known[wanted]] if len(self._known) else wanted

    def put(
        self,
        size: tuple[int, int, int],
        rows: Int[np.ndarray, " n"],
        found: Mapping[Weighted, Float[np.ndarray, "n l d"]],
    ) -> None:
        """Hold texts at all layers."""
        if not len(self._known):
            self._known = np.zeros(size[0], dtype=bool)
            self._held = {name: np.empty(size, dtype=np.float32) for name in found}
        for name, part in found.items():
            self._held[name][rows] = part
        self._known[rows] = True

    def read(self, rows: Int[np.ndarray, " n"], layer: int, pooling: Weighted) -> Float[np.ndarray, "n d"]:
        """Texts that are held, at one layer."""
        return self._held[pooling][rows, layer].astype(np.float64)
