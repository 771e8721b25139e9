"""compose(): algebra of shared neurons, and equality with edits side by side."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, Shift, compose, edit
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

VALUES = ("power", "security", "tradition")


@pytest.fixture
def shifts(tiny: Any, make_set: Any) -> tuple[Shift, ...]:
    """Steps (contrast x dose): power 2 and 4, security -3 and 1, tradition 6 on neurons 7 | 7, 2 | 7 of layer 1."""
    sets = (
        make_set(tiny, [(1, 7), (0, 3)], plus=[1.0, 2.0], minus=0.0),
        replace(make_set(tiny, [(1, 7), (1, 2)], plus=[-3.0, 1.0], minus=0.0), value="security"),
        replace(make_set(tiny, [(1, 7)], plus=3.0, minus=0.0), value="tradition"),
    )
    return tuple(Shift(s, dose=d) for s, d in zip(sets, (2.0, 1.0, 2.0), strict=True))


def test_rules_by_hand(shifts: tuple[Shift, ...]) -> None:
    apart = {(0, 3): 4.0, (1, 2): 1.0}
    for rule, shared in (("sum", 2 - 3 + 6), ("mean", 5 / 3), ("strongest", 6.0)):
        for order in permutations(shifts):
            assert compose(order, shared=rule).steps() == {**apart, (1, 7): shared}, rule  # type: ignore[arg-type]
    with pytest.raises(InputError, match="power and security share neuron 7 of layer 1"):
        compose(shifts, shared="refuse")
    assert compose(shifts[:1], shared="refuse").steps() == {(0, 3): 4.0, (1, 7): 2.0}


def test_equal_and_opposite_strongest_steps_cancel(shifts: tuple[Shift, ...]) -> None:
    power = shifts[0]
    assert compose([power, power.with_dose(-2.0)], shared="strongest").steps() == {(0, 3): 0.0, (1, 7): 0.0}
    assert compose([power, power], shared="strongest").steps() == compose([power]).steps()


@settings(max_examples=40, deadline=None)
@given(
    doses=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=5),
    rule=st.sampled_from(["sum", "mean", "strongest"]),
    seed=st.integers(0, 1000),
)
def test_order_changes_nothing_bit_for_bit(shifts_of: Any, doses: list[float], rule: Any, seed: int) -> None:
    parts = [shifts_of(dose, seed + i) for i, dose in enumerate(doses)]
    shuffled = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
    assert compose(parts, shared=rule).steps() == compose(shuffled, shared=rule).steps()


@pytest.fixture(scope="module")
def shifts_of(tiny: Any, make_set: Any) -> Any:
    def make(dose: float, seed: int) -> Shift:
        rng = np.random.default_rng(seed)
        at = [(1, int(k)) for k in rng.choice(6, size=4, replace=False)]
        return Shift(make_set(tiny, at, plus=rng.normal(size=4), minus=0.1), dose=dose)

    return make


def test_sum_is_what_edits_side_by_side_do(tiny: Any, shifts: tuple[Shift, ...]) -> None:
    batch = inference.encode(tiny, [Example("Who eats the bread?", "Tom eats it")])

    def run(*edits: Any) -> torch.Tensor:
        with edit(tiny, *edits) as session:
            out = inference.forward_batch(tiny, batch, session=session)
        assert out is not None
        return out

    for scope in ("all", "generated"):
        parts = [s.with_scope(scope) for s in shifts]  # type: ignore[arg-type]
        whole = compose(parts)
        assert whole.scope == scope
        torch.testing.assert_close(run(whole), run(*parts), atol=1e-4, rtol=1e-4)
        doubled = [s.with_dose(2 * s.dose) for s in parts]
        torch.testing.assert_close(run(whole.with_dose(2.0)), run(*doubled), atol=1e-4, rtol=1e-4)
        # negative: all of them reversed
        back = run(whole, whole.with_dose(-1.0))
        torch.testing.assert_close(back, run(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(run(compose(shifts)), run(compose(shifts, shared="strongest")), atol=1e-3)


def test_refusals(tiny: Any, shifts: tuple[Shift, ...]) -> None:
    with pytest.raises(InputError, match="nothing to compose"):
        compose([])
    with pytest.raises(InputError, match="scopes or gates"):
        compose([shifts[0], shifts[1].with_scope("last")])
    other = replace(shifts[1].neurons, fingerprint={"weights_hash": "0" * 64})
    with pytest.raises(InputError, match="other weights"):
        compose([shifts[0], Shift(other)]).changes(tiny)
    # without beartype (users have none) the functions themselves must say no
    for bad in (
        lambda: compose([AddVector({0: np.ones(2)})]),  # type: ignore[list-item]
        lambda: compose(shifts, shared="largest"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Exception, match=r"AddVector|largest"):
            bad()
