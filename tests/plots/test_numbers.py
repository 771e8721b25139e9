"""The numbers of figures, of tables and of the page are the same numbers.

Every function of `neva_tl.plots` that draws a table has a test here that reads the drawn artists (see the last test).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import t as student

from helpers import fake_run as fake
from helpers.paths import FIXTURES
from helpers.results_schema import check_tables
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import fixed, interval, short
from neva_tl.core.values import VALUES
from neva_tl.plots.bars import MEASURES
from neva_tl.plots.dose import mean_over_values
from neva_tl.plots.palette import MARKERS
from neva_tl.plots.showable import showable
from neva_tl.plots.style import at_gain, conditions, of_condition, present_values, value_colour
from neva_tl.study.report import sections, tables

V0_1 = FIXTURES / "v0.1" / "run"
Test = Callable[..., None]
#: Functions of `neva_tl.plots` whose drawn numbers a test reads.
READ: set[str] = set()


def reads(*names: str) -> Callable[[Test], Test]:
    """Name the figures whose numbers a test compares with their table."""
    READ.update(names)
    return lambda test: test


def points(ax: Axes) -> set[tuple[float, float]]:
    """Every finite marked point of an axes."""
    drawn = [line for line in ax.lines if line.get_marker() in MARKERS]
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
def table(request: pytest.FixtureRequest) -> Callable[[str], pd.DataFrame]:
    """Read a table of a made-up run and of a finished one."""
    made = {"methods": fake.methods, "leakage": fake.leakage, "dose": fake.dose, "neurons": fake.neurons}
    made["effects"] = lambda: fake.effects(fake.neurons(), per_value=60)
    if request.param == "made up":
        return lambda name: made[name]()
    return lambda name: pd.read_parquet(V0_1 / "tables" / f"{name}.parquet")


@pytest.fixture
def methods(table: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    return table("methods")


@reads("method_bars")
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


@reads("leakage_heatmap")
def test_matrices_of_the_page_and_of_the_figure_are_one(table: Callable[[str], pd.DataFrame]) -> None:
    df = at_gain(table("leakage"))
    figure = plots.leakage_heatmap(df)
    panels = [ax for ax in figure.axes if ax.images]
    maps = sections.heatmaps(df)["maps"]
    assert len(maps) == len(panels) == len(conditions(df))
    for ax, page, condition in zip(panels, maps, conditions(df), strict=True):
        drawn = [text.get_text() for text in ax.texts]
        assert drawn == [cell["text"] for row in page["rows"] for cell in row["cells"]]
        rows = of_condition(df, condition)
        assert np.allclose(np.sort(np.asarray(ax.images[0].get_array()).ravel()), np.sort(rows["d"]))


@reads("circle_plot")
def test_the_circle_draws_the_gains_as_areas(table: Callable[[str], pd.DataFrame]) -> None:
    df = at_gain(table("leakage"))
    figure = plots.circle_plot(df)
    gains = df[df["steered"] == df["measured"]]
    for ax, condition in zip(figure.axes, conditions(df), strict=False):
        own = of_condition(gains, condition).set_index("steered")["d"].reindex(list(VALUES))
        areas = np.array([float(collection.get_sizes()[0]) for collection in ax.collections])
        assert np.allclose(areas, 20 + 150 * own.fillna(0).clip(lower=0) / gains["d"].max())
    off = df[df["steered"] != df["measured"]]
    widest = off["d"].abs().max()
    for ax, condition in zip(figure.axes, conditions(df), strict=False):
        rows = of_condition(off, condition)
        rows = rows[(rows["lo"] > 0) | (rows["hi"] < 0)].copy()
        rows = rows.loc[rows["d"].abs().nlargest(30).index]
        widths = 0.3 + np.where(rows["d"] > 0, 2.8, 1.6) * rows["d"].abs() / widest
        assert np.allclose(np.sort([arrow.get_linewidth() for arrow in ax.patches]), np.sort(widths))


@reads("dose_response", "gain_leakage")
def test_the_search_is_the_table_of_doses_and_names_its_leakage(table: Callable[[str], pd.DataFrame]) -> None:
    df = table("dose")
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


def test_the_leakage_of_a_dose_response_is_the_cross_fitted_one_of_its_table() -> None:
    """`nv.dose_response` measures the leakage of the tables, so that its figure may not call it plain."""
    df = fake.dose()
    table = df[(df["method"] == "caa") & (df["steered"] == "power")].drop(columns=["method", "steered", "gate"])
    about = {"method": "Shift", "steered": "power", "crossfitted": True}
    figure = showable(table, "dose_response", **about).show()
    assert [ax.get_ylabel() for ax in figure.axes] == ["gain", "leakage", "invalid rate"]
    assert "plain" not in figure.get_supxlabel()
    assert "plain" in plots.dose_response(df).get_supxlabel()
    scatter = plots.gain_leakage(df.assign(crossfitted=True))
    assert scatter.axes[0].get_ylabel() == "leakage (mean over values)"
    assert "plain" not in scatter.get_supxlabel().lower() + scatter.axes[0].get_title(loc="left").lower()


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


@reads("gain_curves_plot")
def test_curves_at_equal_gains_are_their_table() -> None:
    df = fake.gain_curves()
    labels = {"leakage": "leakage\n(mean over other values)", "kl": "KL on neutral text\n(nats per token)"}
    check(plots.FIGURES["gain_curves"].draw(df), df, "gain", labels, labels)


@reads("two_values_plot")
def test_pairs_of_values_are_their_table() -> None:
    df = fake.two_values_kinds()
    figure = plots.FIGURES["two_values"].draw(df)
    for ax, name in zip(figure.axes, ("gain", "min_gain", "leakage", "invalid"), strict=True):
        assert {x for x, _ in points(ax)} == {round(float(x), 9) for x in df[name]}
        if f"{name}_lo" in df:
            assert pairs_of(df, f"{name}_lo", f"{name}_hi") <= segments(ax)


@reads("sensitivity_plot")
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


@reads("layer_profile")
def test_layers_and_sets_count_the_rows_of_the_table(table: Callable[[str], pd.DataFrame]) -> None:
    df = table("neurons")
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
    assert check_tables(V0_1) > 20


def bands(ax: Axes) -> set[tuple[float, float, float]]:
    """Corners of every band: x, lower and upper end."""
    out = set()
    for collection in ax.collections:
        for path in getattr(collection, "get_paths", list)():
            corners = pd.DataFrame(path.vertices, columns=["x", "y"]).groupby("x")["y"].agg(["min", "max"])
            out |= {tuple(round(float(x), 9) for x in row) for row in corners.reset_index().to_numpy()}
    return out


def triples_of(x: Any, lo: Any, hi: Any) -> set[tuple[float, float, float]]:
    rows = np.column_stack([np.asarray(part, dtype=float) for part in (x, lo, hi)])
    return {tuple(round(float(number), 9) for number in row) for row in rows if np.isfinite(row).all()}


def lines_of(ax: Axes, colour: str, *, wide: bool = True) -> list[set[tuple[float, float]]]:
    """Points of the lines of one colour, without guides; thin lines on request."""
    drawn = [line for line in ax.lines if to_hex(line.get_color()) == to_hex(colour) and len(line.get_xdata()) > 2]
    return [
        rounded(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in drawn
        if (line.get_linewidth() > 1) == wide
    ]


@reads("layer_ablation")
def test_ablated_layers_are_means_of_their_table() -> None:
    df = fake.layers()
    figure = plots.layer_ablation(df)
    operations = ["zero", "mean", "amplify"]
    grid = np.array(figure.axes).reshape(2, len(operations))
    for row, name in zip(grid, ("d_csr", "d_loss"), strict=True):
        for ax, operation in zip(row, operations, strict=True):
            grouped = df[df["operation"] == operation].groupby(["group", "layer"])[name]
            mean, half = (
                grouped.mean(),
                student.ppf(0.975, grouped.count() - 1) * grouped.std() / grouped.count() ** 0.5,
            )
            layers = mean.index.get_level_values("layer")
            assert points(ax) == rounded(zip(layers, mean, strict=True))
            assert triples_of(layers, mean - half, mean + half) <= bands(ax)
    one = df[(df["value"] == "power") & (df["operation"] == "zero") & (df["group"] == "all")]
    ax = plots.layer_ablation(one).axes[0]
    assert points(ax) == pairs_of(one, "layer", "d_csr")
    assert triples_of(one["layer"], one["lo"], one["hi"]) <= bands(ax)


@reads("logit_lens_plot")
def test_readings_of_the_lens_are_their_table() -> None:
    rng = np.random.default_rng(0)
    df = fake.lens()
    base = df[df["condition"] == "unedited"].set_index(["layer", "value"])["log_odds"]
    change = df["log_odds"].to_numpy() - base.loc[list(zip(df["layer"], df["value"], strict=True))].to_numpy()
    # paired changes are means over the prompts that both conditions have: not always the difference of the two means
    change = np.where(df["condition"] == "edited", change + 0.01 * rng.standard_normal(len(df)), np.nan)
    df = df.assign(change=change, change_lo=change - 0.1, change_hi=change + 0.1)
    figure = plots.logit_lens_plot(df, columns=10, width=16)
    grid = np.array(figure.axes).reshape(2, 10)
    df = df[df["layer"] > 0]
    for levels, changes, name in zip(*grid, VALUES, strict=True):
        rows = df[df["value"] == name]
        plain, edited = rows[rows["condition"] == "unedited"], rows[rows["steered"] == name]
        assert points(levels) == pairs_of(plain, "layer", "log_odds") | pairs_of(edited, "layer", "log_odds")
        for part in (plain, edited):
            assert triples_of(part["layer"], part["lo"], part["hi"]) <= bands(levels)
        assert points(changes) == pairs_of(edited, "layer", "change")
        assert triples_of(edited["layer"], edited["change_lo"], edited["change_hi"]) <= bands(changes)
        last = float(edited.sort_values("layer")["change"].iloc[-1])
        assert [text.get_text() for text in changes.texts] == [
            f"{'+' if last >= 0 else ''}{short(last, 1, fixed=True)} at the end"
        ]
        for other in set(VALUES) - {name}:
            thin = pairs_of(rows[rows["steered"] == other], "layer", "log_odds")
            assert thin in lines_of(levels, value_colour(other), wide=False)


@reads("token_lens_plot")
def test_cells_of_the_token_table_are_its_probabilities() -> None:
    df = fake.lens_tokens()
    figure = plots.token_lens_plot(df, value="power")
    for ax, condition in zip(figure.axes, ("unedited", "edited"), strict=True):
        rows = df[(df["steered"] == "power") & (df["condition"] == condition)]
        wide = rows.pivot(index="layer", columns="rank", values="probability").to_numpy()
        assert np.allclose(np.asarray(ax.images[0].get_array(), dtype=float), wide)
        assert len(ax.texts) == len(rows)


@reads("faithfulness_plot")
def test_faithfulness_is_its_table_without_what_is_not_measurable() -> None:
    df = fake.circuits()
    df.loc[df["size"] == 5, ["f", "lo", "hi"]] = (-1.57, -16.65, 9.39)
    figure = plots.faithfulness_plot(df)
    main, rest = figure.axes[:2]
    measurable = df[df["size"] != 5]
    assert points(main) == pairs_of(measurable, "size", "f")
    assert points(rest) == pairs_of(measurable, "size", "completeness")
    assert triples_of(measurable["size"], measurable["lo"], measurable["hi"]) <= bands(main)
    assert f"not drawn: {len(VALUES)} of {len(df)} circuits" in figure.get_supxlabel()


@reads("effect_volcano")
def test_points_of_the_volcano_are_the_table_of_effects(table: Callable[[str], pd.DataFrame]) -> None:
    df = table("effects")
    figure = plots.effect_volcano(df)
    floor = df.loc[df["p"] > 0, "p"].min() / 10
    for ax, name in zip(figure.axes, present_values(df["value"]), strict=True):
        rows = df[df["value"] == name]
        drawn = rounded(pair for collection in ax.collections for pair in collection.get_offsets())
        assert drawn == rounded(zip(rows["g"], -np.log10(rows["p"].clip(lower=floor)), strict=True))
        assert ax.get_title() == f"{name} · {int(rows['selected'].sum())}"
        coloured = [
            c for c in ax.collections if len(c.get_offsets()) and to_hex(c.get_facecolor()[0]) == value_colour(name)
        ]
        marked = rounded(pair for collection in coloured for pair in collection.get_offsets())
        assert {x for x, _ in marked} == {round(float(g), 9) for g in rows.loc[rows["selected"], "g"]}


@reads("sparsity_plot")
def test_curves_of_sparsity_are_their_table() -> None:
    df = fake.sparsity_curve()
    figure = plots.sparsity_plot(df)
    for ax, method in zip(figure.axes, ("neva", "neva_shift"), strict=True):
        rows = df[df["method"] == method]
        assert points(ax) == pairs_of(rows, "k", "gain")
        rings = [line for line in ax.lines if line.get_fillstyle() == "none"]
        ringed = rounded(pair for line in rings for pair in zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert ringed == pairs_of(rows[rows["chosen"]], "k", "gain")


@reads("overlap_plot")
def test_shared_neurons_are_counted_from_the_table() -> None:
    df = fake.neurons(layers=2, d_mlp=60)
    figure = plots.overlap_plot(df, n_neurons=120)
    ax = figure.axes[0]
    sets = {name: set(zip(rows["layer"], rows["neuron"], strict=True)) for name, rows in df.groupby("value")}
    heat = np.asarray(np.ma.filled(ax.images[0].get_array(), np.nan), dtype=float)
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    for i, a in enumerate(VALUES):
        assert texts[(i, i)] == str(len(sets[a]))
        for j, b in enumerate(VALUES[:i]):
            shared, union = len(sets[a] & sets[b]), len(sets[a] | sets[b])
            assert texts[(i, j)].rstrip("↓") == str(shared)
            assert texts[(j, i)] == short(shared / union, 2, fixed=True)
            assert heat[i, j] == heat[j, i] == pytest.approx(shared / union)


@reads("texts_plot")
def test_scores_beside_the_texts_are_those_of_the_table() -> None:
    df = fake.generations()
    figure = plots.texts_plot(df, value="power", method="neva")
    written = [text.get_text() for text in figure.axes[0].texts]
    score = df.set_index(["method", "steered", "target_gain", "prompt"])["score_power"]
    rows = df[(df["method"] == "neva") & (df["steered"] == "power") & (df["target_gain"] == 0.4)]
    before = df[df["method"] == "unedited"].set_index("prompt")["score_power"]
    for prompt in rows["prompt"]:
        after = score["neva", "power", 0.4, prompt]
        assert f"{short(float(before[prompt]))} → {short(float(after))}" in written


@reads("interval_plot")
def test_intervals_are_drawn_as_the_table_has_them() -> None:
    df = pd.DataFrame(
        {"label": ["a", "b", "power", "none"], "est": [0.1, -2.0, 3.0, np.nan], "lo": [0.0, np.nan, 2.5, np.nan]}
    ).assign(hi=[0.3, np.nan, 3.5, np.nan])
    ax = plots.interval_plot(df).axes[0]
    assert points(ax) == {(0.1, 0), (-2.0, 1), (3.0, 2)}
    whiskers = {tuple(line.get_xdata()) for line in ax.lines if line.get_marker() == "None"}
    assert whiskers == {(0.0, 0.3), (2.5, 3.5)}
    assert [text.get_text() for text in ax.texts] == ["not defined"]


@reads("profile_plot")
def test_profiles_are_drawn_as_the_table_has_them() -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"value": VALUES, "before": rng.random(10), "after": rng.random(10)})
    for side in ("before", "after"):
        df = df.assign(**{f"{side}_lo": df[side] - 0.1, f"{side}_hi": df[side] + 0.2})
    ax = plots.profile_plot(df).axes[0]
    whiskers = rounded(line.get_ydata() for line in ax.lines if line.get_marker() == "None")
    assert whiskers == pairs_of(df, "before_lo", "before_hi") | pairs_of(df, "after_lo", "after_hi")
    for side in ("before", "after"):
        (line,) = [line for line in ax.lines if line.get_label() == side]
        assert sorted(line.get_ydata()[:-1]) == sorted(df[side])


@reads("margin_heatmap", "mixing_heatmap", "corrected_heatmaps")
def test_heatmaps_are_their_tables() -> None:
    rng = np.random.default_rng(0)
    grid = pd.MultiIndex.from_product([VALUES, range(4)], names=["value", "layer"]).to_frame(index=False)
    grid["rms"] = rng.random(len(grid))
    image = plots.margin_heatmap(grid).axes[0].images[0]
    assert np.allclose(image.get_array(), grid.pivot(index="value", columns="layer", values="rms").loc[list(VALUES)])

    cells = pd.MultiIndex.from_product([VALUES, VALUES], names=["steered", "measured"]).to_frame(index=False)
    for name in ("d", "corrected"):
        x = rng.normal(size=len(cells))
        cells = cells.assign(**{name: x, f"{name}_lo": x - 0.1, f"{name}_hi": x + 0.1})
    cells = cells.rename(columns={"d_lo": "lo", "d_hi": "hi"}).assign(method="caa")
    panels = [ax for ax in plots.corrected_heatmaps(cells).axes if ax.images]
    for ax, name in zip(panels, ("d", "corrected"), strict=True):
        wide = cells.pivot(index="steered", columns="measured", values=name).loc[list(VALUES), list(VALUES)]
        assert name == "d" or "corrected" in ax.get_title()
        assert np.allclose(ax.images[0].get_array(), wide)

    mixed = cells.rename(columns={"method": "judge", "steered": "true", "d": "m"})
    ax = plots.mixing_heatmap(mixed).axes[0]
    wide = mixed.pivot(index="true", columns="measured", values="m").loc[list(VALUES), list(VALUES)]
    assert np.allclose(ax.images[0].get_array(), wide)
    assert [text.get_text() for text in ax.texts] == [short(x, fixed=True) for x in wide.to_numpy().ravel()]


@reads("value_graph_plot")
def test_edges_of_the_value_graph_are_as_wide_as_their_share() -> None:
    pairs = [("power", "security", 0.9, 0.4, True, "->"), ("hedonism", "tradition", 0.6, -0.3, True, "-")]
    pairs.append(("power", "hedonism", 0.1, 0.2, False, "-"))
    df = pd.DataFrame(pairs, columns=["a", "b", "adjacent", "r", "drawn", "direction"])
    arrows = plots.value_graph_plot(df).axes[0].patches
    assert [arrow.get_linewidth() for arrow in arrows] == pytest.approx([0.6 + 1.8 * 0.9, 0.6 + 1.8 * 0.6])


@reads("contrast_profile", "gate_profile", "calibration_plot", "prompt_counts")
def test_figures_of_a_studys_inputs_are_their_tables() -> None:
    rng = np.random.default_rng(0)
    grid = pd.MultiIndex.from_product([VALUES, range(4)], names=["value", "layer"]).to_frame(index=False)
    grid["d99"] = rng.random(len(grid))
    assert points(plots.contrast_profile(grid).axes[0]) == pairs_of(grid, "layer", "d99")

    gate = pd.DataFrame({"layer": range(4), "caught": rng.random(4), "passed": rng.random(4)})
    expected = pairs_of(gate, "layer", "caught") | pairs_of(gate, "layer", "passed")
    assert points(plots.gate_profile(gate).axes[0]) == expected

    doses = pd.DataFrame({"dose": [1.0, 2.0, 4.0], "gain": [0.1, 0.3, 0.4], "invalid": [0.0, 0.1, 0.5]})
    doses["admissible"] = [True, True, False]
    ax = plots.calibration_plot(doses, {0.2: 2.0, 0.9: None}).axes[0]
    solid = {pair for line in ax.lines if line.get_marker() == "o" for pair in zip(*line.get_data(), strict=True)}
    assert solid == {(1.0, 0.1), (2.0, 0.3)}  # the ring of the calibrated dose is on the curve
    crosses = {pair for line in ax.lines if line.get_marker() == "x" for pair in zip(*line.get_data(), strict=True)}
    assert crosses == {(4.0, 0.4)}
    assert any(list(line.get_ydata()) == list(doses["invalid"]) for line in ax.lines)
    labels = [text.get_text() for text in ax.texts]
    assert labels == ["target .2: dose 2", "target .9: out of reach"]

    prompts = pd.DataFrame(
        {"value": ["power"] * 7, "pole": ["+"] * 4 + ["-"] * 3, "split": ["train"] * 5 + ["test"] * 2}
    )
    widths = sorted(patch.get_width() for patch in plots.prompt_counts(prompts).axes[0].patches if patch.get_width())
    assert widths == [-2, -1, 4]


@reads("gain_cost_plot")
def test_gain_against_cost_is_the_table_of_methods() -> None:
    df = fake.methods().assign(leakage=0.02, leakage_lo=0.0, leakage_hi=0.05)
    figure = plots.gain_cost_plot(df)
    for ax, column in zip(figure.axes, ("leakage", "kl"), strict=True):
        drawn = [pair for bars in ax.containers for pair in zip(*bars[0].get_data(), strict=True)]
        assert rounded(drawn) == rounded(zip(df["gain"], df[column], strict=True))
    spans = segments(figure.axes[0])
    assert rounded(zip(df["gain_lo"], df["gain_hi"], strict=True)) | {(0.0, 0.05)} == spans
    assert len(plots.gain_cost_plot(df.assign(leakage=np.nan)).axes) == 1
    part = df.assign(leakage=df["leakage"].mask(df["method"] == "caa")).drop(columns=["leakage_lo", "leakage_hi"])
    assert "CAA" in {text.get_text() for text in plots.gain_cost_plot(part).legends[0].get_texts()}
    with pytest.raises(InputError, match="no number"):
        plots.gain_cost_plot(df.assign(leakage=np.nan, kl=np.nan))


@reads("value_layers_plot")
def test_the_heatmap_of_layers_is_the_share_of_neurons() -> None:
    neurons = fake.neurons()
    neurons = neurons[neurons["method"] == neurons["method"].iloc[0]]
    ax = plots.value_layers_plot(neurons, n_layers=7).axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    counts = pd.crosstab(neurons["value"], neurons["layer"]).reindex(index=names, columns=range(7), fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0)
    assert np.allclose(np.nan_to_num(np.ma.filled(ax.images[0].get_array(), 0.0)), shares.to_numpy())
    assert sorted(int(text.get_text()) for text in ax.texts) == sorted(n for n in counts.to_numpy().ravel() if n)
    assert not plots.value_layers_plot(neurons, n_layers=28).axes[0].texts


@reads("circuit_plot")
def test_the_circuit_is_that_of_the_strongest_neurons_and_tokens() -> None:
    table = fake.circuit(fake.neurons())
    value = str(table["value"].iloc[0])
    rows = table[table["value"] == value].assign(size=lambda df: df["attribution"].abs())
    ax = plots.circuit_plot(table, value=value, neurons=3, tokens=4).axes[0]
    size = rows.groupby(["layer", "neuron"])["size"].sum().nlargest(3)
    names = {text.get_text() for text in ax.texts if re.fullmatch(r"L\d+\.\d+", text.get_text())}
    assert names == {f"L{layer}.{neuron}" for layer, neuron in size.index}
    top = rows[[pair in size.index for pair in zip(rows["layer"], rows["neuron"], strict=True)]]
    tokens = top.groupby("token")["size"].sum().nlargest(4).index
    links = top[top["token"].isin(tokens)]
    widths = sorted(patch.get_linewidth() for patch in ax.patches)
    assert np.allclose(widths, sorted(0.3 + 2.2 * links["size"] / links["size"].max()))
    with pytest.raises(InputError, match="no value"):
        plots.circuit_plot(table, value="greed")


@reads("judges_plot")
def test_the_judges_are_those_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "judge": ["wordlist", "llm:a", "published: BERT"],
            "persona_auroc": [0.56, 0.85, None],
            "task_f1": [0.22, 0.25, 0.42],
        }
    )
    table = table.assign(task_f1_lo=table["task_f1"] - 0.1, task_f1_hi=table["task_f1"] + 0.1)
    auroc, f1 = plots.judges_plot(table).axes
    assert points(auroc) == {(0.56, 0.0), (0.85, 1.0)} and points(f1) == {(0.22, 0.0), (0.25, 1.0)}
    spans = {tuple(np.round(line.get_xdata(), 6)) for line in f1.lines if len(line.get_xdata()) == 2}
    assert {(0.12, 0.32), (0.15, 0.35), (0.42, 0.42)} == spans
    assert [text.get_text().strip() for text in f1.texts if "BERT" in text.get_text()] == ["BERT"]
    with pytest.raises(InputError, match="published figures only"):
        plots.judges_plot(table[2:])


def test_every_figure_has_a_test_of_its_numbers() -> None:
    draw = {name for name in plots.__all__ if getattr(plots, name).__class__ is type(lambda: 0)}
    figures = {name for name in draw if str(getattr(plots, name).__annotations__.get("return")) == "Figure"}
    assert figures - {"draw_run"} == READ
    drawn = {name if name in READ else f"{name}_plot" for name in plots.FIGURES}
    assert drawn <= READ
