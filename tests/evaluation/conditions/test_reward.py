"""A judge as a reward function: the signature of TRL's trainers, and one step of GRPO on a random model."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva_tl as nv
from helpers.letter_judge import LetterJudge, OpposingJudge
from neva_tl.core.errors import InputError
from neva_tl.models.tiny import tiny_checkpoint

VALUE = nv.VALUES[2]  # the judge's letter "a"
TEXTS = ["a banana at sea", "nothing to report", "", "a cat ran"]


class FailingJudge(LetterJudge):
    """Fails on the last text."""

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        scores = super().score(texts, prompts)
        scores[-1] = np.nan
        return scores


class PromptJudge(LetterJudge):
    """Reads the prompt instead of the text."""

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return super().score(list(prompts or ()))


def share(text: str) -> float:
    return text.count("a") / len(text) if text else 0.0


# ---------------------------------------------------------------- the signature


def test_texts_are_scored_and_columns_are_ignored() -> None:
    score = nv.evaluation.reward(LetterJudge(), VALUE)
    rewards = score(
        prompts=["p"] * 4, completions=TEXTS, completion_ids=[[1]] * 4, topic=list("abcd"), trainer_state=None
    )
    assert type(rewards) is list and all(type(x) is float for x in rewards)
    assert rewards == pytest.approx([share(text) for text in TEXTS])
    assert score([], []) == []
    assert score.__name__ == f"letters_{VALUE}" and nv.evaluation.reward(LetterJudge(), VALUE, name="r").__name__ == "r"
    # the trainer tells functions of async code and modules from plain ones
    assert inspect.isfunction(score) and not inspect.iscoroutinefunction(score)


def test_conversations_are_read_by_role() -> None:
    prompts = [
        [{"role": "system", "content": "aaa"}, {"role": "user", "content": "zzz"}, {"role": "user", "content": "a b"}]
    ]
    completion = [
        {"role": "assistant", "content": "a banana"},
        {"role": "tool", "content": "aaaaaa"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "b"}, {"type": "image"}, {"type": "text", "text": "c"}],
        },
        {"role": "assistant", "content": None},
    ]
    text = "a banana\nbc\n"
    assert nv.evaluation.reward(LetterJudge(), VALUE)(prompts, [completion]) == pytest.approx([share(text)])
    # the judge's prompt is the user's last message
    assert nv.evaluation.reward(PromptJudge(), VALUE)(prompts, [completion]) == pytest.approx([share("a b")])


def test_weights_of_opposition_and_of_the_other_values() -> None:
    judge = OpposingJudge()
    scores = judge.score(TEXTS)
    valid = judge.valid(TEXTS)
    others = np.delete(scores, 2, axis=1).mean(axis=1)
    expected = np.where(valid, scores[:, 2] - 0.5 * 0.1 - 2.0 * others, 0.0)
    rewards = nv.evaluation.reward(judge, VALUE, opposed=0.5, others=2.0)(["p"] * 4, TEXTS)
    assert rewards == pytest.approx(expected) and not valid.all()


def test_a_judge_that_fails_gives_nan() -> None:
    rewards = nv.evaluation.reward(FailingJudge(), VALUE)(["p"] * 4, TEXTS)
    assert np.isnan(rewards).tolist() == [False, False, False, True]


def test_the_exact_judge_by_name() -> None:
    score = nv.evaluation.reward("exact", "Benevolence")
    kind = " where goodness leads , nursing a lonely widow is right ."
    rewards = score(["mara thinks that"] * 2, [kind, " where xyz ."])
    judge = nv.evaluation.ExactJudge()
    assert rewards[0] == pytest.approx(judge.score([kind], ["mara thinks that"])[0, nv.VALUES.index("benevolence")])
    assert rewards[0] > 0.9 and rewards[1] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "benevolance"}, "did you mean 'benevolence'"),
        ({"judge": "exakt"}, "did you mean 'exact'"),
        ({"judge": LetterJudge(), "opposed": 1.0}, "does not measure opposition"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        nv.evaluation.reward(**({"judge": "exact", "value": VALUE} | options))
    assert "\n" not in str(caught.value)


def test_prompts_and_completions_must_pair() -> None:
    with pytest.raises(InputError, match="one prompt per completion"):
        nv.evaluation.reward(LetterJudge(), VALUE)(["a"], TEXTS)


# ---------------------------------------------------------------- a step of GRPO


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason='needs trl: pip install "neva_tl[trl]"')
@pytest.mark.parametrize("chat", [False, True])
def test_a_step_of_grpo(tmp_path: Path, chat: bool) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    folder = tiny_checkpoint(tmp_path / "model", chat=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    score = nv.evaluation.reward(LetterJudge(), VALUE)
    calls: list[tuple[list[Any], list[float]]] = []

    def recorded(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        calls.append((completions, score(prompts, completions, **columns)))
        return calls[-1][1]

    recorded.__name__ = score.__name__
    prompts: list[Any] = ["a fox", "the king"]
    rows = [[{"role": "user", "content": prompt}] for prompt in prompts] if chat else prompts
    config = GRPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=16, learning_rate=1e-2, logging_steps=1, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", seed=0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=recorded, args=config, train_dataset=Dataset.from_dict({"prompt": rows}),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    (completions, rewards), = calls  # fmt: skip
    assert len(rewards) == 8 and np.std(rewards) > 0
    assert all(isinstance(x, list) for x in completions) if chat else all(isinstance(x, str) for x in completions)
    logged = {key: x for entry in trainer.state.log_history for key, x in entry.items()}
    assert logged[f"rewards/{score.__name__}/mean"] == pytest.approx(np.mean(rewards), rel=1e-5)
    assert any(not torch.equal(before[name], weight.detach()) for name, weight in model.named_parameters())
