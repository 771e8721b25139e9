"""A judge in words: one line for a terminal, an HTML card for a notebook.

A judge's class states `_reads` (what it looks at) and may have `_facts()` (further facts) and `_quality()` (a sentence on how
well it agrees with labels, where that is known).
"""

from __future__ import annotations

from typing import Any

from neva_tl.core.cards import card
from neva_tl.evaluation.judges.base import judge_values

#: Largest number of values that a card lists by name.
LISTED = 12


def judge_facts(judge: Any) -> dict[str, Any]:
    """Return the name of a judge's unit, what it reads and which values it scores, then its own facts.

    Args:
        judge: The judge.
    """
    values = judge_values(judge)
    listed = ", ".join(values) if len(values) <= LISTED else f"{', '.join(values[:LISTED])}, ..."
    own = judge._facts() if hasattr(judge, "_facts") else {}
    return {"unit": judge.unit, "reads": judge._reads, "values": f"{len(values)} ({listed})", **own}


def judge_line(judge: Any) -> str:
    """Describe a judge in one line; set a judge's `__repr__` to it.

    Args:
        judge: The judge.
    """
    facts = [f"{name} {fact}" for name, fact in judge_facts(judge).items() if name != "reads"]
    return f"{type(judge).__name__}({judge.name}: {', '.join(facts)})"


def judge_card(judge: Any) -> str:
    """Render a judge as HTML; set a judge's `_repr_html_` to it.

    Args:
        judge: The judge.
    """
    note = judge._quality() if hasattr(judge, "_quality") else ""
    return card(f"Judge {judge.name}", judge_facts(judge), note=note)
