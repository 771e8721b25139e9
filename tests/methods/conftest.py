"""Evidence of a tiny model, shared by the methods; its neurons come from no selector."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.activations import collect
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.methods import Evidence
from neva_tl.methods.sae_files import SparseAutoencoder
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet

WORDS = {"power": ("rules", "yields"), "benevolence": ("helps", "hurts"), "security": ("guards", "risks")}


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("baselines") / "llama", n_ctx=1024)


@pytest.fixture(scope="package")
def pairs() -> ContrastSet:
    rows = [
        {
            "value": value,
            "pair_id": f"{value}{i}",
            "pole": pole,
            "text": f"The village number {i} has a king who {verb}",
            "cluster": f"c{i}",
            "split": "train",
            "source": "test",
        }
        for value, verbs in WORDS.items()
        for i in range(8)
        for pole, verb in zip("+-", verbs, strict=True)
    ]
    return ContrastSet.from_rows(rows, "test")


@pytest.fixture(scope="package")
def evidence(folder: Path, pairs: ContrastSet, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """With a random sparse autoencoder: training one needs a library."""
    model = models.load(folder)
    width, g = models.info(model).d_model, torch.Generator().manual_seed(3)
    encoder, decoder = torch.randn(2, 4 * width, width, generator=g)
    coder = SparseAutoencoder(encoder, torch.zeros(4 * width), decoder, torch.zeros(width), k=8)
    sae = str(coder.save(tmp_path_factory.mktemp("sae") / "layers.1"))
    stats = collect(model, pairs, samples=True)
    info = models.info(model)
    at = pd.DataFrame({"layer": [0, 1, 1, 2, 2, 2], "neuron": [3, 7, 2, 5, 6, 40]})
    plus, minus, sd = stats.moments("power", "+")[1], stats.moments("power", "-")[1], stats.sd("power")
    where = (at["layer"].to_numpy(), at["neuron"].to_numpy())
    df = at.assign(mean_plus=plus[where], mean_minus=minus[where], sd=sd[where], score=1.0)
    neurons = NeuronSet("power", "test", df, info.n_layers, info.d_mlp, fingerprint=models.fingerprint(model))
    return Evidence(model, stats, {"power": neurons}, scope="generated", layers=(1,), seed=4, sae=sae)
