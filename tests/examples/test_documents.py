"""The Python blocks of README and guides run on the demo model and print the text below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT

BLOCK = re.compile(r"```python\n(.*?)```\n+```text\n(.*?)```", re.DOTALL)
#: Documents whose blocks need no more than the demo model.
DOCUMENTS = ("README.md", "docs/guides/transformers.md")


def blocks(document: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks_print_the_text_below_them(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(document)
    code, text = block
    printed, names = io.StringIO(), dict[str, Any]({"__name__": "document"})
    with contextlib.redirect_stdout(printed):
        exec(compile(code, document, "exec"), names)
    assert printed.getvalue().rstrip() == text.rstrip()
