"""`from_model`: contrastive pairs in a model's own words.

This room imports no model code: the builder is registered by its import path and imported on first use, as methods and judges
are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from neva_tl.core.arguments import check_arguments
from neva_tl.core.kinds import Count, NonNegative
from neva_tl.core.theories import TheorySpec, ValueName
from neva_tl.prompts.contrast import ContrastSet

#: Import path of the builder, `module:function`.
BUILDER = "neva_tl.study.own_words.writing:from_model"


@check_arguments
def from_model(
    model: Any,
    concept: TheorySpec,
    *,
    definition: str = "",
    opposite: str = "",
    values: Sequence[ValueName] | None = None,
    judge: Any = "auto",
    questions: int | Sequence[str] | None = None,
    answers: Count = 2,
    max_new_tokens: Count = 60,
    temperature: NonNegative = 0.7,
    system: str | None = "You are a helpful assistant.",
    paired: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> ContrastSet:
    """Write contrastive pairs in a model's own words.

    The model answers open questions (`open_questions`) under roles for the value and without it (for its opposite,
    where one is named). A judge scores each answer; for-answers above the median of both roles and against-answers below it are
    kept, and make pairs by question. The pairs hold the questions and answers without the role, so that
    activations are read where the model is used (as in persona vectors, arXiv 2507.21509). The answer is the span. Splits are
    those of the questions.

    Answers are cached by content in the user's cache: a second call, or one that was stopped, repeats none.

    Args:
        model: A loaded model with a chat template.
        concept: A theory (also its name or file) for all its values, or the name of one concept. A value of a built-in theory
            takes its definition from there unless one is given.
        definition: Meaning of the concept in a sentence.
        opposite: The concern of the other roles; "" takes roles that name none. No role names the concept in order to deny it:
            small models speak of whatever their role names. A theory's own
            opposites are not used: the pairs would mix two of its values.
        values: Some of a theory's values; None takes all.
        judge: A judge of texts (`neva_tl.evaluation`), its name, or a function that returns one number per text, higher for
            texts that express the concept. `auto` counts the words of the theory's lists, which is weak: name a model that
            judges where you have one.
        questions: Number of open questions of ours, or texts of your own; None takes all of ours.
        answers: Sampled answers per question and role.
        max_new_tokens: Largest length of an answer in tokens.
        temperature: Sampling temperature; 0 is greedy (one answer).
        system: System's turn of all answers, also where they are read; None for the chat template's own. The role precedes the
            question in the user's turn.
        paired: Arrange the answers kept as pairs of one question; False keeps also those whose question keeps no answer of the
            other pole, as an unpaired set.
        seed: Seed of sampling (common random numbers for both roles and all values) and of the bootstrap.
        batch_size: Answers in one batch; None chooses it by the size of the model. It does not affect the texts.
        progress: Show a bar on stderr.

    Returns:
        The pairs. `provenance["values"][NAME]` has the judge's figures: `auroc` with `lo`, `hi` (between the roles' answers
        before the filter), questions with a pair by split, `separated` (False: the judge cannot tell the roles' answers
        apart) and `advice`. `note` repeats the advice. Values with too few pairs for the three splits are left out.

    Raises:
        InputError: The concept, the judge or an option is not usable, or the model has no chat template.
        WorkError: No value has enough pairs for the three splits; the message says what would help.

    Example:
        >>> from neva_tl.models.tiny import tiny_checkpoint
        >>> chat = nv.load(tiny_checkpoint("tiny", chat=True, n_ctx=512))  # a real one: nv.load("qwen2.5-coder-0.5b")
        >>> lengths = lambda texts: [float(len(text)) for text in texts]  # a real one: "llm:qwen2.5-coder-1.5b"
        >>> options = {"definition": "Spending little.", "questions": 60, "answers": 3, "max_new_tokens": 6}
        >>> own = nv.prompts.from_model(chat, "thrift", judge=lengths, **options)
        >>> own.values, own.paired, own.provenance["values"]["thrift"]["separated"]
        (('thrift',), True, False)
    """
    module, _, function = BUILDER.partition(":")
    build: Callable[..., ContrastSet] = getattr(importlib.import_module(module), function)
    return build(
        model,
        concept,
        definition=definition,
        opposite=opposite,
        values=values,
        judge=judge,
        questions=questions,
        answers=answers,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        system=system,
        paired=paired,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
