"""The same weights in two number formats: artefacts of one are accepted in the other, those of other weights are not."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Shift, edit
from neva_tl.editing.saved import load_edit, save_edit
from neva_tl.models import dtypes
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = [pytest.mark.core, pytest.mark.filterwarnings("ignore:.*was made in:UserWarning")]

DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored in float16, as converted GGUF files are; norms that are not all ones."""
    folder = tiny_checkpoint(tmp_path_factory.mktemp("dtypes") / "llama")
    hf = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in hf.named_parameters():
        if "norm" in name:
            weight.data.normal_(1, 0.1)
    hf.half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> dict[str, Any]:
    return {dtype: models.load(checkpoint, dtype=dtype) for dtype in DTYPES}


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "_NOTED", set())


def neurons(model: Any, **changes: Any) -> NeuronSet:
    df = pd.DataFrame({"layer": [0, 1], "neuron": [3, 5], "mean_plus": 1.0, "mean_minus": 0.5, "sd": 0.4, "score": 1.0})
    fingerprint = {**models.stored_fingerprint(model), **changes}
    return NeuronSet("power", "test", df, n_layers=3, d_mlp=48, fingerprint=fingerprint)


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_neurons_of_one_dtype_edit_the_same_weights_in_another(
    loaded: dict[str, Any], source: str, target: str
) -> None:
    assert len({models.fingerprint(model)["weights_hash"] for model in loaded.values()}) == len(DTYPES)
    item = Shift(neurons(loaded[source]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with edit(loaded[target], item):
                pass
    notes = [str(w.message) for w in caught if "was made in" in str(w.message)]
    assert len(notes) == (source != target)
    assert all(source in note and target in note and "the weights are the same" in note for note in notes)


def test_a_half_precision_set_of_an_earlier_version_is_accepted_in_float32(loaded: dict[str, Any]) -> None:
    assert "rounded" not in models.stored_fingerprint(loaded["bfloat16"])
    old = {k: v for k, v in models.fingerprint(loaded["bfloat16"]).items() if k != "function"}
    with edit(loaded["float32"], Shift(replace(neurons(loaded["bfloat16"]), fingerprint=old))):
        pass


def test_a_float32_set_of_an_earlier_version_is_refused_in_half_precision(loaded: dict[str, Any]) -> None:
    old = replace(neurons(loaded["float32"]), fingerprint=models.fingerprint(loaded["float32"]))
    with (
        pytest.raises(InputError, match=r"in float32.*in bfloat16.*dtype='float32'"),
        edit(loaded["bfloat16"], Shift(old)),
    ):
        pass


@pytest.mark.parametrize("changed", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_other_weights_in_another_dtype_are_refused(
    checkpoint: Path, loaded: dict[str, Any], tmp_path: Path, changed: str
) -> None:
    """One weight differs by more than rounding; once among the main weights, once a norm."""

    shutil.copytree(checkpoint, tmp_path / "other")
    hf = AutoModelForCausalLM.from_pretrained(tmp_path / "other", dtype=torch.float16)
    hf.get_parameter(changed).data.flatten()[7] *= 1.5
    hf.save_pretrained(tmp_path / "other")
    other = models.load(tmp_path / "other", dtype="bfloat16")
    with pytest.raises(InputError, match="float32"), edit(other, Shift(neurons(loaded["float32"]))):
        pass
    reverse = neurons(other)
    with pytest.raises(InputError, match="bfloat16"), edit(loaded["float32"], Shift(reverse)):
        pass


def test_settings_are_compared_across_dtypes(loaded: dict[str, Any]) -> None:
    function = models.fingerprint(loaded["float32"])["function"]
    other = {**function, "settings": {**function["settings"], "norm_eps": 0.5}}
    with (
        pytest.raises(InputError, match="norm_eps"),
        edit(loaded["bfloat16"], Shift(neurons(loaded["float32"], function=other))),
    ):
        pass


def test_a_saved_edit_loads_in_another_dtype(loaded: dict[str, Any], tmp_path: Path) -> None:
    save_edit(Shift(neurons(loaded["float32"])), tmp_path / "edit", model=loaded["float32"])
    with pytest.warns(UserWarning, match="the weights are the same"):
        assert load_edit(tmp_path / "edit", model=loaded["bfloat16"]).model["dtype"] == "float32"


def test_cache_keys_do_not_depend_on_the_rounded_hashes(loaded: dict[str, Any]) -> None:
    new = neurons(loaded["float32"])
    old = replace(new, fingerprint=models.fingerprint(loaded["float32"]))
    assert "rounded" in new.fingerprint and content_hash(new) == content_hash(old)
    assert content_hash(new) != content_hash(neurons(loaded["float32"], weights_hash="x"))


def test_a_change_of_the_weights_drops_the_rounded_hashes(checkpoint: Path) -> None:
    model = models.load(checkpoint)
    before = models.stored_fingerprint(model)["rounded"]
    with torch.no_grad():
        next(iter(model.blocks)).mlp.W_out.mul_(1.5)
    models.weights_changed(model)
    assert models.stored_fingerprint(model)["rounded"] != before
