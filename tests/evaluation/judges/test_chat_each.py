"""The local judge's question at a chat endpoint, against a server of the same model and servers with planted answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from helpers.yes_no_server import YesNoServer
from neva_tl.core.cache import JsonCache
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.evaluation.judges import load_judge
from neva_tl.evaluation.judges.chat import ChatJudge
from neva_tl.evaluation.judges.chat_each import share_of_yes
from neva_tl.evaluation.judges.endorsement import NO, SYSTEM, YES, message, question
from neva_tl.evaluation.judges.endpoint import LEAST, Reply
from neva_tl.evaluation.judges.llm import LlmJudge
from neva_tl.evaluation.judges.local_answers import answer_tokens
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.usefixtures("chat_environment")
TWO = ValueTheory.from_names(["honesty", "thrift"])
TEXTS = ["I keep the old customs.", "Rules bore me."]


def test_a_server_of_the_same_model_gives_the_local_judges_answers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_checkpoint(tmp_path / "tiny", chat=True, n_ctx=1024)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    yes, no = answer_tokens(tokenizer, YES, NO)

    def answer(messages: list[dict[str, str]]) -> dict[str, float]:
        written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(written, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(ids).logits[0, -1].double(), -1)
        return {
            "Yes": float(logprobs[yes].logsumexp(0)), " No": float(logprobs[no].logsumexp(0)),
            "The": float(logprobs[9]),
        }  # fmt: skip

    local = LlmJudge(str(folder), TWO, cache=JsonCache(None), progress=False, dtype="float32")
    with YesNoServer(answer) as server:
        chat = ChatJudge("m", server.url, theory=TWO, asks="each", opposes=True)
        odds = local.log_odds(TEXTS, ["Why?", ""])
        assert np.abs(chat.score(TEXTS, ["Why?", ""]) - expit(odds)[:, :, 0]).max() < 1e-5
        opposed = chat.oppose(TEXTS, ["Why?", ""])
        assert opposed is not None and np.abs(opposed - expit(odds)[:, :, 1]).max() < 1e-5
        assert len(server.bodies) == 8  # two texts, two values, two directions, and the second call from the cache
        turns = server.bodies[0]["messages"]
        assert turns[0] == {"role": "system", "content": SYSTEM} and server.bodies[0]["logprobs"] is True
        contents = {body["messages"][1]["content"] for body in server.bodies}
        assert message(TEXTS[0], "Why?", question(TWO.values[1], "oppose")) in contents
        assert chat.question == local.question and chat.report().asked == 2


def test_without_log_probabilities_the_word_counts(tmp_path: Path) -> None:
    def answer(messages: list[dict[str, str]]) -> dict[str, float]:
        return {"Yes." if "honesty" in messages[1]["content"] else "no, it does not": -0.1}

    with YesNoServer(answer, listed=False) as server:
        judge = load_judge(f"chat:m@{server.url}#asks=each&cache={tmp_path}/answers.sqlite", TWO)
        assert np.array_equal(judge.score(TEXTS), [[1, 0], [1, 0]])  # type: ignore[union-attr]
        assert judge.oppose(TEXTS) is None and judge.unit == "P(Yes), not calibrated"  # type: ignore[union-attr]
        again = load_judge(f"chat:m@{server.url}#asks=each&cache={tmp_path}/answers.sqlite", TWO)
        assert np.array_equal(again.score(TEXTS), [[1, 0], [1, 0]])  # type: ignore[union-attr]
        assert len(server.bodies) == 4


def test_answers_that_are_neither_are_missing_and_counted() -> None:
    with YesNoServer(lambda _: {"Perhaps": -0.1, "Maybe": -3.0}) as server:
        judge = ChatJudge("m", server.url, theory=TWO, asks="each")
        assert np.isnan(judge.score(TEXTS)).all()
        assert judge.report().failed == {"no Yes or No": 2}


@pytest.mark.parametrize(
    ("first", "content", "share"),
    [
        ({"Yes": np.log(0.6), " yes": np.log(0.2), "No": np.log(0.1)}, "Yes", 8 / 9),
        ({"NO": np.log(0.7), "The": np.log(0.1)}, "NO", 1 / 8),  # Yes has at most the .1 of the least listed token
        ({"Yes": 0.0, "No": LEAST}, "Yes", 1.0),
        ({"The": -0.1}, "Yes", None),
        ({}, " *Yes*", 1.0),
        ({}, "Nothing", None),
        ({}, None, None),
    ],
)
def test_share_of_yes(first: dict[str, float], content: Any, share: float | None) -> None:
    result = share_of_yes(Reply(content, "stop", None, None, first))
    assert result is None if share is None else result == pytest.approx(share)


def test_an_unknown_way_of_asking_is_refused() -> None:
    with pytest.raises(InputError, match="asks all or each"):
        ChatJudge("m", "http://localhost:1/v1", asks="some")
