"""Puts the faulty server within reach of the tests of this folder (tests are no package), and a judge's environment."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

if "faulty_server" not in sys.modules:
    spec = importlib.util.spec_from_file_location("faulty_server", Path(__file__).with_name("faulty_server.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["faulty_server"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


@pytest.fixture
def chat_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, no proxy, and short waits between retries (their growth is the client's own affair)."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", sys.modules["faulty_server"].KEY)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
