"""Input tokens that a task depends on: integrated gradients over embeddings."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.gates import Means
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.arguments import check_arguments
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks


@check_arguments
def input_scores(model: models.Model, task: ValueTask, means: Means, *, steps: int = 6) -> Float[Tensor, " d_vocab"]:
    """Contribution of each token type's embeddings to m, in nats.

    Integrated gradients (Sundararajan et al. 2017) from the average embedding at each position of the - texts to the token's
    own embedding; over all types they sum to m, less m of those averages, up to the midpoint rule's error. From the
    average of both poles, half of the credit would go to the words that replace the value's word in the - texts.

    Args:
        model: A TransformerLens model.
        task: The texts.
        means: Supplies the start of the path, `means.embed`.
        steps: Points on the path.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=2, at="last")
        >>> scores = nv.circuits.input_scores(model, task, nv.circuits.mean_activations(model, task), steps=2)
        >>> tuple(scores.shape)  # one per token of the vocabulary
        (1001,)
    """
    run = CircuitRun(model, task, means)
    facts = models.info(model)
    out = torch.zeros(facts.d_vocab, dtype=torch.float64)
    name = models.hook_name(model, 0, "resid_pre")
    for rows, batch in run.batches():
        mean = Means.at(means.embed, batch.tokens.shape[1])
        for step in range(steps):
            path: list[tuple[Tensor, Tensor]] = []  # the point on the path, and the full distance

            def interpolate(
                x: Tensor,
                share: float = (step + 0.5) / steps,
                path: list[tuple[Tensor, Tensor]] = path,
                mean: Tensor = mean,
                **_: Any,
            ) -> Tensor:
                leaf = (mean + share * (x.detach() - mean)).requires_grad_(True)
                path.append((leaf, x.detach() - mean))
                return leaf

            with temporary_hooks(model, [(name, interpolate)]), torch.enable_grad():
                logits = inference.forward_batch(model, batch, grad=True)
                assert logits is not None
                odds = read_log_odds(logits, batch, task.at, [task.ids[task.value]])[:, 0]
                m = (odds * run.text_weights(rows, odds.device)).sum()
                (slope,) = torch.autograd.grad(m, path[0][0])
            lifts = (slope * path[0][1]).sum(dim=-1)[batch.mask] / steps
            out.index_add_(0, batch.tokens[batch.mask].cpu(), lifts.detach().double().cpu())
    return out
