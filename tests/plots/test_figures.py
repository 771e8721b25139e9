"""Figures: drawn from tables alone, with the data in them, leaving no global state behind."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from helpers import fake_run as fake
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.plots.bars import method_bars
from neva_tl.plots.dose import dose_response, mean_over_values, pick_split
from neva_tl.plots.style import at_gain, condition_label, conditions, method_order, of_condition, plain_numbers, short


@pytest.mark.parametrize("name", list(plots.FIGURES))
def test_every_figure_is_written_as_pdf_and_png(run: Path, name: str) -> None:
    before = dict(mpl.rcParams)
    pdf, png = plots.write_figures(run, (name,))
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 5000
    assert b"/Type3" not in pdf.read_bytes()  # type 42 fonts: text stays text
    picture = imread(png)
    assert picture.shape[1] >= 700 and picture[..., :3].std() > 0.02
    assert not list(png.parent.glob(".*"))
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_same_table_gives_the_same_bytes(run: Path) -> None:
    first = [path.read_bytes() for path in plots.write_figures(run, ("leakage_heatmap",))]
    assert [path.read_bytes() for path in plots.write_figures(run, ("leakage_heatmap",))] == first


def test_heatmap_shows_each_cell_in_circle_order_on_one_scale() -> None:
    df = at_gain(fake.leakage())
    figure = plots.leakage_heatmap(df)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == df["method"].nunique()
    scales = {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in panels}
    assert len(scales) == 1
    (low, high) = scales.pop()
    assert low == -high
    part = of_condition(df, conditions(df)[0])
    wanted = part.pivot(index="steered", columns="measured", values="d").loc[list(VALUES), list(VALUES)]
    assert np.allclose(panels[0].images[0].get_array(), wanted)
    solid = (part.pivot(index="steered", columns="measured", values="lo").loc[list(VALUES), list(VALUES)] > 0) | (
        part.pivot(index="steered", columns="measured", values="hi").loc[list(VALUES), list(VALUES)] < 0
    )
    assert np.array_equal(np.asarray(panels[0].images[0].get_alpha()) == 1.0, solid.to_numpy())


def test_holes_are_drawn_as_holes() -> None:
    df = at_gain(fake.leakage())
    df.loc[df.index[:15], ["d", "lo", "hi"]] = np.nan
    plots.leakage_heatmap(df)
    plots.circle_plot(df)
    table = fake.methods().astype({"nlr": object, "acc": object})
    table.loc[0, "nlr"] = None
    table["acc"] = None
    figure = method_bars(table)
    assert "accuracy" not in " ".join(ax.get_title() for ax in figure.axes)
    one = df[(df["steered"] == "power") & (df["method"] == "caa")]
    plots.leakage_heatmap(one)


def test_one_value_of_a_neuron_set_and_its_layers() -> None:
    neurons = fake.neurons()
    one = neurons[neurons["value"] == "power"].drop(columns=["g", "method"])
    figure = plots.layer_profile(one, n_layers=9)
    heights = {round(patch.get_x() + patch.get_width() / 2): patch.get_height() for patch in figure.axes[0].patches}
    assert heights == one["layer"].value_counts().to_dict()


def test_means_over_values_use_shared_doses_only() -> None:
    df = pd.DataFrame(
        {
            "steered": ["power", "power", "security", "security"],
            "dose": [1.0, 1.7, 1.0, 2.9],
            "gain": [0.1, 0.5, 0.3, 0.9],
        }
    )
    assert mean_over_values(df, "gain").to_dict() == {1.0: 0.2, 1.7: 0.5, 2.9: 0.9}  # half of two values is one
    three = pd.concat([df, df.assign(steered=lambda x: x["steered"] + "'")])
    assert mean_over_values(three, "gain").index.tolist() == [1.0, 1.7, 2.9]
    lonely = pd.concat([df, pd.DataFrame({"steered": ["tradition"], "dose": [1.0], "gain": [0.5]})])
    assert mean_over_values(lonely, "gain").to_dict() == pytest.approx({1.0: 0.3})


def test_a_split_is_chosen_and_one_dose_is_enough() -> None:
    df = fake.dose()
    both = pd.concat([df, df.head(3).assign(split="test")])
    assert set(pick_split(both)["split"]) == {"test"}
    assert set(pick_split(both, "validation")["split"]) == {"validation"}
    dose_response(df[df["dose"] == 1.0].drop(columns=["admissible", "split"]))


@pytest.mark.parametrize("draw", [spec.draw for spec in plots.FIGURES.values()])
def test_wrong_tables_are_refused_by_name(draw: object) -> None:
    with pytest.raises(InputError, match="lacks the columns"):
        draw(pd.DataFrame({"x": [1]}))  # type: ignore[operator]


def test_empty_tables_are_refused() -> None:
    with pytest.raises(InputError, match="no rows"):
        plots.leakage_heatmap(fake.leakage().head(0))


def test_labels_and_orders() -> None:
    assert [short(x) for x in (0.4, -0.05, 0.0, 1.25, -0.001, float("nan"))] == [".4", "−.05", "0", "1.25", "0", "–"]
    assert short(0.4, fixed=True) == ".40"
    assert method_order(["zebra", "caa", "neva", "caa"]) == ["neva", "caa", "zebra"]
    assert condition_label("neva", "probe", 0.4) == "NeVA · probe gate · gain .4"
    assert condition_label("role", None, float("nan")) == "role prompt"


def test_numbers_with_holes_become_floats() -> None:
    raw = pd.DataFrame(
        {"target_gain": pd.array([0.2, None], dtype="Float64"), "gate": [None, None], "n": [1, 2], "ok": [True, None]}
    )
    out = plain_numbers(raw)
    assert out["target_gain"].dtype == np.float64 and np.isnan(out["target_gain"][1])
    assert out["n"].dtype == raw["n"].dtype and out["ok"][0] is True
    assert len(conditions(out.assign(method="caa"))) == 2


def test_missing_run_and_table_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        plots.read_table(tmp_path / "nowhere", "leakage")
    (tmp_path / "tables").mkdir()
    with pytest.raises(InputError, match=r"leakage\.parquet"):
        plots.read_table(tmp_path, "leakage")
    (tmp_path / "tables" / "leakage.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        plots.read_table(tmp_path, "leakage")
    with pytest.raises(InputError, match="unknown figure"):
        plots.draw_run(tmp_path, "pie")
