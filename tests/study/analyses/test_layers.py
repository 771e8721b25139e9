"""Per-layer ablation: which rows there are, and that its numbers are those of the plain transformers model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import prompts
from neva_tl.activations import ActivationStats, collect
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, Amplify, edit
from neva_tl.models import inference
from neva_tl.prompts.example import Example
from neva_tl.selection import select
from neva_tl.study import Study, StudyResult, layer_ablation, layer_study
from neva_tl.study.analyses.layer_effects import AMPLIFY_DOSE, GROUPS, OPERATIONS, group_of, layer_effects
from neva_tl.study.run import stages
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.run_folder import RunFolder


@pytest.fixture(scope="module")
def stats(finished: StudyResult) -> ActivationStats:
    return ActivationStats.load(finished.folder / "stats" / "stats")


@pytest.fixture(scope="module")
def neurons(finished: StudyResult) -> NeuronSet:
    return NeuronSet.load(finished.folder / "neurons" / "power")


def only_layer(found: NeuronSet, layer: int, k: int = 3) -> NeuronSet:
    return found.with_df(found.at(layer).head(k))


def test_groups_of_a_layer(stats: ActivationStats, neurons: NeuronSet) -> None:
    layer = neurons.layers[0]
    chosen = only_layer(neurons, layer)
    groups = {name: group_of(stats, chosen, layer, name, np.random.default_rng(0)) for name in GROUPS}
    picked = {name: set(found.df["neuron"]) for name, found in groups.items() if found is not None}
    assert picked["selected"] == set(chosen.df["neuron"])
    assert picked["all"] == set(range(stats.d_mlp))
    assert len(picked["random"]) == len(chosen) and not picked["random"] & picked["selected"]
    for found in groups.values():
        assert found is not None and set(found.df["layer"]) == {layer}
        delta = stats.delta("power")[layer, found.df["neuron"]]
        np.testing.assert_allclose(found.df["mean_plus"] - found.df["mean_minus"], delta)
    empty = next(at for at in range(stats.n_layers) if at != layer)
    assert group_of(stats, chosen, empty, "all", np.random.default_rng(0)) is None


def test_a_layer_that_is_all_selected_has_no_random_rest(stats: ActivationStats, neurons: NeuronSet) -> None:
    whole = group_of(stats, neurons, neurons.layers[0], "all", np.random.default_rng(0))
    assert whole is not None
    assert group_of(stats, whole, neurons.layers[0], "random", np.random.default_rng(0)) is None


@contextmanager
def silenced(hf: Any, layer: int | None) -> Iterator[None]:
    """The plain model with one block's MLP writing nothing."""
    if layer is None:
        yield
        return
    handle = hf.model.layers[layer].mlp.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    try:
        yield
    finally:
        handle.remove()


def raw_logprobs(hf: Any, model: Any, examples: list[Example], layer: int | None, chat: bool | None) -> list[Any]:
    """Per example the log-probabilities of its answer's tokens, from transformers alone."""
    out = []
    with torch.no_grad(), silenced(hf, layer):
        for item in inference.encode_one(model, examples, chat=chat):
            logits = hf(torch.tensor([item.ids])).logits[0].double().log_softmax(-1)
            start = max(item.start, 1)
            out.append(np.array([float(logits[t - 1, item.ids[t]]) for t in range(start, len(item.ids))]))
    return out


def test_zeroing_all_neurons_is_silencing_the_mlp(
    tiny_model: Any,
    checkpoint: Path,
    small_study: Callable[..., Study],
    pairs_file: Path,
    stats: ActivationStats,
    neurons: NeuronSet,
    tmp_path: Path,
) -> None:
    study = small_study(scope="all")
    pairs = stages.limit_rows(prompts.load(str(pairs_file)), study.profile.rows_per_value)
    scorer = stages.make_scorer(RunFolder(tmp_path), tiny_model, pairs, study.config, study.profile)
    cost_meter = CostMeter(tiny_model, study.config, study.profile)
    layer = neurons.layers[-1]
    chosen = only_layer(neurons, layer)
    table = layer_effects(tiny_model, stats, {"power": chosen}, scorer, cost_meter, n_boot=50)
    assert list(table["layer"].unique()) == [layer]  # layers without selected neurons have no rows
    assert [tuple(row) for row in table[["group", "operation"]].to_numpy()] == [
        (g, o) for g in GROUPS for o in OPERATIONS
    ]
    assert table.groupby("group")["n_neurons"].first().to_dict() == {"selected": 3, "random": 3, "all": stats.d_mlp}
    assert ((table["lo"] <= table["d_csr"] + 1e-9) & (table["d_csr"] <= table["hi"] + 1e-9)).all()

    row = table.set_index(["group", "operation"]).loc[("all", "zero")]
    hf = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    judge: Any = scorer.judge_of("test", ("power",))
    (group,) = judge.items.groups
    scores = []
    for silent in (None, layer):
        found = raw_logprobs(hf, tiny_model, list(judge.items.examples), silent, None)
        mean = np.array([x.mean() for x in found])
        scores.append((mean[group.plus] - mean[group.minus]) / judge.sd["power"])
    assert len(scores[0]) == 6
    assert row["d_csr"] == pytest.approx((scores[1] - scores[0]).mean(), abs=1e-4)
    texts = [Example("", text) for text in cost_meter.texts.texts]
    losses = [-np.concatenate(raw_logprobs(hf, tiny_model, texts, silent, False)).mean() for silent in (None, layer)]
    assert row["d_loss"] == pytest.approx(losses[1] - losses[0], abs=1e-4)


@pytest.mark.parametrize("scope", ["all", "generated"])
def test_the_numbers_are_those_of_one_whole_measurement_after_the_other(
    scope: Any,
    tiny_model: Any,
    small_study: Callable[..., Study],
    pairs_file: Path,
    stats: ActivationStats,
    neurons: NeuronSet,
    tmp_path: Path,
) -> None:
    study = small_study(scope=scope)
    pairs = stages.limit_rows(prompts.load(str(pairs_file)), study.profile.rows_per_value)
    scorer = stages.make_scorer(RunFolder(tmp_path), tiny_model, pairs, study.config, study.profile)
    cost_meter = CostMeter(tiny_model, study.config, study.profile)
    every = pd.concat([neurons.df.head(3).assign(layer=layer) for layer in range(stats.n_layers)], ignore_index=True)
    chosen = neurons.with_df(every)
    table = layer_effects(tiny_model, stats, {"power": chosen}, scorer, cost_meter, scope=scope, n_boot=20)
    judge: Any = scorer.judge_of("test", ("power",))

    def measured(*edits: Any) -> tuple[float, float]:
        with edit(tiny_model, *edits) as session:
            score = judge.measure(tiny_model, session).scores[0].mean()
        return score, np.log(cost_meter.capability(edits, questions=False)["perplexity"])

    base = measured()
    for layer in range(stats.n_layers):
        group = group_of(stats, chosen, layer, "all", np.random.default_rng(0))
        assert group is not None
        for operation, item in (
            ("zero", Ablate(group, mode="zero", effects="all", scope=scope)),
            ("mean", Ablate(group, mode="mean", effects="all", scope=scope)),
            ("amplify", Amplify(group, AMPLIFY_DOSE, scope=scope)),
        ):
            row = table.set_index(["layer", "operation", "group"]).loc[(layer, operation, "all")]
            want = np.subtract(measured(item), base)
            np.testing.assert_allclose(row[["d_csr", "d_loss"]].astype(float), want, atol=1e-5, rtol=0)
            assert abs(want[0]) > 5e-4  # fifty times the tolerance


def test_editing_what_is_already_so_changes_nothing(
    tiny_model: Any,
    small_study: Callable[..., Study],
    pairs_file: Path,
    stats: ActivationStats,
    neurons: NeuronSet,
    tmp_path: Path,
) -> None:
    """Amplifying neurons whose poles do not differ is no edit at all: every number is exactly 0."""
    study = small_study(scope="all")
    scorer = stages.make_scorer(
        RunFolder(tmp_path), tiny_model, prompts.load(str(pairs_file)), study.config, study.profile
    )
    layer = neurons.layers[0]
    equal = stats.mean.copy()
    equal[:, 1] = equal[:, 0]
    flat = replace(stats, mean=equal, n=np.stack([stats.n[:, 0]] * 2, axis=1))
    table = layer_effects(
        tiny_model,
        flat,
        {"power": only_layer(neurons, layer)},
        scorer,
        CostMeter(tiny_model, study.config, study.profile),
        n_boot=20,
    )
    still = table[table["operation"] == "amplify"]
    assert len(still) == len(GROUPS) and (still[["d_csr", "lo", "hi", "d_loss"]] == 0).all(axis=None)


def test_a_finished_study_lends_its_neurons(
    finished: StudyResult,
    checkpoint: Path,
    pairs_file: Path,
    small_study: Callable[..., Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(copytree(finished.folder, tmp_path / "lent"))
    monkeypatch.setattr(stages, "collect", lambda *args, **kwargs: pytest.fail("collected again"))
    monkeypatch.setattr(stages.selection, "select", lambda *args, **kwargs: pytest.fail("selected again"))
    calls = []

    def ablate(model: Any, stats: Any, neurons: Any, *args: Any, **options: Any) -> pd.DataFrame:
        calls.append({name: found.df for name, found in neurons.items()})
        return pd.DataFrame({"value": ["power"], "layer": [0]})

    monkeypatch.setattr("neva_tl.study.analyses.layers.layer_effects", ablate)
    config = small_study().config
    options = {"values": config.values, "methods": config.methods, "overrides": dict(config.overrides)}
    for _ in range(2):  # the second call reads the table
        table = layer_study(str(checkpoint), str(pairs_file), folder, **options)
    assert len(table) == 1 and len(calls) == 1 and (folder / "tables" / "layers.csv").is_file()
    for name in config.values:
        pd.testing.assert_frame_equal(calls[0][name], NeuronSet.load(finished.folder / "neurons" / name).df)


# ---------------------------------------------------------------- the public function


def test_a_model_and_a_file_of_pairs_are_enough(
    call: Any, tiny_model: Any, checkpoint: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command and the function give the same numbers, and a part of the table has the numbers of the complete one."""
    options = ("--value", "power", "--k", 6, "--out", tmp_path / "run", "--json")
    status, out, err = call("layers", "--model", checkpoint, "--prompts", pairs_file, *options)
    assert status == 0, err
    table = pd.read_parquet(tmp_path / "run" / "tables" / "layers.parquet")
    pd.testing.assert_frame_equal(pd.read_json(io.StringIO(out)), table, check_dtype=False)
    assert set(table["operation"]) == set(OPERATIONS) and set(table["group"]) == set(GROUPS)
    zero = table[table["operation"] == "zero"].reset_index(drop=True)
    part = layer_ablation(str(checkpoint), str(pairs_file), "power", k=6, operations=["zero"], folder=tmp_path / "run")
    assert list(part["d_csr"]) == list(zero["d_csr"]) and len(part) < len(table)

    measured = layer_ablation(tiny_model, pairs_file, "power", k=6, operations=["zero"])
    pd.testing.assert_frame_equal(pd.DataFrame(measured), zero)
    assert measured.attrs["judge"] == "logprob" and measured.attrs["selector"] == "margin"
    assert len(repr(measured).splitlines()) <= 12 and measured.show().axes[0].lines
    monkeypatch.setattr("neva_tl.study.analyses.layers.layer_effects", lambda *a, **o: pytest.fail("measured again"))
    again = layer_ablation(tiny_model, prompts.load(pairs_file), "power", k=6, operations=["zero"])
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(measured))


def test_statistics_and_neurons_of_ones_own(tiny_model: Any, pairs_file: Path, tmp_path: Path) -> None:
    pairs = prompts.load(pairs_file)
    own = prompts.load(pairs.df.assign(value=pairs.df["value"].replace({"power": "thrift", "tradition": "candour"})))
    stats = collect(tiny_model, own, samples=True)
    with pytest.raises(InputError, match="pass the pairs of the statistics as prompts="):
        layer_ablation(tiny_model, stats)
    with pytest.raises(InputError, match="leave out folder"):
        layer_ablation(tiny_model, stats, prompts=own, folder=tmp_path / "run")
    chosen = select(stats, "thrift", method="random", k=3, model=tiny_model)
    table = layer_ablation(tiny_model, stats, neurons=chosen, prompts=own, operations=["mean"])
    assert set(table["value"]) == {"thrift"} and list(table["layer"].unique()) == list(chosen.layers)
    assert table.query("group == 'selected'")["n_neurons"].sum() == 3
    with pytest.raises(InputError, match="none of the named values"):
        layer_ablation(tiny_model, stats, "candour", neurons=chosen, prompts=own)
    selected = layer_ablation(tiny_model, stats, "candour", prompts=own, k=3, operations=["zero"])
    assert set(selected["value"]) == {"candour"} and selected.query("group == 'selected'")["n_neurons"].sum() == 3


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"layers": [9]}, "has the layers 0 to 2, not 9"),
        ({"operations": []}, "no operation is named"),
        ({"operations": ["double"]}, "operations"),
        ({"values": ["hedonism"]}, "hedonism"),
        ({"prompts": "schwartz"}, "leave it out"),
        ({"judge": "exact"}, "exact judge"),
    ],
)
def test_what_cannot_be_ablated_is_refused_in_one_line(
    options: dict[str, Any], needle: str, tiny_model: Any, pairs_file: Path
) -> None:
    with pytest.raises(InputError) as caught:
        layer_ablation(tiny_model, pairs_file, **options)
    assert needle in str(caught.value) and "\n" not in str(caught.value)
