"""Text to tokens: exact answer masks, BOS by the model's convention, chat templates, padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.prompts.example import Example

#: The user's turn when an example has no prompt of its own and the model is a chat model.
NEUTRAL_TURN = "Tell me what you think."


@dataclass(frozen=True)
class Batch:
    """Tokens of some examples.

    Attributes:
        tokens: token ids, padding included.
        mask: which tokens are no padding.
        answer: which tokens belong to the answer span (never BOS, never padding).
    """

    tokens: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    answer: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example, and how many of them come before the answer."""

    ids: tuple[int, ...]
    start: int


def prepends_bos(model: models.Model) -> bool:
    """Whether plain text gets a BOS in front.

    It does where the tokenizer adds one itself, and where BOS and EOS are one document separator (GPT-2 and its kin,
    trained on documents parted by it: without it the first token's activations are an artefact). A chat model whose BOS
    opens a turn (SmolLM2) gets none on plain text.
    """
    text = models.tokenizer(model)
    bos = text.bos_token_id
    if bos is None:
        return False
    ids = text("a")["input_ids"]
    return bool(ids and ids[0] == bos) or bos == text.eos_token_id


def uses_chat(model: models.Model, chat: bool | None) -> bool:
    """Whether the chat template is used: as asked, by default where the tokenizer has one.

    Raises:
        InputError: asked for on a model without template.
    """
    has = models.info(model).chat
    if chat and not has:
        raise InputError(f"{models.info(model).name} has no chat template: use chat=False")
    return has if chat is None else chat


def encode_one(model: models.Model, examples: Sequence[Example], *, chat: bool | None = None) -> list[Encoded]:
    """Token ids of each example, BOS by the model's convention, never twice.

    Plain: `prompt + " " + answer`. Chat: the user's turn (the prompt, or `NEUTRAL_TURN`), then the answer as the
    assistant's. A token belongs to the answer when its characters reach into it.

    Raises:
        InputError: an example is longer than the context (the message names it).
    """
    text = models.tokenizer(model)
    templated = uses_chat(model, chat)
    heads = [_head(text, item, templated) for item in examples]
    whole = [head + item.answer for head, item in zip(heads, examples, strict=True)]
    if not whole:
        return []
    out = _encoded(model, heads, whole)
    check_ids(model, out, [item.prompt or item.answer for item in examples])
    return out


def encode_continuations(
    model: models.Model, pairs: Sequence[tuple[str, str]], *, windows: bool = False
) -> list[Encoded]:
    """Token ids of plain prompts with their continuations, put together as they stand: nothing is added between them.

    The field's convention for public sets: a continuation brings its own leading space, and a token belongs to it when its
    characters reach past the prompt. BOS by the model's convention; an empty prompt always gets one (EOS where there is no
    BOS), so that the first word counts too. What is longer than the context loses tokens at the left, as in
    lm-evaluation-harness.

    Args:
        pairs: (prompt, continuation).
        windows: leave what is longer than the context as it is: the caller parts it.

    Raises:
        InputError: a continuation alone does not fit the context, or another model's tokenizer.
    """
    if not pairs:
        return []
    text = models.tokenizer(model)
    opening = text.bos_token_id if text.bos_token_id is not None else text.eos_token_id
    room = models.info(model).n_ctx
    out = []
    found = _encoded(model, [prompt for prompt, _ in pairs], [prompt + more for prompt, more in pairs])
    for (prompt, _), item in zip(pairs, found, strict=True):
        if not prompt and item.start == 0 and opening is not None:
            item = Encoded((opening, *item.ids), 1)
        extra = max(0, len(item.ids) - room)
        if not windows and item.start > extra > 0:
            item = Encoded(item.ids[extra:], item.start - extra)
        out.append(item)
    names = [prompt or more for prompt, more in pairs]
    check_ids(model, [Encoded(x.ids[:room], x.start) for x in out] if windows else out, names)
    return out


def _encoded(model: models.Model, heads: Sequence[str], whole: Sequence[str]) -> list[Encoded]:
    """Token ids of whole texts, BOS by the model's convention; what reaches past a text's head is its answer."""
    text = models.tokenizer(model)
    bos = [text.bos_token_id] if prepends_bos(model) else []
    out = []
    for head, (ids, ends) in zip(heads, _tokenise(text, whole), strict=True):
        front = [] if not bos or ids[:1] == bos else bos
        # the first token that reaches past the prompt's characters opens the answer
        start = next((i for i, end in enumerate(ends) if end > len(head)), len(ids))
        out.append(Encoded((*front, *ids), start + len(front)))
    return out


def _head(text: Any, item: Example, templated: bool) -> str:
    """The text in front of the answer."""
    if not templated:
        return f"{item.prompt} " if item.prompt and item.answer else item.prompt
    turn = [{"role": "user", "content": item.prompt or NEUTRAL_TURN}]
    return str(text.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))


def _tokenise(text: Any, whole: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and, per token, the character offset at which it ends; no special tokens added.

    Raises:
        InputError: the tokenizer gives no character offsets (only fast tokenizers do).
    """
    if not getattr(text, "is_fast", False):
        raise InputError(
            "this tokenizer gives no character offsets: answer tokens cannot be told (save a tokenizer.json)"
        )
    out = text(list(whole), add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(out["input_ids"], out["offset_mapping"], strict=True):
        yield list(ids), [int(end) for _, end in offsets]


def check_ids(model: models.Model, encoded: Sequence[Encoded], names: Sequence[str], more: int = 0) -> None:
    facts = models.info(model)
    highest = max((max(item.ids, default=0) for item in encoded), default=0)
    if highest >= facts.d_vocab:
        raise InputError(
            f"the tokenizer of {facts.name} gives token {highest}, the model knows {facts.d_vocab}: "
            "this is another model's tokenizer"
        )
    for number, (item, name) in enumerate(zip(encoded, names, strict=True)):
        if len(item.ids) + more > facts.n_ctx:
            extra = f" and {more} new ones are asked for" if more else ""
            raise InputError(
                f"example {number} ({name[:40]!r}...) has {len(item.ids)} tokens{extra}; the context of "
                f"{facts.name} is {facts.n_ctx} tokens: shorten it"
            )


def encode(
    model: models.Model, examples: Sequence[Example], *, chat: bool | None = None, padding_side: str = "right"
) -> Batch:
    """All examples as one padded batch on the model's device.

    Raises:
        InputError: no examples, or one longer than the context.
    """
    if not len(examples):
        raise InputError("no examples to encode")
    return pad(model, encode_one(model, examples, chat=chat), padding_side)


def pad(model: models.Model, encoded: Sequence[Encoded], padding_side: str = "right") -> Batch:
    """Pad encoded examples to one batch."""
    if padding_side not in ("left", "right"):
        raise InputError(f"padding_side is 'left' or 'right', not {padding_side!r}")
    rows, width = len(encoded), max(1, max(len(item.ids) for item in encoded))
    filler = pad_id(model)
    tokens = np.full((rows, width), filler, dtype=np.int64)
    mask = np.zeros((rows, width), dtype=bool)
    answer = np.zeros((rows, width), dtype=bool)
    for row, item in enumerate(encoded):
        first = width - len(item.ids) if padding_side == "left" else 0
        place = slice(first, first + len(item.ids))
        tokens[row, place], mask[row, place] = item.ids, True
        answer[row, first + item.start : first + len(item.ids)] = True
    device = models.info(model).device
    return Batch(*(torch.from_numpy(part).to(device) for part in (tokens, mask, answer)))


def pad_id(model: models.Model) -> int:
    """A token id for padding; masked everywhere, so any valid id will do."""
    text = models.tokenizer(model)
    found = text.pad_token_id if text.pad_token_id is not None else text.eos_token_id
    return int(found or 0)


def group(lengths: Sequence[int], token_budget: int) -> Iterator[np.ndarray]:
    """Row numbers in groups of like length, each group within the budget of padded tokens (at least one row)."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        # lengths ascend: the group's width is its last row's length
        full = stop == len(order) or lengths[order[stop]] * (stop + 1 - start) > token_budget
        if full:
            yield order[start:stop]
            start = stop


def batches(
    model: models.Model, examples: Sequence[Example], *, token_budget: int = 4096, chat: bool | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Batches sorted by length, so that little is padding.

    Args:
        token_budget: tokens of a batch, padding included.

    Yields:
        `(indices, batch)`: which examples the rows are (right-padded).
    """
    encoded = encode_one(model, examples, chat=chat)
    for rows in group([len(item.ids) for item in encoded], token_budget):
        yield rows, pad(model, [encoded[i] for i in rows])
