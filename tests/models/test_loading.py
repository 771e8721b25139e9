"""Loading: types, gradients, and models that are already loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


def test_unknown_dtype(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="unknown dtype"):
        models.load(folders["llama"], dtype="float7")


def test_a_loaded_model_passes_through(loaded: dict[str, Any]) -> None:
    assert models.load(loaded["llama"]) is loaded["llama"]
    with pytest.raises(InputError, match="pass a loaded model"):
        models.info(torch.nn.Linear(2, 2))


def test_dtype_is_respected(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(folders["llama"], dtype="bfloat16")
    assert models.info(model).dtype == "bfloat16"
    for products, dtype in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr("neva_tl.models.precision.has_bfloat16_products", lambda products=products: products)
        assert models.info(models.load(folders["llama"], dtype="auto", device="cpu")).dtype == dtype


def test_no_parameter_asks_for_gradients(loaded: dict[str, Any]) -> None:
    assert not any(p.requires_grad for p in loaded["llama"].parameters())
    assert not loaded["llama"].training


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_hub_names_are_compared_with_transformers(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """On both TransformerLens lines: a hub that answers, played by a local folder."""
    from neva_tl.models import loading, sources

    compared = []
    plain = loading.compare_with_transformers

    def compare(model: Any, trial: Any) -> None:
        compared.append(trial)
        plain(model, trial)

    monkeypatch.setattr(loading, "compare_with_transformers", compare)
    config = sources.read_config(str(folders[family]))
    monkeypatch.setattr(
        sources, "from_hub", lambda name: sources.Source(name=name, hub=str(folders[family]), config=config)
    )
    model = models.load("some/model")
    assert len(compared) == 1 and models.info(model).name == "some/model"
    local = models.load(folders[family])
    assert models.fingerprint(model)["weights_hash"] == models.fingerprint(local)["weights_hash"]
    # a checkpoint whose neurons are not those of transformers is refused
    monkeypatch.setattr(loading, "compare_with_transformers", lambda model, trial: plain(model, _other(trial)))
    with pytest.raises(InputError, match="other neurons than transformers"):
        models.load("some/model")


def _other(trial: Any) -> Any:
    return replace(trial, inputs={name: 1.1 * x for name, x in trial.inputs.items()})
