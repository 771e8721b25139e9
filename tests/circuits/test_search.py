"""Gates, scores, search, faithfulness, inputs and contexts against raw hooks and exact sums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva_tl as nv
from neva_tl import models
from neva_tl.attribution import value_tokens
from neva_tl.circuits import (
    CircuitGraph,
    Nodes,
    ValueTask,
    circuit,
    circuit_effects,
    faithfulness,
    find_circuits,
    gate_scores,
    input_scores,
    mean_activations,
    top_contexts,
    value_task,
)
from neva_tl.circuits.search.gates import contrast, text_log_odds
from neva_tl.core.errors import InputError
from neva_tl.models import inference

from .planted import VALUE_WORDS, plant, texts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nv.load(str(plant(tmp_path_factory.mktemp("m"), "llama", 0, noise=0.05).folder))


@pytest.fixture(scope="module")
def task(model: Any) -> ValueTask:
    examples, signs = texts(0, 12)
    tokens = value_tokens(model, list(VALUE_WORDS), VALUE_WORDS)
    return ValueTask("power", tuple(examples), signs, np.arange(len(examples)).astype(str), tokens, at="last")


def m_of(model: Any, task: ValueTask, means: Any, nodes: Nodes) -> float:
    return float(contrast(task, text_log_odds(model, task, means, nodes)[:, list(task.ids).index(task.value)]))


def test_log_odds_are_the_softmax_s(model: Any, task: ValueTask) -> None:
    found = text_log_odds(model, task)
    for number, example in enumerate(task.examples[:4]):
        logits = inference.forward_batch(model, inference.encode(model, [example]))
        assert logits is not None
        p = logits[0, -1].double().softmax(-1)[task.ids["power"]].sum()
        assert found[number, list(task.ids).index("power")] == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-4)


def test_mean_ablation_equals_raw_hooks(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    kept = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 3), (2, 5)])
    found = text_log_odds(model, task, means, kept)
    facts = models.info(model)
    # by hand: every text alone, no padding, means taken text by text
    runs = []
    for example in task.examples:
        seen: dict[str, torch.Tensor] = {}
        names = [models.hook_name(model, layer, site) for layer in range(facts.n_layers) for site in ("z", "post")]
        handles = [
            models.add_hook(model, n, lambda x, hook=None, n=n, s=seen: s.update({n: x[0].clone()})) for n in names
        ]
        inference.forward_batch(model, inference.encode(model, [example]))
        for handle in handles:
            handle.remove()
        runs.append(seen)
    shortest = min(len(next(iter(run.values()))) for run in runs)
    mean = {name: torch.stack([run[name][:shortest] for run in runs]).mean(0) for name in runs[0]}
    short = [i for i, run in enumerate(runs) if len(next(iter(run.values()))) == shortest]
    for number in short:
        handles = []
        for layer in range(facts.n_layers):
            for site in ("z", "post"):
                name = models.hook_name(model, layer, site)
                mask = (kept.heads[layer][:, None] if site == "z" else kept.neurons[layer]).expand(mean[name].shape[1:])
                handles.append(
                    models.add_hook(model, name, lambda x, hook=None, n=name, k=mask: torch.where(k, x, mean[n][None]))
                )
        logits = inference.forward_batch(model, inference.encode(model, [task.examples[number]]))
        for handle in handles:
            handle.remove()
        assert logits is not None
        p = logits[0, -1].double().softmax(-1)[task.ids["power"]].sum()
        assert found[number, list(task.ids).index("power")] == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-4)


def test_scores_sum_to_the_whole_effect(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    whole, none = ~Nodes.none(model), Nodes.none(model)
    effect = m_of(model, task, means, whole) - m_of(model, task, means, none)
    assert float(gate_scores(model, task, means, whole, steps=32).sum()) == pytest.approx(effect, rel=0.02)
    part = Nodes.of(model, heads=[(0, 0), (0, 1), (0, 3)], neurons=[(1, k) for k in range(48)])
    held = m_of(model, task, means, part) - m_of(model, task, means, none)
    scores = gate_scores(model, task, means, part, steps=32)
    assert float(scores.sum()) == pytest.approx(held, rel=0.02, abs=0.02)
    assert not scores[~part.flat()].any()


def test_input_scores_sum_to_m(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    name = models.hook_name(model, 0, "resid_pre")
    handle = models.add_hook(model, name, lambda x, hook=None: means.at(means.embed, x.shape[1]).expand_as(x))
    base = m_of_all(model, task)
    handle.remove()
    assert float(input_scores(model, task, means, steps=32).sum()) == pytest.approx(
        m_of_all(model, task) - base, rel=0.05
    )


def m_of_all(model: Any, task: ValueTask) -> float:
    return float(contrast(task, text_log_odds(model, task)[:, list(task.ids).index(task.value)]))


def test_hooks_come_off_and_nothing_changes(model: Any, task: ValueTask) -> None:
    before = text_log_odds(model, task)
    means = mean_activations(model, task)
    circuit_effects(model, task, Nodes.of(model, heads=[(0, 1)], neurons=[(1, 3)]), means=means, n_inputs=2)
    assert np.array_equal(before, text_log_odds(model, task))
    assert np.allclose(before, text_log_odds(model, task, means, ~Nodes.none(model)), atol=1e-6)


def test_measured_effects_on_values_are_single_ablations(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    nodes = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 12)])
    found = circuit_effects(model, task, nodes, means=means, n_inputs=2).values
    base = m_of_all(model, task)
    for name, without in (
        (("head", 0, 1), Nodes.of(model, [(0, 1)])),
        (("neuron", 1, 12), Nodes.of(model, (), [(1, 12)])),
    ):
        row = found[[a == name and v == "power" for a, v in zip(found["source"], found["value"], strict=True)]]
        assert float(row["measured"].iloc[0]) == pytest.approx(m_of(model, task, means, ~without) - base, abs=1e-4)
        assert float(row["lo"].iloc[0]) <= float(row["measured"].iloc[0]) <= float(row["hi"].iloc[0])


def test_search_gives_nested_sizes_and_is_repeatable(model: Any, task: ValueTask) -> None:
    first = find_circuits(model, task, [4, 12], exchanges=2, batch=None)
    again = find_circuits(model, task, [4, 12], exchanges=2, batch=None)
    for size in (4, 12):
        assert len(first[size].nodes) == size
        assert torch.equal(first[size].nodes.flat(), again[size].nodes.flat())
        assert not first[size].shares[~first[size].nodes.flat()].any()
    held = faithfulness(model, task, first[12].nodes, n_random=3)
    assert held.f == pytest.approx(first[12].f, abs=1e-4)
    assert held.f_lo <= held.f <= held.f_hi and held.n_heads + held.n_neurons == 12
    whole = faithfulness(model, task, ~Nodes.none(model), n_random=0)
    assert whole.f == pytest.approx(1) and whole.completeness == pytest.approx(1)


def test_random_graphs_have_as_many_heads_and_neurons(model: Any) -> None:
    nodes = Nodes.of(model, heads=[(0, 1), (2, 2)], neurons=[(1, 3), (1, 4), (2, 0)])
    drawn = nodes.random_like(torch.Generator().manual_seed(1))
    assert int(drawn.heads.sum()) == 2 and int(drawn.neurons.sum()) == 3
    assert not torch.equal(drawn.flat(), nodes.flat())


def test_top_contexts_are_the_largest_activations(model: Any) -> None:
    examples, _ = texts(4, 8)
    corpus = [example.answer for example in examples]
    found = top_contexts(model, [(1, 3), (2, 7)], corpus, k=3, before=2, after=1, signs=[1, -1])
    for (layer, index), sign in (((1, 3), 1), ((2, 7), -1)):
        peaks = []
        for text in corpus:
            seen: list[torch.Tensor] = []
            handle = models.add_hook(
                model, models.hook_name(model, layer, "post"), lambda x, hook=None, s=seen: s.append(x[0].clone())
            )
            inference.forward_batch(model, inference.encode(model, [nv.prompts.Example("", text)]))
            handle.remove()
            peaks.append(float((sign * seen[0][:, index]).max()))
        # by height: texts may tie
        assert [sign * item.peak for item in found[layer, index]] == pytest.approx(sorted(peaks)[::-1][:3], abs=1e-5)
        assert len({item.text for item in found[layer, index]}) == 3
        for item in found[layer, index]:
            assert sign * item.peak == pytest.approx(peaks[item.text], abs=1e-5)
            assert len(item.tokens) <= 4 and item.activations[item.at] == item.peak
    with pytest.raises(InputError, match="does not exist"):
        top_contexts(model, [(0, 4000)], corpus)


def test_graph_of_a_task_reads_back_and_prunes(model: Any, task: ValueTask, tmp_path: Path) -> None:
    nodes = Nodes.of(model, heads=[(0, 1), (0, 3)], neurons=[(1, 12), (1, 24), (2, 1)])
    graph = circuit(model, task=task, nodes=nodes, n_inputs=4, test=task)
    assert graph.meta["faithfulness"]["f"] == pytest.approx(graph.faithfulness(model, task, n_random=0).f, abs=1e-6)
    assert graph.completeness(model, task) == pytest.approx(graph.meta["faithfulness"]["completeness"], abs=1e-6)
    small = graph.prune(0.5)
    assert 0 < small.graph.number_of_edges() < graph.graph.number_of_edges()
    assert torch.equal(small.members(model).flat(), nodes.flat())  # the circuit is what it was, edges are fewer
    back = CircuitGraph.load(graph.save(tmp_path / "x.json"))
    assert back.graph.number_of_edges() == graph.graph.number_of_edges()
    assert json.loads((tmp_path / "x.json").read_text())["meta"]["size"] == 5
    assert "Faithfulness" in graph.summary()
    with pytest.raises(InputError, match="share"):
        graph.prune(0.0)


def test_tasks_hold_both_poles_of_one_split(demo: Any) -> None:
    pairs = nv.prompts.load("demo")
    made = value_task(demo, pairs, "power", split="validation", per_pole=10, at="last")
    assert (made.signs > 0).sum() == (made.signs < 0).sum() == 10
    assert made.weights[made.signs > 0].sum() == pytest.approx(1) and made.weights.sum() == pytest.approx(0)
    theirs = {f"{e.prompt} {e.answer}" for e in pairs.split("validation").for_value("power").examples()}
    assert {f"{e.prompt} {e.answer}" for e in made.examples} <= theirs
    with pytest.raises(InputError, match="at least 2"):
        value_task(demo, pairs, "power", per_pole=1)


def test_nothing_to_explain_is_said(model: Any, task: ValueTask) -> None:
    other = ValueTask("power", task.examples, -task.signs, task.clusters, task.tokens, at="last")
    with pytest.raises(InputError, match="nothing for a circuit to explain"):
        find_circuits(model, other, [5])
    with pytest.raises(InputError, match="F is not defined"):
        faithfulness(model, other, Nodes.none(model))
    with pytest.raises(InputError, match="at least 1"):
        find_circuits(model, task, [0])


def test_results_show_themselves(model: Any, task: ValueTask) -> None:
    nodes = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 12)])
    held = faithfulness(model, task, nodes, n_random=2)
    effects = circuit_effects(model, task, nodes, n_inputs=3)
    for result, word in ((held, "1 heads and 1 neurons"), (effects, "strongest edges first")):
        assert word in result._repr_html_()
        assert result.show().axes[0].has_data()


def test_a_lead_is_put_behind_every_text() -> None:
    demo = nv.load("demo")
    pairs = nv.prompts.load("demo")
    plain = value_task(demo, pairs, "power", split="train", per_pole=6, at="last")
    led = value_task(demo, pairs, "power", split="train", per_pole=6, at="last", lead=" mara says")
    assert [e.answer for e in led.examples] == [e.answer + " mara says" for e in plain.examples]
    assert led.signs.tolist() == plain.signs.tolist()
    assert "'mara says'" in led.describe() and "of '" not in plain.describe()
