"""VISA-like rewriting: the instruction, and the models that cannot follow one."""

from __future__ import annotations

from pathlib import Path

import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.values import value as lookup
from neva_tl.methods import Evidence, build
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core


def test_translates_name_and_definition(evidence: Evidence, tmp_path: Path) -> None:
    model = models.load(tiny_checkpoint(tmp_path / "chat", chat=True))
    item = build("visa", Evidence(model, evidence.stats, {}, chat=True), "power")
    request = item.second_prompt("What now?", "Nothing.")  # type: ignore[attr-defined]
    assert f"power ({lookup('power').definition.rstrip('.')})" in request and "Answer: Nothing." in request
    with pytest.raises(InputError, match="follows instructions"):
        build("visa", Evidence(model, evidence.stats, {}, chat=False), "power")


def test_a_model_without_chat_template_is_refused_in_one_line(evidence: Evidence) -> None:
    with pytest.raises(InputError, match="follows instructions") as caught:
        build("visa", evidence, "power")
    assert "\n" not in str(caught.value)
