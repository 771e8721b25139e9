"""Figures of sensitivity, sparsity, two values and gain curves: every number of the table is where it belongs."""

from __future__ import annotations

import numpy as np

from helpers import fake_run as fake
from neva_tl import plots
from neva_tl.plots.palette import MARKERS


def drawn(ax: object) -> list[tuple[float, float]]:
    """Finite points of an axis, rounded."""
    found = []
    for line in ax.lines:  # type: ignore[attr-defined]
        if line.get_marker() in MARKERS:
            found += [(x, y) for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)]
    return found


def test_levels_are_drawn_at_their_places() -> None:
    df = fake.sensitivity()
    figure = plots.sensitivity_plot(df)
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_title() for ax in axes[0]] == ["k", "part"]
    assert [text.get_text() for text in axes[2, 1].get_xticklabels()] == ["as run", "no FDR", "correlational only"]
    for row, name in enumerate(("gain", "leakage", "kl")):
        for column, factor in enumerate(("k", "part")):
            heights = sorted(y for _, y in drawn(axes[row, column]))
            expected = df.loc[df["factor"] == factor, name].dropna()
            np.testing.assert_allclose(heights, sorted(expected))
    # the third place of `part` has the shift alone: NeVA found no neurons there
    assert sum(round(x) == 2 for x, _ in drawn(axes[0, 1])) == 1


def test_numbers_stand_in_their_order() -> None:
    df = fake.sensitivity()
    df.loc[df["factor"] == "part", "factor"] = "dose"
    df.loc[df["factor"] == "dose", "level"] = df.loc[df["factor"] == "dose", "level"].map(
        {"no FDR": "16", "correlational only": "2"}.get, na_action="ignore"
    )
    df.loc[(df["factor"] == "dose") & df["level"].isna(), "level"] = "as run"
    axes = np.array(plots.sensitivity_plot(df).axes).reshape(3, 2)
    assert [text.get_text() for text in axes[2, 1].get_xticklabels()] == ["as run", "2", "16"]


def test_chosen_sets_are_ringed() -> None:
    figure = plots.sparsity_plot(fake.sparsity_curve())
    for ax in figure.axes:
        rings = [line for line in ax.lines if line.get_markersize() == 7]
        assert [list(line.get_xdata()) for line in rings] == [[50], [50]]
        assert {len(line.get_xdata()) for line in ax.lines if line.get_markersize() == 2.4} == {6}


def test_kinds_stand_above_each_other() -> None:
    df = fake.two_values_kinds()
    figure = plots.two_values_plot(df)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert (
        len(names) == len(df)
        and names[0] == "compatible · NeVA · dose × 1"
        and names[-1] == "opposed · CAA · dose × 0.5"
    )
    gains = {y: x for x, y in drawn(figure.axes[0])}
    row = df[(df["kind"] == "opposed") & (df["method"] == "caa") & (df["dose_share"] == 0.5)].iloc[0]
    assert gains[11] == row["gain"]
    assert len(plots.two_values_plot(df[df["dose_share"] == 1].drop(columns="invalid")).axes) == 3


def test_curves_run_through_every_condition() -> None:
    df = fake.gain_curves()
    axes = np.array(plots.gain_curves_plot(df).axes).reshape(2, 2)
    for row, gate in enumerate(("none", "probe")):
        part = df[df["gate"] == gate]
        for column, name in enumerate(("leakage", "kl")):
            assert sorted(drawn(axes[row, column])) == sorted(zip(part["gain"], part[name], strict=True))
    names = [text.get_text() for text in axes[1, 1].figure.legends[0].get_texts()]
    assert names == ["NeVA", "NeVA shift", "CAA", "CAA probe"]
