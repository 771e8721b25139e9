"""reward(): a judge as a reward function of TRL's trainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueName
from neva_tl.evaluation.conditions.observe import score_texts
from neva_tl.evaluation.judges.base import TextJudge, judge_theory, judge_values
from neva_tl.evaluation.judges.registry import as_text_judge

#: A prompt or a completion as TRL passes it: a text, or the messages of a conversation.
Turns = str | Sequence[Mapping[str, Any]]
#: Reward function of TRL: `(prompts=..., completions=..., **columns)` -> one number per completion.
RewardFunction = Callable[..., list[float]]


@check_arguments
def reward(
    judge: TextJudge | str, value: ValueName, *, opposed: float = 0.0, others: float = 0.0, name: str = ""
) -> RewardFunction:
    """Return a reward function of TRL's signature that scores how strongly a text expresses a value.

    The reward of a text is `score - opposed * opposition - others * mean score of the other values`, each score in [0, 1];
    an invalid text gets 0. It is deterministic where the judge is.

    `GRPOTrainer(reward_funcs=...)` and the other online trainers of TRL take the function as it is. Completions are texts or,
    for conversational data, lists of messages, of which the judge reads what the assistant wrote; the judge's prompt is then
    the last message of the user.

    Args:
        judge: A judge of texts, or its name (`load_judge`). The trained model must not be its own judge.
        value: The rewarded value.
        opposed: Weight of the opposition to the value, for judges that measure it.
        others: Weight of the mean score of all other values (value leakage). Where the texts express only the rewarded
            value, this weight changes nothing.
        name: Name of the reward in the trainer's logs (`__name__`); default: those of judge and value.

    Returns:
        The function `(prompts, completions, **columns) -> list[float]`; NaN where the judge failed, which TRL leaves out of the
        sum of rewards.

    Raises:
        InputError: The judge does not read texts, does not score the value or measures no opposition.

    Example:
        >>> score = nv.evaluation.reward("exact", "benevolence")
        >>> score.__name__
        'exact_benevolence'
        >>> kind = " where goodness leads , nursing a lonely widow is right ."
        >>> [round(x, 1) for x in score(prompts=["mara thinks that"] * 2, completions=[kind, " where xyz ."])]
        [1.0, 0.0]
    """
    reader = as_text_judge(judge)
    value = judge_theory(reader).value(value).name
    rest = [f"score_{other}" for other in judge_values(reader) if other != value]
    if others and not rest:
        raise InputError(
            f"the judge {reader.name!r} scores {value} only: there are no other values to weigh (others=0)"
        )
    if opposed and reader.oppose(["a"], ["b"]) is None:
        raise InputError(f"the judge {reader.name!r} does not measure opposition: pass opposed=0")

    def score(prompts: Sequence[Turns], completions: Sequence[Turns], **_: Any) -> list[float]:
        texts = [_text(turns, "assistant") for turns in completions]
        if len(prompts) != len(texts):
            raise InputError(f"a reward needs one prompt per completion: got {len(prompts)} and {len(texts)}")
        if not texts:
            return []
        table = score_texts(reader, texts, [_last_text(turns) for turns in prompts])
        total = table[f"score_{value}"].to_numpy(dtype=float)
        if opposed:
            total = total - opposed * table[f"oppose_{value}"].to_numpy(dtype=float)
        if others:
            total = total - others * np.asarray(table[rest].mean(axis=1), dtype=float)
        return [float(x) for x in total]

    score.__name__ = score.__qualname__ = name or f"{reader.name}_{value}"
    return score


def _text(turns: Turns, role: str) -> str:
    """The text of a completion, or of all messages of a role."""
    if isinstance(turns, str):
        return turns
    return "\n".join(_content(turn) for turn in turns if turn.get("role") == role)


def _last_text(turns: Turns) -> str:
    """The prompt, or the last message of the user in a conversation."""
    if isinstance(turns, str):
        return turns
    return next((_content(turn) for turn in reversed(turns) if turn.get("role") == "user"), "")


def _content(turn: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a list of typed entries (texts and images)."""
    content = turn.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(entry.get("text") or "") for entry in content if entry.get("type") == "text")
