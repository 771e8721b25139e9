"""Generation against plain transformers, and with and without caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers.sessions import PROMPTS, Recorder, edit_marked
from neva_tl import models
from neva_tl.models import inference
from neva_tl.models.inference import generation
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core


def greedy_by_hand(folder: Path, ids: tuple[int, ...], n: int, stops: frozenset[int]) -> list[int]:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen, new = list(ids), []
    for _ in range(n):
        with torch.no_grad():
            token = int(hf(torch.tensor([seen])).logits[0, -1].argmax())
        if token in stops:
            break
        seen.append(token)
        new.append(token)
    return new


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_greedy_equals_transformers(zoo: dict[str, Any], folders: dict[str, Path], name: str) -> None:
    model, text = zoo[name], models.tokenizer(zoo[name])
    got = inference.generate(model, PROMPTS, max_new_tokens=12)
    for item, out in zip(inference.encode_one(model, [Example(p, "") for p in PROMPTS]), got, strict=True):
        new = greedy_by_hand(folders[name], item.ids, 12, inference.stop_ids(model))
        assert out == text.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batches_and_cache_change_nothing(model: Any, temperature: float) -> None:
    how: dict[str, Any] = {"max_new_tokens": 10, "temperature": temperature, "seed": 5}
    want = inference.generate(model, PROMPTS, **how)
    assert inference.generate(model, PROMPTS, cache=False, **how) == want
    assert inference.generate(model, PROMPTS, batch_size=1, **how) == want
    assert inference.generate(model, PROMPTS, batch_size=3, **how) == want
    assert inference.generate(model, PROMPTS[:2], **how) == want[:2]
    if temperature:
        assert inference.generate(model, PROMPTS, **(how | {"seed": 6})) != want


def test_texts_end_at_eos_whoever_ends_first(zoo: dict[str, Any]) -> None:
    """A hook that forces EOS after a number of steps; rows that ended are dropped and the others go on alike."""
    model = zoo["llama"]
    text = models.tokenizer(model)
    free = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, stop_at_eos=False)
    held = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1)
    session = Recorder()
    kept = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, session=session)
    # a batch of one row has no row to drop
    alone = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, batch_size=1)
    assert kept == held == alone
    rows = [mask.shape[0] for _, mask in session.marks]
    assert rows[0] == len(PROMPTS) and rows == sorted(rows, reverse=True)
    assert all(text.eos_token not in out for out in held)
    assert all(whole.startswith(part) for whole, part in zip(free, held, strict=True))


def test_stop_tokens_end_and_rows_are_dropped(zoo: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With half the vocabulary as stop tokens texts end early, and still equal the ones decoded without dropping."""
    model = zoo["llama"]
    stops = frozenset(range(0, 320, 4))
    monkeypatch.setattr(generation, "stop_ids", lambda model: stops)
    how: dict[str, Any] = {"max_new_tokens": 16, "temperature": 1.0, "seed": 2}
    many = [f"{p} {w}" for p in PROMPTS for w in ("a", "the fox", "bread")]
    session = Recorder()
    dropped = inference.generate(model, many, session=session, **how)
    # a batch of one row has no row to drop
    assert inference.generate(model, many, **how) == dropped == inference.generate(model, many, batch_size=1, **how)


def test_sessions_are_told_prompt_then_generated(zoo: dict[str, Any]) -> None:
    session = Recorder()
    inference.generate(zoo["llama"], PROMPTS, max_new_tokens=4, session=session, stop_at_eos=False)
    generated, mask = session.marks[0]
    assert not generated.any() and mask.sum(1).tolist() == sorted(mask.sum(1).tolist())
    assert len(session.marks) == 4
    assert all(g.shape == (4, 1) and g.all() and m.all() for g, m in session.marks[1:])
    session = Recorder()
    inference.generate(zoo["llama"], PROMPTS, max_new_tokens=4, session=session, cache=False, stop_at_eos=False)
    assert [int(g.sum()) for g, _ in session.marks] == [0, 4, 8, 12]


def test_edited_generation_with_cache_equals_without(model: Any) -> None:
    with edit_marked(model, Recorder()) as session:
        fast = inference.generate(model, PROMPTS, max_new_tokens=10, session=session)
        slow = inference.generate(model, PROMPTS, max_new_tokens=10, session=session, cache=False)
    assert fast == slow != inference.generate(model, PROMPTS, max_new_tokens=10)


def test_like_distributions_give_like_texts(zoo: dict[str, Any]) -> None:
    """Common random numbers: a hair's edit leaves almost every sampled text as it was."""
    model = zoo["llama"]
    handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: x * 1.00001)
    near = inference.generate(model, PROMPTS, max_new_tokens=10, temperature=1.0)
    handle.remove()
    assert near == inference.generate(model, PROMPTS, max_new_tokens=10, temperature=1.0)


def test_equal_prompts_of_a_batch_run_once(zoo: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = zoo["llama"], [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]]
    widths: list[int] = []
    forward = models.forward

    def counting(model: Any, tokens: torch.Tensor, *args: Any, **options: Any) -> Any:
        widths.append(len(tokens))
        return forward(model, tokens, *args, **options)

    monkeypatch.setattr(models, "forward", counting)
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "stop_at_eos": False}
    together = inference.generate(model, prompts, **options)
    assert widths == [2, 4, 4, 4, 4, 4]
    alone = [inference.generate(model, [prompt], numbers=[i], **options)[0] for i, prompt in enumerate(prompts)]
    assert together == alone and len({together[i] for i in (0, 2, 3)}) > 1
    widths.clear()
    handle = models.add_hook(model, models.hook_name(model, 0, "post"), lambda x, **_: None)
    assert inference.generate(model, prompts, **options) == together and widths[0] == 4, "a hook sees every row"
    handle.remove()
