"""Prompt prefixes that run once per batch: the common prompt of a pair, and the template that opens every prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neva_tl import models
from neva_tl.activations.plan import Texts
from neva_tl.models.inference.encoding import Batch, Encoded, pad
from neva_tl.models.inference.prompt_cache import Ids, prompt_batch, run_prompts
from neva_tl.models.inference.session import in_force

#: Default for the share of tokens that sharing must save: attention to keys of another pass is a little slower.
WORTH = 0.2


@dataclass(frozen=True)
class Prefixes:
    """Keys and values of the prompts of a batch, for its answers.

    The activations of an answer are the same as in one pass: its prompt precedes it and does not attend to it.

    Attributes:
        model: A TransformerLens model.
        trunk: Token ids that open all texts; run once per batch.
    """

    model: models.Model
    trunk: Ids

    @classmethod
    def of(
        cls, model: models.Model, texts: Texts, batches: Sequence[np.ndarray], share: bool | None
    ) -> Prefixes | None:
        """Return the shared prefixes of a plan; None if they are not used.

        Args:
            model: A TransformerLens model.
            texts: The texts.
            batches: Indices of the texts in each batch.
            share: True forces sharing, False forbids it; None shares if it saves at least `WORTH` of the tokens.
        """
        # an edit may depend on the end of a prompt, and the shared beginning ends elsewhere
        if share is False or in_force(model, None) is not None or int(texts.starts.min(initial=0)) < 1:
            return None
        if int((texts.lengths - texts.starts).min(initial=0)) < 1:
            return None
        trunk, answer_tokens, extra = None, int((texts.lengths - texts.starts).sum()), 0
        for rows in batches:
            # one batch's ids at a time: Python's integers take ten times the memory of the array
            prompts = {item.ids[: item.start] for item in texts.encoded(rows)}
            trunk = _common(prompts if trunk is None else prompts | {trunk})
            answer_tokens += sum(map(len, prompts))
            extra += len(prompts) - 1
        assert trunk is not None
        if share is None and answer_tokens - extra * len(trunk) > (1 - WORTH) * int(texts.lengths.sum()):
            return None
        return cls(model, trunk)

    def before(self, items: Sequence[Encoded]) -> tuple[Batch, models.KVCache]:
        """Return the batch of the items' answers, and the keys and values of each item's prompt.

        Args:
            items: The encoded texts of a batch.
        """
        prompts = sorted({item.ids[: item.start] for item in items})
        row_of = {prompt: row for row, prompt in enumerate(prompts)}
        past = models.KVCache()
        device = models.info(self.model).device
        rest = [prompt[len(self.trunk) :] for prompt in prompts]
        if self.trunk:
            self._run([self.trunk], past)
            past = past.rows(torch.zeros(len(prompts), dtype=torch.long, device=device))
        if any(rest):
            self._run(rest, past)
        rows = torch.tensor([row_of[item.ids[: item.start]] for item in items], device=device)
        answers = pad(self.model, [Encoded(item.ids[item.start :], 0) for item in items])
        return answers, past.rows(rows)

    def _run(self, prompts: Sequence[Ids], past: models.KVCache) -> None:
        batch = prompt_batch(self.model, prompts)
        run_prompts(self.model, batch.tokens, batch.mask, past, logits=False)


def _common(prompts: Collection[Ids]) -> Ids:
    """Return the longest common prefix; the smallest and the largest item determine it."""
    first, last = min(prompts), max(prompts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
