"""The constants of an edit are what its hooks do to activations, in the order in which edits act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from helpers.baking import edits_of, load_plain, neuron_set
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Ablate, AddVector, Clamp, Edit, Rescale, RolePrompt, Scale, Shift, compose, paced
from neva_tl.editing.bake.fold import fold, obstacle
from neva_tl.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_plain(tiny_checkpoint(tmp_path_factory.mktemp("fold") / "llama"))


def by_hooks(hf: Any, edits: tuple[Edit, ...], site: str, x: torch.Tensor, layer: int) -> torch.Tensor:
    """The activation after the changes of the edits at one site, as the hooks apply them."""
    for edit in edits:
        for change in edit.changes(models.plain(hf)):
            if (change.layer, change.site) == (layer, site):
                x = change.apply(x)
    return x


def cases(hf: Any) -> dict[str, tuple[Edit, ...]]:
    neurons = neuron_set(hf)
    dense = AddVector({1: np.linspace(-1, 1, 48)}, dose=0.3, site="post")
    return {
        **edits_of(hf),
        "rescale": (Rescale(neurons, dose=0.4), Shift(neurons)),
        "plus": (Ablate(neurons, mode="plus", dose=0.6), Scale(neurons, dose=2.0, effects="all")),
        "composed": (
            compose([Shift(neurons, dose=2.0), Shift(neurons, effects="positive")], shared="strongest"),
            dense,
        ),
        "two": (Scale(neurons, dose=3.0), Shift(neurons), Ablate(neurons, dose=0.5)),
    }


def test_constants_are_what_the_hooks_do(hf: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    neurons, stream = (torch.randn(2, 5, width, generator=draw) for width in (48, 32))
    for name, edits in cases(hf).items():
        folded = fold(edits, models.plain(hf))
        for layer in range(3):
            scale, shift = (table.get(layer, torch.tensor(neutral)) for table, neutral in
                            ((folded.scale, 1.0), (folded.shift, 0.0)))  # fmt: skip
            expected = by_hooks(hf, edits, "post", neurons, layer)
            assert torch.allclose(neurons.double() * scale + shift, expected.double(), atol=1e-5), (name, layer)
            push = folded.resid.get(layer, torch.tensor(0.0))
            pushed = by_hooks(hf, edits, "resid_post", stream, layer)
            assert torch.allclose(stream.double() + push, pushed.double(), atol=1e-5), (name, layer)


def test_the_order_of_edits_counts(hf: Any) -> None:
    neurons = neuron_set(hf)
    shift, scale = Shift(neurons), Scale(neurons, dose=3.0, effects="all")
    first, last = (fold(edits, models.plain(hf)).shift[0] for edits in ((shift, scale), (scale, shift)))
    assert torch.allclose(first, 3 * last) and bool(last.any())


def test_what_is_not_constant_is_refused_with_the_reason(hf: Any) -> None:
    neurons = neuron_set(hf)

    class Own(Shift):
        """A user's subclass may compute anything."""

    for edit, reason in (
        (Shift(neurons, scope="generated"), "scope 'generated'"),
        (Clamp(neurons), "Clamp is not a constant"),
        (Ablate(neurons, mode="resample"), "resample"),
        (RolePrompt("Be kind."), "prompt's text"),
        (paced(Shift(neurons), half_life=5.0), "Paced changes over the generated tokens"),
        (Own(neurons), "Own is not a constant"),
    ):
        assert reason in obstacle(edit)
        with pytest.raises(InputError):
            fold((edit,), models.plain(hf))
    assert obstacle(Shift(neurons)) == ""
