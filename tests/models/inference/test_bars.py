"""Bars of long loops over a model: counted in tokens, shown where asked for or where a long step takes long."""

from __future__ import annotations

from typing import Any

import pytest

import neva_tl as nv
from neva_tl.core import messages
from neva_tl.core.messages import Level, at_level, long_steps
from neva_tl.models import inference

PROMPTS = ["the old king", "a long road to the sea", "once"]


@pytest.fixture
def model(zoo: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(messages, "DELAY_S", 1e-9)
    monkeypatch.setattr(messages, "FILE_INTERVAL_S", 0.0)
    return zoo["llama"]


def write(model: Any, **options: Any) -> list[str]:
    return inference.generate(model, PROMPTS, max_new_tokens=5, batch_size=2, **options)


def test_texts_are_counted_in_tokens(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plain = write(model)
    assert capsys.readouterr().err == ""
    assert write(model, progress=True) == plain
    shown = capsys.readouterr().err.replace("\r", "\n").split("\n")
    counts = [int(line.rsplit("| ", 1)[1].split("/")[0]) for line in shown if "/15 [" in line]
    assert all("writing 3 texts" in line for line in shown if line.strip())
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 15
    assert len(set(counts)) > 3  # it moves within a batch of texts


def test_a_text_that_ends_early_fills_its_share(
    model: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from neva_tl.models.inference import generation

    monkeypatch.setattr(generation, "decode", lambda model, tokens, *rest: [[1]] * len(tokens))
    write(model, progress=True)
    assert "15/15" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["generate", "answer_logprobs", "batches"])
def test_inner_loops_of_long_steps_show_bars(model: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    examples = [nv.Example(prompt, " and then") for prompt in PROMPTS]

    def loop() -> None:
        if name == "generate":
            write(model)
        elif name == "answer_logprobs":
            inference.answer_logprobs(model, examples, token_budget=8)
        else:
            list(inference.batches(model, examples, token_budget=8))

    loop()
    assert capsys.readouterr().err == ""
    with long_steps(True):
        loop()
    what = {"generate": "writing 3 texts", "answer_logprobs": "log-probabilities", "batches": "forward passes"}[name]
    assert what in capsys.readouterr().err
    with long_steps(True), at_level(Level.QUIET):
        loop()
    with long_steps(True), long_steps(False):
        loop()
    assert capsys.readouterr().err == ""
