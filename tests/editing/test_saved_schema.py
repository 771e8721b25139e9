"""What a saved edit records: origin, schema 1 of before, other models by name only, and the two calls of transformers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva_tl as nv
from helpers.paths import FIXTURES
from neva_tl.core import files
from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, Clamp, Edit, RolePrompt, Shift, compose, paced
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.saved import ARRAYS, FILE, SavedEdit, load_edit, save_edit
from neva_tl.models.tiny import tiny_checkpoint

from .test_saved import selected_neurons

pytestmark = pytest.mark.core
#: Edits saved before schema 2, with the content hashes that version computed.
SCHEMA1 = {
    "paced": "c41b025022f68e2586fabe85053b7df5e7ac1d11b3c7593dc68f799012c30278",
    "composed": "17c26dabd45685dd1620259d16234415c9cd3dc4e895df0af7d2eb09dd65ce3f",
    "gated": None,
}


def _gate(model: Any) -> RelevanceGate:
    info = nv.models.info(model)
    shares = (np.full(info.n_layers, 0.5) for _ in range(3))
    return RelevanceGate(tuple(range(info.n_layers)), np.ones((info.n_layers, info.d_mlp)), *shares, threshold=0.4)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of the same sizes with other weights."""
    return nv.load(tiny_checkpoint(tmp_path_factory.mktemp("other") / "llama", "llama", seed=1))


def test_the_origin_says_where_an_edit_comes_from(loaded: dict[str, Any], tmp_path: Path) -> None:
    model = loaded["llama"]
    shift = Shift(selected_neurons(model), dose=2.0, gate=_gate(model))
    facts = {"prompt_hash": "ab12", "seed": 3, "theory": "schwartz"}
    saved = load_edit(save_edit(shift, tmp_path / "edit", model=model, origin=facts))
    assert saved.origin["site"] == ["post"]
    assert saved.origin["gate"] == {"threshold": 0.4, "unit": "token"}
    assert {name: saved.origin[name] for name in facts} == facts
    (neurons,) = saved.origin["neurons"]
    assert (neurons["value"], neurons["selector"], neurons["count"]) == ("benevolence", "by hand", 3)
    assert neurons["settings"] == {"k": 3, "lam": 0.5, "layers": [0, 1], "power": {"n": 4}}
    assert {"neva_tl", "torch", "transformers", "transformer-lens"} <= set(saved.origin["versions"])
    with pytest.raises(InputError, match="colour"):
        save_edit(shift, tmp_path / "edit", origin={"colour": "red"})


@pytest.mark.parametrize(
    ("make", "sites"),
    [
        (lambda n: compose([Shift(n), Shift(n)]), ["post"]),
        (lambda n: paced(Clamp(n), half_life=5.0), ["post"]),
        (lambda n: AddVector({0: np.ones(4)}, site="post"), ["post"]),
        (lambda n: AddVector({0: np.ones(4)}), ["resid_post"]),
        (lambda n: paced(AddVector({0: np.ones(4)}), half_life=5.0), ["resid_post"]),
        (lambda n: RolePrompt("Be kind."), ["prompt"]),
        (lambda n: nv.editing.RewriteAnswer("Be kind."), ["answer"]),
    ],
)
def test_sites(loaded: dict[str, Any], tmp_path: Path, make: Any, sites: list[str]) -> None:
    saved = load_edit(save_edit(make(selected_neurons(loaded["llama"])), tmp_path / "edit"))
    assert saved.origin["site"] == sites


@pytest.mark.parametrize("name", SCHEMA1)
def test_schema_1_loads(demo: Any, name: str) -> None:
    saved = load_edit(FIXTURES / "schema1" / name, model=demo)
    assert saved.origin == {} and saved.about["value"] and saved.model["name"] == "demo"
    assert SCHEMA1[name] in (None, content_hash(saved.edit))
    tokens = torch.tensor([[1, 5, 9, 4]])
    before = demo(tokens)
    with nv.edit(demo, saved.edit.with_scope("all").with_gate(None)):
        assert not torch.equal(demo(tokens), before)


def test_a_steering_of_schema_1_loads() -> None:
    result = nv.SteeringResult.load(FIXTURES / "schema1" / "steering")
    assert result.value == "thrift" and result.gain.n == 18 and result.texts == () and result.capability == ()
    assert result.edit.dose == pytest.approx(8.1257, abs=1e-3)


def test_a_written_field_that_is_changed_later_is_noticed(loaded: dict[str, Any], tmp_path: Path) -> None:
    folder = save_edit(Shift(selected_neurons(loaded["llama"]), dose=2.0), tmp_path / "edit")
    data = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(data))  # another layout of the same content
    assert load_edit(folder).edit.dose == 2.0
    data["edit"]["fields"]["dose"] = 4.0
    (folder / FILE).write_text(json.dumps(data))
    with pytest.raises(InputError, match="was changed after it was saved"):
        load_edit(folder)


def test_another_model_is_taken_by_name_only(loaded: dict[str, Any], other: Any, tmp_path: Path) -> None:
    model, tokens = loaded["llama"], torch.tensor([[1, 5, 9, 4]])
    both = compose([Shift(selected_neurons(model), dose=3.0)])
    folder = save_edit(paced(Shift(selected_neurons(model), dose=3.0), half_life=9.0), tmp_path / "paced", model=model)
    for edit_folder in (save_edit(both, tmp_path / "both", model=model), folder):
        with pytest.raises(InputError, match=r"was made for llama \(other weights\)"):
            load_edit(edit_folder, model=other)
        with pytest.warns(UserWarning, match="other weights") as noted:
            saved = load_edit(edit_folder, model=other, allow_mismatch=True)
        assert len(noted) == 1 and "\n" not in str(noted[0].message)
        before = other(tokens)
        with nv.edit(other, saved.edit):
            assert not torch.equal(other(tokens), before)
    with pytest.raises(InputError, match="pass model"):
        load_edit(folder, allow_mismatch=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_edit(folder, model=model, allow_mismatch=True)  # its own model needs no permission


def test_sizes_that_cannot_fit_are_refused_whatever_is_allowed(loaded: dict[str, Any], tmp_path: Path) -> None:
    small = nv.load(tiny_checkpoint(tmp_path / "small", "llama", d_model=16, d_mlp=24, n_layers=2))
    model = loaded["llama"]
    vector = AddVector({0: np.ones(nv.models.info(model).d_model)})
    gated = AddVector({0: np.ones(16)}, gate=_gate(model))
    for number, edit in enumerate((Shift(selected_neurons(model)), vector, gated)):
        folder = save_edit(edit, tmp_path / str(number), model=model)
        with pytest.raises(InputError, match="does not fit this model") as caught:
            load_edit(folder, model=small, allow_mismatch=True)
        assert "\n" not in str(caught.value)


def test_pretrained_as_in_transformers(loaded: dict[str, Any], tmp_path: Path) -> None:
    model = loaded["llama"]
    shift = Shift(selected_neurons(model), dose=2.0)
    folder = shift.save_pretrained(tmp_path / "edit", model=model)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", FILE, ARRAYS]
    assert content_hash(Shift.from_pretrained(folder, model=model)) == content_hash(shift)
    assert type(Edit.from_pretrained(folder)) is Shift
    with pytest.raises(InputError, match=r"Shift, not Clamp"):
        Clamp.from_pretrained(folder)
    saved = SavedEdit.from_pretrained(folder, model=model)
    again = SavedEdit.from_pretrained(saved.save_pretrained(tmp_path / "copy"))
    assert (again.model, again.origin, again.about) == (saved.model, saved.origin, saved.about)
    assert content_hash(again.edit) == content_hash(shift)


@pytest.mark.parametrize("killed", range(6))
def test_a_killed_save_leaves_nothing_that_loads_by_half(
    loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """Killed before or after each of the three files: the old edit, or one line; a new folder holds no edit."""
    neurons = selected_neurons(loaded["llama"])
    save_edit(Shift(neurons, dose=1.0), tmp_path / "old")
    replace, count = files.os.replace, iter(range(99))

    def kill(source: Any, target: Any) -> None:
        number = next(count)
        if number == killed // 2 and killed % 2 == 0:
            raise KeyboardInterrupt
        replace(source, target)
        if number == killed // 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", kill)
    for name in ("old", "new"):
        count = iter(range(99))
        with pytest.raises(KeyboardInterrupt):
            save_edit(Shift(neurons.head(2), dose=2.0), tmp_path / name)
    monkeypatch.undo()
    for name in ("old", "new"):
        if killed == 5 or (name == "old" and killed < 3):
            assert load_edit(tmp_path / name).edit.dose == (2.0 if killed == 5 else 1.0)
        else:
            with pytest.raises(InputError) as caught:
                load_edit(tmp_path / name)
            assert "\n" not in str(caught.value)
    assert not [file for file in tmp_path.rglob("*.tmp")]
