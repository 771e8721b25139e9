"""Few-shot role prompt: the role prompt with examples that express the value.

It has no dose. The examples are texts of the training split: one of each cluster, in the order of a hash of the text, the same
ones for every prompt. As many as fit in half of the context together with the role, at most four (all ours: few-shot prompts
have no standard form).
"""

from __future__ import annotations

import pandas as pd

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueName
from neva_tl.editing import RolePrompt
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.role import role_prompt
from neva_tl.prompts.contrast import examples_of
from neva_tl.prompts.splits import hash_key

SHOTS = 4
#: Largest share of the context that role and examples take; prompt and answer need the remaining tokens.
MOST_OF_CONTEXT = 0.5


@check_arguments
def role_few_shot(evidence: Evidence, value: ValueName) -> RolePrompt:
    """The role prompt with up to four examples.

    For the demo model the examples are sentences of its own language, before the role's sentence.

    Args:
        evidence: Training data with its texts.
        value: The value to steer towards.

    Raises:
        InputError: The statistics hold no texts, or no text that expresses the value fits.

    Example:
        >>> role = nv.baselines.role_few_shot(nv.baselines.Evidence(model, stats, {}), "power")
        >>> role.instruction.endswith(nv.baselines.role_prompt(nv.baselines.Evidence(model, stats, {}), "power").instruction)
        True
    """
    role = role_prompt(evidence, value)
    own_language = evidence.stats.demo and value in SCHWARTZ
    build = _in_own_language if own_language else _in_words
    examples: list[str] = []
    for example in candidates(evidence, value, sentences=own_language):
        if example not in role.instruction and _fits(evidence, build(role, [*examples, example])):
            examples.append(example)
        if len(examples) == SHOTS:
            break
    if not examples:
        raise InputError(f"no training text of {value} fits in half of the context: role_few_shot needs an example")
    return build(role, examples)


def candidates(evidence: Evidence, value: str, *, sentences: bool = False) -> list[str]:
    """Training texts that express a value, one of each cluster, ordered by hash.

    Args:
        evidence: Training data with its texts.
        value: The value.
        sentences: Cut texts after their last full sentence; texts without one are left out.

    Raises:
        InputError: The statistics hold no texts.
    """
    table = evidence.stats.training_texts
    if table is None:
        raise InputError("role_few_shot shows training texts: collect with samples=True (or a path), or add with_texts")
    rows = table[(table["value"] == value) & (table["pole"] == "+")]
    order = rows.assign(key=[hash_key(text, salt="few-shot ") for text in rows["text"]]).sort_values("key")
    distinct = order[~order["cluster"].duplicated() | order["cluster"].isna()]
    texts = _sentences(distinct) if sentences else _dialogues(distinct)
    return list(dict.fromkeys(texts))


def _dialogues(rows: pd.DataFrame) -> list[str]:
    """Prompt and answer on a line each; texts without a prompt are the answer alone."""
    return [f"{item.prompt}\n{item.answer}".strip() for item in examples_of(rows)]


def _sentences(rows: pd.DataFrame) -> list[str]:
    """Texts up to their last full stop."""
    complete = [text.rpartition(" .")[0] for text in rows["text"]]
    return [f"{text} ." for text in complete if text]


def _in_words(role: RolePrompt, examples: list[str]) -> RolePrompt:
    parts = [role.instruction, "Examples of such answers:", *examples, "Now answer in the same way:"]
    return RolePrompt("\n\n".join(parts), joiner=role.joiner)


def _in_own_language(role: RolePrompt, examples: list[str]) -> RolePrompt:
    """The examples first: the role's sentence leads over to the prompt."""
    return RolePrompt(" ".join([*examples, role.instruction]), joiner=role.joiner)


def _fits(evidence: Evidence, role: RolePrompt) -> bool:
    ids = models.tokenizer(evidence.model)(role.instruction)["input_ids"]
    return len(ids) <= MOST_OF_CONTEXT * models.info(evidence.model).n_ctx
