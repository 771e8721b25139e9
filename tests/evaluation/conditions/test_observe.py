"""Conditions before judges: common random numbers, texts, prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.letter_judge import PROMPTS, SHORT, LetterJudge, OpposingJudge, push
from neva_tl.core.errors import InputError
from neva_tl.editing import RolePrompt
from neva_tl.evaluation import Decoding, assemble, leakage, observe, text_responses
from neva_tl.evaluation.conditions.observe import observe_many, prompt_table
from neva_tl.evaluation.judges.base import ItemScores


def test_the_same_condition_gives_the_same_texts(stories260k):
    a = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)
    b = text_responses(stories260k, push(0.0), PROMPTS, LetterJudge(), decoding=SHORT)
    assert list(a["text"]) == list(b["text"])
    assert len(a) == 12 and list(a["sample"][:2]) == [0, 1]
    assert a["text"].nunique() > 6  # samples of one prompt differ


def test_common_random_numbers_make_small_edits_small(stories260k):
    """Under common random numbers a tiny edit changes few texts; with other numbers nearly all would differ."""
    base = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)["text"]
    near = text_responses(stories260k, push(1e-4), PROMPTS, LetterJudge(), decoding=SHORT)["text"]
    other = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=Decoding(6, 1.0, 2, seed=4))["text"]
    assert (base == near).mean() > 0.9
    assert (base == other).mean() < 0.5


def test_conditions_observed_together_equal_those_observed_alone(stories260k):
    """An edit, none, two edits and a role prompt in common batches: the same texts, random numbers and scores."""
    conditions = [(push(),), (), (push(-1.0), push(0.3)), (RolePrompt("Be good."),)]
    together = observe_many(stories260k, conditions, PROMPTS, OpposingJudge(), decoding=replace(SHORT, batch_size=13))
    for edits, found in zip(conditions, together, strict=True):
        alone = observe(stories260k, edits, PROMPTS, OpposingJudge(), decoding=SHORT)
        pd.testing.assert_frame_equal(found.generations, alone.generations)
        assert all(np.array_equal(a, b) for a, b in zip(found.items.scores, alone.items.scores, strict=True))
        assert found.net is not None and found.invalid == alone.invalid


def test_bad_input_is_refused(stories260k):
    with pytest.raises(InputError, match="at least one edit"):
        leakage(stories260k, {}, PROMPTS, LetterJudge())
    with pytest.raises(InputError, match="reads texts"):
        leakage(stories260k, {"power": push()}, None, LetterJudge(), progress=False)
    with pytest.raises(InputError, match="unknown value"):
        leakage(stories260k, {"greed": push()}, PROMPTS, LetterJudge(), progress=False)
    with pytest.raises(InputError, match="no open prompts"):
        prompt_table([])
    with pytest.raises(InputError, match="temperature"):
        Decoding(samples=2)
    scores = ItemScores(("power",), (np.zeros(3),), (np.array(list("abc")),))
    other = ItemScores(("power",), (np.zeros(2),), (np.array(list("ab")),))
    with pytest.raises(InputError, match="other items"):
        assemble("m", scores, {"power": other})
