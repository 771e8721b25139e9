"""kl_metric: the divergence by hand, and doses matched by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing import AddVector, calibrate
from neva_tl.evaluation import kl_metric
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

TEXTS = ["Tom eats the bread of the old king", "Who shares it with strangers?"]
VECTOR = np.linspace(-1, 1, 32).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("kl") / "llama")


@pytest.fixture(scope="module")
def metric(folder: Path) -> Any:
    return kl_metric(models.load(folder), TEXTS)


def by_hand(folder: Path, dose: float) -> float:
    """Plain transformers, a raw hook behind block 1, every token after BOS."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for line in TEXTS:
        ids = torch.tensor([text(line)["input_ids"]])
        with torch.no_grad():
            plain = torch.log_softmax(hf(ids).logits[0, :-1].double(), -1)

            def add(m: Any, a: Any, out: Any) -> Any:
                x = out[0] if isinstance(out, tuple) else out
                new = x + dose * torch.as_tensor(VECTOR) * (torch.arange(x.shape[1]) > 0)[None, :, None]
                return (new, *out[1:]) if isinstance(out, tuple) else new

            handle = hf.model.layers[1].register_forward_hook(add)
            other = torch.log_softmax(hf(ids).logits[0, :-1].double(), -1)
            handle.remove()
        total += float((plain.exp() * (plain - other)).sum())
        count += len(plain)
    return total / count


@pytest.mark.parametrize("dose", [0.5, 2.0, -1.0])
def test_equals_raw_hooks(metric: Any, folder: Path, dose: float) -> None:
    """BOS is the prompt and stays untouched under scope `generated`: these texts count as generated."""
    point = metric(AddVector({1: VECTOR}, dose=dose, scope="generated"))
    assert point.gain == pytest.approx(by_hand(folder, dose), rel=2e-3)
    assert point.invalid == 0 and point.extra["loss"] > 0


def test_doses_matched_by_divergence(metric: Any) -> None:
    item = AddVector({1: VECTOR}, scope="generated")
    assert metric(item.with_dose(0.0)).gain == pytest.approx(0, abs=1e-5)
    found = calibrate(item, metric, [0.02, 0.1], grid=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0), refine=5)
    for target in (0.02, 0.1):
        assert target <= metric(item.with_dose(found.require(target))).gain <= 1.5 * target
    # the other way the same divergence is reached by a negative dose
    back = calibrate(item, metric, 0.1, grid=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0), refine=3, suppress=True)
    assert back.require(0.1) < 0 and metric(item.with_dose(back.require(0.1))).gain >= 0.1
    with pytest.raises(WorkError, match="target 1000 is out of reach"):
        calibrate(item, metric, 1000.0, grid=(0.25, 0.5), refine=0).require(1000.0)


def test_needs_texts(folder: Path) -> None:
    with pytest.raises(InputError, match="neutral texts"):
        kl_metric(models.load(folder), [])
