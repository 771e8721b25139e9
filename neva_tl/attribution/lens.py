"""Logit lens: what the model would say next if it stopped after each block, unedited and under an edit.

The residual stream after every block is read through the final norm and the unembedding (nostalgebraist's logit lens,
2020). Of the last block that is the model's own prediction; of earlier ones it is a reading in the output's terms, which
the model need not use. Which tokens stand for a value, and reading an edited beside an unedited run, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy.stats import t as student
from torch import Tensor

from neva_tl import inference, models
from neva_tl.attribution.tokens import token_text, value_tokens
from neva_tl.errors import InputError, WorkError
from neva_tl.prompts.example import Example
from neva_tl.values import VALUES

PLACES = ("last", "answer")
#: Makes the context manager of an edit, e.g. `lambda: edit(model, *edits)`.
Edited = Callable[[], AbstractContextManager[Any]]

#: Positions whose logits over the whole vocabulary are held at once.
CHUNK = 128
COLUMNS = ("condition", "layer", "value", "log_odds", "lo", "hi", "n")
TOKEN_COLUMNS = ("condition", "layer", "rank", "token", "text", "probability")


def logit_lens(
    model: Any,
    examples: Sequence[Example],
    *,
    values: Sequence[str] | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
    edited: Edited | None = None,
    at: str = "last",
    chat: bool | None = None,
    token_budget: int = 4096,
) -> pd.DataFrame:
    """Log-odds of each value's words after every block, averaged over examples; unedited, and edited beside it.

    `log P(S) / (1 - P(S))` in nats, S the value's tokens that no other value of `values` claims (`value_tokens`), P the
    lens's distribution of the token that comes next.

    Args:
        examples: texts; edits see their answer tokens as generated.
        values: which values; all ten by default.
        words: value -> words; by default half A of our lists.
        edited: makes the context manager of the edit, e.g. `lambda: edit(model, *edits)`; entered once per batch.
        at: `last` reads at each example's last token, `answer` at every answer token (averaged within the example first).
            An edit of scope `generated` leaves a text without answer as it is: use `answer` there.
        chat: force or forbid the chat template; None uses it where the tokenizer has one.
        token_budget: padded tokens of a batch.

    Returns:
        One row per (condition, layer, value): condition (`unedited`, `edited`), layer (0 after the embedding, L after block
        L - 1), value, log_odds, lo, hi (95 % t interval over examples; NaN for one example), n (examples).

    Raises:
        InputError: no examples, an unknown `at`, an example without answer tokens where they are asked for, a value none
            of whose tokens is its own.
        WorkError: the lens does not end at the model's own logits (a head that is more than norm, matrix and cap).
    """
    if at not in PLACES:
        raise InputError(f"at is 'last' or 'answer', not {at!r}")
    if not len(examples):
        raise InputError("the logit lens needs at least one example")
    sets = _own_tokens(model, VALUES if values is None else values, words)
    conditions: dict[str, Edited] = (
        {"unedited": nullcontext} if edited is None else {"unedited": nullcontext, "edited": edited}
    )
    n_layers = models.info(model).n_layers
    found = {name: np.zeros((len(examples), n_layers + 1, len(sets))) for name in conditions}
    checked = False
    for rows, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        chosen = _positions(batch, at)
        empty = ~chosen.any(dim=1)
        if empty.any():
            worst = int(rows[int(empty.nonzero()[0, 0])])
            raise InputError(f"example {worst} ({examples[worst].prompt[:40]!r}) has no answer token: use at='last'")
        if not checked:
            _check_end(model, batch)
            checked = True
        owner = chosen.nonzero()[:, 0].cpu().numpy()
        for name, enter in conditions.items():
            with enter() as session:
                streams = _streams(model, batch, chosen, session)
            for layer, stream in enumerate(streams):
                odds = np.concatenate([_log_odds(part, sets) for part in _logits(model, stream)])
                np.add.at(found[name], (rows[owner], layer), odds)
        for name in conditions:
            found[name][rows] /= np.bincount(owner, minlength=len(rows))[:, None, None]
    return pd.concat([_tidy(name, odds, list(sets)) for name, odds in found.items()], ignore_index=True)


def lens_tokens(
    model: Any,
    text: str | Example,
    *,
    k: int = 5,
    edited: Edited | None = None,
    chat: bool | None = None,
) -> pd.DataFrame:
    """The likeliest next tokens after every block for one text, at its last token; unedited, and edited beside it.

    Args:
        text: a prompt, or a prompt with an answer (whose tokens count as generated).
        k: tokens per layer.
        edited, chat: as in `logit_lens`.

    Returns:
        One row per (condition, layer, rank): condition, layer (0 after the embedding), rank (1 is likeliest), token (id),
        text (as it reads in running text), probability.

    Raises:
        InputError: k below 1 or above the vocabulary, or an empty text.
        WorkError: as `logit_lens`.
    """
    if not 1 <= k <= models.info(model).d_vocab:
        raise InputError(f"k is between 1 and the {models.info(model).d_vocab} tokens of the vocabulary, not {k}")
    batch = inference.encode(model, [Example(text, "") if isinstance(text, str) else text], chat=chat)
    chosen = _positions(batch, "last")
    if not chosen.any():
        raise InputError("the text is empty and this model has no BOS to start from")
    _check_end(model, batch)
    tokenizer = models.tokenizer(model)
    frames = []
    for name, enter in (("unedited", nullcontext), ("edited", edited)):
        if enter is None:
            continue
        with enter() as session:
            streams = _streams(model, batch, chosen, session)
        for layer, stream in enumerate(streams):
            best = torch.softmax(models.logits_of(model, stream)[0], dim=-1).topk(k)
            ids = best.indices.tolist()
            frames.append(
                pd.DataFrame(
                    {
                        "condition": name,
                        "layer": layer,
                        "rank": range(1, k + 1),
                        "token": ids,
                        "text": [token_text(tokenizer, token) for token in ids],
                        "probability": best.values.tolist(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)[list(TOKEN_COLUMNS)]


def _own_tokens(model: Any, values: Sequence[str], words: Mapping[str, Sequence[str]] | None) -> dict[str, list[int]]:
    """Each value's tokens that no other of the values claims, in circle order."""
    table = value_tokens(model, values, words)
    sets: dict[str, list[int]] = {name: [] for name in table["value"].unique()}
    for row in table[~table["shared"]].itertuples():
        sets[str(row.value)].append(int(row.token))  # type: ignore[arg-type]
    lost = [name for name, tokens in sets.items() if not tokens]
    if lost:
        raise InputError(f"every token of {lost[0]} stands for another value too: give it words of its own (words=...)")
    return sets


def _positions(batch: inference.Batch, at: str) -> Bool[Tensor, "b n"]:
    """Where the lens reads: each row's last token, or its answer tokens."""
    if at == "answer":
        return batch.answer & batch.mask
    position = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    last = torch.where(batch.mask, position, -1).amax(dim=1, keepdim=True)
    return batch.mask & (position[None] == last)


def _streams(
    model: Any, batch: inference.Batch, chosen: Bool[Tensor, "b n"], session: Any
) -> list[Float[Tensor, "m d"]]:
    """The residual stream at the chosen tokens: after the embedding, then after every block."""
    seen: dict[int, Tensor] = {}

    def recorder(place: int) -> Callable[..., None]:
        def record(x: Tensor, hook: Any = None) -> None:
            seen[place] = x.detach()[chosen.to(x.device)].clone()

        return record

    n_layers = models.info(model).n_layers
    sites = [(0, "resid_pre"), *((layer, "resid_post") for layer in range(n_layers))]
    with ExitStack() as stack:
        # behind the edit's own hooks, which are on already: an edit of the stream itself is seen
        for place, (layer, site) in enumerate(sites):
            handle = models.add_hook(model, models.hook_name(model, layer, site), recorder(place))
            stack.callback(handle.remove)
        inference.forward_batch(model, batch, session=session, logits=False)
    if len(seen) != len(sites):
        raise WorkError(
            f"the residual stream of {models.info(model).name} was seen at {len(seen)} of {len(sites)} places"
        )
    return [seen[place] for place in range(len(sites))]


def _logits(model: Any, stream: Float[Tensor, "m d"]) -> Iterator[Float[Tensor, "c d_vocab"]]:
    for part in stream.split(CHUNK):
        yield models.logits_of(model, part)


def _log_odds(logits: Float[Tensor, "c d_vocab"], sets: Mapping[str, list[int]]) -> Float[np.ndarray, "c v"]:
    """Log-odds of each token set; both sums are taken apart, so that a P near 1 loses nothing."""
    out = []
    wide = logits.double()
    for tokens in sets.values():
        inside = torch.zeros(wide.shape[1], dtype=torch.bool, device=wide.device)
        inside[tokens] = True
        out.append(wide[:, inside].logsumexp(dim=1) - wide[:, ~inside].logsumexp(dim=1))
    return torch.stack(out, dim=1).cpu().numpy()


def _check_end(model: Any, batch: inference.Batch) -> None:
    """The lens after the last block must be the model's own prediction: held against one text's last token.

    Raises:
        WorkError: it is not.
    """
    one = inference.Batch(batch.tokens[:1], batch.mask[:1], batch.answer[:1])
    chosen = _positions(one, "last")
    (stream,) = _streams(model, one, chosen, None)[-1:]
    own = inference.forward_batch(model, one, positions=chosen[0].nonzero()[:, 0])
    assert own is not None
    # log-probabilities, since a processed head may shift its logits; a few hundredths are rounding in half precision
    apart = (torch.log_softmax(own[0].float(), -1) - torch.log_softmax(models.logits_of(model, stream), -1)).abs()
    slack = 1e-3 if own.dtype == torch.float32 else 0.1
    if not float(apart.max()) <= slack * max(1.0, float(own.float().std())):
        facts = models.info(model)
        raise WorkError(
            f"the logit lens of {facts.name} ({facts.architecture}) does not end at the model's own logits "
            f"(off by {float(apart.max()):.3g}): its output head does more than norm, matrix and cap"
        )


def _tidy(condition: str, odds: Float[np.ndarray, "e l v"], names: list[str]) -> pd.DataFrame:
    n, layers, _ = odds.shape
    mean = odds.mean(axis=0)
    half = np.full_like(mean, np.nan)
    if n > 1:
        half = student.ppf(0.975, n - 1) * odds.std(axis=0, ddof=1) / np.sqrt(n)
    index = pd.MultiIndex.from_product([range(layers), names], names=["layer", "value"])
    columns = {"log_odds": mean.ravel(), "lo": (mean - half).ravel(), "hi": (mean + half).ravel()}
    return pd.DataFrame(columns, index=index).reset_index().assign(condition=condition, n=n)[list(COLUMNS)]
