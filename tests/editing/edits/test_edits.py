"""What each edit does to an activation, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Ablate, AddVector, Amplify, Change, Clamp, RolePrompt, Scale, Shift, edit, rewrite
from neva_tl.editing.base import NeuronEdit
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (1, 2), (2, 40)]


def apply(change: Change, x: Tensor) -> Tensor:
    return change.apply(x)


def activations(seed: int = 0) -> Tensor:
    return torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(seed))


def by_layer(item: Any, model: Any) -> dict[int, Change]:
    return {change.layer: change for change in item.changes(model)}


def test_each_edit_changes_its_own_neurons_only_and_out_of_place(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, AT)
    for item in (Shift(neurons), Scale(neurons, dose=3.0), Ablate(neurons), Clamp(neurons, dose=2.0)):
        changes = by_layer(item, tiny)
        assert sorted(changes) == [0, 1, 2] and {c.site for c in changes.values()} == {"post"}
        x = activations()
        kept = x.clone()
        new = apply(changes[1], x)
        assert (x == kept).all(), "the input may be held by a cache"
        others = [k for k in range(48) if k not in (7, 2)]
        assert (new[..., others] == x[..., others]).all()
        assert not torch.equal(new[..., [7, 2]], x[..., [7, 2]])


def test_formulas(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, [(1, 7), (1, 2)], plus=[2.0, -1.0], minus=[0.5, 0.25])
    x = activations()
    h = x[..., [7, 2]]
    delta, mid = torch.tensor([1.5, -1.25]), torch.tensor([1.25, -0.375])
    cases = [
        (Shift(neurons, dose=2.0), h + 2 * delta),
        (Amplify(neurons, dose=-0.5), h - 0.5 * delta),
        (Scale(neurons, dose=3.0, effects="all"), 3 * h),
        (Ablate(neurons, effects="all"), 0 * h),
        (Ablate(neurons, effects="all", dose=0.25), 0.75 * h),
        (Ablate(neurons, mode="mean", effects="all"), mid.expand_as(h)),
        (Ablate(neurons, mode="mean", effects="all", dose=0.5), (h + mid) / 2),
        (Shift(neurons, dose=0.0), h),
        (Scale(neurons, dose=1.0, effects="all"), h),
        (Ablate(neurons, effects="all", dose=0.0), h),
    ]
    for item, want in cases:
        got = apply(by_layer(item, tiny)[1], x)[..., [7, 2]]
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6, msg=str(type(item)))


def test_the_table_is_read_once_and_not_in_every_pass(
    tiny: Any, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `generate` a pass is a token: what does not depend on it is not worked out again."""
    neurons = make_set(tiny, AT)
    x = activations()
    for item in (Clamp(neurons), Ablate(neurons, mode="mean"), Ablate(neurons, mode="plus"), Scale(neurons, dose=2.0)):
        change = by_layer(item, tiny)[1]
        want = item.new_values(x[..., [7, 2]], neurons.at(1))
        with monkeypatch.context() as patch:
            patch.setattr(pd.DataFrame, "__getitem__", lambda *args: pytest.fail("the table is read in a forward pass"))
            assert torch.equal(apply(change, x)[..., [7, 2]], want)


def test_an_edit_built_on_another(tiny: Any, make_set: Any) -> None:
    """A subclass may say its own `new_values`, `moved`, or both ways' parts; the parent's fast way is not taken then."""

    class Doubled(Ablate):
        def new_values(self, h: Tensor, rows: pd.DataFrame) -> Tensor:
            return 2 * super().new_values(h, rows)

    class Halved(Shift):
        def moved(self, h: Tensor, *per_neuron: Tensor) -> Tensor:
            return super().moved(h, *per_neuron) / 2

    x = activations()
    neurons = make_set(tiny, AT)
    new = apply(by_layer(Doubled(neurons, mode="plus"), tiny)[1], x)
    torch.testing.assert_close(new[..., [7, 2]], torch.full((2, 5, 2), 3.0))
    new = apply(by_layer(Halved(neurons, dose=2.0), tiny)[1], x)
    torch.testing.assert_close(new[..., [7, 2]], (x[..., [7, 2]] + 2.0) / 2)

    class Silent(NeuronEdit):
        pass

    with pytest.raises(NotImplementedError, match="Silent"):
        apply(by_layer(Silent(neurons), tiny)[1], x)


def test_effects_positive_leaves_the_others_alone(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, [(1, 7), (1, 2)], plus=[2.0, -1.0], minus=[0.5, 0.25])
    x = activations()
    for item in (Scale(neurons, dose=0.0), Ablate(neurons)):
        new = apply(by_layer(item, tiny)[1], x)
        assert (new[..., 7] == 0).all() and (new[..., 2] == x[..., 2]).all()
    with pytest.raises(InputError, match="effects='all'"):
        Ablate(make_set(tiny, [(0, 1)], plus=0.0, minus=1.0))


def test_clamp_holds_neurons_beyond_their_level(tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, [(1, 7), (1, 2)], plus=[2.0, -1.0], minus=[0.5, 0.25], sd=0.4)
    x = activations()
    z = norm.ppf(0.9)
    for dose in (0.0, 0.5, 1.0, 2.0):
        new = apply(by_layer(Clamp(neurons, quantile=0.9, dose=dose), tiny)[1], x)
        up = 0.5 + dose * (2.0 + 0.4 * z - 0.5)
        down = 0.25 + dose * (-1.0 - 0.4 * z - 0.25)
        np.testing.assert_allclose(new[..., 7], np.maximum(x[..., 7], up), rtol=1e-6)
        np.testing.assert_allclose(new[..., 2], np.minimum(x[..., 2], down), rtol=1e-6)
    measured = neurons.with_df(neurons.df.assign(level=[3.0, -3.0]))
    new = apply(by_layer(Clamp(measured), tiny)[1], x)
    np.testing.assert_allclose(new[..., 7], np.maximum(x[..., 7], 3.0))
    np.testing.assert_allclose(new[..., 2], np.minimum(x[..., 2], -3.0))


def test_doses_and_scopes_are_replaced_not_changed(tiny: Any, make_set: Any) -> None:
    item = Shift(make_set(tiny, AT), dose=1.0)
    assert (item.with_dose(3.0).dose, item.dose) == (3.0, 1.0)
    assert (item.with_scope("last").scope, item.scope) == ("last", "all")


def test_edits_compose_in_the_order_given(tiny: Any, make_set: Any) -> None:
    """Shift then scale is not scale then shift; both equal the algebra on the raw activation."""
    neurons = make_set(tiny, [(1, 7)], plus=2.0, minus=0.5)
    batch = inference.encode(tiny, [Example("", "Tom shares his bread")])

    def activation(*edits: Any) -> Tensor:
        seen: list[Tensor] = []
        with edit(tiny, *edits):
            name = models.hook_name(tiny, 1, "post")
            handle = models.add_hook(tiny, name, lambda x, hook=None: seen.append(x[..., 7]))
            inference.forward_batch(tiny, batch)
            handle.remove()
        return seen[0]

    h, shift, scale = activation(), Shift(neurons, dose=2.0), Scale(neurons, dose=3.0)
    torch.testing.assert_close(activation(shift, scale), (h + 3.0) * 3)
    torch.testing.assert_close(activation(scale, shift), h * 3 + 3.0)
    torch.testing.assert_close(activation(shift, shift), h + 6.0)


def test_add_vector(tiny: Any) -> None:
    vector = np.linspace(-1, 1, 32).astype(np.float32)
    batch = inference.encode(tiny, [Example("", "Tom shares his bread")])

    def residual(*edits: Any) -> Tensor:
        seen: list[Tensor] = []
        with edit(tiny, *edits):
            name = models.hook_name(tiny, 1, "resid_post")
            handle = models.add_hook(tiny, name, lambda x, hook=None: seen.append(x))
            inference.forward_batch(tiny, batch)
            handle.remove()
        return seen[0]

    torch.testing.assert_close(residual(AddVector({1: vector}, dose=0.5)), residual() + 0.5 * torch.tensor(vector))
    for bad, match in (
        ({3: vector}, "does not fit"),
        ({0: vector[:5]}, "does not fit"),
        ({0: vector * np.nan}, "not f"),
    ):
        with pytest.raises(InputError, match=match), edit(tiny, AddVector(bad)):
            pass


def test_role_prompt_changes_the_prompt_alone(tiny: Any, make_set: Any, count_hooks: Any) -> None:
    role = RolePrompt("Be kind.")
    assert rewrite(role, "What now?") == "Be kind.\n\nWhat now?"
    assert rewrite(role, "") == "Be kind."
    assert rewrite([RolePrompt("A", joiner=" "), Shift(make_set(tiny, AT))], "b") == "A b"
    assert rewrite(None, "b") == "b"
    before = count_hooks(tiny)
    with edit(tiny, role) as session:
        assert count_hooks(tiny) == before
        inference.forward_batch(tiny, inference.encode(tiny, [Example("", "Tom")]), session=session)
    assert session.active_scopes == frozenset()


def test_refusals(tiny: Any, make_set: Any, count_hooks: Any) -> None:
    neurons = make_set(tiny, AT)
    with pytest.raises(InputError, match="is empty"):
        Shift(make_set(tiny, []))
    for dose in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite"):
            Shift(neurons, dose=dose)
        with pytest.raises(InputError, match="finite"):
            Shift(neurons).with_dose(dose)
    with pytest.raises(InputError, match="quantile"):
        Clamp(neurons, quantile=1.0)
    with pytest.raises(InputError, match="site 'post'"):
        Shift(make_set(tiny, AT, site="gate"))
    before = count_hooks(tiny)
    wrong = [
        (make_set(tiny, AT, n_layers=4), "4 layers"),
        (make_set(tiny, AT, d_mlp=64), "64 neurons"),
        (make_set(tiny, AT, fingerprint={"weights_hash": "0" * 64}), "other weights"),
    ]
    for bad, match in wrong:
        # a good edit in front of the bad one must not stay on either
        with pytest.raises(InputError, match=match), edit(tiny, Shift(neurons), Shift(bad)):
            pass
        assert count_hooks(tiny) == before


def test_unknown_words_are_refused(tiny: Any, make_set: Any) -> None:
    """Without beartype (users have none) the dataclasses themselves must say no."""
    neurons = make_set(tiny, AT)
    for make in (lambda: Shift(neurons, scope="everywhere"), lambda: Ablate(neurons, mode="noise")):  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r"everywhere|noise"):
            make()


def test_a_set_without_fingerprint_is_checked_by_size_alone(tiny: Any, make_set: Any) -> None:
    assert len(Shift(make_set(tiny, AT, fingerprint={})).changes(tiny)) == 3


def test_tables_keep_their_neurons_apart(tiny: Any, make_set: Any) -> None:
    """Each neuron gets its own delta whatever the order of the rows."""
    neurons = make_set(tiny, [(1, 7), (1, 2)], plus=[2.0, 5.0], minus=[1.0, 1.0])
    flipped = neurons.with_df(pd.DataFrame(neurons.df.iloc[::-1]))
    x = activations()
    one, two = (apply(by_layer(Shift(s), tiny)[1], x) for s in (neurons, flipped))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one[..., 2] - x[..., 2], torch.full((2, 5), 4.0))
