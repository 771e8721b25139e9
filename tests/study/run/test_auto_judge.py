"""NEVA_JUDGE: the user's judge in place of `auto`, on instruct models only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva_tl.core.errors import InputError
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import Study
from neva_tl.study.own_words import judging
from neva_tl.study.own_words.concept import find_concepts
from neva_tl.study.own_words.judging import find_scorer
from neva_tl.study.run.auto_judge import VARIABLE, configured_judge

LLM = "llm:a-model#oppose=no"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("judge") / "chat", "llama", chat=True)


def test_auto_stays_what_it_was_without_it(chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (None, "", "  "):
        monkeypatch.delenv(VARIABLE, raising=False) if content is None else monkeypatch.setenv(VARIABLE, content)
        assert configured_judge() == "auto"
        assert Study(chat, prompts="schwartz").config.judge == "logprob"


def test_it_judges_instruct_models_and_no_others(
    chat: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, LLM)
    study = Study(chat, prompts="schwartz")
    assert study.config.judge == LLM and study.config.kind == "asked"
    assert Study(chat, prompts="schwartz", judge="logprob").config.judge == "logprob"
    assert Study("demo").config.judge == "exact"
    capsys.readouterr()
    assert Study(folders["gpt2"], prompts="schwartz").config.judge == "logprob"
    assert f"{VARIABLE} is left aside: no chat template of gpt2" in capsys.readouterr().err
    assert Study("some/hub-name", prompts="schwartz").config.judge == "logprob"  # nothing is asked of a hub


def test_a_loaded_model_is_asked_itself(
    tiny_model: Any, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, LLM)
    assert Study(tiny_model, prompts="schwartz").config.judge == LLM
    assert Study(loaded["gpt2"], prompts="schwartz").config.judge == "logprob"


@pytest.mark.parametrize("judge", ["exact", "oracle", "oracle:x", "logprob"])
def test_another_word_is_refused(judge: str, chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, judge)
    with pytest.raises(InputError, match=f"{VARIABLE}={judge} is not a judge of texts"):
        Study(chat, prompts="schwartz")


def test_it_filters_answers_in_the_models_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no judge knows the concept by itself, one line names both ways out."""
    concepts = find_concepts("thrift", "spending little")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"no judge knows thrift by itself.*NEVA_JUDGE") as caught:
        find_scorer("auto", concepts)
    assert "\n" not in str(caught.value)
    named = []

    def load(name: str, theory: Any) -> Any:
        named.append((name, theory.names))
        return len  # a function from texts passes as a judge of one concept

    monkeypatch.setattr(judging, "load_judge", load)
    monkeypatch.setenv(VARIABLE, LLM)
    find_scorer("auto", concepts)
    find_scorer("chat:other", concepts)
    assert named == [(LLM, ("thrift",)), ("chat:other", ("thrift",))]
