"""The model's answers to open questions under roles, sampled with common random numbers and cached by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.user_cache import entry_folder
from neva_tl.evaluation import Decoding
from neva_tl.evaluation.conditions.text_cache import recall
from neva_tl.models import inference
from neva_tl.models.inference.chat_template import conversation_text
from neva_tl.models.inference.generation import batch_rows
from neva_tl.prompts import Example
from neva_tl.prompts.splits import hash_key

#: Version of the cache keys; increment it when a change of decoding or encoding would give other texts for the same key.
VERSION = 1


@dataclass(frozen=True)
class Conversation:
    """How a role reaches the model: before the question, in the user's turn, behind the system's turn of all answers.

    So nothing but the role differs between the answers of both poles and the text that activations are read from. Small models
    follow a role in the user's turn more closely than one in the system's (docs/results/text.md).

    Attributes:
        system: Whether the chat template takes a system's turn.
        text: The system's turn; None for the chat template's own.
    """

    system: bool
    text: str | None = None

    @classmethod
    def of(cls, model: models.Model, text: str | None = None) -> Conversation:
        """Return the conversation of a model's chat template.

        Args:
            model: A TransformerLens model.
            text: The system's turn; None or "" for the chat template's own. A template without system's turns drops it.

        Raises:
            InputError: The model has no chat template.
        """
        facts = models.info(model)
        if not facts.chat:
            raise InputError(
                f"{facts.name} has no chat template: contrasts in its own words need an instruct model; give pairs instead"
            )
        try:
            conversation_text(model, Example.of(cls(True, "Be brief.").messages("Answer.", "How are you?")))
        except InputError:
            return cls(False)
        return cls(True, text or None)

    def messages(self, role: str, question: str) -> list[dict[str, str]]:
        """Return the turns before an answer.

        Args:
            role: The role.
            question: The question.
        """
        before = [] if self.text is None else [{"role": "system", "content": self.text}]
        return [*before, {"role": "user", "content": f"{role}\n\n{question}"}]


def random_number(question: str, sample: int) -> int:
    """Return the number that selects an answer's random numbers.

    It depends on question and sample alone: both poles and all values share it, and more questions or answers leave the
    existing texts as they are.

    Args:
        question: The question.
        sample: Number of the answer.
    """
    return int(hash_key(question, salt=f"own words {sample} ")[:15], 16)


def sample_answers(
    model: models.Model,
    requests: pd.DataFrame,
    decoding: Decoding,
    *,
    system: str | None = None,
    progress: bool = False,
) -> list[str]:
    """Return the model's answers; those in the user's cache are not generated again.

    Args:
        model: A TransformerLens model with a chat template, without hooks.
        requests: One row per answer: `role`, `question`, `sample`.
        decoding: Settings of text generation.
        system: The system's turn; None for the chat template's own.
        progress: Show a bar on stderr.

    Raises:
        InputError: The model has no chat template, or hooks are in force.
    """
    if models.has_hooks(model):
        raise InputError("the model has hooks in force: leave the `with nv.edit(...)` block before it writes prompts")
    conversation, fingerprint = Conversation.of(model, system), models.fingerprint(model)
    messages: list[Any] = [
        conversation.messages(role, question)
        for role, question in zip(requests["role"], requests["question"], strict=True)
    ]
    numbers = [random_number(q, int(k)) for q, k in zip(requests["question"], requests["sample"], strict=True)]
    settings = [decoding.max_new_tokens, decoding.temperature, decoding.seed, inference.encoding_change(model)]
    keys = [
        content_key("own words", VERSION, fingerprint, settings, turns, number)
        for turns, number in zip(messages, numbers, strict=True)
    ]
    folder = entry_folder("own_words", content_key(fingerprint)[:20])
    cache = JsonCache(folder / "answers.sqlite")
    size = decoding.batch_size or batch_rows(model)
    with progress_bar(total=len(keys), desc="answers", unit="text", progress=progress, leaf=True) as bar:

        def write(indices: list[int]) -> list[str]:
            texts = inference.generate(
                model,
                [messages[i] for i in indices],
                numbers=[numbers[i] for i in indices],
                max_new_tokens=decoding.max_new_tokens,
                temperature=decoding.temperature,
                seed=decoding.seed,
                chat=True,
                batch_size=size,
            )
            bar.update(len(indices))
            return texts

        try:
            # one batch between two commits: a stopped call loses at most one batch
            texts = recall(cache, keys, [len(str(turns)) for turns in messages], write, chunk=size)
            bar.update(len(keys) - bar.n)
        finally:
            cache.close()
    return texts
