"""Maximal activating contexts: the passages of a corpus where a neuron is most active."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neva_tl import models
from neva_tl.attribution.tokens import token_text
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example


@dataclass(frozen=True)
class Context:
    """A passage around one neuron's peak.

    Attributes:
        tokens: Text of each token, leading spaces included.
        activations: The neuron's activation at each token.
        at: Index of the peak among the tokens.
        text: Index of the text in the corpus.
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
        """Plain data; activations to four decimals."""
        return {"tokens": list(self.tokens), "activations": [round(x, 4) for x in self.activations], "at": self.at}


@check_arguments
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
    """The k texts in which each neuron peaks highest, one peak per text, best first; reads the corpus once.

    Args:
        model: A TransformerLens model.
        neurons: (layer, neuron) pairs at site `post`.
        corpus: Plain texts, or examples (which go through a chat model's template).
        k: Contexts per neuron.
        before: Tokens shown before the peak.
        after: Tokens shown after the peak.
        signs: One per neuron; -1 selects its lowest activations; by default the highest.
        chat: As in `inference.encode`; plain texts never go through a template.
        progress: Whether to show a progress bar.

    Raises:
        InputError: The corpus or the neurons are empty, or a neuron does not exist.
    """
    if not len(corpus) or not len(neurons):
        raise InputError("contexts need at least one neuron and one text")
    facts = models.info(model)
    for layer, index in neurons:
        if not (0 <= layer < facts.n_layers and 0 <= index < facts.d_mlp):
            raise InputError(f"neuron L{layer}.{index} does not exist in {facts.name}")
    directions = list(signs) if signs is not None else [1] * len(neurons)
    if len(directions) != len(neurons):
        raise InputError(f"{len(directions)} signs were given for {len(neurons)} neurons")
    plain = isinstance(corpus[0], str)
    examples = [item if isinstance(item, Example) else Example("", item) for item in corpus]
    heaps: list[list[tuple[float, int, Context]]] = [[] for _ in neurons]
    order = itertools.count()
    tokenizer = models.tokenizer(model)
    names = {layer: models.hook_name(model, layer, "post") for layer, _ in neurons}
    total = progress_bar(total=len(examples), desc="contexts", unit="text", progress=progress, leaf=True)
    with total as bar:
        for rows, batch in inference.batches(model, examples, chat=False if plain else chat):
            with record_hooks(model, names.values()) as activations:
                inference.forward_batch(model, batch, logits=False)
            for (layer, index), direction, heap in zip(neurons, directions, heaps, strict=True):
                x = activations[names[layer]][..., index].float()
                peaks = (x * direction).masked_fill(~batch.mask, -torch.inf).max(dim=1)
                for row in peaks.values.argsort(descending=True)[:k].tolist():
                    height, position = float(peaks.values[row]), int(peaks.indices[row])
                    if len(heap) == k and height <= heap[0][0]:
                        break
                    length = int(batch.mask[row].sum())
                    lo, hi = max(0, position - before), min(length, position + after + 1)
                    tokens = tuple(token_text(tokenizer, int(t)) for t in batch.tokens[row, lo:hi])
                    context = Context(tokens, tuple(x[row, lo:hi].tolist()), position - lo, int(rows[row]))
                    push = heapq.heappushpop if len(heap) == k else heapq.heappush
                    push(heap, (height, next(order), context))
            bar.update(len(batch))
    return {
        tuple(neuron): [item for _, _, item in sorted(heap, key=lambda entry: (-entry[0], entry[1]))]  # type: ignore[misc]
        for neuron, heap in zip(neurons, heaps, strict=True)
    }
