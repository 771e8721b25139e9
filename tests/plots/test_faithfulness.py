"""The faithfulness curve: the table's lines, its random band, and the count in the title."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from helpers import fake_run as fake
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.plots.palette import MARKERS
from neva_tl.plots.style import GREY, value_colour


def test_each_value_is_its_tables_line() -> None:
    df = fake.circuits().sample(frac=1, random_state=0)
    figure = plots.faithfulness_plot(df)
    main, rest = figure.axes[:2]
    assert main.get_xscale() == "log"
    solid = {to_hex(line.get_color()): line for line in main.lines if line.get_marker() in MARKERS}
    dashed = {to_hex(line.get_color()): line for line in main.lines if line.get_linewidth() == 0.6}
    below = {to_hex(line.get_color()): line for line in rest.lines if line.get_marker() in MARKERS}
    for name in VALUES:
        part = df[df["value"] == name].sort_values("size")
        assert np.array_equal(solid[value_colour(name)].get_xdata(), part["size"])
        for lines, column in ((solid, "f"), (dashed, "f_train"), (below, "completeness")):
            assert np.allclose(lines[value_colour(name)].get_ydata(), part[column])


def test_random_graphs_are_a_grey_band_and_guides_are_where_they_belong() -> None:
    df = fake.circuits()
    ax = plots.faithfulness_plot(df).axes[0]
    (band,) = [c for c in ax.collections if to_hex(c.get_facecolor()[0]) == GREY]
    corners = band.get_paths()[0].vertices
    at = corners[np.isclose(corners[:, 0], 100)][:, 1]
    wanted = df[df["size"] == 100]
    assert at.min() == pytest.approx(wanted["random_mean"].mean()) and at.max() == pytest.approx(
        wanted["random_max"].max()
    )
    heights = {float(line.get_ydata()[0]) for line in ax.lines if len(set(line.get_ydata())) == 1}
    assert {0.8, 1.0} <= heights
    assert 60.0 in {float(line.get_xdata()[0]) for line in ax.lines if len(set(line.get_xdata())) == 1}


def test_the_title_counts_values_that_reach_the_goal_in_time() -> None:
    rows = [
        ("power", 10, 0.5),
        ("power", 60, 0.81),
        ("security", 60, 0.79),
        ("security", 61, 0.95),
        ("tradition", 5, 0.8),
    ]
    figure = plots.faithfulness_plot(pd.DataFrame(rows, columns=["value", "size", "f"]))
    assert len(figure.axes) == 1 and "2 of 3 values" in figure.axes[0].get_title(loc="left")
    assert "1 of 3" in plots.faithfulness_plot(
        pd.DataFrame(rows, columns=["value", "size", "f"]), goal=0.8, size=20
    ).axes[0].get_title(loc="left")


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="lacks the columns size"):
        plots.faithfulness_plot(pd.DataFrame({"value": ["power"], "f": [1.0]}))


def test_an_interval_with_0_and_1_is_not_drawn_and_does_not_stretch_the_axis() -> None:
    df = fake.circuits()
    row = (df["value"] == "power") & (df["size"] == 60)
    df.loc[row, ["f", "lo", "hi"]] = (-1.57, -16.65, 9.39)
    figure = plots.faithfulness_plot(df)
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in figure.axes[0].lines])
    assert np.nanmin(heights) > -1 and figure.axes[0].get_ylim()[0] > -1
    assert figure.get_supxlabel().startswith("not drawn: 1 of 100 circuits")
    assert not plots.faithfulness_plot(fake.circuits()).get_supxlabel()
