"""Folders of edits from another hand: truncated, renamed and hostile files end in one line, and nothing of them runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import neva_tl as nv
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, ContextAware, Edit, LayerProbe, RelevanceGate, Shift
from neva_tl.editing.saved import ARRAYS, FILE, _digest, load_edit, save_edit

from .test_saved import selected_neurons

pytestmark = pytest.mark.core


#: A pickle (protocol 0) that would create a file when it is read.
PICKLE = b"cos\nsystem\n(S'touch neva-tl-was-here'\ntR."


def _edit(model: Any) -> Edit:
    neurons = selected_neurons(model)
    layers = nv.models.info(model).n_layers
    shares = (np.full(layers, 0.5) for _ in range(3))
    gate = RelevanceGate(tuple(range(layers)), np.ones((layers, nv.models.info(model).d_mlp)), *shares)
    return ContextAware(neurons, (LayerProbe(0, np.array([1, 3]), np.ones(2), 0.25, np.ones(2), 2.0),), gate=gate)


@pytest.fixture
def folder(loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save_edit(_edit(loaded["llama"]), tmp_path / "edit", model=loaded["llama"], about={"value": "kind"})


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_edit(folder)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500 and str(folder) in text
    assert not Path("neva-tl-was-here").exists()
    return text


def forge(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change edit.json as one would who knows how its hash is made."""
    data = json.loads((folder / FILE).read_text())
    change(data)
    data["sha256"] = _digest(data)
    (folder / FILE).write_text(json.dumps(data))


def forge_arrays(folder: Path, content: bytes) -> None:
    (folder / ARRAYS).write_bytes(content)
    forge(folder, lambda data: data.update(arrays=hashlib.sha256(content).hexdigest()))


def header(text: str, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text.encode()


def tensor(shape: list[int], end: int) -> bytes:
    return header(json.dumps({"a0": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", [FILE, ARRAYS])
def test_truncated(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    assert name in refused(folder)


def test_renamed(folder: Path, loaded: dict[str, Any]) -> None:
    neurons = selected_neurons(loaded["llama"]).save(folder / "neurons")
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(neurons.read_bytes())
    assert "is not an edit" in refused(folder)
    (folder / FILE).write_bytes((folder / "neurons.safetensors").read_bytes())
    assert "is not an edit" in refused(folder)
    (folder / FILE).write_bytes(content)
    (folder / ARRAYS).write_bytes((folder / "neurons.safetensors").read_bytes())
    assert "does not belong" in refused(folder)
    (folder / FILE).rename(folder / "edit2.json")
    assert "does not hold an edit" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PICKLE,
        b"PK\x03\x04" + b"\0" * 100,
        header("{}", 10**12),
        header("[" * 5000),
        tensor([2**38], 2**40),
        tensor([2**62, 2**62], 16),
        tensor([-1], -4),
        save({"a0": np.ones(3)}),
    ],
    ids=["empty", "pickle", "zip", "length", "deep", "huge", "overflow", "negative", "other arrays"],
)
def test_hostile_arrays(folder: Path, content: bytes) -> None:
    forge_arrays(folder, content)
    refused(folder)


def test_arrays_that_are_no_file(folder: Path) -> None:
    (folder / ARRAYS).unlink()
    (folder / ARRAYS).symlink_to("/dev/zero")
    assert "does not exist" in refused(folder)
    (folder / ARRAYS).unlink()
    (folder / ARRAYS).mkdir()
    refused(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_arrays_with_nan(folder: Path, loaded: dict[str, Any], bad: float) -> None:
    from safetensors.numpy import load

    arrays = load((folder / ARRAYS).read_bytes())
    data = json.loads((folder / FILE).read_text())["edit"]["fields"]
    probe = data["probes"]["list"][0]["fields"]
    gate = data["gate"]["fields"]
    for name in (probe["weight"]["array"], probe["unit"]["array"], gate["weight"]["array"], gate["bias"]["array"]):
        spoilt = {key: x.copy() for key, x in arrays.items()}
        spoilt[name].flat[0] = bad
        forge_arrays(folder, save(spoilt))
        assert "NaN or infinities" in refused(folder)
    with pytest.raises(InputError, match="NaN or infinities"):
        save_edit(AddVector({0: np.array([1.0, bad])}), folder / "new")
    assert not (folder / "new").exists()


PROBE = ("edit", "fields", "probes", "list", 0)
CHANGES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "class of python": (("edit", "class"), "os.system"),
    "class of torch": (("edit", "class"), "torch.load"),
    "abstract class": (("edit", "class"), "Edit"),
    "class that is no edit": (("edit",), {"class": "NeuronSet", "fields": {}}),
    "class as a list": (("edit", "class"), ["Shift"]),
    "no class": (("edit",), {}),
    "text for an edit": (("edit",), "Shift"),
    "nothing": (("edit",), None),
    "unknown field": (("edit", "fields", "colour"), 1),
    "fields as a list": (("edit", "fields"), []),
    "infinite dose": (("edit", "fields", "dose"), {"float": "inf"}),
    "dose NaN": (("edit", "fields", "dose"), {"float": "nan"}),
    "dose of 400 digits": (("edit", "fields", "dose"), 10**400),
    "dose as a text": (("edit", "fields", "dose"), "__import__('os')"),
    "scope": (("edit", "fields", "scope"), "everywhere"),
    "array by a path": ((*PROBE, "fields", "weight"), {"array": "../../etc/passwd"}),
    "probe of another length": ((*PROBE, "fields", "weight"), {"array": "a0"}),
    "probe without index": ((*PROBE, "fields", "index"), None),
    "probe of a table": ((*PROBE, "fields", "unit"), {"table": []}),
    "probe of another class": (PROBE, {"class": "RolePrompt", "fields": {"instruction": "x"}}),
    "gate as a number": (("edit", "fields", "gate"), 1),
    "name above": (("model",), {"name": "../../../etc/passwd"}),
    "name with an escape": (("model",), {"name": "demo\x1b[2J"}),
    "name with a line": (("model",), {"name": "demo\nrm -rf"}),
    "name with a null": (("model",), {"name": "demo\0"}),
    "name as a list": (("model",), {"name": ["demo"]}),
    "relative folder": (("model",), {"name": "x", "folder": "models/x"}),
    "folder above": (("model",), {"name": "x", "folder": "/models/../etc"}),
    "schema": (("schema",), 3),
    "schema as a text": (("schema",), "2"),
    "schema as a list": (("schema",), [2]),
    "kind": (("kind",), "steering"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_json(folder: Path, name: str) -> None:
    path, content = CHANGES[name]

    def change(data: dict[str, Any]) -> None:
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = content

    forge(folder, change)
    refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"schema": 2, "kind": "edit", "edit": ' + b'{"list": [' * 50_000,
        b"\xff\xfe{",
        b"[1]",
        b"null",
        b"{}",
    ],
)
def test_json_that_is_none(folder: Path, content: bytes) -> None:
    (folder / FILE).write_bytes(content)
    refused(folder)


def test_deep_nesting_that_json_still_reads(folder: Path) -> None:
    deep: Any = None
    for _ in range(400):
        deep = {"list": [deep]}
    forge(folder, lambda data: data["edit"]["fields"].update(neurons=deep))
    refused(folder)


def test_a_hostile_value_stays_text_on_the_card(loaded: dict[str, Any], tmp_path: Path) -> None:
    value = "x | y\n# <script>alert(1)</script> [a](http://b) `c`"
    measures = {"gain": {"est": 0.1, "lo": 0.0, "hi": 0.2, "n": 3}, "judge": value, "unit": value, "advice": "none"}
    measures |= {"texts": [{"prompt": value, "unedited": value, "edited": value}]}
    folder = save_edit(
        Shift(selected_neurons(loaded["llama"])), tmp_path / "edit", about={"value": value, "measures": measures}
    )
    head, text = (folder / "README.md").read_text().split("\n---\n", 1)
    assert value not in head and "script" not in head
    assert "<script" not in text and "](http" not in text
    assert not [line for line in text.splitlines() if line.startswith("# &lt;")]
