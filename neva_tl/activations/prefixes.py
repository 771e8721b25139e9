"""What texts have in front of their answers, run once: a pair's common prompt, and a template that opens every prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neva_tl import models
from neva_tl.activations.plan import Texts
from neva_tl.models.inference.encoding import Batch, Encoded, pad

#: Share of the tokens that sharing must save, by default: attention to keys of another pass is a little slower.
WORTH = 0.2


@dataclass(frozen=True)
class Prefixes:
    """Keys and values of a batch's prompts, for the batch's answers.

    What an answer sees is the same as in one pass: prompts come before it and see nothing of it.

    Attributes:
        trunk: token ids that open all texts; run once a batch.
    """

    model: models.Model
    trunk: tuple[int, ...]

    @classmethod
    def of(
        cls, model: models.Model, texts: Texts, batches: Sequence[np.ndarray], wanted: bool | None
    ) -> Prefixes | None:
        """What can be shared in a plan; None where it is too little, unless it is wanted whatever it saves."""
        if wanted is False or int(texts.starts.min(initial=0)) < 1:
            return None
        if int((texts.lengths - texts.starts).min(initial=0)) < 1:
            return None
        trunk, run, extra = None, int((texts.lengths - texts.starts).sum()), 0
        for rows in batches:
            # one batch's ids at a time: Python's integers take ten times the room of the array
            fronts = {item.ids[: item.start] for item in texts.encoded(rows)}
            trunk = _common(fronts if trunk is None else fronts | {trunk})
            run += sum(map(len, fronts))
            extra += len(fronts) - 1
        assert trunk is not None
        if wanted is None and run - extra * len(trunk) > (1 - WORTH) * int(texts.lengths.sum()):
            return None
        return cls(model, trunk)

    def before(self, items: Sequence[Encoded]) -> tuple[Batch, models.KVCache]:
        """The batch of the items' answers, and keys and values of what comes before each."""
        fronts = sorted({item.ids[: item.start] for item in items})
        place = {front: row for row, front in enumerate(fronts)}
        past = models.KVCache()
        device = models.info(self.model).device
        rest = [front[len(self.trunk) :] for front in fronts]
        if self.trunk:
            self._run([self.trunk], past)
            past = past.rows(torch.zeros(len(fronts), dtype=torch.long, device=device))
        if any(rest):
            self._run(rest, past)
        rows = torch.tensor([place[item.ids[: item.start]] for item in items], device=device)
        answers = pad(self.model, [Encoded(item.ids[item.start :], 0) for item in items])
        return answers, past.rows(rows)

    def _run(self, ids: Sequence[tuple[int, ...]], past: models.KVCache) -> None:
        # left padding: every prompt ends where its answer will begin
        batch = pad(self.model, [Encoded(item, len(item)) for item in ids], "left")
        models.forward(self.model, batch.tokens, batch.mask, logits=False, past=past)


def _common(fronts: Collection[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest beginning that all have; of sorted items the first and the last say it."""
    first, last = min(fronts), max(fronts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
