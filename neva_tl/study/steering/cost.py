"""Cost of an edit on neutral text, with intervals by text."""

from __future__ import annotations

import numpy as np

from neva_tl.editing import Edit
from neva_tl.evaluation.conditions.capability import Reference, neutral_table
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.models import Model


def cost_table(model: Model, edit: Edit, texts: Reference, *, seed: int = 0, n_boot: int = 1000) -> dict[str, Estimate]:
    """Measure what an edit costs on neutral text.

    `kl` is the mean KL(unedited || edited) of the next token in nats, `loss` the rise of the mean loss in nats per token
    (the log of the ratio of perplexities). Both are ratios of sums over texts; intervals resample texts.

    Args:
        model: A TransformerLens model.
        edit: The edit.
        texts: Neutral texts with the unedited model's distributions.
        seed: Seed of the bootstrap.
        n_boot: Bootstrap draws.

    Returns:
        Name -> estimate.
    """
    table = neutral_table(model, edit, texts)
    tokens = table["tokens"].to_numpy(dtype=float)
    # a role prompt may change the tokens of a text's first word: compare the same last tokens
    unedited = np.array(
        [texts.loss[i][len(texts.loss[i]) - n :].sum() for i, n in zip(table["text"], table["tokens"], strict=True)]
    )
    sums = {"kl": table["kl"].to_numpy(dtype=float), "loss": table["loss"].to_numpy(dtype=float) - unedited}
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(tokens), np.full(len(tokens), 1 / len(tokens)), size=n_boot)
    return {
        name: interval(float(total.sum() / tokens.sum()), (drawn @ total) / (drawn @ tokens), len(tokens))
        for name, total in sums.items()
    }
