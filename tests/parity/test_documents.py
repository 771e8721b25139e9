"""The tests that docs/reliability.md names exist."""

from __future__ import annotations

import re

from helpers.paths import ROOT


def test_the_tests_that_the_reliability_page_names_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for file, function in named:
        path = ROOT / ("" if file.startswith("tests/") else "tests") / file
        assert path.is_file(), file
        assert not function or f"def {function}(" in path.read_text(encoding="utf-8"), f"{file}::{function}"
