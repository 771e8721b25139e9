"""The logit lens's figures: the lines and cells are the table's, whatever the tokens hold."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from helpers import fake_run as fake
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.plots.lens import cell_text, one_line
from neva_tl.plots.palette import ink
from neva_tl.plots.style import value_colour


def test_each_panel_holds_the_values_own_lines() -> None:
    df = fake.lens()
    figure = plots.logit_lens_plot(df, embedding=True)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 2 * len(VALUES)
    levels = {ax.get_title(): ax for ax in shown if ax.get_title()}
    changes = {ax.texts[0].get_color(): ax for ax in shown if ax.texts}
    assert sorted(levels) == sorted(VALUES)
    for name in VALUES:
        part = df[df["value"] == name]
        plain = part[part["condition"] == "unedited"]["log_odds"].to_numpy()
        own = part[part["steered"] == name]["log_odds"].to_numpy()
        thick = [line for line in levels[name].lines if line.get_linewidth() > 1]
        assert np.allclose(thick[0].get_ydata(), plain) and np.allclose(thick[1].get_ydata(), own)
        assert to_hex(thick[1].get_color()) == value_colour(name)
        below = changes[ink(value_colour(name))]
        (change,) = [line for line in below.lines if line.get_linewidth() > 1]
        assert np.allclose(change.get_ydata(), own - plain)
        assert float(below.texts[0].get_text().split()[0].replace("−", "-")) == pytest.approx(
            (own - plain)[-1], abs=0.06
        )
        for ax, base in ((levels[name], 0 * plain), (below, plain)):
            thin = {to_hex(line.get_color()): line.get_ydata() for line in ax.lines if line.get_linewidth() < 0.7}
            assert set(thin) == {value_colour(other) for other in VALUES if other != name}
            for other in VALUES:
                if other != name:
                    theirs = part[part["steered"] == other]["log_odds"].to_numpy()
                    assert np.allclose(thin[value_colour(other)], theirs - base)


def test_the_embedding_is_left_out_unless_asked_for() -> None:
    df = fake.lens()
    layers = {int(x) for line in plots.logit_lens_plot(df).axes[0].lines for x in line.get_xdata()}
    assert layers == set(range(1, 7))
    only = df[df["layer"] == 0]
    assert [int(x) for x in plots.logit_lens_plot(only).axes[0].lines[0].get_xdata()] == [0]


def test_the_table_of_logit_lens_itself_can_be_drawn() -> None:
    df = fake.lens()
    plain = df[df["steered"].isna() & (df["value"] == "power")]
    own = df[(df["steered"] == "power") & (df["value"] == "power")]
    unnamed = pd.concat([plain, own]).assign(steered=None)
    for bare in (unnamed, unnamed.drop(columns=["steered", "dose", "lo", "hi", "n"])):
        figure = plots.logit_lens_plot(bare)
        assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 2
    alone = plots.logit_lens_plot(bare[bare["condition"] == "unedited"])
    assert len(alone.axes) == 1 and len([line for line in alone.axes[0].lines if len(line.get_xdata())]) == 1


def test_token_table_shows_each_token_where_it_belongs() -> None:
    df = fake.lens_tokens()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks warns
        figure = plots.token_lens_plot(df, value="benevolence")
        figure.canvas.draw()
    part = df[df["steered"] == "benevolence"]
    for ax, condition in zip(figure.axes, ("unedited", "edited"), strict=True):
        rows = part[part["condition"] == condition]
        wide = rows.pivot(index="layer", columns="rank", values="probability")
        assert np.allclose(ax.images[0].get_array(), wide.to_numpy())
        cells = {(round(t.get_position()[0]), round(t.get_position()[1])): t for t in ax.texts}
        assert len(cells) == len(rows)
        for row in rows.itertuples():
            cell = cells[row.rank - 1, row.layer]
            whole, shown = cell_text(row.text), cell.get_text()
            assert shown == whole or (shown[-1] == "…" and len(shown) > 8 and whole.startswith(shown[:-1]))
            beside = part[(part["condition"] == "unedited") & (part["layer"] == row.layer)]["text"]
            new = condition == "edited" and row.text not in set(beside)
            assert (cell.get_fontweight() == "bold") == new
    last = df["layer"] == df["layer"].max()
    quiet = df.copy()
    quiet.loc[last & (df["steered"] == "power"), "text"] = "same"
    assert "benevolence" in plots.token_lens_plot(quiet).axes[1].get_title(loc="left")


def test_texts_are_made_fit_to_draw() -> None:
    assert cell_text(" kind") == "·kind" and cell_text("a\nb") == "a↵b" and cell_text("\u202e不") == "□□"
    assert len(cell_text("x" * 50)) == 13
    assert one_line("a\u202eb\n c   d", 80) == "a b c d" and one_line("y" + "x" * 200, 20) == "…" + "x" * 19
    assert cell_text(" ") == "␣"


def test_bad_tables_are_refused() -> None:
    with pytest.raises(InputError, match="no edit towards tradition"):
        plots.token_lens_plot(fake.lens_tokens(), value="tradition")
    with pytest.raises(InputError, match="no edit towards greed"):
        plots.token_lens_plot(fake.lens_tokens(), value="greed")
    with pytest.raises(InputError, match="no rows"):
        plots.logit_lens_plot(fake.lens().head(0))
