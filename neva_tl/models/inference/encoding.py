"""Text to tokens: exact answer masks, BOS by the model's convention, chat templates, padded batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.models.inference.chat_template import conversation_text, opens_template, template_record
from neva_tl.prompts.example import Example

#: Examples whose token ids identify how texts are encoded (template, date, BOS).
_PROBES = (Example("Who are you?", "I help."), Example("", "I help."))


@dataclass(frozen=True)
class Batch:
    """Tokens of some examples.

    Attributes:
        tokens: Token ids, padding included.
        mask: True for real tokens, False for padding.
        answer: True for tokens of the answer span (never BOS, never padding).
    """

    tokens: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    answer: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example.

    Attributes:
        ids: Token ids.
        start: Number of tokens before the answer.
    """

    ids: tuple[int, ...]
    start: int


def prepends_bos(model: models.Model) -> bool:
    """Whether plain text starts with a BOS.

    It does where the tokenizer adds one itself, and where BOS and EOS are one document separator (GPT-2 and similar models,
    trained on documents separated by it: without it the first token's activations are an artefact). A chat model whose BOS
    opens a turn (SmolLM2) has no BOS on plain text.
    """
    tokenizer = models.tokenizer(model)
    bos = tokenizer.bos_token_id
    if bos is None:
        return False
    ids = tokenizer("a")["input_ids"]
    return bool(ids and ids[0] == bos) or bos == tokenizer.eos_token_id


def uses_chat(model: models.Model, chat: bool | None) -> bool:
    """Whether the chat template is used.

    Args:
        model: A TransformerLens model.
        chat: True forces the template, False forbids it; None uses it where the tokenizer has one.

    Raises:
        InputError: `chat=True` on a model without template.
    """
    has = models.info(model).chat
    if chat and not has:
        raise InputError(f"{models.info(model).name} has no chat template: use chat=False")
    return has if chat is None else chat


@check_arguments
def encode_one(model: models.Model, examples: Sequence[Example], *, chat: bool | None = None) -> list[Encoded]:
    """Token ids of each example, exactly of its text: nothing is stripped.

    Plain: prompt, separator, answer; BOS by the model's convention, never twice. Chat: earlier turns and the user's turn (the
    prompt, or `NEUTRAL_TURN`) in the template, which also decides about BOS, then the answer as the assistant's turn. A token
    belongs to the answer when its characters reach into it.

    Args:
        model: A TransformerLens model.
        examples: The examples.
        chat: See `uses_chat`.

    Raises:
        InputError: An example is longer than the context (the message names it), has earlier turns without a template, or
            went through the template before.
    """
    out = _encode_all(model, examples, uses_chat(model, chat))
    check_ids(model, out, [item.prompt or item.answer for item in examples])
    return out


def encoding_record(model: models.Model, chat: bool | None = None) -> dict[str, Any]:
    """How the model's texts are encoded: whether in the chat template, its date and arguments, and a hash of token ids.

    Statistics of equal records belong together: the hash is of the token ids of fixed probe texts, and tells templates and
    BOS conventions apart whatever their settings.

    Args:
        model: A TransformerLens model.
        chat: See `uses_chat`.
    """
    templated = uses_chat(model, chat)
    ids = [(item.ids, item.start) for item in _encode_all(model, _PROBES, templated)]
    record = {"chat": templated, "probe": hashlib.sha256(str(ids).encode()).hexdigest()}
    return record | (template_record(model) if templated else {})


def encoding_change(model: models.Model, chat: bool | None = None) -> dict[str, Any]:
    """What in the encoding version 0.1.0 did not know or did otherwise; empty where token ids are as they were there.

    These are a template that reads a date, template arguments, and a template without the BOS that 0.1.0 put before it. Keys
    of stored results hold it, so that older ones of other token ids are not taken for new ones.

    Args:
        model: A TransformerLens model.
        chat: See `uses_chat`.
    """
    if not uses_chat(model, chat):
        return {}
    record = template_record(model)
    bos = models.tokenizer(model).bos_token_id
    if prepends_bos(model) and _encode_all(model, _PROBES[:1], templated=True)[0].ids[0] != bos:
        record["bos"] = False
    return record


def _encode_all(model: models.Model, examples: Sequence[Example], templated: bool) -> list[Encoded]:
    """Token ids of each example, of any length."""
    if not examples:
        return []
    if templated:
        leads = [conversation_text(model, item) for item in examples]
    else:
        for number, item in enumerate(examples):
            if item.turns:
                raise InputError(
                    f"example {number} ({item.prompt[:40]!r}) has earlier turns, which need a chat template: "
                    f"{models.info(model).name} has none or chat=False forbids it; write the conversation as one text"
                )
        leads = [item.lead for item in examples]
    texts = [lead + item.answer for lead, item in zip(leads, examples, strict=True)]
    # a template writes its own BOS, or none
    bos = [not (templated or opens_template(model, text)) for text in texts]
    return _encoded(model, leads, texts, bos)


@check_arguments
def encode_continuations(
    model: models.Model, pairs: Sequence[tuple[str, str]], *, windows: bool = False
) -> list[Encoded]:
    """Token ids of plain prompts, each concatenated with its continuation without a separator.

    The convention of public benchmarks: a continuation contains its leading space, and a token belongs to it when its
    characters reach past the prompt. BOS by the model's convention; an empty prompt always gets one (EOS where there is no
    BOS), so that the first word counts too. Texts longer than the context lose tokens at the left, as in
    lm-evaluation-harness.

    Args:
        model: A TransformerLens model.
        pairs: (prompt, continuation).
        windows: Return texts longer than the context in full: the caller splits them.

    Raises:
        InputError: A continuation alone does not fit the context, or the tokenizer belongs to another model.
    """
    if not pairs:
        return []
    tokenizer = models.tokenizer(model)
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    room = models.info(model).n_ctx
    out = []
    encoded = _encoded(
        model, [prompt for prompt, _ in pairs], [prompt + more for prompt, more in pairs], [True] * len(pairs)
    )
    for (prompt, _), item in zip(pairs, encoded, strict=True):
        if not prompt and item.start == 0 and opening is not None:
            item = Encoded((opening, *item.ids), 1)
        extra = max(0, len(item.ids) - room)
        if not windows and item.start > extra > 0:
            item = Encoded(item.ids[extra:], item.start - extra)
        out.append(item)
    names = [prompt or more for prompt, more in pairs]
    check_ids(model, [Encoded(x.ids[:room], x.start) for x in out] if windows else out, names)
    return out


def _encoded(
    model: models.Model, leads: Sequence[str], texts: Sequence[str], takes_bos: Sequence[bool]
) -> list[Encoded]:
    """Token ids of texts, BOS by the model's convention where a text takes one; the answer reaches past a text's lead."""
    tokenizer = models.tokenizer(model)
    bos = [tokenizer.bos_token_id] if prepends_bos(model) else []
    out = []
    for lead, takes, (ids, ends) in zip(leads, takes_bos, _tokenise(tokenizer, texts), strict=True):
        front = bos if takes and ids[:1] != bos else []
        # the first token that reaches past the lead's characters opens the answer
        start = next((i for i, end in enumerate(ends) if end > len(lead)), len(ids))
        out.append(Encoded((*front, *ids), start + len(front)))
    return out


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and, per token, the character offset at which it ends; no special tokens added.

    Raises:
        InputError: The tokenizer returns no character offsets (only fast tokenizers do).
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "this tokenizer returns no character offsets, which locate the answer tokens: save a tokenizer.json"
        )
    out = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(out["input_ids"], out["offset_mapping"], strict=True):
        yield list(ids), [int(end) for _, end in offsets]


def check_ids(model: models.Model, encoded: Sequence[Encoded], names: Sequence[str], more: int = 0) -> None:
    """Refuse token ids that the model lacks, and examples longer than its context.

    Args:
        model: A TransformerLens model.
        encoded: Token ids of the examples.
        names: A text by which messages name each example.
        more: Number of tokens to be generated after each example.

    Raises:
        InputError: An example is too long, or the tokenizer belongs to another model.
    """
    facts = models.info(model)
    highest = max((max(item.ids, default=0) for item in encoded), default=0)
    if highest >= facts.d_vocab:
        raise InputError(
            f"the tokenizer of {facts.name} returns token {highest}, the model has {facts.d_vocab} tokens: "
            "this is another model's tokenizer"
        )
    for number, (item, name) in enumerate(zip(encoded, names, strict=True)):
        if len(item.ids) + more > facts.n_ctx:
            extra = f", and {more} new ones are requested" if more else ""
            raise InputError(
                f"example {number} ({name[:40]!r}...) has {len(item.ids)} tokens{extra}; the context of "
                f"{facts.name} is {facts.n_ctx} tokens: shorten it"
            )


@check_arguments
def encode(
    model: models.Model, examples: Sequence[Example], *, chat: bool | None = None, padding_side: str = "right"
) -> Batch:
    """All examples as one padded batch on the model's device.

    Args:
        model: A TransformerLens model.
        examples: The examples.
        chat: See `uses_chat`.
        padding_side: `right` or `left`.

    Raises:
        InputError: No examples, or one longer than the context.
    """
    if not len(examples):
        raise InputError("no examples to encode")
    return pad(model, encode_one(model, examples, chat=chat), padding_side)


def pad(model: models.Model, encoded: Sequence[Encoded], padding_side: str = "right") -> Batch:
    """Pad encoded examples to one batch.

    Args:
        model: A TransformerLens model.
        encoded: Token ids of the examples.
        padding_side: `right` or `left`.

    Raises:
        InputError: Another padding side.
    """
    if padding_side not in ("left", "right"):
        raise InputError(f"padding_side is 'left' or 'right', not {padding_side!r}")
    rows, width = len(encoded), max(1, max(len(item.ids) for item in encoded))
    filler = pad_id(model)
    tokens = np.full((rows, width), filler, dtype=np.int64)
    mask = np.zeros((rows, width), dtype=bool)
    answer = np.zeros((rows, width), dtype=bool)
    for row, item in enumerate(encoded):
        first = width - len(item.ids) if padding_side == "left" else 0
        span = slice(first, first + len(item.ids))
        tokens[row, span], mask[row, span] = item.ids, True
        answer[row, first + item.start : first + len(item.ids)] = True
    device = models.info(model).device
    return Batch(*(torch.from_numpy(array).to(device) for array in (tokens, mask, answer)))


def pad_id(model: models.Model) -> int:
    """A token id for padding; it is masked everywhere, so that any valid id will do."""
    tokenizer = models.tokenizer(model)
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    # an added [PAD] may have no row in the embedding
    return int(filler) if filler is not None and 0 <= filler < models.info(model).d_vocab else 0


def group(lengths: Sequence[int], token_budget: int) -> Iterator[np.ndarray]:
    """Row indices in groups of similar length, each group within the budget of padded tokens (at least one row).

    Args:
        lengths: Length of each row.
        token_budget: Tokens of a group, padding included.
    """
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
    """Batches sorted by length, which keeps padding small.

    Args:
        model: A TransformerLens model.
        examples: The examples.
        token_budget: Tokens of a batch, padding included.
        chat: See `uses_chat`.

    Yields:
        `(indices, batch)`: the index of each row's example, and the right-padded batch.
    """
    encoded = encode_one(model, examples, chat=chat)
    plan = list(group([len(item.ids) for item in encoded], token_budget))
    for rows in progress_bar(plan, desc="forward passes", unit="batch"):
        yield rows, pad(model, [encoded[i] for i in rows])
