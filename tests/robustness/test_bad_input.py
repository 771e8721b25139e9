"""Bad input: exit status 2 and one clear line that says what is wrong and where; never a traceback, never a half result."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from neva_tl.cli import main as cli
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer

Refused = Callable[..., str]
WORDS = "bridge mill farm harbour market garden school choir tower council forge bakery"
THINGS = WORDS.split()
#: The module; the package exports the function under the same name.
STEER = importlib.import_module("neva_tl.study.steering.steer")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 layers x 48 neurons, context of 128 tokens."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny", n_layers=2, chat=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [("power", f"Rule the {thing} yourself.", f"Leave the {thing} to others.") for thing in THINGS]
    return pair_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", rows)


def pair_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("value", "question_1", "question_2"), *rows])
    return path


def own_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("value", "pole", "text"), *rows])
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused: exit status 2, nothing on stdout, one last line of its own. Returns that line."""

    def run(*argv: Any) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("neva-tl")]
        assert caught.value.code == 2, err
        assert out == "" and len(ours) == 1 and lines[-1] == ours[0]
        assert "Traceback" not in err and "Error:" not in ours[0]
        return ours[0]

    return run


# ---------------------------------------------------------------- models


def test_unknown_model(refused: Refused) -> None:
    line = refused("generate", "hi", "--model", "no-such-model")
    assert "unknown model 'no-such-model'" in line and "neva-tl models" in line
    assert "is not a folder" in refused("generate", "hi", "--model", "./no/such/folder")
    assert "does not exist" in refused("generate", "hi", "--model", "missing.gguf")


def test_half_a_model(refused: Refused, tmp_path: Path, model: Path) -> None:
    assert "config.json" in refused("generate", "hi", "--model", tmp_path)
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    assert "safetensors" in refused("generate", "hi", "--model", tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    assert "not a GGUF file" in refused("generate", "hi", "--model", tmp_path / "bad.gguf")


def test_mixture_of_experts(refused: Refused, tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    text = tiny_tokenizer()
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        vocab_size=len(text),
        max_position_embeddings=64,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "experts")
    text.save_pretrained(tmp_path / "experts")
    assert "mixture of experts (2 per layer)" in refused("generate", "hi", "--model", tmp_path / "experts")


def test_nan_in_the_weights_is_refused_before_any_work(
    refused: Refused, model: Path, pairs: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][7, 3] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    for command in (("collect",), ("run", "--judge", "logprob"), ("select", "--value", "power")):
        out = tmp_path / f"out-{command[0]}"
        line = refused(*command, "--model", broken, "--prompts", f"pairs:{pairs}", "--out", out)
        assert "are not finite in float32: the weights are damaged" in line
        assert not out.with_suffix(".json").exists() and not (out / "results.json").exists()


def test_unknown_dtype(refused: Refused, model: Path) -> None:
    assert "unknown dtype 'int3'" in refused("generate", "hi", "--model", model, "--dtype", "int3")


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no"),
        ([("power", "+", f"Rule the {t}.") for t in THINGS], "power has no - prompts"),
        ([("powr", p, f"Take the {t} {p}.") for t in THINGS for p in "+-"], "unknown value 'powr'"),
        ([("power", "+", "Rule."), ("power", "-", "Serve.")], "at least 2"),
        ([("power", "±", f"Rule the {t}.") for t in THINGS], "pole is"),
        ([*(("power", p, f"The {t} {p}.") for t in THINGS for p in "+-"), ("power", "+", "")], "text is empty"),
        ([("power", p, f"The {t}.") for t in THINGS for p in "+-"], "both + and -"),
    ],
)
def test_unusable_prompts(refused: Refused, model: Path, tmp_path: Path, rows: Any, says: str) -> None:
    """The file is named, with the line where it is one line's fault."""
    file = own_csv(tmp_path / "mine.csv", rows)
    line = refused("collect", "--model", model, "--prompts", file, "--out", tmp_path / "stats")
    assert says in line and "mine.csv" in line
    assert not list(tmp_path.glob("stats*"))


def test_missing_and_empty_files(refused: Refused, model: Path, tmp_path: Path) -> None:
    ask = ("collect", "--model", model, "--out", tmp_path / "stats", "--prompts")
    assert "nowhere.csv" in refused(*ask, tmp_path / "nowhere.csv")
    assert "nowhere" in refused(*ask, f"persona:{tmp_path / 'nowhere'}")
    (tmp_path / "empty.csv").write_text("")
    assert "empty.csv" in refused(*ask, tmp_path / "empty.csv")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "empty.jsonl" in refused(*ask, tmp_path / "empty.jsonl")
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv" in refused(*ask, tmp_path / "folder.csv")
    assert "unknown prompts 'poems'" in refused(*ask, "poems")
    assert "names no path" in refused(*ask, "pairs:")


def test_text_longer_than_the_context(refused: Refused, model: Path, tmp_path: Path) -> None:
    rows = [("power", f"Rule the {thing}.", f"Leave the {thing}.") for thing in THINGS]
    rows[3] = ("power", "Rule " * 200, "Leave it.")
    file = pair_csv(tmp_path / "long.csv", rows)
    line = refused("collect", "--model", model, "--prompts", f"pairs:{file}", "--split", "all", "--out", tmp_path / "s")
    assert "128" in line and "Rule Rule" in line
    assert "128" in refused("generate", "word " * 200, "--model", model)
    assert "128" in refused("generate", "hi", "--model", model, "--tokens", 500)


# ---------------------------------------------------------------- options


def test_unknown_names(refused: Refused, model: Path, pairs: Path, tmp_path: Path) -> None:
    where = ("--model", model, "--prompts", f"pairs:{pairs}")
    run = ("run", *where, "--out", tmp_path / "run")
    assert "'greed'" in refused(*run, "--value", "greed")
    assert "unknown judge 'oracle'" in refused(*run, "--judge", "oracle")
    assert "exact judge knows only the demo" in refused(*run, "--judge", "exact")
    assert "unknown profile 'huge'" in refused(*run, "--profile", "huge")
    assert "unknown method 'magic'" in refused(*run, "--method", "magic")
    assert "unknown token scope 'some'" in refused(*run, "--scope", "some")
    assert "target gains must be above 0" in refused("leakage", *where, "--gain", "0", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "'greed'" in refused("select", *where, "--value", "greed")
    assert "unknown selection method 'magic'" in refused("select", *where, "--value", "power", "--method", "magic")
    assert "unknown pooling 'first'" in refused("collect", *where, "--pooling", "first", "--out", tmp_path / "s")
    assert "unknown split 'dev'" in refused("collect", *where, "--split", "dev", "--out", tmp_path / "s")
    assert "no prompts for hedonism" in refused("select", *where, "--value", "hedonism")
    assert "hold no hedonism" in refused(*run, "--value", "hedonism")


def test_generate_refuses_before_it_collects(
    refused: Refused, model: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(STEER, "steered_edit", lambda *args, **_: pytest.fail("collected first"))
    steer = ("generate", "hi", "--model", model, "--prompts", f"pairs:{pairs}", "--value")
    assert "'greed'" in refused(*steer, "greed")
    assert "unknown method 'magic'" in refused(*steer, "power", "--method", "magic")
    assert "unknown token scope 'some'" in refused(*steer, "power", "--scope", "some")
    for dose in ("nan", "inf", "-inf"):
        assert f"a finite number is expected, not {float(dose)}" in refused(*steer, "power", f"--dose={dose}")
    assert "it is a folder" in refused(*steer, "power", "--out", folder_named(tmp_path, "x.txt"))


def folder_named(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


@pytest.mark.parametrize("k", [97, 10**9])
def test_k_larger_than_the_model(refused: Refused, model: Path, pairs: Path, tmp_path: Path, k: int) -> None:
    where = ("--model", model, "--prompts", f"pairs:{pairs}", "--k", k)
    for command in (("select", "--value", "power"), ("circuit", "--value", "power", "--out", tmp_path / "c.json")):
        line = refused(*command, *where)
        assert f"k = {k}" in line and "96 neurons" in line
    assert "96 neurons" in refused("run", *where, "--out", tmp_path / "run", "--value", "power")


def test_k_zero(refused: Refused) -> None:
    for command in (("select", "--value", "power"), ("circuit", "--value", "power"), ("run",), ("layers",)):
        assert "--k" in refused(*command, "--k", "0")


# ---------------------------------------------------------------- outputs


def test_a_folder_of_another_study(refused: Refused, model: Path, pairs: Path, tmp_path: Path) -> None:
    other = {"study": "x", "config": {"seed": 5}, "prompt_hash": "y", "model": {"weights_hash": "z"}}
    (tmp_path / "manifest.json").write_text(json.dumps(other))
    for command in ("run", "leakage", "layers"):
        line = refused(command, "--model", model, "--prompts", f"pairs:{pairs}", "--out", tmp_path)
        assert "belongs to another study" in line and "seed was 5, now 0" in line and "--out" in line
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_a_folder_of_something_else(refused: Refused, model: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    line = refused("run", "--model", model, "--prompts", f"pairs:{pairs}", "--out", tmp_path)
    assert "not empty" in line and [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_outputs_that_cannot_be_written(
    refused: Refused, model: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    below = tmp_path / "file" / "below"
    where = ("--model", model, "--prompts", f"pairs:{pairs}")
    assert "is a file, not a folder" in refused("run", *where, "--out", below)
    assert "is a file" in refused("run", *where, "--out", tmp_path / "file")
    monkeypatch.setattr(STEER, "steered_edit", lambda *args, **_: pytest.fail("worked before it looked"))
    for work in ("cli.select_neurons.selected", "collect"):
        monkeypatch.setattr(f"neva_tl.{work}", lambda *args, **_: pytest.fail("worked before it looked"))
    for argv in (("collect",), ("select", "--value", "power"), ("circuit", "--value", "power")):
        assert "is a file, not a folder" in refused(*argv, *where, "--out", below)
    assert "is a file, not a folder" in refused("generate", "hi", *where, "--out", below)
    assert (tmp_path / "file").read_text() == "mine"
