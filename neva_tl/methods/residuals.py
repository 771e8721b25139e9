"""Cache of pooled residuals of training texts.

All methods and values that read the same texts share it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from neva_tl.activations.pooling import Weighted

#: Above this size nothing is cached, and every call runs its texts.
MAX_BYTES = 1 << 30


class TextResiduals:
    """`resid_post` of training texts at all layers, pooled over answer tokens.

    Both poolings are cached: the mean over the answer tokens (`mean`) and the last one (`last`). Takes
    texts x layers x d_model x 8 bytes, filled on demand. A forked or pickled copy starts with the content at that time.

    Args:
        max_bytes: Largest size of the cache.

    Attributes:
        max_bytes: Largest size of the cache.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._buffers: dict[Weighted, np.ndarray] = {}
        self._filled = np.zeros(0, dtype=bool)

    def fits(self, size: tuple[int, int, int]) -> bool:
        """Whether a cache of this size is allowed.

        Args:
            size: `(texts, layers, d_model)`.
        """
        return 2 * 4 * int(np.prod(size, dtype=np.int64)) <= self.max_bytes

    def missing(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """The texts that are not cached, each once, ascending.

        Args:
            rows: Row numbers of texts.
        """
        requested = np.unique(rows)
        return requested[~self._filled[requested]] if len(self._filled) else requested

    def put(
        self,
        size: tuple[int, int, int],
        rows: Int[np.ndarray, " n"],
        pooled: Mapping[Weighted, Float[np.ndarray, "n l d"]],
    ) -> None:
        """Cache texts at all layers.

        Args:
            size: `(texts, layers, d_model)` of the full cache.
            rows: Row numbers of the texts.
            pooled: Pooling -> residuals of these texts.
        """
        if not len(self._filled):
            self._filled = np.zeros(size[0], dtype=bool)
            self._buffers = {name: np.empty(size, dtype=np.float32) for name in pooled}
        for name, residuals in pooled.items():
            self._buffers[name][rows] = residuals
        self._filled[rows] = True

    def read(self, rows: Int[np.ndarray, " n"], layer: int, pooling: Weighted) -> Float[np.ndarray, "n d"]:
        """Cached residuals of some texts at one layer.

        Args:
            rows: Row numbers of the texts.
            layer: The layer.
            pooling: `mean` or `last`.
        """
        return self._buffers[pooling][rows, layer].astype(np.float64)
