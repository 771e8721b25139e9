"""An edit that rewrites a finished answer: its second prompt, and the refusal of uses without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva_tl.core.errors import InputError
from neva_tl.editing import RewriteAnswer, RolePrompt, edit
from neva_tl.editing.edits.rewriting import split_rewriting
from neva_tl.editing.saved import load_edit, save_edit

pytestmark = pytest.mark.core


def test_the_second_prompt_quotes_prompt_and_answer_as_they_are() -> None:
    item = RewriteAnswer("Be kind.")
    prompt = item.second_prompt("Should {answer} win?", " No {instruction} {} \n")
    assert prompt.startswith(
        "Question: Should {answer} win?\n\nAnswer: No {instruction} {}\n\nRewrite this answer. Be kind. "
    )
    assert RewriteAnswer("Be kind.", "{answer} {instruction} {other}").second_prompt("a", "b") == "b Be kind. {other}"
    assert item.rewrite("Should I?") == "Should I?", "the first answer is the unedited one"
    with pytest.raises(InputError, match="needs the fields"):
        RewriteAnswer("Be kind.", "{prompt}")


def test_a_forward_pass_refuses_it_in_one_line(loaded: dict[str, Any]) -> None:
    with (
        pytest.raises(InputError, match="judge that reads texts") as caught,
        edit(loaded["llama"], RewriteAnswer("Be.")),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_is_saved_and_separated(tmp_path: Path) -> None:
    item, role = RewriteAnswer("Be kind."), RolePrompt("Hi.")
    again = load_edit(save_edit(item, tmp_path / "edit")).edit
    assert isinstance(again, RewriteAnswer)
    assert (again.instruction, again.request, again.unit) == (item.instruction, item.request, "none")
    assert split_rewriting([role, item]) == ((role,), (item,))
