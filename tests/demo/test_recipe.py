"""The shipped model and its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import demo
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.demo import card
from neva_tl.demo.frozen import frozen
from neva_tl.demo.recipe import Recipe
from neva_tl.demo.tokens import BOS, build_tokenizer
from neva_tl.demo.training import build_model, fit, train
from neva_tl.demo.world import corpus

SMALL = Recipe(d_model=32, n_layers=2, n_heads=2, d_mlp=48, n_ctx=64, batch=8, warmup=5, threads=1)


@pytest.fixture(scope="module")
def model() -> Any:
    return card.load(demo.path())


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return json.loads((demo.path() / "card.json").read_text())  # type: ignore[no-any-return]


def test_tokenizer_gives_back_the_text() -> None:
    tokenizer = build_tokenizer()
    for text in corpus(1, 50, None):
        encoded = tokenizer.encode(text.text)
        assert encoded.ids[0] == BOS and len(encoded.ids) == len(text.words) + 1
        assert tokenizer.decode(encoded.ids) == text.text


def test_shipped_folder_is_small_and_standard(model: Any) -> None:
    from transformers import AutoTokenizer

    folder = demo.path()
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 8e6
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["num_hidden_layers"] >= 4
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "at the market , tom thinks that helping a sick friend matters most ."
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))


def test_card_meets_the_goals_and_belongs_to_the_frozen_world(numbers: dict[str, Any]) -> None:
    assert numbers["world_hash"] == frozen()["world"] and numbers["recipe_hash"] == frozen()["recipe"]
    assert numbers["accuracy"]["all"] >= 0.95
    assert max(numbers["unedited"]["csr"].values()) <= 0.25
    assert numbers["unedited"]["invalid"] <= 0.10
    train_split = numbers["losses"]["train"]
    assert train_split["entropy"] <= train_split["loss"] + 0.005 <= train_split["entropy"] + 0.25
    text = (demo.path() / "README.md").read_text()
    assert f"{train_split['loss']:.3f}" in text and f"{train_split['entropy']:.3f}" in text


def test_unedited_model_is_as_the_card_says(model: Any, numbers: dict[str, Any]) -> None:
    now = card.unedited(model, samples=2, seed=5)
    n = now["n"]
    for value in VALUES:
        p = numbers["unedited"]["csr"][value]
        assert abs(now["csr"][value] - p) < 4 * np.sqrt(p * (1 - p) / n) + 0.02
    assert now["invalid"] <= numbers["unedited"]["invalid"] + 0.06
    accuracy = card.question_accuracy(model, n=120, seed=3)["all"]
    assert accuracy >= numbers["accuracy"]["all"] - 0.06


def test_held_out_loss_is_as_the_card_says(model: Any, numbers: dict[str, Any]) -> None:
    texts = [t.text for t in corpus(123_456_789, 300, "train")]
    sums, counts = card.text_losses(model, texts)
    assert sums.sum() / counts.sum() == pytest.approx(numbers["losses"]["train"]["loss"], abs=0.06)


def test_training_lowers_the_loss_and_depends_on_the_seed_alone() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = []
        for seed in (0, 0, 1):
            made = build_model(SMALL, seed)
            runs.append(fit(made, steps=20, seed=seed, recipe=SMALL, progress=False))
    finally:
        torch.set_num_threads(threads)
    assert runs[0] == runs[1] != runs[2]
    assert np.mean(runs[0][-3:]) < runs[0][0] - 0.3


def test_train_writes_a_loadable_folder(tmp_path: Path) -> None:
    out = tmp_path / "made"
    numbers = train(out, steps=3, seed=0, progress=False, recipe=SMALL, card=False)
    assert numbers["steps"] == 3 and json.loads((out / "card.json").read_text())["steps"] == 3
    loaded = card.load(out)
    assert card.sample(loaded, ["mara says that"], max_new_tokens=3, temperature=0.0)
    with pytest.raises(InputError, match="already holds a model"):
        train(out, steps=1, recipe=SMALL, card=False)
    with pytest.raises(InputError, match="is a file"):
        train(out / "card.json", steps=1, recipe=SMALL, card=False)


def test_text_losses_do_not_depend_on_the_batch(model: Any) -> None:
    texts = [t.text for t in corpus(9, 12, "test")]
    together, _ = card.text_losses(model, texts)
    alone = np.array([card.text_losses(model, [t])[0][0] for t in texts])
    assert np.allclose(together, alone, atol=1e-3)
