"""The numbers of figures, of tables and of the page are the same numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import fake_run as fake
from helpers.paths import FIXTURES
from neva_tl import plots
from neva_tl.core.formatting import fixed, interval, short
from neva_tl.core.values import VALUES
from neva_tl.plots.bars import MEASURES
from neva_tl.plots.dose import mean_over_values
from neva_tl.plots.style import at_gain, conditions, of_condition
from neva_tl.study.report import sections, tables

V0_1 = FIXTURES / "v0.1" / "run"


def points(ax: Axes) -> set[tuple[float, float]]:
    """Every finite marked point of an axes."""
    drawn = [line for line in ax.lines if line.get_marker() == "o"]
    pairs = [pair for line in drawn for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    return rounded(pairs)


def segments(ax: Axes) -> set[tuple[float, float]]:
    """Both ends of every finite interval that `hlines` or `vlines` drew: (smaller, larger)."""
    ends = set()
    for collection in ax.collections:
        lines = [np.asarray(line) for line in getattr(collection, "get_segments", list)()]
        for start, end in (line for line in lines if len(line) == 2):
            axis = 0 if start[1] == end[1] else 1
            ends.add((float(start[axis]), float(end[axis])))
    return rounded(ends)


def rounded(pairs: Iterable[Iterable[float]]) -> set[tuple[float, float]]:
    return {(round(float(x), 9), round(float(y), 9)) for x, y in pairs if np.isfinite([x, y]).all()}


def pairs_of(df: pd.DataFrame, x: str, y: str) -> set[tuple[float, float]]:
    return rounded(df[[x, y]].astype(float).to_numpy())


@pytest.fixture(params=["made up", "a run of version 0.1"])
def methods(request: pytest.FixtureRequest) -> pd.DataFrame:
    return fake.methods() if request.param == "made up" else pd.read_parquet(V0_1 / "tables" / "methods.parquet")


def test_bars_are_the_table_of_methods(methods: pd.DataFrame) -> None:
    figure = plots.method_bars(methods)
    names = {title: name for name, (title, _, _) in MEASURES.items()}
    shown = {names[ax.get_title().rsplit(" ", 1)[0]]: ax for ax in figure.axes}
    assert set(shown) == {name for name in MEASURES if methods[name].notna().any()} and "kl" in shown
    for name, ax in shown.items():
        column = methods[name].astype(float)
        estimates = {round(float(line.get_xdata()[0]), 9) for line in ax.lines if line.get_marker() == "o"}
        assert estimates == {round(x, 9) for x in column.dropna()}
        labels = [text.get_text() for text in ax.texts if text.get_text() != "not defined"]
        assert sorted(labels) == sorted(short(x, 3 if name == "kl" else 2) for x in column.dropna())
        if f"{name}_lo" in methods:
            low, high = sorted(ax.get_xlim())
            whiskers = {
                tuple(line.get_xdata())
                for line in ax.lines
                if line.get_marker() == "None" and len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
            }
            ends = methods[[f"{name}_lo", f"{name}_hi"]].astype(float).dropna().to_numpy()
            inside = [pair for pair in ends if low <= pair[0] and pair[1] <= high]
            assert inside and all(any(np.allclose(pair, drawn) for drawn in whiskers) for pair in inside)


def test_the_page_has_the_tables_of_the_figures(methods: pd.DataFrame) -> None:
    page = tables.methods(methods)
    columns = {column["label"]: index for index, column in enumerate(page["columns"])}
    assert {"KL", "accuracy", "perplexity"} <= set(columns) and ("leakage" in columns) == ("leakage" in methods)
    ordered = tables.in_order(methods)
    for cells, (_, row) in zip(page["rows"], ordered.iterrows(), strict=True):
        for label, name in (("gain", "gain"), ("NLR", "nlr"), ("NGL", "ngl")):
            assert cells[columns[label]]["text"] == interval(row[name], row[f"{name}_lo"], row[f"{name}_hi"])
        assert cells[columns["KL"]]["text"] == fixed(row["kl"], 3)
        assert cells[columns["accuracy"]]["text"] == f"{fixed(row['acc_base'], 3)} → {fixed(row['acc'], 3)}"


def test_matrices_of_the_page_and_of_the_figure_are_one() -> None:
    df = at_gain(fake.leakage())
    figure = plots.leakage_heatmap(df)
    panels = [ax for ax in figure.axes if ax.images]
    maps = sections.heatmaps(df)["maps"]
    assert len(maps) == len(panels) == len(conditions(df))
    for ax, page, condition in zip(panels, maps, conditions(df), strict=True):
        drawn = [text.get_text() for text in ax.texts]
        assert drawn == [cell["text"] for row in page["rows"] for cell in row["cells"]]
        rows = of_condition(df, condition)
        assert np.allclose(np.sort(np.asarray(ax.images[0].get_array()).ravel()), np.sort(rows["d"]))


def test_the_circle_draws_the_gains_as_areas() -> None:
    df = at_gain(fake.leakage())
    figure = plots.circle_plot(df)
    gains = df[df["steered"] == df["measured"]]
    for ax, condition in zip(figure.axes, conditions(df), strict=False):
        own = of_condition(gains, condition).set_index("steered")["d"].reindex(list(VALUES))
        areas = np.array([float(collection.get_sizes()[0]) for collection in ax.collections])
        assert np.allclose(areas, 20 + 150 * own.clip(lower=0) / gains["d"].max())


def test_the_search_is_the_table_of_doses_and_names_its_leakage() -> None:
    df = fake.dose()
    figure = plots.dose_response(df)
    panels = conditions(df.assign(target_gain=np.nan))
    grid = np.array(figure.axes).reshape(3, len(panels))
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["gain", "plain leakage", "invalid rate"]
    for column, condition in zip(grid.T, panels, strict=True):
        rows = of_condition(df, condition)
        for ax, name in zip(column, ("gain", "leakage", "invalid"), strict=True):
            mean = mean_over_values(rows, name)
            assert points(ax) == rounded(zip(mean.index, mean, strict=True))
    scatter = plots.gain_leakage(df)
    assert scatter.axes[0].get_ylabel() == "plain leakage (mean over values)"
    drawn = rounded(pair for collection in scatter.axes[0].collections for pair in collection.get_offsets())
    expected = set()
    for condition in panels:
        rows = of_condition(df, condition)
        gain, leak = mean_over_values(rows, "gain"), mean_over_values(rows, "leakage")
        expected |= rounded((gain[dose], leak[dose]) for dose in gain.index.intersection(leak.index))
    assert drawn == expected


def test_a_search_without_leakage_has_no_empty_axes() -> None:
    df = fake.dose().assign(leakage=np.nan)
    texts = [text.get_text() for text in plots.gain_leakage(df).axes[0].texts]
    assert texts == ["not measured: the judge scored the steered value alone"]
    assert not any("leakage" in ax.get_ylabel() for ax in plots.dose_response(df).axes)


def check(figure: Figure, df: pd.DataFrame, x: str, measures: Iterable[str], labels: dict[str, str]) -> None:
    for name in measures:
        axes = [ax for ax in figure.axes if labels[name] in (ax.get_ylabel(), ax.get_xlabel())]
        assert axes, name
        drawn = set.union(*(points(ax) for ax in axes))
        assert pairs_of(df, x, name) == drawn
        if f"{name}_lo" in df:
            assert pairs_of(df, f"{name}_lo", f"{name}_hi") <= set.union(*(segments(ax) for ax in axes))


def test_curves_at_equal_gains_are_their_table() -> None:
    df = fake.gain_curves()
    labels = {"leakage": "leakage\n(mean over other values)", "kl": "KL on neutral text\n(nats per token)"}
    check(plots.FIGURES["gain_curves"].draw(df), df, "gain", labels, labels)


def test_pairs_of_values_are_their_table() -> None:
    df = fake.two_values_kinds()
    figure = plots.FIGURES["two_values"].draw(df)
    for ax, name in zip(figure.axes, ("gain", "min_gain", "leakage", "invalid"), strict=True):
        assert {x for x, _ in points(ax)} == {round(float(x), 9) for x in df[name]}
        if f"{name}_lo" in df:
            assert pairs_of(df, f"{name}_lo", f"{name}_hi") <= segments(ax)


def test_levels_of_sensitivity_are_their_table() -> None:
    df = fake.sensitivity()
    figure = plots.FIGURES["sensitivity"].draw(df)
    factors = df["factor"].nunique()
    for index, name in enumerate(("gain", "leakage", "kl")):
        axes = figure.axes[index * factors : (index + 1) * factors]
        heights = {y for ax in axes for _, y in points(ax)}
        assert heights == {round(float(y), 9) for y in df[name].dropna()}
        if f"{name}_lo" in df:
            drawn = set.union(*(segments(ax) for ax in axes))
            assert pairs_of(df, f"{name}_lo", f"{name}_hi") <= drawn


def test_layers_and_sets_count_the_rows_of_the_table() -> None:
    df = fake.neurons()
    figure = plots.layer_profile(df)
    for ax, (_, rows) in zip(figure.axes, df.groupby("value", sort=False), strict=True):
        assert sum(patch.get_height() for patch in ax.patches) == len(rows)
        assert any(re.match(rf"n = {len(rows)}\b", text.get_text()) for text in ax.texts)
    counts = {
        int(text.get_text())
        for text in plots.overlap_plot(df, n_neurons=3072).axes[0].texts
        if text.get_text().isdigit()
    }
    assert set(df.groupby("value").size()) <= counts


def test_tables_of_a_run_agree_with_each_other() -> None:
    """Means of the tables of cells and of values are the table of methods: one leakage, cross-fitted, in all of them."""
    read = {name: pd.read_parquet(V0_1 / "tables" / f"{name}.parquet") for name in ("methods", "values", "leakage")}
    for condition in conditions(read["methods"]):
        (_, row), *others = of_condition(read["methods"], condition).iterrows()
        assert not others
        values, cells = (of_condition(read[name], condition) for name in ("values", "leakage"))
        own = cells[cells["steered"] == cells["measured"]].set_index("steered")["d"]
        assert np.allclose(values.set_index("steered")["gain"], own[values["steered"]])
        assert row["gain"] == pytest.approx(values["gain"].mean()) and row["leakage"] == pytest.approx(
            values["leakage"].mean()
        )
        if pd.notna(row["nlr"]):
            assert row["nlr"] == pytest.approx(values["leakage"].sum() / values["gain"].sum())
