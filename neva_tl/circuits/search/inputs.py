"""Which input tokens a task turns on: integrated gradients over embeddings."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.circuits.search.gates import TOKEN_BUDGET, Means
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks


def input_scores(model: models.Model, task: ValueTask, means: Means, *, steps: int = 6) -> Float[Tensor, " d_vocab"]:
    """What each token type's embeddings add to m, in nats.

    Integrated gradients (Sundararajan et al. 2017) from what stands at each place of the - texts on average to the token's
    own embedding; over all types they sum to m, less m of those averages, up to the midpoint rule's error. From the
    average of both poles, half of the credit would go to whatever is not the value's word in the - texts.
    """
    facts = models.info(model)
    out = torch.zeros(facts.d_vocab, dtype=torch.float64)
    weights = torch.as_tensor(task.weights, dtype=torch.float32, device=facts.device)
    name = models.hook_name(model, 0, "resid_pre")
    for rows, batch in inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat):
        mean = Means.at(means.embed, batch.tokens.shape[1])
        for step in range(steps):
            share = (step + 0.5) / steps
            held: list[tuple[Tensor, Tensor]] = []

            def move(
                x: Tensor,
                hook: Any = None,
                share: float = share,
                held: list[tuple[Tensor, Tensor]] = held,
                mean: Tensor = mean,
            ) -> Tensor:
                leaf = (mean + share * (x.detach() - mean)).requires_grad_(True)
                held.append((leaf, x.detach() - mean))
                return leaf

            with temporary_hooks(model, [(name, move)]), torch.enable_grad():
                logits = inference.forward_batch(model, batch, grad=True)
                assert logits is not None
                odds = read_log_odds(logits, batch, task.at, [task.ids[task.value]])[:, 0]
                m = (odds * weights[torch.as_tensor(rows, device=odds.device)]).sum()
                (slope,) = torch.autograd.grad(m, held[0][0])
            lifts = (slope * held[0][1]).sum(dim=-1)[batch.mask] / steps
            out.index_add_(0, batch.tokens[batch.mask].cpu(), lifts.detach().double().cpu())
    return out
