"""Edits, judges and benchmarks with hostile text wherever they hold text, and objects of no class in particular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from helpers.public_results import HOSTILE, contrast_set, gate, neuron_set
from neva_tl import evaluation
from neva_tl.core.theories import SCHWARTZ
from neva_tl.editing import (
    Ablate,
    AddVector,
    Amplify,
    Clamp,
    Composed,
    ContextAware,
    GateShift,
    LayerProbe,
    Paced,
    ProbedVector,
    PromptShift,
    Rescale,
    RewriteAnswer,
    RolePrompt,
    Scale,
    Shift,
    compose,
    paced,
)
from neva_tl.evaluation.benchmarks import Benchmark, Item
from neva_tl.evaluation.judges.cached import CachedJudge
from neva_tl.evaluation.judges.chat import ChatJudge
from neva_tl.evaluation.judges.classifier import Classifier
from neva_tl.evaluation.judges.features import Features
from neva_tl.evaluation.judges.huggingface import HuggingFaceJudge


def probe(layer: int) -> LayerProbe:
    return LayerProbe(layer, np.arange(8), np.ones(8), 0.1, np.ones(8) / 8)


def gated_neurons() -> Any:
    neurons = neuron_set()
    return neurons.with_df(neurons.df.assign(p_diff=0.4, q95=1.0))


EDITS: dict[type, Callable[[], Any]] = {
    Ablate: lambda: Ablate(neuron_set(), mode="mean", effects="all", scope="last"),
    AddVector: lambda: AddVector({1: np.ones(512), 2: np.ones(512)}, HOSTILE),
    Clamp: lambda: Clamp(neuron_set(), gate=gate()),
    Composed: lambda: compose([Amplify(neuron_set(), 2.0), Amplify(neuron_set(), 4.0)]),
    ContextAware: lambda: ContextAware(neuron_set(), (probe(0), probe(2)), dose=2.2),
    GateShift: lambda: GateShift(gated_neurons(), dose=0.5),
    Paced: lambda: paced(Shift(neuron_set(), dose=3.5), half_life=20.0, no_repeat=3),
    ProbedVector: lambda: ProbedVector((probe(0), probe(1))),
    PromptShift: lambda: PromptShift((probe(0), probe(1)), dose=-2.0),
    Rescale: lambda: Rescale(neuron_set(), lowest=0.0, dose=-0.5),
    RewriteAnswer: lambda: RewriteAnswer(HOSTILE * 20),
    RolePrompt: lambda: RolePrompt(HOSTILE * 20),
    Scale: lambda: Scale(neuron_set(), dose=0.0),
    Shift: lambda: Shift(neuron_set(), dose=3.5, scope="generated"),
}


def classifier() -> Classifier:
    features = Features.fit(("the king rules the land", "we help our friends", "the king helps the land") * 3, "tfidf")
    data = {"labels": HOSTILE, "source": HOSTILE, "training texts": 9, "validation texts": 9, "hash": "0" * 64}
    f1 = [{"label": "power", "threshold": 0.5, "f1": 0.6, "precision": 0.5, "recall": 0.7, "support": 4}]
    info = {"strength": 1.0, "data": data, "validation": {"macro_f1": 0.6, "categories": f1}}
    coef, one = np.zeros((1, features.width), np.float32), np.full(1, 0.5)
    return Classifier(("power",), features, coef, one, one, info)


def questions() -> pd.DataFrame:
    return pd.DataFrame([{"value": "power", "against": "security", "text": HOSTILE, "topic": "t"}] * 4)


JUDGES: dict[type, Callable[[], Any]] = {
    CachedJudge: lambda: CachedJudge(evaluation.WordListJudge()),
    ChatJudge: lambda: ChatJudge(HOSTILE, "http://localhost:9", key_env=None),
    Classifier: classifier,
    evaluation.ExactJudge: evaluation.ExactJudge,
    HuggingFaceJudge: lambda: HuggingFaceJudge(
        HOSTILE, torch.nn.Linear(2, 10), None, SCHWARTZ.names, tuple(range(10)), True
    ),
    evaluation.LogProbJudge: lambda: evaluation.LogProbJudge.of_unit(
        contrast_set(), {"power": 1.0, "benevolence": 1.0}, 1.0, split="train"
    ),
    evaluation.SurveyJudge: evaluation.SurveyJudge.load,
    evaluation.WordListJudge: evaluation.WordListJudge,
    evaluation.YesNoJudge: lambda: evaluation.YesNoJudge(questions()),
}


def benchmark() -> Benchmark:
    items = tuple(Item(str(i), HOSTILE, (HOSTILE,) * 2, (HOSTILE, "b"), i % 2) for i in range(30))
    return Benchmark(HOSTILE, "choice", items, total=40, note=HOSTILE, source=HOSTILE)


TASKS: dict[type, Callable[[], Any]] = {Benchmark: benchmark}
