"""Every figure at every width and style: readable, whole, safe for colour-blind readers, and in the caller's axes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from colorspacious import cspace_convert
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from helpers import fake_run as fake
from helpers.figure_checks import picture
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.core.method_records import METHODS
from neva_tl.core.theories import MORAL_FOUNDATIONS, SCHWARTZ, THEORIES
from neva_tl.core.values import VALUES
from neva_tl.plots.journal import RC, Style, journal
from neva_tl.plots.palette import UNEDITED, contrast, ink, method_code, method_colour, on
from neva_tl.plots.style import at_gain, save_figure
from neva_tl.plots.value_colours import BY_POSITION, figure_colour
from neva_tl.plots.value_names import using_theory, value_code, value_colour

METHODS_DRAWN = ["neva", "caa", "random"]


def _few(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["method"].isin(METHODS_DRAWN)]


def _intervals(**look: Any) -> Figure:
    labels = [*VALUES, "a much longer label than a value has"]
    table = pd.DataFrame({"label": labels, "est": np.linspace(0, 1, 11), "lo": 0.0, "hi": 1.0})
    title = "Agreement of two judges, by value, with a long title"
    return plots.interval_plot(table, title=title, axis="share of texts that both judges mark (95 % interval)", **look)


def _profile(**look: Any) -> Figure:
    table = pd.DataFrame({"value": VALUES, "before": np.linspace(0.2, 0.5, 10), "before_lo": 0.1, "before_hi": 0.6})
    return plots.profile_plot(table.assign(after=0.4, after_lo=0.3, after_hi=0.5), axis="agreement", **look)


def _mixing(**look: Any) -> Figure:
    rows = [("wordlist", a, b, 0.8 * (a == b), 0.6 * (a == b), 0.9) for a in VALUES for b in VALUES]
    return plots.mixing_heatmap(pd.DataFrame(rows, columns=["judge", "true", "measured", "m", "lo", "hi"]), **look)


def _graph(**look: Any) -> Figure:
    table = pd.DataFrame(
        {"a": VALUES[:-1], "b": VALUES[1:], "adjacent": 0.9, "r": 0.3, "drawn": True, "direction": "->"}
    )
    return plots.value_graph_plot(table, title="Learned graph of the values", **look)


def _by_layer(column: str) -> pd.DataFrame:
    return pd.DataFrame(
        [(v, layer, 0.1 * layer) for v in VALUES for layer in range(24)], columns=["value", "layer", column]
    )


#: Figure -> function of the keywords of `Look`, on tables as small as they show every kind of text.
DRAWN: dict[str, Callable[..., Figure]] = {
    "leakage_heatmap": lambda **look: plots.leakage_heatmap(_few(at_gain(fake.leakage())), **look),
    "circle_plot": lambda **look: plots.circle_plot(_few(at_gain(fake.leakage())).query("method != 'random'"), **look),
    "method_bars": lambda **look: plots.method_bars(_few(at_gain(fake.methods())), **look),
    "dose_response": lambda **look: plots.dose_response(_few(fake.dose()), **look),
    "gain_leakage": lambda **look: plots.gain_leakage(fake.dose(), **look),
    "gain_curves_plot": lambda **look: plots.gain_curves_plot(fake.gain_curves(), **look),
    "layer_profile": lambda **look: plots.layer_profile(fake.neurons(), **look),
    "overlap_plot": lambda **look: plots.overlap_plot(fake.neurons(), n_neurons=3072, **look),
    "layer_ablation": lambda **look: plots.layer_ablation(fake.layers(), **look),
    "logit_lens_plot": lambda **look: plots.logit_lens_plot(
        fake.lens().query("value in ['power', 'self-direction', 'security', 'hedonism']"), **look
    ),
    "token_lens_plot": lambda **look: plots.token_lens_plot(fake.lens_tokens(), value="benevolence", **look),
    "faithfulness_plot": lambda **look: plots.faithfulness_plot(fake.circuits(), **look),
    "sensitivity_plot": lambda **look: plots.sensitivity_plot(fake.sensitivity(), **look),
    "sparsity_plot": lambda **look: plots.sparsity_plot(fake.sparsity_curve(), **look),
    "two_values_plot": lambda **look: plots.two_values_plot(fake.two_values_kinds(), **look),
    "texts_plot": lambda **look: plots.texts_plot(fake.generations(), value="power", **look),
    "interval_plot": _intervals,
    "profile_plot": _profile,
    "mixing_heatmap": _mixing,
    "value_graph_plot": _graph,
    "margin_heatmap": lambda **look: plots.margin_heatmap(_by_layer("rms"), **look),
    "contrast_profile": lambda **look: plots.contrast_profile(_by_layer("d99"), title="Distance of the poles", **look),
}
#: Figures of one panel, which draw into one axes.
SINGLE = ["gain_leakage", "interval_plot", "margin_heatmap", "contrast_profile", "overlap_plot", "value_graph_plot"]
STYLES = get_args(Style)
#: NeurIPS has one column, so that both widths are one.
LOOKS = [(s, w) for s in STYLES for w in ("column", "text") if (s, w) != ("neurips", "text")]


@pytest.mark.parametrize(("style", "width"), LOOKS)
@pytest.mark.parametrize("name", DRAWN)
def test_texts_are_whole_large_enough_and_readable(name: str, style: Any, width: Any) -> None:
    before = dict(mpl.rcParams)
    figure = DRAWN[name](style=style, width=width)
    assert dict(mpl.rcParams) == before
    assert figure.get_figwidth() == pytest.approx(getattr(journal(style), width))
    seen = picture(figure)
    assert len(seen.texts) > 5
    assert seen.small() == [] and seen.cut() == [] and seen.pale() == []
    assert seen.overlaps() == []


def test_the_checks_see_what_is_wrong() -> None:
    """A figure with one fault of each kind, so that none of the checks above can pass on anything."""
    figure = plots.layer_profile(fake.neurons())
    ax = figure.axes[0]
    ax.text(0, 1, "tiny", fontsize=5)
    figure.text(0.9, 0.5, "this runs over the right end of the canvas")
    ax.text(1, 1, "pale", color="#bbbbbb")
    ax.set_yticks([1.0, 1.2], ["one", "two"])
    seen = picture(figure)
    assert [words for words, _ in seen.small()] == ["tiny"]
    assert any(words.startswith("this runs") for words in seen.cut())
    assert "pale" in [words for words, *_ in seen.pale()] and ("one", "two") in seen.overlaps()


def _apart(colours: list[str]) -> float:
    """Smallest distance in CIELAB of two colours, seen with normal vision, without red and without green cones."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    views = [rgb]
    for kind in ("deuteranomaly", "protanomaly"):
        space = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
        views.append(np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1))
    labs = [cspace_convert(view, "sRGB1", "CIELab") for view in views]
    return min(float(np.linalg.norm(lab[i] - lab[j])) for lab in labs for i, j in combinations(range(len(rgb)), 2))


def test_colours_of_all_methods_and_of_all_values_are_apart() -> None:
    """All methods and the unedited model at once, and all values of every theory: any of them may share axes."""
    assert _apart([*(method_colour(name) for name in METHODS), UNEDITED]) >= 10
    for theory in THEORIES.values():
        with using_theory(theory):
            assert _apart([value_colour(name) for name in theory.names]) >= 10, theory.name
            assert all(value_colour(name) == figure_colour(theory, name) for name in theory.names)
    assert _apart(list(BY_POSITION)) >= 10 and len(MORAL_FOUNDATIONS) <= len(BY_POSITION)
    assert _apart(["#7b4fc9", "#3472c9"]) < 10  # the former self-direction and universalism


def test_every_method_and_value_has_a_second_code() -> None:
    codes = [str(method_code(name)) for name in METHODS]
    assert len(set(codes)) == len(codes)
    for theory in THEORIES.values():
        with using_theory(theory):
            of_values = [str(value_code(name)) for name in theory.names]
        assert len(set(of_values)) == len(of_values)
    assert method_code("role_prompt") == method_code("role")


def test_text_colours_are_readable() -> None:
    for name in SCHWARTZ.names:
        assert contrast(ink(value_colour(name))) >= 4.5
    assert contrast("#000000") == pytest.approx(21) and ink("#000000") == "#000000"
    assert min(contrast(on((x, x, x)), (x, x, x)) for x in np.linspace(0, 1, 101)) >= 4.5


@pytest.mark.parametrize("name", SINGLE)
def test_given_axes_are_drawn_into_and_others_stay(name: str) -> None:
    figure = Figure(figsize=(8, 4))
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1])
    left.set_title("mine")
    inside = len(left.get_children())
    assert DRAWN[name](ax=right, style="nature") is figure
    assert len(left.get_children()) == inside and left.get_title() == "mine"
    assert right in figure.axes and (right.lines or right.collections or right.images or right.patches)
    assert figure.get_supxlabel() == "" and figure.get_suptitle() == "" and not figure.legends
    assert tuple(figure.get_size_inches()) == (8, 4)


def test_a_figure_of_several_panels_takes_as_many_axes() -> None:
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots(1, 3)
    plots.leakage_heatmap(_few(at_gain(fake.leakage())), ax=list(axes))
    assert [len(ax.images) for ax in axes] == [1, 1, 1]
    with pytest.raises(InputError, match=r"3 panels, and ax= holds 1 axes: pass a list of 3"):
        DRAWN["leakage_heatmap"](ax=axes[0])
    with pytest.raises(InputError, match="polar axes"):
        DRAWN["profile_plot"](ax=axes[0])
    with pytest.raises(InputError, match="pass matplotlib axes"):
        DRAWN["gain_leakage"](ax=[1])
    with pytest.raises(InputError, match="leave ax= out"):
        DRAWN["texts_plot"](ax=axes[0])


def test_a_palette_replaces_colours_for_one_call() -> None:
    wanted = {"neva": "#010203", "power": "#040506"}
    lines = {to_hex(line.get_color()) for line in DRAWN["gain_leakage"](palette=wanted).axes[0].lines}
    assert "#010203" in lines
    bars = {to_hex(bar.get_facecolor()) for ax in DRAWN["layer_profile"](palette=wanted).axes for bar in ax.patches}
    assert "#040506" in bars and value_colour("power") not in bars
    assert method_colour("neva") != "#010203" and value_colour("power") != "#040506"
    with pytest.raises(InputError, match=r"colour of neva is 'bluish'"):
        DRAWN["gain_leakage"](palette={"neva": "bluish"})
    with pytest.raises(InputError, match="pass a dict"):
        DRAWN["gain_leakage"](palette="#010203")


def test_wrong_widths_and_styles_are_refused() -> None:
    assert DRAWN["interval_plot"](width=4.0).get_figwidth() == 4.0
    for width in ("page", 0.5, float("nan"), True, None, 900):
        with pytest.raises(InputError, match=r"width|inches"):
            DRAWN["interval_plot"](width=width)
    with pytest.raises(InputError, match="unknown style 'science': the styles are notebook, neurips"):
        DRAWN["interval_plot"](style="science")


@pytest.mark.parametrize("style", STYLES)
def test_journals_have_their_widths_and_fonts_that_exist(style: Any, tmp_path: Any) -> None:
    page = journal(style)
    widths = {
        "neurips": (5.5, 5.5),
        "icml": (3.25, 6.75),
        "acl": (3.03, 6.30),
        "nature": (3.50, 7.20),
        "notebook": (3.25, 6.75),
    }
    assert (page.column, page.text) == pytest.approx(widths[style], abs=0.01)
    assert page.rc["text.usetex"] is False and page.rc["pdf.fonttype"] == 42 == RC["pdf.fonttype"]
    (pdf,) = save_figure(DRAWN["interval_plot"](style=style, width="column"), tmp_path / style, formats=("pdf",))
    data = pdf.read_bytes()
    assert b"/Type3" not in data and b"/FontFile2" in data
    assert (b"STIX" in data) == (style in ("neurips", "icml", "acl"))
