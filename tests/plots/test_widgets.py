"""CircuitsVis views: offline, escaped, checked."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("circuitsvis")

from neva_tl.core.errors import InputError
from neva_tl.plots import Widget, attention, bundle, colored_tokens, neuron_activations

HOSTILE = ["<s>", "</script><script>alert(1)</script>", '"quotes"', "\u202ertl", "🙂", "x" * 300]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a view asked the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_views_are_offline_and_escaped(no_network: None, tmp_path: Path) -> None:
    acts = np.arange(12.0).reshape(6, 2)
    for view in (
        neuron_activations(HOSTILE, acts, ["L0.1", "</script>L3.2"]),
        neuron_activations([HOSTILE, HOSTILE[:2]], [acts, acts[:2]], ["a", "b"]),
        neuron_activations(HOSTILE, torch.ones(6, 1), ["L0.1"]),
        colored_tokens(HOSTILE, np.linspace(-1, 1, 6)),
        attention(HOSTILE, np.tril(np.ones((2, 6, 6))), ["L0.H1", "</script>L3.H2"]),
    ):
        html = view._repr_html_()
        # data, bundle, our own script: nothing else opens or ends a script element
        assert html.count("</script>") == html.count("<script") == 3
        assert "http" not in view.bare and "unpkg.com" not in html and "sourceMappingURL" not in html
        block = re.findall(r'<script type="application/json" class="neva-props">([^<]*)</script>', html)
        assert len(block) == 1 and block[0].isascii()
        shown = json.dumps(json.loads(block[0]), ensure_ascii=False)
        assert ("</script><script>" in shown) is (view.element == "AttentionHeads")  # the canvas knows no HTML
        assert ("&lt;/script&gt;&lt;script&gt;alert(1)" in shown) is (view.element != "AttentionHeads")
        page = view.save(tmp_path / "view.html").read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>") and html in page


def test_the_bundle_is_apart_and_whole() -> None:
    import circuitsvis

    views = [colored_tokens(["a"], [float(k)]) for k in range(5)]
    page = "".join(view.bare for view in views) + bundle()
    source = (Path(circuitsvis.__file__).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    assert len(page) < len(source) + 10_000
    held = page[page.index('class="neva-circuitsvis">') + 25 :]
    held = held[: held.index("</script>")].replace("\\x3c", "<")
    assert held.strip() == source.split("//# sourceMappingURL")[0].strip()


def test_attention_says_what_it_was_given() -> None:
    pattern = np.array([[[1.0, 0.0], [0.25, 0.75]]])
    props = json.loads(attention(["a", "b" * 99], torch.as_tensor(pattern), ["L1.H0"]).props)
    assert props["attention"] == pattern.tolist() and props["attentionHeadNames"] == ["L1.H0"]
    assert props["tokens"] == ["a", "b" * 23 + "…"]
    with pytest.raises(InputError, match="shape"):
        attention(["a"], pattern, ["L1.H0"])
    with pytest.raises(InputError, match="no heads"):
        attention(["a"], np.zeros((0, 1, 1)), [])
    assert repr(Widget("X", "{}")) == "Widget(element='X')"


def test_wrong_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        neuron_activations(["a", "b"], np.zeros((2, 3)), ["one", "two"])
    with pytest.raises(InputError, match="one array per text"):
        neuron_activations([["a"], ["b"]], [np.zeros((1, 1))], ["one"])
    with pytest.raises(InputError, match="not finite"):
        neuron_activations(["a"], np.array([[np.nan]]), ["one"])
    with pytest.raises(InputError, match="one number per token"):
        colored_tokens(["a", "b"], np.zeros(3))
