"""A model with a planted circuit and a task on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from helpers.planted_circuits import VALUE_WORDS, plant, texts
from neva_tl.attribution import value_tokens
from neva_tl.circuits import ValueTask


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nv.load(str(plant(tmp_path_factory.mktemp("m"), "llama", 0, noise=0.05).folder))


@pytest.fixture(scope="session")
def task(model: Any) -> ValueTask:
    examples, signs = texts(0, 12)
    tokens = value_tokens(model, list(VALUE_WORDS), VALUE_WORDS)
    return ValueTask("power", tuple(examples), signs, np.arange(len(examples)).astype(str), tokens, at="last")
