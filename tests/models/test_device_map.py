"""Models spread by a device map: as far as one CPU can show it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neva_tl as nv
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import loading
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.skipif(
    loading._hooked_class() is not None, reason="HookedTransformer (TransformerLens 3.9) has no device maps"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("mapped") / "llama")


def test_a_mapped_model_is_the_same_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = models.load(folder, device="cpu")
    monkeypatch.setenv("NEVA_TL_DEVICE_MAP", "auto" if torch.cuda.is_available() else "cpu")
    mapped = [models.load(folder, device_map={"": "cpu"}), models.load(folder)]
    for model in mapped:
        assert nv.fingerprint(model) == nv.fingerprint(plain)
        assert {device.type for device in models.layer_devices(model)} == {models.info(model).device.split(":")[0]}


def test_a_named_device_goes_before_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TL_DEVICE_MAP", "no such map")
    assert models.info(models.load(folder, device="cpu")).device == "cpu"
    with pytest.raises(InputError, match="cannot load"):
        models.load(folder)


def test_two_answers_to_where_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot both be given"):
        models.load(folder, device="cpu", device_map="auto")


def test_weights_left_on_disk_are_refused(folder: Path) -> None:
    parts = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu", "model.layers.2": "disk"}
    rest = dict.fromkeys(("model.norm", "model.rotary_emb", "lm_head"), "cpu")
    with pytest.raises(InputError, match=r"does not fit|offload") as caught:
        models.load(folder, device_map=parts | rest)
    assert "\n" not in str(caught.value)
