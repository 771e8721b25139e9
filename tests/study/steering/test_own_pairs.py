"""Steering from a concept without pairs: the model's own words take their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import neva_tl as nv
from neva_tl.core.errors import InputError
from neva_tl.models.tiny import tiny_checkpoint

OPTIONS: dict[str, Any] = {"definition": "Spending little.", "opposite": "Buying what pleases."}


def says_mend(texts: Sequence[str]) -> list[float]:
    return [float("mend" in text) for text in texts]


def planted(model: Any, requests: pd.DataFrame, *_: Any, **__: Any) -> list[str]:
    """Answers that follow their role; that of a for-role has the opposite nowhere."""
    words = ["buy" if "Buying what pleases" in role else "mend" for role in requests["role"]]
    return [f"I would {word} it, {number}." for number, word in enumerate(words)]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nv.load(tiny_checkpoint(tmp_path_factory.mktemp("chat") / "llama", chat=True, n_ctx=1024))


def test_a_concept_is_steered_towards_like_its_pairs(
    chat_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("neva_tl.study.own_words.writing.sample_answers", planted)
    settings: dict[str, Any] = {"method": "neva_shift", "gain": 0.05, "k": 8, "gate": "none", "seed": 1}
    result = nv.steer(chat_model, concept="thrift", judge=says_mend, **OPTIONS, **settings)
    said = capsys.readouterr().err
    assert "in the model's own words; judge says_mend tells the roles apart with AUROC 1.00" in said
    pairs = nv.prompts.from_model(chat_model, "thrift", judge=says_mend, seed=1, **OPTIONS)
    again = nv.steer(chat_model, pairs, progress=False, **settings)
    assert result.value == "thrift" and result.curve.equals(again.curve) and result.gain == again.gain
    # training rows are limited by the budget of a steering
    rows = pairs.df["split"].value_counts()
    assert {split: result.settings["rows"][split] for split in ("validation", "test")} == rows.drop("train").to_dict()
    assert result.settings["own_words"]["values"]["thrift"]["auroc"] == 1.0
    assert "262 in the model's own words" in result.card["pairs"]
    stored = nv.SteeringResult.load(result.save(tmp_path / "thrift"), model=chat_model)
    assert stored.card == result.card and stored.settings["own_words"]["judge"] == "says_mend"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name pairs, or a concept"),
        ({"pairs": "schwartz", "concept": "thrift"}, "leave out concept"),
        ({"concept": "power", "value": "power"}, "belong to pairs"),
        ({"concept": "Schwartz"}, "is a theory"),
        ({"concept": "thrift"}, "no judge knows thrift"),
        ({"concept": "power", "gain": -1.0}, "above 0"),
        ({"concept": "power", "method": "role"}, "no dose"),
        ({"concept": "power", "selector": "magic"}, "magic"),
        ({"pairs": "schwartz", "value": "power", "opposite": "x"}, "describe a concept without pairs"),
    ],
)
def test_refused_in_one_line(
    chat_model: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(
        "neva_tl.study.own_words.writing.sample_answers", lambda *_, **__: pytest.fail("sampled before it was refused")
    )
    with pytest.raises(InputError, match=message) as caught:
        nv.steer(chat_model, progress=False, **options)
    assert "\n" not in str(caught.value)
