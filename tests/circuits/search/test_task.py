"""Tasks of a contrast set."""

from __future__ import annotations

from typing import Any

import pytest

import neva_tl as nv
from neva_tl.circuits import value_task
from neva_tl.core.errors import InputError


def test_tasks_hold_both_poles_of_one_split(demo: Any) -> None:
    pairs = nv.prompts.load("demo")
    task = value_task(demo, pairs, "power", split="validation", per_pole=10, at="last")
    assert (task.signs > 0).sum() == (task.signs < 0).sum() == 10
    assert task.weights[task.signs > 0].sum() == pytest.approx(1) and task.weights.sum() == pytest.approx(0)
    theirs = {f"{e.prompt} {e.answer}" for e in pairs.split("validation").for_value("power").examples()}
    assert {f"{e.prompt} {e.answer}" for e in task.examples} <= theirs
    with pytest.raises(InputError, match="at least 2"):
        value_task(demo, pairs, "power", per_pole=1)


def test_a_lead_is_put_behind_every_text() -> None:
    demo = nv.load("demo")
    pairs = nv.prompts.load("demo")
    plain = value_task(demo, pairs, "power", split="train", per_pole=6, at="last")
    led = value_task(demo, pairs, "power", split="train", per_pole=6, at="last", lead=" mara says")
    assert [e.answer for e in led.examples] == [e.answer + " mara says" for e in plain.examples]
    assert led.signs.tolist() == plain.signs.tolist()
    assert "'mara says'" in led.describe() and "of '" not in plain.describe()
