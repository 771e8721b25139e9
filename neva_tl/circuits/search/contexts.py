"""Maximal activating contexts: the places of a corpus where a neuron is most active."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from neva_tl import models
from neva_tl.attribution.tokens import token_text
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example


@dataclass(frozen=True)
class Context:
    """A stretch of text around one neuron's peak.

    Attributes:
        tokens: the tokens' text, leading spaces kept.
        activations: the neuron's activation at each.
        at: which of them is the peak.
        text: number of the text in the corpus.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    at: int
    text: int

    @property
    def peak(self) -> float:
        """The activation at the peak."""
        return self.activations[self.at]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; activations to four digits."""
        return {"tokens": list(self.tokens), "activations": [round(x, 4) for x in self.activations], "at": self.at}


def top_contexts(
    model: models.Model,
    neurons: Sequence[tuple[int, int]],
    corpus: Sequence[str] | Sequence[Example],
    *,
    k: int = 5,
    before: int = 12,
    after: int = 4,
    signs: Sequence[int] | None = None,
    chat: bool | None = None,
    progress: bool = False,
) -> dict[tuple[int, int], list[Context]]:
    """The k texts in which each neuron peaks highest, one peak per text, best first; the corpus is read once.

    Args:
        neurons: (layer, neuron) at site `post`.
        corpus: plain texts, or examples (a chat model then sees them through its template).
        before, after: tokens shown around the peak.
        signs: -1 looks for a neuron's lowest activations; by default the highest.
        chat: as in `inference.encode`; plain texts never go through a template.

    Raises:
        InputError: an empty corpus, no neurons, or a neuron that does not exist.
    """
    if not len(corpus) or not len(neurons):
        raise InputError("contexts need at least one neuron and one text")
    facts = models.info(model)
    for layer, index in neurons:
        if not (0 <= layer < facts.n_layers and 0 <= index < facts.d_mlp):
            raise InputError(f"neuron L{layer}.{index} does not exist in {facts.name}")
    ways = list(signs) if signs is not None else [1] * len(neurons)
    if len(ways) != len(neurons):
        raise InputError(f"{len(ways)} signs were given for {len(neurons)} neurons")
    plain = isinstance(corpus[0], str)
    examples = [item if isinstance(item, Example) else Example("", item) for item in corpus]
    held: list[list[tuple[float, int, Context]]] = [[] for _ in neurons]
    order = itertools.count()
    reader = models.tokenizer(model)
    names = {layer: models.hook_name(model, layer, "post") for layer, _ in neurons}
    total = tqdm(total=len(examples), desc="contexts", unit="text", file=sys.stderr, disable=not progress)
    with total as bar:
        for rows, batch in inference.batches(model, examples, chat=False if plain else chat):
            with record_hooks(model, names.values()) as seen:
                inference.forward_batch(model, batch, logits=False)
            for place, (layer, index) in enumerate(neurons):
                x = seen[names[layer]][..., index].float()
                peaks = (x * ways[place]).masked_fill(~batch.mask, -torch.inf).max(dim=1)
                for row in peaks.values.argsort(descending=True)[:k].tolist():
                    height, spot = float(peaks.values[row]), int(peaks.indices[row])
                    if len(held[place]) == k and height <= held[place][0][0]:
                        break
                    length = int(batch.mask[row].sum())
                    lo, hi = max(0, spot - before), min(length, spot + after + 1)
                    tokens = tuple(token_text(reader, int(t)) for t in batch.tokens[row, lo:hi])
                    found = Context(tokens, tuple(x[row, lo:hi].tolist()), spot - lo, int(rows[row]))
                    push = heapq.heappushpop if len(held[place]) == k else heapq.heappush
                    push(held[place], (height, next(order), found))
            bar.update(len(batch))
    return {
        tuple(neuron): [item for _, _, item in sorted(heap, key=lambda entry: (-entry[0], entry[1]))]  # type: ignore[misc]
        for neuron, heap in zip(neurons, held, strict=True)
    }
