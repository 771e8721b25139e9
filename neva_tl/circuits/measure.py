"""Measured edges: ablate one neuron, read every value's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neva_tl import inference
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.prompts.example import Example


def ablation_effects(
    model: Any,
    neurons: NeuronSet,
    examples: Sequence[Example],
    tokens: pd.DataFrame,
    *,
    chat: bool | None = None,
    token_budget: int = 4096,
) -> pd.DataFrame:
    """Change of each value's mean token log-odds when one neuron is ablated to the mean of its two poles.

    Per example the mean over answer tokens and over the value's tokens of `log p / (1 - p)`, p the probability of the
    token next; then the mean over examples; edited minus unedited. Tokens that two values claim are left out.

    Args:
        neurons: at site `post`; each is ablated alone, at all tokens.
        examples: where to measure.
        tokens: as `attribution.value_tokens` gives.

    Returns:
        One row per neuron, in the set's order, one column per value.

    Raises:
        InputError: no examples.
    """
    from neva_tl.editing import Ablate, edit

    if not len(examples):
        raise InputError("measured edges need at least one example")
    plain = tokens[~tokens["shared"]]
    ids = {str(name): group["token"].to_numpy() for name, group in plain.groupby("value", sort=False)}
    batches = list(inference.batches(model, examples, token_budget=token_budget, chat=chat))
    before = _log_odds(model, batches, ids, None)
    rows = []
    for place in range(len(neurons)):
        one = neurons.with_df(neurons.df.iloc[[place]])
        with edit(model, Ablate(one, mode="mean", effects="all")) as session:
            rows.append(_log_odds(model, batches, ids, session) - before)
    return pd.DataFrame(np.stack(rows), columns=list(ids))


def _log_odds(
    model: Any, batches: Sequence[tuple[np.ndarray, inference.Batch]], ids: dict[str, np.ndarray], session: Any
) -> np.ndarray:
    """`[n_values]`: mean over examples of the mean token log-odds at answer tokens."""
    union = np.unique(np.concatenate(list(ids.values())))
    columns = [torch.as_tensor(np.searchsorted(union, group)) for group in ids.values()]
    total, count = np.zeros(len(ids)), 0
    for _, batch in batches:
        logits = inference.forward_batch(model, batch, session=session)
        assert logits is not None
        odds = _odds(logits, torch.as_tensor(union, device=logits.device))
        weight = batch.answer / batch.answer.sum(dim=1, keepdim=True).clamp_min(1)
        summed = (odds * weight[..., None]).sum(dim=(0, 1)).double().cpu()
        total += np.array([float(summed[group].mean()) for group in columns])
        count += len(batch)
    return total / count


def _odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p / (1 - p) of some tokens: log p - log(1 - exp(log p)), stable for small p."""
    logp = logits.float().log_softmax(dim=-1).index_select(-1, tokens)
    return logp - torch.log(-torch.expm1(logp.clamp_max(-1e-7)))
