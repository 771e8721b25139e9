"""Rescale by its formula, at its bounds, and beside other edits."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.editing import Ablate, Change, Rescale, Scale, Shift, edit

pytestmark = pytest.mark.core
AT = [(1, 7), (1, 2), (2, 40)]


def in_layer(item: Rescale, model: Any, layer: int = 1) -> Change:
    (change,) = [change for change in item.changes(model) if change.layer == layer]
    return change


def activations() -> Tensor:
    return torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(0))


def weighed(make_set: Any, model: Any) -> Any:
    neurons = make_set(model, AT, plus=[2.0, -1.0, 1.0], minus=[0.5, 0.25, 0.0])
    return neurons.with_df(neurons.df.assign(weight=[0.5, -1.0, 0.25]))


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"dose": 3.0}, (4.0, 4.0)),
        ({"dose": -0.5}, (0.5, 0.5)),
        ({"dose": 3.0, "weights": "weight"}, (2.5, -2.0)),
        ({"dose": 3.0, "weights": "weight", "lowest": 0.0}, (2.5, 0.0)),
        ({"dose": -3.0, "weights": "weight", "lowest": 0.0}, (0.0, 4.0)),
        ({"dose": 0.5, "weights": "weight", "lowest": 0.0}, (1.25, 0.5)),
        ({"dose": 0.0, "weights": "weight", "lowest": 0.0}, (1.0, 1.0)),
    ],
)
def test_a_factor_per_neuron(tiny: Any, make_set: Any, options: dict[str, Any], factors: tuple[float, float]) -> None:
    x = activations()
    before = x.clone()
    new = in_layer(Rescale(weighed(make_set, tiny), **options), tiny).apply(x)
    torch.testing.assert_close(new[..., [7, 2]], x[..., [7, 2]] * torch.tensor(factors))
    others = [k for k in range(48) if k not in (7, 2)]
    assert torch.equal(new[..., others], x[..., others]) and torch.equal(x, before)


def test_neurons_that_are_lower_on_the_plus_pole_are_edited_too(tiny: Any, make_set: Any) -> None:
    neurons = weighed(make_set, tiny)
    assert len(Rescale(neurons).chosen()) == 3 and len(Rescale(neurons, effects="positive").chosen()) == 2


def test_it_equals_scale_and_ablation(tiny: Any, make_set: Any) -> None:
    neurons, tokens = make_set(tiny, AT), torch.tensor([[1, 5, 9, 4]])
    pairs = [
        (Rescale(neurons, dose=2.0), Scale(neurons, dose=3.0)),
        (Rescale(neurons, dose=-1.0), Ablate(neurons)),
        (Rescale(neurons, dose=-7.0, lowest=0.0), Ablate(neurons)),
    ]
    for ours, other in pairs:
        logits = []
        for item in (ours, other):
            with edit(tiny, item, Shift(neurons)):
                logits.append(tiny(tokens))
        torch.testing.assert_close(*logits)


def test_half_precision_and_no_table_in_a_pass(tiny: Any, make_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change = in_layer(Rescale(weighed(make_set, tiny), dose=3.0, weights="weight"), tiny)
    x = activations().bfloat16()
    monkeypatch.setattr(pd.DataFrame, "__getitem__", lambda *args: pytest.fail("the table is read in a forward pass"))
    new = change.apply(x)
    assert new.dtype == torch.bfloat16
    # computed in float32, rounded once
    assert torch.equal(new[..., [7, 2]], (x[..., [7, 2]].float() * torch.tensor([2.5, -2.0])).bfloat16())


def test_what_it_says_and_refuses(tiny: Any, make_set: Any) -> None:
    neurons = weighed(make_set, tiny)
    assert Rescale(neurons).what() == "multiplies each neuron's activation by 1 + dose"
    assert Rescale(neurons, weights="weight", lowest=0.0).what().endswith("1 + dose x weight (at least 0)")
    with pytest.raises(InputError, match="no column 'gamma'"):
        Rescale(neurons, weights="gamma")
    with pytest.raises(InputError, match="smallest factor"):
        Rescale(neurons, lowest=1.5)
    with pytest.raises(InputError, match="lowest of Rescale is nan"):
        Rescale(neurons, lowest=float("nan"))
