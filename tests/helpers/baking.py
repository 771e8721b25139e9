"""Neuron sets and edits for tiny models of any architecture, and the logits and greedy text of a baked folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, AddVector, Edit, Scale, Shift, edit_hf

#: Token ids of a prompt that no check of `bake` uses.
IDS = (0, 71, 104, 33, 250, 12, 299, 45, 8, 160, 91)
N_NEW = 8


def load_plain(folder: Path, **options: Any) -> Any:
    """Transformers' own model of a folder."""
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def neuron_set(hf: Any, step: float = 4) -> NeuronSet:
    """Every `step`-th neuron of every layer, higher and lower on the + pole in turn, with different means."""
    plain = models.plain(hf)
    facts = plain.facts.info
    at = [(layer, neuron) for layer in range(facts.n_layers) for neuron in range(0, facts.d_mlp, int(step))]
    rng = np.random.default_rng(0)
    minus, contrast = rng.normal(size=len(at)), np.resize([1.5, -0.8, 0.4], len(at))
    df = pd.DataFrame(at, columns=["layer", "neuron"]).assign(
        mean_minus=minus, mean_plus=minus + contrast, sd=1.0, score=1.0
    )
    sizes = {"n_layers": facts.n_layers, "d_mlp": facts.d_mlp}
    return NeuronSet("power", "test", df, **sizes, fingerprint=dict(plain.facts.fingerprint))


def edits_of(hf: Any) -> Mapping[str, tuple[Edit, ...]]:
    """One edit of each kind that weights can hold, and a composition in which the order matters."""
    neurons = neuron_set(hf)
    facts = models.plain(hf).facts.info
    rng = np.random.default_rng(1)
    push = AddVector({0: rng.normal(size=facts.d_model), 1: rng.normal(size=facts.d_model)}, dose=0.5)
    return {
        "Shift": (Shift(neurons, dose=1.5),),
        "Scale": (Scale(neurons, dose=-0.7),),
        "Ablate, zero": (Ablate(neurons, effects="all"),),
        "Ablate, mean": (Ablate(neurons, mode="mean", dose=0.8, effects="all"),),
        "AddVector": (push,),
        "Shift, Scale, AddVector, Shift": (Shift(neurons), Scale(neurons, dose=1.7), push, Shift(neurons, dose=-0.5)),
    }


def logits(hf: Any, edits: Sequence[Edit] = ()) -> Tensor:
    """Logits of `IDS`, `[n, d_vocab]`, by transformers with hooks."""
    with torch.no_grad():
        if not edits:
            return hf(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
        with edit_hf(hf, *edits):
            return hf(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]


def greedy(hf: Any, edits: Sequence[Edit] = ()) -> list[int]:
    """Greedy tokens after `IDS`, by transformers' own `generate` with its cache."""
    prompt = torch.tensor([IDS])
    options = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    if not edits:
        return hf.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[0].tolist()
    with edit_hf(hf, *edits):
        return hf.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[0].tolist()
