"""GateShift, weighed shifts, `plus` and vectors in neuron space by their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Ablate, AddVector, GateShift, ProbedVector, Shift, edit, fit_vector_probes
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(1, 7), (1, 2)]


@pytest.fixture(scope="module")
def gate_set(tiny: Any, make_set: Any) -> Any:
    made = make_set(tiny, AT, site="gate")
    return made.with_df(made.df.assign(p_diff=[0.4, -0.2], q95=[2.0, 3.0]))


@settings(max_examples=40, deadline=None)
@given(gamma=st.floats(-3, 3), a=st.lists(st.floats(-5, 5), min_size=2, max_size=2))
def test_formula(gate_set: Any, gamma: float, a: list[float]) -> None:
    got = GateShift(gate_set, dose=gamma).new_values(torch.tensor([[a]]), gate_set.df)[0, 0].tolist()

    def up(x: float, p: float, q: float) -> float:
        return x + abs(gamma) * q / (1 + np.exp(-10 * (p - 0.15)))

    def down(x: float) -> float:
        return min(x, 0.0) if abs(gamma) >= 0.1 else x - abs(gamma) / 0.1 * max(x, 0.0)

    if gamma == 0:
        want = a
    elif gamma > 0:
        want = [up(a[0], 0.4, 2.0), down(a[1])]
    else:  # towards the opposite pole: the groups change places
        want = [down(a[0]), up(a[1], 0.2, 3.0)]
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def test_a_rarely_open_gate_is_never_lowered_by_its_own_quantile(gate_set: Any) -> None:
    shut = gate_set.with_df(gate_set.df.assign(q95=[-0.2, -0.1]))
    a = torch.tensor([[[-0.1, -0.3]]])
    assert torch.equal(GateShift(shut).new_values(a, shut.df), a)


def test_works_without_gate_at_the_activation_itself(tiny_gpt2: Any, make_set: Any) -> None:
    made = make_set(tiny_gpt2, AT)
    neurons = made.with_df(made.df.assign(p_diff=[0.4, -0.2], q95=[2.0, 3.0]))
    item = GateShift(neurons, dose=1.5)
    (change,) = item.changes(tiny_gpt2)
    x = torch.randn(2, 5, models.info(tiny_gpt2).d_mlp, generator=torch.Generator().manual_seed(0))
    new = change.apply(x)
    torch.testing.assert_close(new[..., [7, 2]], item.new_values(x[..., [7, 2]], neurons.df))
    rest = [k for k in range(x.shape[-1]) if k not in (7, 2)]
    assert torch.equal(new[..., rest], x[..., rest])


def test_composes_with_a_shift_of_the_same_neuron(tiny: Any, gate_set: Any, make_set: Any) -> None:
    """`h += (a' - a) * up` on top of whatever another edit did to h, in either order."""
    gate_edit, shift = GateShift(gate_set, dose=1.0), Shift(make_set(tiny, AT), dose=2.0)
    batch = inference.encode(tiny, [Example("", "Tom shares his bread")])

    def post(*edits: Any) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        with edit(tiny, *edits) as session:
            name = models.hook_name(tiny, 1, "post")
            handle = models.add_hook(tiny, name, lambda x, hook=None: seen.append(x[..., [7, 2]]))
            inference.forward_batch(tiny, batch, session=session)
            handle.remove()
        return seen[0]

    plain = post()
    alone = post(gate_edit) - plain
    assert (alone.abs() > 1e-3).any()
    for order in ((gate_edit, shift), (shift, gate_edit)):
        torch.testing.assert_close(post(*order) - plain, alone + 2.0, atol=1e-5, rtol=1e-5)


def test_gate_shift_refusals(tiny: Any, tiny_gpt2: Any, gate_set: Any, make_set: Any) -> None:
    with pytest.raises(InputError, match="is empty"):
        GateShift(gate_set.head(0))
    with pytest.raises(InputError, match="lacks the column 'p_diff'"):
        GateShift(make_set(tiny, AT, site="gate"))
    post = make_set(tiny, AT)
    with pytest.raises(InputError, match="site 'post' do not fit"):
        GateShift(post.with_df(post.df.assign(p_diff=0.2, q95=1.0))).changes(tiny)
    ungated = make_set(tiny_gpt2, AT, site="gate")
    with pytest.raises(InputError, match="no gate"):
        GateShift(ungated.with_df(ungated.df.assign(p_diff=0.2, q95=1.0))).changes(tiny_gpt2)


def test_a_weighed_shift(tiny: Any, make_set: Any) -> None:
    made = make_set(tiny, AT, plus=[2.0, -1.0], minus=[0.5, 0.25])
    neurons = made.with_df(made.df.assign(rank_weight=[1.0, 0.75]))
    x = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    (change,) = Shift(neurons, weights="rank_weight", dose=2.0).changes(tiny)
    want = x[..., [7, 2]] + 2 * torch.tensor([1.5, -1.25]) * torch.tensor([1.0, 0.75])
    torch.testing.assert_close(change.apply(x)[..., [7, 2]], want)
    # a column of that name is heeded only where it is asked for
    (plain,) = Shift(neurons, dose=2.0).changes(tiny)
    torch.testing.assert_close(plain.apply(x)[..., [7, 2]], x[..., [7, 2]] + 2 * torch.tensor([1.5, -1.25]))
    with pytest.raises(InputError, match="no column 'weight'"):
        Shift(neurons, weights="weight")


def test_held_at_the_plus_mean(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, AT, plus=[2.0, -1.0], minus=[0.5, 0.25])
    x = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    for dose in (0.0, 0.25, 1.0):
        (change,) = Ablate(neurons, mode="plus", effects="all", dose=dose).changes(tiny)
        want = (1 - dose) * x[..., [7, 2]] + dose * torch.tensor([2.0, -1.0])
        torch.testing.assert_close(change.apply(x)[..., [7, 2]], want)


def test_a_vector_among_neurons_is_a_shift_of_them(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, AT, plus=[2.0, -1.0], minus=[0.5, 0.25])
    vector = np.zeros(48, dtype=np.float32)
    vector[[7, 2]] = (1.5, -1.25)
    batch = inference.encode(tiny, [Example("Who eats?", "Tom shares his bread")])
    outs = []
    for item in (Shift(neurons, dose=-2.0), AddVector({1: vector}, site="post", dose=-2.0)):
        with edit(tiny, item) as session:
            outs.append(inference.forward_batch(tiny, batch, session=session))
    torch.testing.assert_close(outs[0], outs[1])
    with pytest.raises(InputError, match="width 48 at site post"):
        AddVector({1: vector[:32]}, site="post").changes(tiny)
    with pytest.raises(InputError, match="vectors is empty"):
        AddVector({})


def test_probed_vectors_leave_out_layers_that_the_vector_lowers() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2 == 0
    x = rng.normal(size=(60, 8))
    x[label, 0] += 3.0
    up, away = np.eye(8)[0], -np.eye(8)[0]
    item = fit_vector_probes({0: x, 2: x}, label, {0: up * 3, 2: away * 3}, dose=3.0)
    assert [p.layer for p in item.probes] == [0]
    (one,) = item.probes
    assert one.weight @ one.unit == pytest.approx(1.0) and np.allclose(one.unit[1:], 0)
    with pytest.raises(InputError, match="raised along the vector"):
        fit_vector_probes({0: x}, label, {0: away})
    with pytest.raises(InputError, match="inside"):
        item.at(1.0)
    assert isinstance(item.at(0.9), ProbedVector) and item.at(0.9).dose == pytest.approx(np.log(9))


def test_tables_keep_their_order(gate_set: Any, tiny: Any) -> None:
    flipped = gate_set.with_df(pd.DataFrame(gate_set.df.iloc[::-1]))
    batch = inference.encode(tiny, [Example("", "Tom shares his bread")])
    outs = []
    for neurons in (gate_set, flipped):
        with edit(tiny, GateShift(neurons)) as session:
            outs.append(inference.forward_batch(tiny, batch, session=session))
    torch.testing.assert_close(outs[0], outs[1])
