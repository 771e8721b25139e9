"""The few-shot role prompt: which examples it shows, and how many."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

import neva_tl as nv
from neva_tl.activations import collect
from neva_tl.core.errors import InputError
from neva_tl.editing import RolePrompt
from neva_tl.methods import Evidence, build
from neva_tl.methods.role_few_shot import SHOTS, candidates
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.splits import hash_key

pytestmark = pytest.mark.core


def instruction(evidence: Evidence, method: str = "role_few_shot", value: str = "power") -> str:
    item = build(method, evidence, value)
    assert isinstance(item, RolePrompt)
    return item.instruction


@pytest.fixture(scope="module")
def dialogues(evidence: Evidence) -> Evidence:
    """Questions and answers, two of a cluster, in two splits."""
    rows: list[dict[str, Any]] = [
        {
            "value": "power",
            "pair_id": f"{split}{i}",
            "pole": pole,
            "text": f"Who rules {split} {i}? {answer}",
            "answer_start": len(f"Who rules {split} {i}? "),
            "answer_end": len(f"Who rules {split} {i}? {answer}"),
            "cluster": f"{split}{i // 2}",
            "split": split,
            "source": "test",
        }
        for split, n in (("train", 12), ("test", 4))
        for i in range(n)
        for pole, answer in zip("+-", ("I do.", "You do."), strict=True)
    ]
    stats = collect(evidence.model, ContrastSet.from_rows(rows, "dialogues"), samples=True)
    return replace(evidence, stats=stats)


def test_role_then_examples_then_prompt(dialogues: Evidence) -> None:
    text = instruction(dialogues)
    role, _, rest = text.partition("\n\nExamples of such answers:\n\n")
    assert role == instruction(dialogues, "role")
    *examples, last = rest.split("\n\n")
    assert last == "Now answer in the same way:" and len(examples) == SHOTS
    ranked = sorted((f"Who rules train {i}? I do." for i in range(12)), key=lambda t: hash_key(t, salt="few-shot "))
    clusters: list[int] = []
    for line in ranked:  # by hand: the first of each cluster
        number = int(line.split()[3][:-1]) // 2
        if number not in clusters:
            clusters.append(number)
            assert line.replace("? ", "?\n") == candidates(dialogues, "power")[len(clusters) - 1]
    assert examples == candidates(dialogues, "power")[:SHOTS]
    assert build("role_few_shot", dialogues, "power").rewrite("Who?") == f"{text}\n\nWho?"


def room(monkeypatch: pytest.MonkeyPatch, n_ctx: int) -> None:
    """Gives the model another context."""
    module = importlib.import_module("neva_tl.methods.role_few_shot")
    facts = module.models.info
    monkeypatch.setattr(module.models, "info", lambda model: replace(facts(model), n_ctx=n_ctx))


def test_half_of_the_context_is_the_limit(dialogues: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = nv.models.tokenizer(dialogues.model)
    size, shots = len(tokenizer(instruction(dialogues))["input_ids"]), []
    for n_ctx in (2 * size, 2 * size - 2):
        with monkeypatch.context() as patch:
            room(patch, n_ctx)
            text = instruction(dialogues)
            shots.append(text.count("Who rules"))
            assert len(tokenizer(text)["input_ids"]) <= n_ctx / 2
    assert shots == [SHOTS, SHOTS - 1]
    room(monkeypatch, 8)
    with pytest.raises(InputError, match="no training text of power fits"):
        instruction(dialogues)


def test_texts_without_a_question_are_shown_alone(evidence: Evidence, pairs: ContrastSet) -> None:
    shown = candidates(evidence, "power")
    texts = pairs.df.query("value == 'power' and pole == '+'")["text"]
    assert set(shown) == set(texts) and shown == sorted(texts, key=lambda t: hash_key(t, salt="few-shot "))


def test_statistics_without_texts_are_refused(evidence: Evidence) -> None:
    bare = replace(evidence, stats=replace(evidence.stats, samples=None, texts=None))
    with pytest.raises(InputError, match="role_few_shot shows training texts"):
        build("role_few_shot", bare, "power")


def test_the_demo_model_reads_full_sentences_of_its_own_language(demo: Any) -> None:
    pairs = nv.prompts.load("demo").split("train").cap(8)
    evidence = Evidence(demo, collect(demo, pairs, samples=True), {})
    tokenizer = nv.models.tokenizer(demo)
    for value in ("power", "benevolence"):
        role, item = (build(name, evidence, value) for name in ("role", "role_few_shot"))
        assert isinstance(role, RolePrompt) and isinstance(item, RolePrompt) and item.joiner == " "
        shown = item.instruction.removesuffix(" " + role.instruction)
        assert shown != item.instruction and shown.endswith(" .")
        texts = candidates(evidence, value, sentences=True)
        assert any(shown.startswith(text) for text in texts) and any(shown.endswith(text) for text in texts)
        assert len(tokenizer(item.instruction)["input_ids"]) <= nv.models.info(demo).n_ctx / 2
