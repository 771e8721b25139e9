"""All direct attributions together are the model's own number, part by part what raw weights say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import neva_tl as nv
from neva_tl import models
from neva_tl.attribution.decompose import logit_attribution, pre_activation
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

EXAMPLES = [Example("the old king", "counts his coins"), Example("", "she climbs the tower"), Example("a", "dog")]


@pytest.fixture(params=["demo", "stories3m", "gpt2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param in ("gpt2", "llama"):
        return nv.load(str(tiny_checkpoint(tmp_path / "m", request.param)))
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("at", ["last", "answer"])
def test_the_parts_sum_to_the_logit_difference(model: Any, at: Any) -> None:
    positive, negative = [10, 11, 12], [20, 21]
    for against in (negative, []):
        found = logit_attribution(model, EXAMPLES, positive, against, at=at)
        assert found.error() < 1e-4
        # the target is the model's own logit difference, not something that the parts were fitted to
        own = []
        for example in EXAMPLES:
            batch = inference.encode(model, [example])
            logits = inference.forward_batch(model, batch)
            assert logits is not None
            rows = logits[0, -1:] if at == "last" else logits[0][batch.answer[0]]
            rest = rows[:, against].mean(-1) if against else rows.mean(-1)
            own.append(rows[:, positive].mean(-1) - rest)
        assert torch.allclose(found.target.sort().values, torch.cat(own).double().sort().values, atol=1e-4)


def test_a_neurons_part_is_its_activation_times_its_weights(model: Any) -> None:
    layer, index = 1, 7
    found = logit_attribution(model, EXAMPLES[:1], [10], [20])
    seen: dict[str, torch.Tensor] = {}
    last = models.info(model).n_layers - 1
    names = [models.hook_name(model, layer, "post"), models.hook_name(model, last, "resid_post")]
    handles = [models.add_hook(model, n, lambda x, hook=None, n=n: seen.update({n: x.detach().clone()})) for n in names]
    try:
        inference.forward_batch(model, inference.encode(model, EXAMPLES[:1]))
    finally:
        for handle in handles:
            handle.remove()
    h, x = seen[names[0]][0, -1, index], seen[names[1]][0, -1]
    kind, weight, _, eps = models.final_norm(model)
    centre = (lambda v: v - v.mean()) if kind == "layernorm" else (lambda v: v)
    scale = (centre(x).pow(2).mean() + eps).sqrt()
    unembed = models.w_u(model)
    by_hand = h * centre(models.w_out(model, layer)[index]) / scale * weight @ (unembed[:, 10] - unembed[:, 20])
    assert float(found.neurons[0, layer, index]) == pytest.approx(float(by_hand), rel=1e-3, abs=1e-6)


def test_pre_activations_are_sums_too(model: Any) -> None:
    sites = ["pre", "up"] if models.info(model).gated else ["pre"]
    for site in sites:
        for layer in (0, 2):
            found = pre_activation(model, EXAMPLES, layer, 5, site=site)  # type: ignore[arg-type]
            assert found.error() < 1e-4
            assert not found.neurons[:, layer:].any() and not found.heads[:, layer + 1 :].any()
            assert found.heads[:, layer].any()


def test_the_table_is_the_whole_sum(model: Any) -> None:
    found = logit_attribution(model, EXAMPLES, [10], [20])
    table = found.table()
    assert table["contribution"].sum() == pytest.approx(float(found.target.mean()), abs=1e-3)
    assert table["contribution"].abs().is_monotonic_decreasing


def test_bad_input(model: Any) -> None:
    with pytest.raises(InputError, match="at least one positive"):
        logit_attribution(model, EXAMPLES, [])
    with pytest.raises(InputError, match="at least one example"):
        logit_attribution(model, [], [3])
    with pytest.raises(InputError, match="does not exist"):
        pre_activation(model, EXAMPLES, 0, 10**6)
