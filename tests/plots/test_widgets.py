"""CircuitsVis views: offline, escaped, checked."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("circuitsvis")

from neva_tl.errors import InputError
from neva_tl.plots import colored_tokens, neuron_activations

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
    ):
        html = view._repr_html_()
        assert HOSTILE[1] not in html
        assert html.count("</script>") == 1 and html.count("<script") >= 1
        assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html
        assert "unpkg.com" not in html
        assert html.count("<div") == html[: html.index("<script")].count("<div") + html[html.index("<script") :].count(
            "<div"
        )
        page = view.save(tmp_path / "view.html").read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>") and html in page


def test_wrong_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        neuron_activations(["a", "b"], np.zeros((2, 3)), ["one", "two"])
    with pytest.raises(InputError, match="one array per text"):
        neuron_activations([["a"], ["b"]], [np.zeros((1, 1))], ["one"])
    with pytest.raises(InputError, match="not finite"):
        neuron_activations(["a"], np.array([[np.nan]]), ["one"])
    with pytest.raises(InputError, match="one number per token"):
        colored_tokens(["a", "b"], np.zeros(3))
