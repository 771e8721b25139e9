"""The role prompt."""

from __future__ import annotations

import pytest

from neva_tl.core.values import value as lookup
from neva_tl.editing import rewrite
from neva_tl.methods import Evidence, build

pytestmark = pytest.mark.core


def test_role_prompt_names_the_value(evidence: Evidence) -> None:
    role = build("role", evidence, "power")
    prompt = rewrite(role, "What should Tom do?")
    assert "power" in prompt and lookup("power").definition.rstrip(".") in prompt
    assert prompt.endswith("\n\nWhat should Tom do?")
