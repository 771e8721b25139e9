"""Capability and fluency against raw logits, and by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, RolePrompt, edit
from neva_tl.evaluation import admissible, capability, fluency, multiple_choice, neutral_table, neutral_texts, reference
from neva_tl.models import inference
from neva_tl.prompts import Example

TEXTS = ["Once upon a time there was a small dog.", "The sun was in the sky and it was hot.", "Tom had a red ball."]


def push(scale: float = 1.0, **options) -> AddVector:
    return AddVector({2: scale * np.random.default_rng(0).normal(0, 1, 64)}, **options)


def raw_logprobs(model, text: str, change: AddVector | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of one text alone, unbatched."""
    batch = inference.encode(model, [Example("", text)], chat=False)
    if change is None:
        logits = inference.forward_batch(model, batch)
    else:
        with edit(model, change) as session:
            logits = inference.forward_batch(model, batch, session=session)
    scored = batch.answer[0, 1:]
    return torch.log_softmax(logits[0, :-1][scored].double(), -1), batch.tokens[0, 1:][scored]


def test_loss_and_kl_equal_raw_logits(stories260k):
    table = neutral_table(stories260k, push(), TEXTS)
    for number, text in enumerate(TEXTS):
        plain, ids = raw_logprobs(stories260k, text, None)
        moved, _ = raw_logprobs(stories260k, text, push())
        kl = float((plain.exp() * (plain - moved)).sum())
        assert table["kl"][number] == pytest.approx(kl, abs=2e-3)
        assert table["loss"][number] == pytest.approx(-float(moved.gather(1, ids[:, None]).sum()), abs=1e-3)
        assert table["tokens"][number] == len(ids)


def test_unedited_capability_is_the_models_own(stories260k):
    base = reference(stories260k, TEXTS)
    found = capability(stories260k, None, base)
    loss = [-x for x in inference.neutral_logprobs(stories260k, TEXTS)]
    assert found["perplexity"] == pytest.approx(np.exp(np.concatenate(loss).mean()), rel=1e-4)
    assert 0 <= found["kl"] < 1e-5
    edited = capability(stories260k, push(), base)
    assert edited["kl"] > 0.01 and edited["perplexity"] > found["perplexity"]


def test_neutral_text_counts_as_generated(stories260k):
    """An edit of generated tokens must cost as much here as one of all tokens (but for what BOS carries)."""
    assert capability(stories260k, push(scope="generated"), TEXTS)["kl"] > 0.01
    assert capability(stories260k, push(scope="prompt"), TEXTS)["kl"] < capability(stories260k, push(), TEXTS)["kl"]


def test_role_prompt_costs_something_on_neutral_text(stories260k):
    table = neutral_table(stories260k, RolePrompt("The king was angry."), TEXTS)
    assert (table["kl"] > 0).all()
    assert (table["tokens"] >= 5).all()


def test_multiple_choice_by_hand(stories260k):
    questions = pd.DataFrame(
        {
            "prompt": ["Once upon a", "Tom had a red"],
            "options": [["time there was", "qqqq zzzz"], ["xkcd vv", "ball"]],
            "answer": ["time there was", 1],
        }
    )
    table = multiple_choice(stories260k, None, questions)
    assert table["correct"].all() and (table["margin"] > 0).all()
    assert capability(stories260k, None, TEXTS, questions)["accuracy"] == 1.0
    wrong = questions.assign(answer=["qqqq zzzz", 0])
    assert capability(stories260k, None, TEXTS, wrong)["accuracy"] == 0.0
    assert "accuracy" not in capability(stories260k, None, TEXTS, questions.head(0))


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (pd.DataFrame({"prompt": ["a"], "options": [["b", "c"]]}), "lack the column 'answer'"),
        (pd.DataFrame({"prompt": ["a"], "options": [["b"]], "answer": [0]}), "fewer than two"),
        (pd.DataFrame({"prompt": ["a"], "options": [["b", "c"]], "answer": ["d"]}), "not one of its options"),
        (pd.DataFrame({"prompt": ["a"], "options": [["b", "c"]], "answer": [2]}), "not an index"),
    ],
)
def test_bad_questions_are_refused(stories260k, questions, message):
    with pytest.raises(InputError, match=message):
        multiple_choice(stories260k, None, questions)


def test_own_neutral_texts_are_many_and_split():
    validation, test = neutral_texts("validation"), neutral_texts("test")
    assert len(neutral_texts()) >= 40 and not set(validation) & set(test)
    assert min(len(validation), len(test)) >= 20
    assert 60 <= np.mean([len(text.split()) for text in neutral_texts()]) <= 100
    with pytest.raises(InputError, match="unknown split"):
        neutral_texts("train")
    with pytest.raises(InputError, match="neutral texts"):
        reference(SimpleNamespace(cfg=None), [])


def test_fluency_by_hand(stories260k):
    found = fluency(["a b c d a b c d a b c d", "The dog ran home.", ""])
    assert found["invalid"] == pytest.approx(2 / 3)
    assert found["repetition"] == pytest.approx((1 - 4 / 9) / 3)
    judged = fluency(pd.DataFrame({"text": ["x", "y"], "valid": [True, False], "prompt": ["p", "q"]}))
    assert judged["invalid"] == pytest.approx(0.5)
    good = fluency(["there was a little girl."], stories260k, prompts=["Once upon a time"])
    bad = fluency(["qq girl zz the the of xx."], stories260k, prompts=["Once upon a time"])
    assert good["perplexity"] < bad["perplexity"]
    assert fluency([]) == {}


def test_admissible_is_the_unedited_rate_plus_slack():
    assert admissible(0.05, 0.0) and not admissible(0.06, 0.0) and admissible(0.14, 0.1)
