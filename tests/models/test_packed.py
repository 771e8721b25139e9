"""Passes over real tokens alone: each text's numbers as if it had run by itself, nothing for padding, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.activations import collect
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.example import Example

EXAMPLES = [
    Example("the old king counts", "his golden coins and every lazy dog in the village"),
    Example("she climbs", "the tower"),
    Example("", "nobody keeps more than they need"),
]
SITES = ("post", "resid_post")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.load(tiny_checkpoint(tmp_path_factory.mktemp("packed") / request.param, request.param))


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """One that no other test has seen, of the family asked for."""
    return models.load(tiny_checkpoint(tmp_path / "fresh", getattr(request, "param", "llama")))


def names(model: Any) -> list[str]:
    return [models.hook_name(model, layer, site) for layer in range(models.info(model).n_layers) for site in SITES]


def alone(model: Any, examples: list[Example]) -> dict[str, torch.Tensor]:
    """Each text by itself, one behind the other: `[t, k]`."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names(model)}
    for item in inference.encode_one(model, examples):
        batch = inference.pad(model, [item])
        with record_hooks(model, names(model)) as found:
            inference.forward_batch(model, batch, logits=False)
        for name, x in found.items():
            seen[name].append(x[0])
    return {name: torch.cat(parts) for name, parts in seen.items()}


def packed(model: Any, examples: list[Example], side: str = "right") -> dict[str, torch.Tensor]:
    batch = inference.pad(model, inference.encode_one(model, examples), side)
    with record_hooks(model, names(model)) as found:
        assert inference.forward_batch(model, batch, packed=True) is None
    assert all(x.shape[:2] == (1, int(batch.mask.sum())) for x in found.values())
    return {name: x[0] for name, x in found.items()}


def near(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], share: float = 1e-5) -> bool:
    return all(float((got[n] - x).abs().max()) <= share * float(x.abs().max()) for n, x in want.items())


def contrast(*texts: str) -> ContrastSet:
    """Every other text is of the + pole."""
    rows = [
        {"value": "power", "pole": "+-"[i % 2], "text": text, "cluster": f"{i}", "split": "train"}
        for i, text in enumerate(texts)
    ]
    return ContrastSet.from_rows(rows, "test")


@pytest.mark.parametrize("examples", [EXAMPLES, EXAMPLES[:1], EXAMPLES[1:2] * 3], ids=["ragged", "one", "even"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_each_text_is_as_if_alone(model: Any, examples: list[Example], side: str) -> None:
    assert models.packable(model)
    assert near(packed(model, examples, side), alone(model, examples))


def test_collecting_runs_real_tokens_only(model: Any) -> None:
    pairs = contrast("she climbs", "the tower", "the old king counts his golden coins", "why", "she runs", "a dog")
    seen: list[torch.Size] = []
    handle = model.blocks[0].mlp.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[:-1]))
    try:
        stats = collect(model, pairs)
    finally:
        handle.remove()
    real = sum(len(item.ids) for item in inference.encode_one(model, pairs.examples()))
    assert sum(shape.numel() for shape in seen) == real
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "packable", lambda model: False)
        padded = collect(model, pairs)
    for name, x in stats._arrays().items():
        np.testing.assert_allclose(x, padded._arrays()[name], rtol=1e-4, atol=2e-6, err_msg=name)


def test_nothing_is_left_behind(model: Any) -> None:
    def state() -> tuple[list[str], list[str]]:
        config = model.original_model.config
        return [n for n, part in model.named_modules() if "forward" in vars(part)], [config._attn_implementation]

    before = state()
    batch = inference.pad(model, inference.encode_one(model, EXAMPLES))

    def fails(x: Any, hook: Any = None) -> None:
        raise ValueError("on purpose")

    handle = models.add_hook(model, names(model)[0], fails)
    try:
        with pytest.raises(ValueError, match="on purpose"):
            inference.forward_batch(model, batch, packed=True)
    finally:
        handle.remove()
    assert state() == before
    logits = inference.forward_batch(model, batch)
    packed(model, EXAMPLES)
    again = inference.forward_batch(model, batch)
    assert state() == before and logits is not None and again is not None and torch.equal(logits, again)


def test_other_peoples_hooks_see_what_they_always_see(model: Any) -> None:
    shapes: list[torch.Size] = []
    pattern = models.add_hook(model, models.hook_name(model, 0, "pattern"), lambda x, hook=None: shapes.append(x.shape))
    try:
        assert not models.packable(model)
        collect(model, contrast("she climbs", "the tower", "the old king counts", "his coins"))
    finally:
        pattern.remove()
    assert len(shapes) >= 1 and all(len(shape) == 4 and shape[0] > 1 for shape in shapes)
    assert models.packable(model)


@pytest.mark.parametrize("fresh", ["llama", "gpt2"], indirect=True)
def test_changed_weights_are_seen(fresh: Any) -> None:
    """In place, attention's weights are one with those of the class inside (GPT-2's are split views of a joint matrix)."""
    assert models.packable(fresh)
    before = packed(fresh, EXAMPLES)
    with torch.no_grad():
        fresh.blocks[0].attn.q.original_component.weight.mul_(-1.5)
    assert models.packable(fresh)
    assert near(packed(fresh, EXAMPLES), alone(fresh, EXAMPLES)) and not near(before, alone(fresh, EXAMPLES), 1e-2)


@pytest.mark.parametrize("fresh", ["gpt2"], indirect=True)
def test_weights_that_went_their_own_way_are_not_packed(fresh: Any) -> None:
    linear = fresh.blocks[1].attn.q.original_component
    linear.weight = torch.nn.Parameter(-linear.weight.detach().clone(), requires_grad=False)
    assert not models.packable(fresh)


def test_half_precision(tmp_path: Path) -> None:
    model = models.load(tiny_checkpoint(tmp_path / "m"), dtype="bfloat16")
    assert models.packable(model)
    assert near(packed(model, EXAMPLES), alone(model, EXAMPLES), 0.05)


def test_an_attention_that_looks_elsewhere_is_not_packed(fresh: Any) -> None:
    """One that sees other texts' tokens, whatever it calls, fails the trial."""

    @contextmanager
    def blind() -> Iterator[None]:
        from neva_tl.models import packed as _packed

        plain = _packed.Layout.together
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_packed.Layout, "together", lambda self, x: plain(self, x).roll(1, dims=1))
            yield

    with blind():
        assert not models.packable(fresh)
