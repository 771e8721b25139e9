"""A small random model, and neuron sets made by hand for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neva_tl import models
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models.tiny import tiny_checkpoint

Make = Callable[..., NeuronSet]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random Llama-shaped model: 3 layers of 48 neurons."""
    return models.load(tiny_checkpoint(Path(tmp_path_factory.mktemp("editing")) / "llama"))


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random GPT-2-shaped model: learned positions, no gate."""
    return models.load(tiny_checkpoint(Path(tmp_path_factory.mktemp("editing")) / "gpt2", "gpt2"))


@pytest.fixture(scope="session")
def make_set() -> Make:
    """`make_set(model, [(layer, neuron), ...], plus=..., minus=...)`: a neuron set with these means."""

    def make(
        model: Any,
        at: Sequence[tuple[int, int]],
        plus: Sequence[float] | float = 1.5,
        minus: Sequence[float] | float = 0.5,
        sd: float = 0.4,
        **options: Any,
    ) -> NeuronSet:
        info = models.info(model)
        df = pd.DataFrame(
            {
                "layer": [layer for layer, _ in at],
                "neuron": [neuron for _, neuron in at],
                "mean_plus": np.broadcast_to(plus, len(at)).astype(float),
                "mean_minus": np.broadcast_to(minus, len(at)).astype(float),
                "sd": np.full(len(at), sd),
                "score": np.ones(len(at)),
            }
        )
        settings = {"n_layers": info.n_layers, "d_mlp": info.d_mlp, "fingerprint": models.fingerprint(model)} | options
        return NeuronSet("power", "test", df, **settings)

    return make


@pytest.fixture(scope="session")
def count_hooks() -> Callable[[Any], int]:
    """How many hooks are on a model."""

    def count(model: Any) -> int:
        points = {id(p): p for p in model.hook_dict.values()}  # the bridge lists a point under several names
        return sum(len(p.fwd_hooks) + len(p.bwd_hooks) for p in points.values())

    return count
