"""A tiny chat model, and stand-ins for its answers that differ by role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from neva_tl import models
from neva_tl.models.tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random Llama with a chat template and room for a role."""
    return models.load(tiny_checkpoint(tmp_path_factory.mktemp("chat") / "llama", chat=True, n_ctx=1024))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache for each test: the answers of one must not serve another."""
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str, int], str]], list[Any]]:
    """Replace the model's generation by a function (role, question, number) -> answer; returns the list of its calls."""

    def install(answer: Callable[[str, str, int], str]) -> list[Any]:
        calls: list[Any] = []

        def generate(model: Any, prompts: Sequence[Any], *, numbers: Sequence[int], **options: Any) -> list[str]:
            calls.append((list(prompts), list(numbers), options))
            return [
                answer(*turns[-1]["content"].split("\n\n", 1), number)
                for turns, number in zip(prompts, numbers, strict=True)
            ]

        monkeypatch.setattr("neva_tl.models.inference.generate", generate)
        return calls

    return install
