"""Data inside a page."""

from __future__ import annotations

import json
import math

import numpy as np

from neva_tl.plots.pages import json_text


def test_json_text_is_inert() -> None:
    hostile = {"a</script>": ["<!--", "\u2028", "\ud800", np.float64(1.5), math.nan, {"b": (1, True, None)}]}
    text = str(json_text(hostile))
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == {"a</script>": ["<!--", "\u2028", "\ud800", 1.5, None, {"b": [1, True, None]}]}
