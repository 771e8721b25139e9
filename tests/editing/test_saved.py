"""Edits as folders: what is loaded acts as what was saved, and damaged folders are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neva_tl as nv
from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import (
    Ablate,
    AddVector,
    Amplify,
    Clamp,
    ContextAware,
    Edit,
    LayerProbe,
    ProbedVector,
    PromptShift,
    RelevanceGate,
    Rescale,
    RolePrompt,
    Scale,
    compose,
)
from neva_tl.editing.saved import ARRAYS, FILE, load_edit, save_edit


def selected_neurons(model: Any) -> NeuronSet:
    info = nv.models.info(model)
    rows = {"layer": [0, 1, 1], "neuron": [3, 0, 2], "mean_plus": [0.5, 1.0, -0.25], "mean_minus": [0.0, -1.0, 0.5]}
    df = pd.DataFrame(rows).assign(sd=0.5, score=1.0, note=["a", None, "c"])
    return NeuronSet(
        value="benevolence", method="by hand", df=df, n_layers=info.n_layers, d_mlp=info.d_mlp,
        fingerprint=nv.fingerprint(model), settings={"k": 3, "lam": 0.5, "layers": [0, 1], "power": {"n": 4}},
    )  # fmt: skip


def _edits(model: Any) -> list[Edit]:
    info = nv.models.info(model)
    neurons = selected_neurons(model)
    rng = np.random.default_rng(0)
    probe = LayerProbe(0, np.array([1, 3]), rng.normal(size=2), 0.25, rng.normal(size=2), 2.0)
    wide = LayerProbe(1, np.arange(info.d_model), rng.normal(size=info.d_model), 0.1, rng.normal(size=info.d_model))
    layers = tuple(range(info.n_layers))
    gate = RelevanceGate(
        layers,
        rng.normal(size=(info.n_layers, info.d_mlp)),
        *(np.full(info.n_layers, 0.5) for _ in range(3)),
        threshold=0.4,
    )
    vectors = {0: rng.normal(size=info.d_model)}
    return [
        Amplify(neurons, dose=3.5),
        Amplify(neurons, dose=-1.25, scope="generated", gate=gate),
        Scale(neurons, dose=2.0),
        Ablate(neurons, mode="mean", effects="all"),
        Clamp(neurons, dose=1.0),
        ContextAware(neurons, (probe,), dose=4.0, scope="last"),
        AddVector(vectors, dose=1.5),
        ProbedVector((wide,), dose=2.0),
        PromptShift((wide,), dose=2.0),
        compose([Amplify(neurons, dose=1.0), Amplify(neurons, dose=2.0)]),
        RolePrompt("You care about others."),
        Rescale(neurons, weights="score", lowest=0.0, dose=-0.5, scope="last"),
        Rescale(neurons, dose=4.0),
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_loaded_edit_is_the_saved_one(loaded: dict[str, Any], tmp_path: Path, number: int) -> None:
    model = loaded["llama"]
    edit = _edits(model)[number]
    save_edit(edit, tmp_path / "edit", model=model, about={"value": "benevolence"})
    saved = load_edit(tmp_path / "edit", model=model)
    assert type(saved.edit) is type(edit)
    assert content_hash(saved.edit) == content_hash(edit)
    assert saved.about == {"value": "benevolence"}
    tokens = torch.tensor([[1, 5, 9, 4]])
    with nv.edit(model, edit):
        direct = model(tokens)
    with nv.edit(model, saved.edit):
        again = model(tokens)
    assert torch.equal(direct, again)


def test_the_model_is_checked(loaded: dict[str, Any], tmp_path: Path) -> None:
    vector = AddVector({0: np.ones(nv.models.info(loaded["llama"]).d_model)})
    save_edit(vector, tmp_path / "edit", model=loaded["llama"])
    with pytest.raises(InputError, match="was made for"):
        load_edit(tmp_path / "edit", model=loaded["gpt2"])


def test_a_class_of_a_user_is_refused(loaded: dict[str, Any], tmp_path: Path) -> None:
    class Mine(AddVector):
        pass

    with pytest.raises(InputError, match="Mine"):
        save_edit(Mine({0: np.ones(4)}), tmp_path / "edit")
    assert not (tmp_path / "edit" / FILE).exists()


def _damage_json(folder: Path) -> None:
    data = json.loads((folder / FILE).read_text())
    data["edit"]["class"] = "os.system"
    (folder / FILE).write_text(json.dumps(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / FILE).unlink(),
        lambda f: (f / ARRAYS).unlink(),
        lambda f: (f / FILE).write_text("[1]"),
        lambda f: (f / FILE).write_text("{"),
        lambda f: (f / FILE).write_text('{"schema": 1, "kind": "edit"}'),
        lambda f: (f / ARRAYS).write_bytes((f / ARRAYS).read_bytes()[:-1]),
        _damage_json,
    ],
)
def test_a_damaged_folder_is_one_line(loaded: dict[str, Any], tmp_path: Path, damage: Any) -> None:
    folder = save_edit(Amplify(selected_neurons(loaded["llama"])), tmp_path / "edit", model=loaded["llama"])
    damage(folder)
    with pytest.raises(InputError) as caught:
        load_edit(folder)
    assert "\n" not in str(caught.value)


def test_changed_fields_never_escape(loaded: dict[str, Any], tmp_path: Path) -> None:
    """Every field of the description in turn replaced by something else: loads or raises InputError."""
    folder = save_edit(_edits(loaded["llama"])[5], tmp_path / "edit", model=loaded["llama"])
    text = (folder / FILE).read_text()
    fields = json.loads(text)["edit"]["fields"]
    for name in fields:
        for wrong in (None, "x", -1, [1], {"list": [{"class": "LayerProbe", "fields": {}}]}, {"array": "a99"}, {}):
            data = json.loads(text)
            data["edit"]["fields"][name] = wrong
            (folder / FILE).write_text(json.dumps(data))
            try:
                load_edit(folder)
            except InputError:
                continue
