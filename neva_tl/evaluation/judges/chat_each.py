"""The local judge's Yes/No question at a chat endpoint: one request per text, value and direction.

P is the share of Yes among the log-probabilities of Yes and No that the endpoint gives for the first token of its answer; an
endpoint without log-probabilities gives 1 for Yes and 0 for No.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit, logsumexp

from neva_tl.core.theories import ValueTheory
from neva_tl.evaluation.judges.endorsement import DIRECTIONS, Direction, message, question
from neva_tl.evaluation.judges.endpoint import Reply

#: Arguments of the request: the answer is one word; 20 is the largest number of alternatives that OpenAI's interface gives.
SETTINGS: Mapping[str, Any] = {"max_tokens": 5, "logprobs": True, "top_logprobs": 20}


def ask_each(
    send: Callable[[str], Reply], theory: ValueTheory, text: str, prompt: str, *, opposes: bool
) -> dict[str, Any]:
    """Ask about each value of one text.

    Args:
        send: Sends one user turn and returns the answer; its exceptions pass through.
        theory: Theory of the values.
        text: The text to judge.
        prompt: The prompt of the text; "" for none.
        opposes: Ask for opposition as well.

    Returns:
        The record of `ChatJudge`: `express`, `oppose` (None where not asked), `failure`, `undecided`, `raw`.
    """
    directions = DIRECTIONS if opposes else DIRECTIONS[:1]
    table: dict[Direction, list[float | None]] = {one: [] for one in directions}
    raw = []
    for value in theory.values:
        for one in directions:
            reply = send(message(text, prompt, question(value, one)))
            table[one].append(share_of_yes(reply))
            raw.append(reply.content if isinstance(reply.content, str) else "")
    missing = any(p is None for column in table.values() for p in column)
    return {
        "express": table["express"],
        "oppose": table.get("oppose"),
        "failure": "no Yes or No" if missing else None,
        "undecided": 0,
        "raw": " ".join(raw),
    }


def share_of_yes(reply: Reply) -> float | None:
    """Return P(Yes) / (P(Yes) + P(No)) of an answer's first token; None for an answer that is neither.

    Where only one of the two is among the listed tokens, the other one counts with the least probability listed, which is the
    most that it can have.

    Args:
        reply: The answer.
    """
    if reply.first:
        sides = [
            [logprob for token, logprob in reply.first.items() if token.strip().lower() == word]
            for word in ("yes", "no")
        ]
        if not any(sides):
            return None
        least = min(reply.first.values())
        yes, no = (float(logsumexp(side)) if side else least for side in sides)
        return float(np.clip(expit(yes - no), 0.0, 1.0))
    word = re.match(r"\W*(yes|no)\b", reply.content, re.I) if isinstance(reply.content, str) else None
    return None if word is None else float(word[1].lower() == "yes")
