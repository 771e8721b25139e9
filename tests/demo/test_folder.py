"""Demo models beside the shipped one: `demo:FOLDER`, the world each belongs to, and training on from trained weights."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import neva_tl as nv
from helpers.scripts import load_script
from neva_tl import demo, prompts
from neva_tl.attribution.tokens import default_words
from neva_tl.core.errors import InputError, WorkError
from neva_tl.demo import card
from neva_tl.demo.lexicon import BORDER_RATE_VARIABLE
from neva_tl.demo.recipe import CONTINUED, Recipe
from neva_tl.demo.tokens import BOS
from neva_tl.demo.training import packed, train
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import StudyConfig
from neva_tl.study.run import stages

SMALL = Recipe(d_model=32, n_layers=2, n_heads=2, d_mlp=48, n_ctx=128, batch=4, warmup=5, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo model that has hardly been trained."""
    made = tmp_path_factory.mktemp("models") / "other"
    train(made, steps=3, seed=5, progress=False, recipe=SMALL, card=False)
    return made


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The model in a folder of its own, with changes to its card."""

    def make(**changes: Any) -> Path:
        made = tmp_path / "copy"
        shutil.copytree(folder, made)
        file = made / "card.json"
        numbers = {name: x for name, x in (json.loads(file.read_text()) | changes).items() if x is not None}
        file.write_text(json.dumps(numbers))
        return made

    return make


def test_it_is_a_demo_model_wherever_demo_is_one(folder: Path) -> None:
    model = nv.load(f"demo:{folder}")
    info = nv.models.info(model)
    assert (info.name, info.demo, info.d_model) == ("demo:other", True, 32)
    assert default_words(model, ["power"]) == {"power": demo.words("power", "A")}
    config = StudyConfig(model=f"demo:{folder}", prompts="auto").resolved()
    shipped = StudyConfig().resolved()
    for name in ("prompts", "judge", "scope", "gate", "k", "selection", "pooling", "kind", "demo"):
        assert getattr(config, name) == getattr(shipped, name), name
    # a loaded one is known by its name
    assert StudyConfig(model=info.name).resolved().to_json() == config.to_json()


def test_the_same_folder_without_the_word_demo_is_any_model(folder: Path) -> None:
    model = nv.load(folder)
    assert nv.models.info(model).name == "other" and not nv.models.info(model).demo
    assert not StudyConfig(model=str(folder)).demo


def test_a_manifest_names_the_world_and_no_path(folder: Path) -> None:
    model, pairs = nv.load(f"demo:{folder}"), prompts.load("demo", per_value=12)
    config = StudyConfig(model=f"demo:{folder}").resolved()
    about = stages.manifest(config, model, pairs, [])
    assert about["world"] == {"border_rate": 0.08, "frozen": True}
    assert about["config"]["model"] == about["model"]["name"] == "demo:other"
    assert str(folder.parent) not in json.dumps(about)
    assert config.hash() != StudyConfig().hash()
    again = StudyConfig.from_manifest(about["config"])
    assert again.demo and again.hash() == config.hash()
    assert "world" not in stages.manifest(StudyConfig(model="smollm2").resolved(), model, pairs, [])


def test_studies_of_two_worlds_are_two_studies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where every prompt happened to be the same."""
    model, pairs = nv.load(f"demo:{folder}"), prompts.load("demo", per_value=12)
    config = StudyConfig(model=f"demo:{folder}").resolved()
    before = stages.manifest(config, model, pairs, [])
    monkeypatch.setattr(demo, "BORDER_RATE", 0.25)
    after = stages.manifest(config, model, pairs, [])
    assert after["world"] == {"border_rate": 0.25, "frozen": False} and after["study"] != before["study"]


def test_commands_take_its_own_prompts_and_refuse_what_the_demo_cannot(folder: Path, call: Any, tmp_path: Path) -> None:
    status, _, err = call("profile", "--model", f"demo:{folder}")
    assert status == 2 and "without questions" in err
    status, out, err = call("generate", "mara says that", "--model", f"demo:{folder}", "--tokens", 2)
    assert status == 0 and out.startswith("[unedited] mara says that")
    status, _, err = call("run", "--model", "demo:nowhere", "--out", tmp_path / "run")
    assert status == 2 and "nowhere is not a folder" in err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_demo_model_is_refused(folder: Path, tmp_path: Path, copy: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="names no folder: write demo:FOLDER"):
        nv.load("demo:")
    with pytest.raises(InputError, match="missing is not a folder"):
        nv.load(f"demo:{tmp_path / 'missing'}")
    other = tiny_checkpoint(tmp_path / "tiny")
    with pytest.raises(InputError, match=r"tiny is not a demo model: it has no readable card\.json"):
        nv.load(f"demo:{other}")
    shutil.copy(folder / "card.json", other)
    with pytest.raises(InputError, match="its vocabulary is not the demo world's"):
        nv.load(f"demo:{other}")
    made = copy()
    (made / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"not a demo model: it has no model\.safetensors"):
        nv.load(f"demo:{made}")
    (made / "card.json").write_text("[]")
    with pytest.raises(InputError, match=r"no readable card\.json"):
        nv.load(f"demo:{made}")


def test_a_model_of_another_world_is_refused_by_the_variable_to_set(copy: Callable[..., Path]) -> None:
    made = copy(border_rate=0.25)
    with pytest.raises(InputError, match=rf"border rate 0.25, this process has 0.08: set {BORDER_RATE_VARIABLE}=0.25"):
        nv.load(f"demo:{made}")
    (made / "card.json").write_text(json.dumps({"border_rate": "much"}))
    with pytest.raises(InputError, match="border rate that is not a number"):
        nv.load(f"demo:{made}")


def test_a_card_without_a_rate_is_of_the_frozen_world(copy: Callable[..., Path]) -> None:
    assert nv.models.info(nv.load(f"demo:{copy(border_rate=None)}")).demo


def test_the_shipped_model_is_refused_in_another_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neva_tl.demo.folder.BORDER_RATE", 0.5)
    with pytest.raises(InputError, match=f"this process has 0.5: unset {BORDER_RATE_VARIABLE}"):
        nv.load("demo")


# ---------------------------------------------------------------- training on


def first_loss(model: Any, tokens: torch.Tensor) -> float:
    """Mean loss of a packed batch, position by position, <bos> never a target."""
    with torch.no_grad():
        logp = model(input_ids=tokens).logits.log_softmax(-1)
    sums = [
        -float(logp[r, i - 1, tokens[r, i]])
        for r in range(tokens.shape[0])
        for i in range(1, tokens.shape[1])
        if tokens[r, i] != BOS
    ]
    return sum(sums) / len(sums)


def test_going_on_starts_from_the_given_weights(tmp_path: Path) -> None:
    losses: list[float] = []
    numbers = train(
        tmp_path / "on",
        steps=1,
        seed=9,
        progress=False,
        card=False,
        start="shipped",
        threads=1,
        on_step=lambda step, loss: losses.append(loss),
    )
    shipped = card.load(demo.path())
    assert losses[0] == pytest.approx(first_loss(shipped, next(packed(9, 1, CONTINUED))), abs=1e-4)
    assert numbers["start"] == "shipped" and numbers["border_rate"] == 0.08 and numbers["threads"] == 1
    assert numbers["recipe"]["drills"] == () and numbers["recipe"]["lr"] == CONTINUED.lr
    one, two = (m.state_dict() for m in (shipped, card.load(tmp_path / "on")))
    moved = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < moved < 0.01


def test_going_on_takes_the_sizes_of_what_it_starts_from(folder: Path, tmp_path: Path) -> None:
    numbers = train(tmp_path / "on", steps=1, progress=False, card=False, start=folder, threads=1)
    assert numbers["recipe"]["d_mlp"] == 48 and numbers["start"] == "other"
    assert str(folder.parent) not in (tmp_path / "on/card.json").read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"start": "nowhere"}, "nowhere is not a folder"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_bad_options_leave_nothing_behind(options: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line):
        train(tmp_path / "out", card=False, **options)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- analyses/demo_models.py


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What `neva-tl train-demo` was asked for, by commands and variables; it writes the shipped model, or fails on seed 2."""
    asked: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append((command, env))
        out = Path(command[command.index("--out") + 1])
        failed = command[command.index("--seed") + 1] == "2"
        if failed:
            out.mkdir()
            (out / "config.json").write_text("{}")
        else:
            shutil.copytree(demo.path(), out)
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_models_are_trained_once_and_whole(
    trained: list[tuple[list[str], dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("demo_models")
    for _ in range(2):
        for name in ("seed1", "shared50"):
            script.make(tmp_path, name, 800, None)
    (one, plain), (two, world) = trained
    assert "--start" not in one and BORDER_RATE_VARIABLE not in plain
    assert two[two.index("--start") + 1] == "shipped" and world[BORDER_RATE_VARIABLE] == "0.5"
    with pytest.raises(WorkError, match="training seed2 failed"):
        script.make(tmp_path, "seed2", 800, None)
    assert not (tmp_path / "seed2").exists()
    script.show(tmp_path)
    printed = capsys.readouterr().out
    assert "seed1" in printed and "shared50" in printed and "seed2" not in printed
    (tmp_path / "seed2").mkdir()
    (tmp_path / "seed2" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds no finished model"):
        script.make(tmp_path, "seed2", 800, None)
