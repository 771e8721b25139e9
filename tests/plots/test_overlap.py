"""Shared neurons, counted by hand."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.plots.overlap import overlaps

#: (layer, neuron) of three values: power and security share two, power and tradition none, security and tradition one.
SETS = {
    "power": [(0, 1), (0, 2), (1, 1), (1, 2)],
    "security": [(0, 1), (1, 2), (2, 0)],
    "tradition": [(2, 0), (2, 1)],
}
TABLE = pd.DataFrame(
    [(v, layer, k) for v, found in SETS.items() for layer, k in found], columns=["value", "layer", "neuron"]
)
N = 12


def hypergeometric(n: int, a: int, b: int, shared: int) -> float:
    return comb(a, shared) * comb(n - a, b - shared) / comb(n, b)


def test_counts_jaccard_and_chance() -> None:
    found = overlaps(TABLE.sample(frac=1, random_state=0), N).set_index(["a", "b"])
    assert list(found.index) == [("power", "security"), ("power", "tradition"), ("security", "tradition")]
    assert found["shared"].tolist() == [2, 0, 1]
    assert found["jaccard"].tolist() == pytest.approx([2 / 5, 0, 1 / 4])
    assert found["expected"].tolist() == pytest.approx([4 * 3 / 12, 4 * 2 / 12, 3 * 2 / 12])
    more = sum(hypergeometric(N, 4, 3, k) for k in (2, 3))
    assert found.loc[("power", "security"), "p_more"] == pytest.approx(more)
    assert found.loc[("power", "tradition"), "p_fewer"] == pytest.approx(hypergeometric(N, 4, 2, 0))
    assert found.loc[("power", "tradition"), "p_more"] == pytest.approx(1)


def test_the_picture_holds_them() -> None:
    figure = plots.overlap_plot(TABLE, n_neurons=N)
    ax = figure.axes[0]
    cells = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert cells == {
        (0, 0): "4", (1, 1): "3", (2, 2): "2", (0, 1): "2", (0, 2): "0", (1, 2): "1",
        (1, 0): ".40", (2, 0): "0", (2, 1): ".25",
    }  # fmt: skip
    heat = np.asarray(ax.images[0].get_array().filled(-1))
    assert np.allclose(heat, [[-1, 0.4, 0], [0.4, -1, 0.25], [0, 0.25, -1]])
    assert "0.5 to 1.0 shared" in figure.get_supxlabel() and "of 12 neurons" in figure.get_supxlabel()
    assert "at least 9 neurons" in plots.overlap_plot(TABLE).get_supxlabel()


def test_more_and_fewer_than_chance_are_marked() -> None:
    rows = [("power", 0, k) for k in range(50)] + [("security", 0, k) for k in range(5, 55)]
    rows += [("tradition", 0, k) for k in range(55, 105)]
    ax = plots.overlap_plot(pd.DataFrame(rows, columns=["value", "layer", "neuron"]), n_neurons=120).axes[0]
    marks = {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in ax.texts}
    assert marks[0, 1].get_fontweight() == "bold" and marks[0, 1].get_text() == "45"
    assert marks[0, 2].get_fontweight() == "normal" and marks[0, 2].get_text() == "0↓"


def test_a_run_lends_its_models_size_and_one_value_is_enough(run: Path) -> None:
    (run / "manifest.json").write_text(json.dumps({"model": {"n_layers": 6, "d_mlp": 700}}))
    assert "of 4,200 neurons" in plots.draw_run(run, "overlap").get_supxlabel()
    (run / "manifest.json").write_text("no json")
    assert "of 3,072 neurons" in plots.draw_run(run, "overlap").get_supxlabel()  # from results.json
    (run / "results.json").unlink()
    assert "at least" in plots.draw_run(run, "overlap").get_supxlabel()
    plots.overlap_plot(TABLE[TABLE["value"] == "power"], n_neurons=N)


def test_one_selector_is_shown() -> None:
    both = pd.concat([TABLE.assign(method="neva"), TABLE.assign(method="lape", neuron=TABLE["neuron"] + 5)])
    sizes = {t.get_text() for t in plots.overlap_plot(both, n_neurons=30, method="lape").axes[0].texts}
    assert "8" not in sizes and "4" in sizes


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="4 neurons"):
        plots.overlap_plot(TABLE, n_neurons=3)
