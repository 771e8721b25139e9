"""Mutated artefacts and prompt files: every reader accepts them or raises InputError with one line."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neva_tl import models, prompts
from neva_tl.activations.stats import ActivationStats
from neva_tl.core.cache import JsonCache
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.gate import RelevanceGate
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.preflight import check_run_folder, read_manifest
from neva_tl.study.run.run_folder import RunFolder

#: Values of the wrong type, for any place of a JSON document.
WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**31, 2**70, 10**400, 1.5, 1e300, -1e-300, float("inf"), float("nan"), "", "x", "\ud800", "power",
    "\0", [], [1], ["power"], [[]], {}, {"a": 1}, {"detectable_g": 3},
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Files that one reader reads.

    Attributes:
        write: Writes the valid files into a folder.
        read: Reads them from there.
        files: Name of each file.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: tuple[str, ...]


def _neurons(folder: Path) -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"layer": [0, 1, 1], "neuron": [3, 1, 2], "token": ["a", "b", "c"]})
    df = df.assign(**{name: rng.uniform(0.1, 1, 3) for name in ("mean_plus", "mean_minus", "sd", "score")})
    power = {"detectable_g": {"all": 0.5, "alone": 0.2}, "n": 9, "unit": "pairs", "power": 0.8, "neurons": 12}
    settings_ = {"k": 3, "power": power}
    NeuronSet("power", "m", df, 2, 6, fingerprint={"weights_hash": "a"}, settings=settings_).save(folder / "s")


def _statistics(folder: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [("power", pole, f"p{i}", f"c{i}", "train") for i in range(6) for pole in "+-"],
        columns=["value", "pole", "pair_id", "cluster", "split"],
    )
    h = rng.normal(size=(12, 2, 4)).astype(np.float32)
    ActivationStats.from_samples(h, table, keep=False, info={"n_layers": 2}, fingerprint={"dtype": "x"}).save(
        folder / "s"
    )


def _gate(folder: Path) -> None:
    share = np.array([0.5, 0.6])
    RelevanceGate((0, 1), np.ones((2, 4), np.float32), share, share, share).save(folder / "s.safetensors")


ROWS = [
    {
        "value": "power",
        "pole": pole,
        "text": f"the text {i} {pole}",
        "pair_id": f"p{i}",
        "cluster": f"c{i}",
        "answer_start": 4,
        "answer_end": 8,
    }
    for i in range(4)
    for pole in "+-"
]
STATEMENTS = [
    {"statement": f"I like {i}", "answer_matching_behavior": answer} for i in range(4) for answer in (" Yes", " No")
]


def _lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        json.dumps(
            {
                **row,
                **({"statement": f"{row['statement']}{row['answer_matching_behavior']}"} if "statement" in row else {}),
            }
        )
        for row in rows
    )


def _cache(folder: Path) -> None:
    cache = JsonCache(folder / "s.sqlite")
    cache.put_many({str(i): {"text": "x" * i} for i in range(9)})
    cache.close()


def _read_cache(folder: Path) -> Any:
    cache = JsonCache(folder / "s.sqlite")
    try:
        cache.put("new", 1)
        return cache.get_many([str(i) for i in range(9)])
    finally:
        cache.close()


@functools.cache
def _checkpoint() -> dict[str, bytes]:
    """Content of the files of a tiny model folder."""
    with tempfile.TemporaryDirectory() as folder:
        made = tiny_checkpoint(Path(folder) / "s", n_layers=2, chat=True)
        return {file.name: file.read_bytes() for file in made.iterdir()}


def _model(folder: Path) -> None:
    for name, content in _checkpoint().items():
        (folder / name).write_bytes(content)


def _manifest(folder: Path) -> None:
    config = StudyConfig(model="m", seed=3, k=5, selection={"lam": 0.5}, overrides={"targets": [0.2]}).to_json()
    model = {"name": "m", "weights_hash": "w", "function": {"settings": {"rope": 1}}, "dtype": "float32"}
    manifest = {"schema": 1, "study": "a-b-c", "config": config, "model": model, "prompt_hash": "p", "template": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _read_manifest(folder: Path) -> None:
    config = StudyConfig.from_manifest(read_manifest(folder, measured=True)["config"])
    config.resolved().spending()
    check_run_folder(folder)
    RunFolder.open(
        folder, {"study": "a-b-c", "config": {"seed": 4}, "model": {"weights_hash": "v", "function": {"settings": {}}}}
    )


def _csv(folder: Path) -> None:
    pd.DataFrame(ROWS).to_csv(folder / "s.csv", index=False)


def _pairs(folder: Path) -> None:
    text = "question_1,question_2,topic\n" + "\n".join(f"I share {i}.,I keep {i}.,t{i}" for i in range(4))
    (folder / "power.csv").write_text(text)


TARGETS: dict[str, Target] = {
    "neurons": Target(_neurons, lambda folder: repr(NeuronSet.load(folder / "s")), ("s.json", "s.safetensors")),
    "statistics": Target(_statistics, lambda folder: ActivationStats.load(folder / "s"), ("s.json", "s.safetensors")),
    "gate": Target(_gate, lambda folder: RelevanceGate.load(folder / "s.safetensors"), ("s.safetensors",)),
    "jsonl": Target(
        lambda folder: (folder / "s.jsonl").write_text(_lines(ROWS)),
        lambda folder: prompts.load(folder / "s.jsonl").cap(2).hash,
        ("s.jsonl",),
    ),
    "csv": Target(_csv, lambda folder: prompts.load(folder / "s.csv").hash, ("s.csv",)),
    "parquet": Target(
        lambda folder: pd.DataFrame(ROWS).to_parquet(folder / "s.parquet"),
        lambda folder: prompts.load(folder / "s.parquet").hash,
        ("s.parquet",),
    ),
    "pairs": Target(_pairs, lambda folder: prompts.load(f"pairs:{folder / 'power.csv'}"), ("power.csv",)),
    "persona": Target(
        lambda folder: (folder / "risk-seeking.jsonl").write_text(_lines(STATEMENTS)),
        lambda folder: prompts.load(f"persona:{folder}"),
        ("risk-seeking.jsonl",),
    ),
    "cache": Target(_cache, _read_cache, ("s.sqlite",)),
    "model": Target(
        _model,
        models.load,
        ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"),
    ),
    "manifest": Target(_manifest, _read_manifest, ("manifest.json",)),
}


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON document."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(inner for key, item in items for inner in _paths(item, (*path, key)))]


def _replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = _replaced(data[path[0]], path[1:], value)
    return copy


def _mutate_document(draw: st.DrawFn, text: str) -> str:
    data = json.loads(text)
    path = draw(st.sampled_from(_paths(data)))
    if path and isinstance(path[-1], str) and draw(st.integers(0, 4)) == 0:
        parent = data
        for key in path[:-1]:
            parent = parent[key]
        copy = {key: item for key, item in parent.items() if key != path[-1]}
        return json.dumps(_replaced(data, path[:-1], copy))
    return json.dumps(_replaced(data, path, draw(st.sampled_from(WRONG))))


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    """A target and a function that damages one of its files."""
    name = draw(st.sampled_from(sorted(TARGETS)))
    file = draw(st.sampled_from(TARGETS[name].files))
    kind = draw(st.sampled_from(("value", "bytes", "cut", "encoding", "nested", "empty")))
    spot, bit, line = draw(st.floats(0, 1)), draw(st.integers(0, 7)), draw(st.integers(0, 7))

    def damage(folder: Path) -> None:
        path = folder / file
        content = path.read_bytes()
        if kind == "value" and file.endswith(".json"):
            path.write_text(_mutate_document(draw, content.decode()))
        elif kind == "value" and file.endswith(".jsonl"):
            lines = content.decode().splitlines()
            lines[line] = _mutate_document(draw, lines[line])
            path.write_text("\n".join(lines))
        elif kind == "cut":
            path.write_bytes(content[: int(spot * len(content))])
        elif kind == "encoding":
            path.write_bytes(content.decode("latin-1").encode("utf-16"))
        elif kind == "nested":
            path.write_text("[" * 100_000)
        elif kind == "empty":
            path.write_bytes(b"")
        else:
            changed = bytearray(content)
            changed[min(int(spot * len(content)), len(content) - 1)] ^= 1 << bit
            path.write_bytes(changed)
            if name == "neurons" and file.endswith(".safetensors") and line % 2:
                about = folder / "s.json"  # past the check of the hash
                meta = json.loads(about.read_text())
                about.write_text(json.dumps({**meta, "tensors": hashlib.sha256(changed).hexdigest()}))

    return name, damage


def _check(tmp_path_factory: pytest.TempPathFactory, case: tuple[str, Callable[[Path], None]]) -> None:
    name, damage = case
    folder = tmp_path_factory.mktemp(name)
    TARGETS[name].write(folder)
    damage(folder)
    try:
        TARGETS[name].read(folder)
    except InputError as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 1000, text


_SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=120, derandomize=True, **_SETTINGS)  # type: ignore[arg-type]
@given(case=st.data())
def test_a_mutated_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, case: st.DataObject) -> None:
    _check(tmp_path_factory, case.draw(mutations()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=5000, **_SETTINGS)  # type: ignore[arg-type]
@given(case=st.data())
def test_thousands_of_mutated_files(tmp_path_factory: pytest.TempPathFactory, case: st.DataObject) -> None:
    _check(tmp_path_factory, case.draw(mutations()))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_unchanged_files_are_read(tmp_path: Path, name: str) -> None:
    TARGETS[name].write(tmp_path)
    TARGETS[name].read(tmp_path)
