"""Measured edges from a neuron to the values: ablate the neuron, read the value tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neva_tl.circuits.search.task import read_log_odds
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import mean_interval
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example


@check_arguments
def ablation_effects(
    model: Model,
    neurons: NeuronSet,
    examples: Sequence[Example],
    tokens: pd.DataFrame,
    *,
    chat: bool | None = None,
    token_budget: int = 4096,
) -> pd.DataFrame:
    """Change of each value's log-odds when one neuron is ablated to the mean of its two poles.

    Per example `log P(S) / P(not S)`, S the value's tokens, averaged over answer tokens; edited minus unedited, then the
    mean over examples with its 95 % interval (t). Tokens that two values claim are left out.

    Args:
        model: A TransformerLens model.
        neurons: Neurons at site `post`; each is ablated alone, at all tokens.
        examples: Texts whose answer tokens are read.
        tokens: As returned by `attribution.value_tokens`.
        chat: As in `inference.encode`.
        token_budget: Maximum tokens per batch.

    Returns:
        One row per (neuron, value), neurons in the set's order: place (index in the set), value, measured, lo, hi (nats;
        the interval is NaN for a single example).

    Raises:
        InputError: The examples are empty.
    """
    from neva_tl.editing import Ablate, edit

    if not len(examples):
        raise InputError("measured edges need at least one example")
    if missing := {"value", "token", "shared"} - set(tokens.columns):
        raise InputError(f"the table of tokens lacks {', '.join(sorted(missing))}: attribution.value_tokens gives one")
    plain = tokens[~tokens["shared"]]
    ids = {str(name): group["token"].tolist() for name, group in plain.groupby("value", sort=False)}
    batches = list(inference.batches(model, examples, token_budget=token_budget, chat=chat))
    before = _log_odds(model, batches, ids, None)
    rows = []
    for index in progress_bar(range(len(neurons)), desc="edges", unit="neuron"):
        one = neurons.with_df(neurons.df.iloc[[index]])
        with edit(model, Ablate(one, mode="mean", effects="all")) as session:
            change = _log_odds(model, batches, ids, session) - before
        mean, lo, hi = mean_interval(change)
        rows += [(index, name, mean[v], lo[v], hi[v]) for v, name in enumerate(ids)]
    return pd.DataFrame(rows, columns=["place", "value", "measured", "lo", "hi"])


def _log_odds(
    model: Model,
    batches: Sequence[tuple[np.ndarray, inference.Batch]],
    ids: dict[str, list[int]],
    session: inference.TokenSession | None,
) -> np.ndarray:
    """Log-odds of every value on every example, `[n_examples, n_values]`."""
    out = np.zeros((sum(len(batch) for _, batch in batches), len(ids)))
    for rows, batch in batches:
        logits = inference.forward_batch(model, batch, session=session)
        assert logits is not None
        out[rows] = read_log_odds(logits, batch, "answer", list(ids.values())).double().cpu().numpy()
    return out
