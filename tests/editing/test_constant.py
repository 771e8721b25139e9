"""Constant steps: fused, masked and in half precision equal to one plain addition after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.editing import (
    SCOPES,
    AddVector,
    Change,
    Clamp,
    Edit,
    RelevanceGate,
    Scale,
    Shift,
    compose,
    edit,
    edit_rows,
)
from neva_tl.editing.constant import Constant
from neva_tl.editing.plan import _fused
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

EXAMPLES = [Example("Who eats the bread?", "Tom eats it"), Example("Why?", "because he was hungry and cold")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("whole", [False, True])
def test_adds_to_the_selected_tokens_and_leaves_the_rest_bit_for_bit(dtype: torch.dtype, whole: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 16, generator=rng).to(dtype)
    index = torch.tensor([3, 0, 11])
    step = torch.randn(16 if whole else 3, generator=rng)
    constant = Constant(step) if whole else Constant(step, index)
    want = x.clone()
    at = torch.arange(16) if whole else index
    want[..., at] = (x[..., at] + step).to(dtype)
    assert constant(x).dtype == dtype and torch.equal(constant(x), want)
    selected = torch.rand(2, 5, generator=rng) > 0.5
    assert torch.equal(constant.within(x, selected), torch.where(selected[..., None], want, x))


def test_a_step_beyond_all_numbers_stays_where_it_is_put() -> None:
    x, selected = torch.ones(1, 2, 4), torch.tensor([[True, False]])
    new = Constant(torch.tensor([torch.inf]), torch.tensor([1])).within(x, selected)
    assert new[0, 0, 1] == torch.inf and torch.equal(new[0, 1], x[0, 1])


def test_steps_made_ready_without_gradients_serve_with_them() -> None:
    constant, selected = Constant(torch.tensor([2.0]), torch.tensor([1])), torch.tensor([[True, False]])
    with torch.inference_mode():
        constant.within(torch.ones(1, 2, 4), selected)
        constant(torch.ones(1, 2, 4))
    x = torch.ones(1, 2, 4, requires_grad=True)
    (constant.within(x, selected).sum() + constant(x).sum()).backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full_like(x, 2.0))


@dataclass(frozen=True, eq=False)
class Plainly(Edit):
    """Another edit with its constant steps taken in a plain loop: nothing is fused, masked or made ready."""

    inner: Edit

    def changes(self, model: Any) -> tuple[Change, ...]:
        def loop(constant: Constant) -> Any:
            def apply(x: torch.Tensor) -> torch.Tensor:
                new = x.clone()
                at = range(x.shape[-1]) if constant.index is None else constant.index.tolist()
                for k, step in zip(at, constant.step.tolist(), strict=True):
                    new[..., k] += step
                return new

            return apply

        return tuple(
            Change(c.layer, c.site, loop(c.apply)) if isinstance(c.apply, Constant) else c
            for c in self.inner.changes(model)
        )


@pytest.mark.parametrize("family", ["tiny", "tiny_gpt2"])
@pytest.mark.parametrize("scope", SCOPES)
def test_edits_side_by_side_equal_one_after_the_other(request: Any, make_set: Any, family: str, scope: Any) -> None:
    model = request.getfixturevalue(family)
    info = models.info(model)
    rng = np.random.default_rng(0)
    n, k = info.n_layers, info.d_mlp
    gate = RelevanceGate(
        tuple(range(n)), rng.normal(size=(n, k)).astype(np.float32), np.zeros(n), np.ones(n), np.ones(n)
    )
    a = Shift(make_set(model, [(0, 3), (1, 7), (2, 40)]), dose=2.0, scope=scope)
    b = Shift(make_set(model, [(1, 7), (1, 9), (2, 41)], plus=0.3), dose=-3.0, scope=scope)
    c = compose([a.with_dose(1.0), b.with_dose(0.5)])
    vector = AddVector({1: rng.normal(size=info.d_model), 2: rng.normal(size=info.d_model)}, scope=scope, dose=0.5)
    twin = AddVector({1: rng.normal(size=info.d_model)}, scope=scope, dose=0.2)
    dense = AddVector({1: rng.normal(size=k)}, scope=scope, dose=0.2, site="post")
    between = Clamp(make_set(model, [(1, 7), (2, 41)]), scope=scope)
    edits: list[Edit] = [
        a, b.with_gate(gate), b, c, vector, dense, a.with_gate(gate), between, b.with_scope("last"), a, twin,
    ]  # fmt: skip
    batch = inference.encode(model, EXAMPLES, padding_side="left")
    with edit(model, *edits) as session:
        together = inference.forward_batch(model, batch, session=session)
    with edit(model, *(Plainly(item, scope=item.scope, gate=item.gate) for item in edits)) as session:
        apart = inference.forward_batch(model, batch, session=session)
    assert together is not None and apart is not None
    real = batch.mask
    torch.testing.assert_close(together[real], apart[real], atol=2e-5, rtol=2e-5)
    plain = inference.forward_batch(model, batch)
    assert plain is not None and not torch.allclose(plain[real], together[real], atol=1e-2)


def test_what_is_fused(tiny: Any, make_set: Any) -> None:
    """Steps of one scope, gate and condition, up to a change of another kind."""

    def kinds(*planned: tuple[Edit, int | None]) -> list[tuple[str, int | None]]:
        plan = [(n, item, condition, item.changes(tiny)[0]) for n, (item, condition) in enumerate(planned)]
        return [(type(item).__name__, condition) for _, item, condition, _ in _fused(plan, lambda site: 48)]

    a, scale = Shift(make_set(tiny, [(0, 3)])), Scale(make_set(tiny, [(0, 3)]), dose=2.0)
    last, other = a.with_scope("last"), Shift(make_set(tiny, [(1, 3)]))
    assert kinds((a, None), (a, None), (a, None)) == [("Shift", None)]
    assert kinds((a, None), (last, None), (a, None), (last, None)) == [("Shift", None)] * 2
    assert kinds((a, None), (scale, None), (a, None)) == [("Shift", None), ("Scale", None), ("Shift", None)]
    assert kinds((a, None), (other, None)) == [("Shift", None)] * 2
    assert kinds((a, 0), (a, 1), (a, 0)) == [("Shift", 0), ("Shift", 1)]


def test_one_addition_a_layer(tiny: Any, make_set: Any, count_hooks: Any) -> None:
    before = count_hooks(tiny)
    sets = [make_set(tiny, [(0, k), (2, k)]) for k in range(5)]
    with edit(tiny, *(Shift(neurons) for neurons in sets)):
        assert count_hooks(tiny) == before + 3  # two layers, and the start of a forward pass


def test_a_users_edit_built_on_shift_is_asked(tiny: Any, make_set: Any) -> None:
    class Doubled(Shift):
        def new_values(self, h: Any, rows: Any) -> Any:
            return 2 * super().new_values(h, rows)

    x = torch.ones(1, 1, 48)
    (change,) = Doubled(make_set(tiny, [(0, 3)]), dose=2.0).changes(tiny)
    assert float(change.apply(x)[0, 0, 3]) == pytest.approx(2 * (1 + 2 * 1.0))


def test_a_step_under_the_cache_makes_no_masks(tiny: Any, make_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    for scope in SCOPES:
        made.clear()
        with edit(tiny, Shift(make_set(tiny, [(0, 3)]), scope=scope)) as session:  # type: ignore[arg-type]
            tokens = session.roles.tokens
            monkeypatch.setattr(session.roles, "tokens", lambda s=session, go=tokens: made.append(s.forwards) or go())
            inference.generate(tiny, ["Who eats", "Why"], max_new_tokens=4, session=session, stop_at_eos=False)
        assert set(made) == (set() if scope == "all" else {1}), scope


def test_conditions_side_by_side_are_not_mixed(tiny: Any, make_set: Any) -> None:
    a, b = (Shift(make_set(tiny, [(0, k), (1, 9)]), dose=4.0 + k) for k in (3, 7))
    batch = inference.encode(tiny, [EXAMPLES[0]] * 3)
    with edit_rows(tiny, [(a, b), (b,), ()], np.arange(3)) as session:
        session.set_rows([0, 1, 2])
        together = inference.forward_batch(tiny, batch, session=session)
    assert together is not None
    for row, edits in enumerate([(a, b), (b,), ()]):
        with edit(tiny, *edits) as session:
            alone = inference.forward_batch(tiny, batch, session=session)
        assert alone is not None
        torch.testing.assert_close(together[row], alone[row], atol=1e-5, rtol=1e-5)
