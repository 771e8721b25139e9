"""Value words in a real tokenizer."""

from __future__ import annotations

from typing import Any

import pytest

from neva_tl import models
from neva_tl.attribution import token_text, value_tokens
from neva_tl.core.errors import InputError

WORDS = {"benevolence": ["help", "kind", "friend"], "power": ["king", "friend", "domination"]}


def test_words_become_tokens_with_flags(stories3m: Any) -> None:
    table = value_tokens(stories3m, ["power", "benevolence"], WORDS)
    assert list(table["value"].unique()) == ["power", "benevolence"]  # circle order
    assert not table.duplicated(["value", "token"]).any()
    text = models.tokenizer(stories3m)
    for row in table.itertuples():
        word = str(row.word)
        assert word.startswith(str(row.text).strip())
        assert row.multi == (str(row.text).strip() != word)
        assert 0 <= int(row.token) < len(text)
    friend = table[table["word"] == "friend"]
    assert friend["shared"].all() and friend["value"].nunique() == 2
    assert not table[table["word"] == "king"]["shared"].any()


def test_leading_space_is_kept(stories3m: Any) -> None:
    table = value_tokens(stories3m, ["benevolence"], WORDS)
    help_row = table[table["word"] == "help"].iloc[0]
    text = models.tokenizer(stories3m)
    assert token_text(text, int(help_row["token"])) == help_row["text"]
    ids = text.encode("I help", add_special_tokens=False)
    assert int(help_row["token"]) in ids or (table["word"] == "help").sum() == 2


def test_missing_words_are_refused(stories3m: Any) -> None:
    with pytest.raises(InputError, match="no words for security"):
        value_tokens(stories3m, ["security"], WORDS)
    with pytest.raises(InputError, match="usable token"):
        value_tokens(stories3m, ["power"], {"power": [""]})


def test_short_pieces_stand_in_only_where_nothing_else_does(stories3m: Any, stories260k: Any) -> None:
    table = value_tokens(stories3m, ["security"], {"security": ["shelter", "safe"]})
    assert "she" not in table["text"].str.strip().tolist()
    only = value_tokens(stories3m, ["security"], {"security": ["shelter"]})
    assert only["multi"].all() and len(only) <= 3
    tiny = value_tokens(stories260k, ["power", "security"], {"power": ["dominate"], "security": ["protection"]})
    assert set(tiny["value"]) == {"power", "security"}


def test_a_concept_without_words_is_represented_by_its_name(stories3m: Any) -> None:
    table = value_tokens(stories3m, ["honesty", "be-happy"])
    assert set(table["value"]) == {"honesty", "be-happy"} and set(table["word"]) == {"honesty", "happy"}
    assert set(value_tokens(stories3m, ["greed"], {"greed": ["gold"]})["word"]) == {"gold"}
