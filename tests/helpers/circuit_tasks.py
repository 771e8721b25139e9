"""The effect of a task in a model, whole and gated."""

from __future__ import annotations

from typing import Any

from neva_tl.circuits import Nodes, ValueTask
from neva_tl.circuits.search.gates import contrast, text_log_odds


def m_of(model: Any, task: ValueTask, means: Any, nodes: Nodes) -> float:
    return float(contrast(task, text_log_odds(model, task, means, nodes)[:, list(task.ids).index(task.value)]))


def m_of_all(model: Any, task: ValueTask) -> float:
    return float(contrast(task, text_log_odds(model, task)[:, list(task.ids).index(task.value)]))
