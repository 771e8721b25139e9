"""Residual streams by plain transformers and raw hooks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl.prompts import ContrastSet


def raw_residuals(folder: Path, texts: Iterable[str], layer: int) -> list[np.ndarray]:
    """Output of a block at every token of each text (BOS first), by plain transformers: `[n, d]` each."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen: list[torch.Tensor] = []
    hf.model.layers[layer].register_forward_hook(
        lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        for text in texts:
            hf(torch.tensor([tokenizer(text)["input_ids"]]))
    return [x.reshape(-1, hf.config.hidden_size).double().numpy() for x in seen]


def raw_mean_residuals(folder: Path, pairs: ContrastSet, layer: int) -> dict[tuple[str, str], np.ndarray]:
    """Mean over prompts of the mean over tokens (BOS left out) of the block's output, by plain transformers."""
    out: dict[tuple[str, str], list[np.ndarray]] = {}
    for row, x in zip(pairs.df.itertuples(), raw_residuals(folder, pairs.df["text"], layer), strict=True):
        out.setdefault((row.value, row.pole), []).append(x[1:].mean(0))
    return {key: np.mean(rows, axis=0) for key, rows in out.items()}
