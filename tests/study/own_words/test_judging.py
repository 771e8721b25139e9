"""A local model as the judge of a model's own words: it scores concepts of one's own, and never its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges.llm import LlmJudge
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study.own_words import write


def test_another_local_model_scores_a_concept_of_ones_own(chat_model: Any, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "judge", chat=True, n_ctx=1024, seed=3)
    options: dict[str, Any] = {"questions": 24, "answers": 1, "max_new_tokens": 6}
    own = write(chat_model, "thrift", judge=f"llm:{folder}#dtype=float32", **options)
    assert own.provenance["judge"].startswith("llm:") and own.figures["answers"].tolist() == [48]
    table = own.answers[own.answers["score"].notna()]
    assert len(table) > 20
    judge = LlmJudge(str(folder), own.theory, dtype="float32", progress=False)
    texts, questions = table["answer"].tolist(), table["question"].tolist()
    # without the question about opposition, which small models answer by topic
    assert np.allclose(table["score"], judge.score(texts, questions)[:, 0], atol=1e-6)


def test_a_model_does_not_judge_its_own_answers(chat_model: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("same") / "llama", chat=True, n_ctx=1024)
    with pytest.raises(InputError, match="a model is never its own only judge"):
        write(chat_model, "thrift", judge=f"llm:{folder}#dtype=float32", questions=24, answers=1)
