"""One instance of every public result, with hostile text wherever it holds text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch

from helpers import fake_run as fake
from neva_tl import evaluation, selection
from neva_tl.activations.stats import ActivationStats, Samples
from neva_tl.attribution import Decomposition, MarginEffects
from neva_tl.circuits import CircuitGraph
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.values import VALUES
from neva_tl.editing import Amplify, Calibration, RelevanceGate
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.profiles.svo import ring_games
from neva_tl.prompts import ContrastSet
from neva_tl.selection import NestedEffect, Stability
from neva_tl.selection.planted import NullResult, null_table
from neva_tl.study import StudyResult
from neva_tl.study.steering import SteeringResult

HOSTILE = '</td></table><script>alert("x")</script><img src=x onerror=alert(1)> & $\\frac{1$ \u202e'


def contrast_set() -> ContrastSet:
    rows = [
        {
            "value": value,
            "pair_id": f"{value}{k}",
            "pole": pole,
            "text": f"{HOSTILE} {value} {pole} {k}",
            "cluster": f"c{k}",
        }
        for value in ("power", "benevolence")
        for k in range(12)
        for pole in "+-"
    ]
    return ContrastSet.from_rows(rows, HOSTILE, note=HOSTILE)


def samples() -> Samples:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {
                "value": value,
                "pole": pole,
                "pair_id": f"{value}{k}",
                "cluster": f"c{k}",
                "split": "train",
                "fold": k % 8,
            }
            for value in ("power", "benevolence")
            for k in range(20)
            for pole in "+-"
        ]
    )
    h = rng.standard_normal((len(table), 3, 8)).astype(np.float32)
    h[(table["pole"] == "+").to_numpy(), 1, 5] += 4  # one neuron tells the poles apart
    return Samples(h, table)


def activation_stats() -> ActivationStats:
    one = samples()
    return ActivationStats.from_samples(one.h, one.table, info={"name": HOSTILE})


def neuron_set() -> NeuronSet:
    df = pd.DataFrame({"layer": [0, 2, 2], "neuron": [1, 3, 4], "g": [1.0, -0.5, 0.3]})
    return NeuronSet("power", HOSTILE, df.assign(mean_plus=1.0, mean_minus=0.0, sd=1.0, score=1.0), 3, 8)


def responses(method: str = HOSTILE) -> evaluation.Responses:
    rng = np.random.default_rng(1)
    base = tuple(rng.uniform(0, 0.3, 12) for _ in VALUES)
    edited = tuple(
        np.stack([b + (0.4 if v == s else 0.05) + 0.05 * rng.standard_normal(12) for s in ("power", "security")])
        for v, b in zip(VALUES, base, strict=True)
    )
    clusters = tuple(np.array([f"t{k % 6}" for k in range(12)]) for _ in VALUES)
    return evaluation.Responses(
        method, ("power", "security"), base, edited, clusters, judge=HOSTILE, unit=HOSTILE, shared=True
    )


def judged() -> evaluation.JudgedTexts:
    rng = np.random.default_rng(2)
    labels = (rng.random((200, 10)) < 0.4).astype(float)
    scores = 0.6 * labels + 0.1 * rng.random((200, 10))
    return evaluation.JudgedTexts(
        HOSTILE, HOSTILE, HOSTILE, scores, labels, np.array([f"c{k % 20}" for k in range(200)])
    )


def item_scores() -> evaluation.ItemScores:
    scores = (np.array([0.1, 0.3, np.nan, 0.2]), np.array([1.0, 1.0, 0.0, 0.0]))
    return evaluation.ItemScores(("power", "tradition"), scores, (np.array(list("aabb")), np.array(list("aabb"))))


def observed() -> evaluation.Observed:
    texts = pd.DataFrame({"prompt": [HOSTILE] * 4, "text": [HOSTILE] * 4, "valid": [True, True, False, True]})
    return evaluation.Observed(item_scores(), generations=texts)


def orientation(angle: float) -> evaluation.SvoResult:
    games = ring_games((50.0, 40.0), stops=3)
    towards = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    utility = np.array([game.allocations for game in games]) @ towards / 20
    return evaluation.SvoResult(games, utility, np.zeros(3), angle + np.linspace(-3, 3, 50))


def value_graph() -> evaluation.ValueGraph:
    row = {"a": "power", "b": "security", "adjacent": 0.9, "forward": 0.8, "backward": 0.0, "r": -0.4, "in_data": True}
    table = pd.DataFrame([row | {"distance": 36.0, "drawn": True, "direction": "->"}])
    return evaluation.ValueGraph(("power", "security"), HOSTILE, table, 0.7, 40, 100, 0)


def calibration() -> Calibration:
    table = pd.DataFrame({"dose": [1.0, 2.0, 4.0], "gain": [0.1, 0.25, 0.3], "invalid": [0.0, 0.01, 0.4]})
    return Calibration({0.2: 1.6, 0.4: None}, 2.0, table.assign(admissible=[True, True, False], **{HOSTILE: 0.5}))


def two_scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = (rng.random((60, 10)) < 0.4).astype(float)
    return np.clip(labels * 0.4 + rng.random((60, 10)) * 0.6, 0, 1), labels, np.arange(60) // 3


def quality_card() -> evaluation.QualityCard:
    rates = ("n", "support", "f1", "f1_lo", "f1_hi")
    rows = [{"level": "value", "label": HOSTILE, **dict.fromkeys(rates, 0.4)} for _ in range(3)]
    macro = pd.DataFrame([{"level": "value", "measure": HOSTILE, "est": 0.4, "lo": np.nan, "hi": None}])
    return evaluation.QualityCard(HOSTILE, HOSTILE, HOSTILE, 3, 2, HOSTILE, None, 12.0, pd.DataFrame(rows), macro)


def labelled_texts() -> evaluation.LabelledTexts:
    labels = np.tile([1.0, 0.0, np.nan, 1.0, 0.0], (4, 2))
    words, spots = (HOSTILE,) * 4, np.array(list("aabb"))
    return evaluation.LabelledTexts(HOSTILE, words, words, labels, VALUES, spots, np.array(["test"] * 4))


def gate() -> RelevanceGate:
    n = np.ones
    return RelevanceGate((0, 2), n((2, 8)), n(2), np.array([0.9, 0.95]), np.array([0.1, 0.05]))


def circuit_graph() -> CircuitGraph:
    graph = nx.DiGraph()
    graph.add_node(
        "neuron:L1.3", kind="neuron", layer=1, neuron=3, value="power", values="power", writes='[[" king", 0.5]]', g=1.0
    )
    graph.add_node("token:5", kind="token", token=5, text=" king", word="king", multi=False, value="power")
    graph.add_node("value:power", kind="value", value="power")
    graph.add_edge("neuron:L1.3", "token:5", kind="attributed", attributed=0.5)
    graph.add_edge("token:5", "value:power", kind="belongs")
    graph.add_edge("neuron:L1.3", "value:power", kind="value", attributed=0.5)
    return CircuitGraph(graph, {"model": "tiny", "values": ["power"], "top_tokens": 1})


def study_result(folder: Path) -> StudyResult:
    return StudyResult(fake.write_run(folder / "<img src=x> run"))


def margins() -> MarginEffects:
    rng = np.random.default_rng(0)
    return MarginEffects((HOSTILE, "power"), rng.normal(size=(2, 3, 8)), np.full((2, 3, 8), 0.5), 20)


def resampled() -> ActivationStats:
    """Statistics with samples of 12 pairs."""
    rng = np.random.default_rng(0)
    rows = [
        {"value": "power", "pole": pole, "pair_id": f"{HOSTILE}{k}", "cluster": f"{HOSTILE}{k}"}
        for k in range(12)
        for pole in "+-"
    ]
    h = rng.normal(size=(24, 2, 6)).astype(np.float32)
    h[::2, 1, 3] += 2
    return ActivationStats.from_samples(h, pd.DataFrame(rows))


def steering_result() -> SteeringResult:
    sure, unsure = Estimate(0.45, 0.2, 0.7, 18), Estimate(None, None, None, 0)
    neurons = neuron_set()
    return SteeringResult(
        value="power", edit=Amplify(neurons), method="neva_shift", status="reached", target=0.4, dose=2.0, validation_gain=0.41,
        gain=sure, leakage=unsure, effects=pd.DataFrame({"measured": ["power"], "d": [0.45], "lo": [0.2], "hi": [0.7]}),
        cost={"kl": sure, "loss": sure}, invalid=0.0, invalid_unedited=0.0, texts_checked=20,
        curve=pd.DataFrame({"dose": [1.0, 2.0], "gain": [0.2, 0.41], "invalid": [0.0, 0.0], "admissible": [True, True]}),
        judge="logprob", unit="SD", neurons=neurons, settings={}, name="demo",
    )  # fmt: skip


#: Class -> factory.
RESULTS: dict[type, Callable[[], Any]] = {
    evaluation.Agreement: lambda: evaluation.agreement(*two_scores(), n_boot=50),
    ActivationStats: activation_stats,
    Calibration: calibration,
    SteeringResult: steering_result,
    CircuitGraph: circuit_graph,
    ContrastSet: contrast_set,
    evaluation.Confusion: lambda: evaluation.confusion(*two_scores()[:2], n_permutations=20),
    Decomposition: lambda: Decomposition(*(torch.randn(2, *shape) for shape in ((), (2, 3), (2, 4), (2, 2), (), ()))),
    Estimate: lambda: Estimate(0.4, 0.2, 0.6, 12),
    evaluation.CorrectedLeakage: lambda: evaluation.correct(responses(), judged(), n_boot=50),
    evaluation.ItemScores: item_scores,
    evaluation.JudgedTexts: judged,
    evaluation.Mixing: lambda: evaluation.mixing(judged(), n_boot=50),
    evaluation.LabelledTexts: labelled_texts,
    evaluation.LeakageResult: lambda: evaluation.measure(responses(), n_boot=50, n_permutations=20),
    evaluation.NlrComparison: lambda: evaluation.compare_nlr(responses(), responses("caa"), n_boot=50),
    MarginEffects: margins,
    NestedEffect: lambda: selection.nested_bootstrap(resampled(), "power", k=2, draws=10),
    NeuronSet: neuron_set,
    NullResult: lambda: null_table(resampled(), "power", shuffles=2, flips=100),
    evaluation.Observed: observed,
    evaluation.QualityCard: quality_card,
    RelevanceGate: gate,
    evaluation.Responses: responses,
    Samples: samples,
    evaluation.SvoChange: lambda: orientation(90.0).to(orientation(0.0)),
    evaluation.SvoResult: lambda: orientation(45.0),
    evaluation.ValueGraph: value_graph,
    evaluation.ValueProfile: lambda: evaluation.ValueProfile(item_scores(), item_scores(), HOSTILE, HOSTILE, n_boot=20),
    Stability: lambda: selection.stability(resampled(), "power", k=2, draws=2),
    StudyResult: lambda: None,  # made in a folder of its own: see `result`
}
