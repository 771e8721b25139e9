"""Logit lens: next-token predictions from the residual stream after each block, unedited and under an edit.

The residual stream after every block passes through the final norm and the unembedding (nostalgebraist's logit lens,
2020). After the last block the result is the prediction of the model; after earlier blocks it is an interpretation, which
the model need not use. The token sets of the values and the comparison of edited and unedited runs are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.decompose import read_mask
from neva_tl.attribution.tokens import token_text, value_tokens
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.messages import progress_bar
from neva_tl.core.statistics import mean_interval
from neva_tl.core.theories import SCHWARTZ, ValueName, ValueTheory
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.plots.showable import showable
from neva_tl.prompts.example import Example

READ_AT = ("last", "answer")
#: Function that returns the context manager of an edit, e.g. `lambda: edit(model, *edits)`.
Edited = Callable[[], AbstractContextManager[Any]]

#: Positions per chunk of logits over the whole vocabulary.
CHUNK = 128
#: Above this log P, 1 - P is summed over the other tokens instead of subtracted.
NEAR_CERTAIN = -1e-2
COLUMNS = (
    "steered", "condition", "layer", "value", "log_odds", "lo", "hi", "change", "change_lo", "change_hi", "n",
)  # fmt: skip
TOKEN_COLUMNS = ("condition", "layer", "rank", "token", "text", "probability")


@check_arguments
def logit_lens(
    model: models.Model,
    examples: Sequence[Example],
    *,
    values: Sequence[ValueName] | None = None,
    words: Mapping[ValueName, Sequence[str]] | None = None,
    theory: ValueTheory | None = None,
    edited: Edited | Mapping[str, Edited] | None = None,
    at: str = "last",
    chat: bool | None = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> pd.DataFrame:
    """Return the log-odds of each value's words after every block, unedited and edited.

    The log-odds are `log P(S) / (1 - P(S))` in nats, averaged over examples. S is the set of the value's tokens that no
    other value of `values` shares (`value_tokens`); P is the lens's distribution of the next token.

    Args:
        model: A TransformerLens model.
        examples: The texts; their answer tokens count as generated for edits.
        values: Names of the values; default: all of the theory, without those that share all their tokens (tiny vocabularies).
        words: Value -> words; default: half A of our lists.
        theory: Theory of the values; None takes the one that they imply, Schwartz's without values.
        edited: Function that returns the context manager of the edit, e.g. `lambda: edit(model, *edits)`; entered once
            per batch. Or several by name (e.g. of the value steered towards), compared with one unedited run.
        at: `last` reads each example's last token, `answer` every answer token (averaged within the example first). An
            edit of scope `generated` does not act on a text without answer: use `answer` there.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        token_budget: Padded tokens of a batch.
        progress: Show a bar on stderr.

    Returns:
        One row per (edit, condition, layer, value): steered (the edit's name; None where unedited or unnamed), condition
        (`unedited`, `edited`), layer (0 after the embedding, L after block L - 1), value, log_odds, lo, hi (95 % t interval
        over examples; NaN for one example), change, change_lo, change_hi (edited minus unedited on the same examples;
        NaN on unedited rows), n (examples).

    Raises:
        InputError: No examples, an unknown `at`, an example without answer tokens at `answer`, or a requested value that
            shares all its tokens.
        WorkError: After the last block, the lens differs from the model's logits (a head that is more than norm, matrix
            and cap).
    """
    if at not in READ_AT:
        raise InputError(f"at is 'last' or 'answer', not {at!r}")
    if not len(examples):
        raise InputError("the logit lens needs at least one example")
    sets = _own_tokens(model, values, words, theory)
    named: dict[str | None, Edited] = {}
    if isinstance(edited, Mapping):
        named.update({name: enter for name, enter in edited.items()})
    elif edited is not None:
        named[None] = edited
    n_layers = models.info(model).n_layers
    runs: list[Edited] = [nullcontext, *named.values()]
    log_odds = np.zeros((len(runs), len(examples), n_layers + 1, len(sets)))
    bar = progress_bar(total=len(examples) * len(runs), desc="logit lens", unit="text", progress=progress, leaf=True)
    checked = False
    for rows, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        mask = read_mask(batch, at)
        empty = ~mask.any(dim=1)
        if empty.any():
            worst = int(rows[int(empty.nonzero()[0, 0])])
            raise InputError(f"example {worst} ({examples[worst].prompt[:40]!r}) has no answer token: use at='last'")
        if not checked:
            _check_end(model, batch)
            checked = True
        owner = mask.nonzero()[:, 0].cpu().numpy()
        for run, enter in zip(log_odds, runs, strict=True):
            with enter() as session:
                streams = _streams(model, batch, mask, session)
            for layer, stream in enumerate(streams):
                odds = np.concatenate([_log_odds(chunk, sets) for chunk in _logits(model, stream)])
                np.add.at(run, (rows[owner], layer), odds)
            bar.update(len(rows))
        log_odds[:, rows] /= np.bincount(owner, minlength=len(rows))[:, None, None]
    bar.close()
    frames = [_tidy(None, "unedited", log_odds[0], None, list(sets))]
    frames += [
        _tidy(name, "edited", run, log_odds[0], list(sets)) for name, run in zip(named, log_odds[1:], strict=True)
    ]
    return showable(
        pd.concat([frame.astype({"steered": "string"}) for frame in frames], ignore_index=True), "logit_lens"
    )


@check_arguments
def lens_tokens(
    model: models.Model,
    text: str | Example,
    *,
    k: int = 5,
    edited: Edited | None = None,
    chat: bool | None = None,
) -> pd.DataFrame:
    """Return the most probable next tokens after every block at a text's last token, unedited and edited.

    Args:
        model: A TransformerLens model.
        text: A prompt, or a prompt with an answer, whose tokens count as generated for edits.
        k: Tokens per layer.
        edited: Function that returns the context manager of the edit; None for the unedited run only.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Returns:
        One row per (condition, layer, rank): condition, layer (0 after the embedding), rank (1 is the most probable),
        token (id), text (as it reads in running text), probability.

    Raises:
        InputError: k is below 1 or above the size of the vocabulary, or the text is empty.
        WorkError: As for `logit_lens`.
    """
    if not 1 <= k <= models.info(model).d_vocab:
        raise InputError(f"k is between 1 and the {models.info(model).d_vocab} tokens of the vocabulary, not {k}")
    batch = inference.encode(model, [Example(text, "") if isinstance(text, str) else text], chat=chat)
    mask = read_mask(batch, "last")
    if not mask.any():
        raise InputError("the text is empty and this model has no BOS to start from")
    _check_end(model, batch)
    tokenizer = models.tokenizer(model)
    frames = []
    for name, enter in (("unedited", nullcontext), ("edited", edited)):
        if enter is None:
            continue
        with enter() as session:
            streams = _streams(model, batch, mask, session)
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
    return showable(pd.concat(frames, ignore_index=True)[list(TOKEN_COLUMNS)], "token_lens")


def _own_tokens(
    model: models.Model,
    values: Sequence[str] | None,
    words: Mapping[str, Sequence[str]] | None,
    theory: ValueTheory | None,
) -> dict[str, list[int]]:
    """Return the tokens of each value that no other one shares, in the order of the theory.

    By default, a value without any token in this vocabulary has no column; a requested one is an error.
    """
    names = (theory or SCHWARTZ).names if values is None else values
    table = value_tokens(model, names, words, theory, strict=values is not None)
    sets: dict[str, list[int]] = {name: [] for name in table["value"].unique()}
    for row in table[~table["shared"]].itertuples():
        sets[str(row.value)].append(int(row.token))  # type: ignore[arg-type]
    without_token = [name for name, tokens in sets.items() if not tokens]
    if not sets:
        raise InputError(
            f"no value has a token of its own in the tokenizer of {models.info(model).name}: give words=..."
        )
    if values is None and len(without_token) < len(sets):
        return {name: tokens for name, tokens in sets.items() if tokens}
    if without_token:
        raise InputError(f"{without_token[0]} shares every token with another value: give it other words (words=...)")
    return sets


def _streams(
    model: models.Model, batch: inference.Batch, mask: Bool[Tensor, "b n"], session: inference.TokenSession | None
) -> list[Float[Tensor, "m d"]]:
    """Return the residual stream at the masked tokens: after the embedding, then after every block."""
    n_layers = models.info(model).n_layers
    sites = [(0, "resid_pre"), *((layer, "resid_post") for layer in range(n_layers))]
    names = [models.hook_name(model, layer, site) for layer, site in sites]
    # these hooks run after those of the edit, so that edits of the stream are visible
    with record_hooks(model, names, lambda x: x.detach()[mask.to(x.device)].clone()) as activations:
        inference.forward_batch(model, batch, session=session, logits=False)
    if len(activations) != len(sites):
        raise WorkError(
            f"the residual stream of {models.info(model).name} was recorded at {len(activations)} of {len(sites)} hook points"
        )
    return [activations[name] for name in names]


def _logits(model: models.Model, stream: Float[Tensor, "m d"]) -> Iterator[Float[Tensor, "c d_vocab"]]:
    for chunk in stream.split(CHUNK):
        yield models.logits_of(model, chunk)


def _log_odds(logits: Float[Tensor, "c d_vocab"], sets: Mapping[str, list[int]]) -> Float[np.ndarray, "c v"]:
    """Return the log-odds of each token set."""
    total = logits.logsumexp(dim=1)
    out = []
    for tokens in sets.values():
        inside = logits[:, tokens].logsumexp(dim=1)
        share = (inside - total).double()
        rest = torch.log1p(-share.clamp(max=NEAR_CERTAIN).exp())
        sure = (share > NEAR_CERTAIN).nonzero()[:, 0]
        if len(sure):  # 1 - P would lose precision, so the other tokens are summed
            other = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
            other[tokens] = False
            share[sure] = inside[sure].double()
            rest[sure] = logits[sure][:, other].logsumexp(dim=1).double()
        out.append(share - rest)
    return torch.stack(out, dim=1).cpu().numpy()


def _check_end(model: models.Model, batch: inference.Batch) -> None:
    """Check that the lens after the last block equals the model's prediction, at the last token of one text.

    Raises:
        WorkError: They differ.
    """
    one = inference.Batch(batch.tokens[:1], batch.mask[:1], batch.answer[:1])
    mask = read_mask(one, "last")
    (stream,) = _streams(model, one, mask, None)[-1:]
    logits = inference.forward_batch(model, one, positions=mask[0].nonzero()[:, 0])
    assert logits is not None
    # log-probabilities, since a processed head may shift its logits; rounding in half precision is a few hundredths
    gap = (torch.log_softmax(logits[0].float(), -1) - torch.log_softmax(models.logits_of(model, stream), -1)).abs()
    tolerance = 1e-3 if logits.dtype == torch.float32 else 0.1
    if not float(gap.max()) <= tolerance * max(1.0, float(logits.float().std())):
        facts = models.info(model)
        raise WorkError(
            f"the logit lens of {facts.name} ({facts.architecture}) does not end at the model's own logits "
            f"(off by {float(gap.max()):.3g}): its output head has more than norm, matrix and cap"
        )


def _tidy(
    steered: str | None,
    condition: str,
    odds: Float[np.ndarray, "e l v"],
    base: Float[np.ndarray, "e l v"] | None,
    names: list[str],
) -> pd.DataFrame:
    n, layers, _ = odds.shape
    index = pd.MultiIndex.from_product([range(layers), names], names=["layer", "value"])
    change = np.full_like(odds, np.nan) if base is None else odds - base
    columns: dict[str, np.ndarray] = {}
    for prefix, name, numbers in (("", "log_odds", odds), ("change_", "change", change)):
        mean, lo, hi = mean_interval(numbers)
        columns |= {name: mean.ravel(), f"{prefix}lo": lo.ravel(), f"{prefix}hi": hi.ravel()}
    table = pd.DataFrame(columns, index=index).reset_index()
    return table.assign(steered=steered, condition=condition, n=n)[list(COLUMNS)]
