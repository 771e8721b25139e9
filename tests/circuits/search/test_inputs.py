"""Scores of input tokens against their sum."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.circuit_tasks import m_of_all
from neva_tl import models
from neva_tl.circuits import ValueTask, input_scores, mean_activations


def test_input_scores_sum_to_m(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    name = models.hook_name(model, 0, "resid_pre")
    handle = models.add_hook(model, name, lambda x, hook=None: means.at(means.embed, x.shape[1]).expand_as(x))
    base = m_of_all(model, task)
    handle.remove()
    assert float(input_scores(model, task, means, steps=32).sum()) == pytest.approx(
        m_of_all(model, task) - base, rel=0.05
    )
