"""NeuronSet: what it refuses, and that files give back what was saved, or a clear no."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet


def table(n: int = 5, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "layer": rng.integers(0, 4, n),
            "neuron": rng.permutation(64)[:n],
            "mean_plus": rng.normal(size=n).astype(np.float32),
            "mean_minus": rng.normal(size=n),
            "sd": rng.uniform(0.1, 1, n),
            "score": rng.normal(size=n),
            "q": np.where(rng.random(n) < 0.3, np.nan, rng.random(n)),
            "split_half": rng.random(n) < 0.5,
            "token": [f"word {i}" for i in range(n)],
        }
    )


def neuron_set(df: pd.DataFrame | None = None, **changes: object) -> NeuronSet:
    settings_ = {"k": 5, "pairs": {"train": 20}}
    arguments = {
        "value": "power",
        "method": "effect_size",
        "n_layers": 4,
        "d_mlp": 64,
        "settings": settings_,
        **changes,
    }
    return NeuronSet(df=table() if df is None else df, fingerprint={"weights_hash": "ab"}, **arguments)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 30), seed=st.integers(0, 1000))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, n: int, seed: int) -> None:
    saved = neuron_set(table(n, seed))
    path = saved.save(tmp_path_factory.mktemp("set") / "deep" / "power")
    loaded = NeuronSet.load(path)
    pd.testing.assert_frame_equal(loaded.df, saved.df, check_dtype=n > 0)
    for name in ("value", "method", "site", "n_layers", "d_mlp", "fingerprint", "settings"):
        assert getattr(loaded, name) == getattr(saved, name)


def test_path_may_carry_either_ending_or_none(tmp_path: Path) -> None:
    neuron_set().save(tmp_path / "power.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["power.json", "power.safetensors"]
    for name in ("power", "power.json", "power.safetensors"):
        assert len(NeuronSet.load(tmp_path / name)) == 5


def test_save_over_an_older_set_replaces_it(tmp_path: Path) -> None:
    neuron_set(table(9)).save(tmp_path / "s")
    neuron_set(table(3)).save(tmp_path / "s")
    assert len(NeuronSet.load(tmp_path / "s")) == 3


def test_killed_save_leaves_no_set_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        neuron_set().save(tmp_path / "s")
    monkeypatch.undo()
    with pytest.raises(InputError, match="does not exist"):
        NeuronSet.load(tmp_path / "s")


def test_save_killed_between_its_two_files_does_not_mix_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron_set(table(5, seed=1)).save(tmp_path / "s")
    replace = os.replace
    calls = []

    def killed_at_the_second(*names: str) -> None:
        calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        neuron_set(table(5, seed=2)).save(tmp_path / "s")
    monkeypatch.undo()
    with pytest.raises(InputError):
        NeuronSet.load(tmp_path / "s")


@pytest.mark.parametrize("missing", ["s.json", "s.safetensors"])
def test_half_a_set_is_refused(tmp_path: Path, missing: str) -> None:
    neuron_set().save(tmp_path / "s")
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing} does not exist"):
        NeuronSet.load(tmp_path / "s")


@pytest.mark.parametrize(
    "content", ['{"schema": 1', "{}", json.dumps({"value": "power", "columns": ["layer"], "text": {}})]
)
def test_json_that_is_no_neuron_set(tmp_path: Path, content: str) -> None:
    neuron_set().save(tmp_path / "s")
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"s\.json|lacks the columns"):
        NeuronSet.load(tmp_path / "s")


def test_truncated_tensors_are_refused(tmp_path: Path) -> None:
    neuron_set().save(tmp_path / "s")
    file = tmp_path / "s.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="s"):
        NeuronSet.load(tmp_path / "s")


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("layer", 4, "layer 4: the model has 4"),
        ("layer", -1, "layer"),
        ("neuron", 64, "neuron 64: d_mlp is 64"),
        ("mean_plus", np.nan, "not finite"),
        ("sd", np.inf, "not finite"),
    ],
)
def test_impossible_cells(column: str, cell: float, message: str) -> None:
    df = table()
    df.loc[2, column] = cell
    with pytest.raises(InputError, match=message):
        neuron_set(df)


def test_other_refusals() -> None:
    with pytest.raises(InputError, match="the name of a value"):
        neuron_set(value="kind/ness")
    with pytest.raises(InputError, match="twice"):
        neuron_set(pd.concat([table(), table()]))
    with pytest.raises(InputError, match="lacks the columns sd, score"):
        neuron_set(table().drop(columns=["sd", "score"]))


def test_parts_keep_rank_and_identity() -> None:
    whole = neuron_set(table(12))
    best = whole.head(3)
    assert best.df["neuron"].tolist() == whole.df["neuron"].tolist()[:3]
    assert (best.value, best.fingerprint, best.d_mlp) == (whole.value, whole.fingerprint, whole.d_mlp)
    assert sum(len(whole.at(layer)) for layer in whole.layers) == len(whole) == 12
    assert list(whole.layers) == sorted(set(whole.df["layer"]))
    assert "power" in repr(whole) and "<table" in whole._repr_html_()


@pytest.mark.parametrize(
    "names", [("llama-3.1", "llama-3.2"), ("v1.0.json.old", "v1.0.json.new"), (".hidden", ".other")]
)
def test_names_with_dots_are_names(tmp_path: Path, names: tuple[str, str]) -> None:
    sets = [neuron_set(table(n, seed=n)) for n in (3, 5)]
    paths = [one.save(tmp_path / name) for one, name in zip(sets, names, strict=True)]
    assert [path.name for path in paths] == [f"{name}.json" for name in names]
    for one, name, path in zip(sets, names, paths, strict=True):
        assert len(NeuronSet.load(tmp_path / name)) == len(NeuronSet.load(path)) == len(one)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_that_version_0_1_cut_is_named(tmp_path: Path) -> None:
    neuron_set().save(tmp_path / "llama-3")  # 0.1 wrote `llama-3.1` there
    with pytest.raises(InputError, match=r"llama-3\.1\.json does not exist.*llama-3\.json exists"):
        NeuronSet.load(tmp_path / "llama-3.1")


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_a_path_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="names no file"):
        neuron_set().save(name)


def test_settings_that_json_cannot_hold_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        neuron_set(settings={"f": object()}).save(tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": [0.0, 1.0]}, "column layer .* whole numbers"),
        ({"neuron": [True, False]}, "column neuron .* whole numbers"),
        ({"neuron": ["1", "2"]}, "column neuron .* whole numbers"),
        ({"sd": [1.0, -0.5]}, "negative spread"),
        ({"mean_plus": [1e300, 0.0]}, "float32"),
        ({"mean_minus": [1 + 0j, 2 + 0j]}, "column mean_minus .* numbers"),
        ({"score": ["a", "b"]}, "column score .* numbers"),
        ({"layer": [-1, 0]}, "names layer -1"),
    ],
)
def test_columns_of_the_wrong_kind_are_refused(changes: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        neuron_set(table(2).assign(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 4.0}, "n_layers"),
        ({"d_mlp": True}, "d_mlp"),
        ({"d_mlp": 10**30}, "d_mlp"),
        ({"site": "resid"}, "site"),
        ({"method": 3}, "method"),
        ({"settings": [1]}, "settings"),
        ({"fingerprint": [1]}, "fingerprint"),
        ({"df": "power"}, "DataFrame"),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(changes: dict[str, object], message: str) -> None:
    unchecked = object.__new__(NeuronSet)  # the test suite checks types at every call
    for name in ("value", "method", "df", "n_layers", "d_mlp", "site", "fingerprint", "settings"):
        object.__setattr__(unchecked, name, changes.get(name, getattr(neuron_set(), name)))
    with pytest.raises(InputError, match=message):
        unchecked.__post_init__()


@pytest.mark.parametrize("power", [3, [], {}, {"detectable_g": 1}, {"detectable_g": {"all": "x", "alone": None}}])
def test_foreign_settings_do_not_break_the_display(power: object) -> None:
    assert "NeuronSet(power" in repr(neuron_set(settings={"power": power}))
