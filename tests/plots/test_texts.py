"""Unedited and steered texts side by side: the right texts, the changed words in colour, failures shown too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from helpers import fake_run as fake
from neva_tl import plots
from neva_tl.core.errors import InputError
from neva_tl.plots.palette import ink
from neva_tl.plots.style import value_colour
from neva_tl.plots.text_pairs import LONGEST_WORD
from neva_tl.plots.texts import MARGIN


def generations(changes: list[float], value: str = "power", method: str = "neva") -> pd.DataFrame:
    """A prompt per change: unedited `the old words stay here`, steered with one word replaced."""
    rows = []
    for number, change in enumerate(changes):
        prompt = {"prompt": f"prompt {number}", "target_gain": np.nan, f"score_{value}": 0.5}
        rows.append(prompt | {"method": "unedited", "steered": None, "text": f" the old words stay here {number}"})
        steered = {"method": method, "steered": value, "target_gain": 0.4, f"score_{value}": 0.5 + change}
        rows.append(prompt | steered | {"text": f" the new words stay here {number}"})
    return pd.DataFrame(rows)


def words_of(figure: Figure) -> list[tuple[str, str]]:
    """Every text of the figure with its colour."""
    return [(text.get_text(), to_hex(text.get_color())) for text in figure.axes[0].texts]


def test_only_the_changed_word_has_the_colour_of_the_value() -> None:
    words = words_of(plots.texts_plot(generations([0.25])))
    coloured = [word for word, colour in words if colour == ink(value_colour("power"))]
    # the header, then the one word; a single shared word at the start counts as changed
    assert coloured == ["towards power", "the", "new"]
    assert [word for word, _ in words].count("stay") == 2
    assert ".5 → .75" in [word for word, _ in words]


def test_equal_texts_have_no_coloured_word() -> None:
    table = generations([0.0])
    table["text"] = " the same"
    words = words_of(plots.texts_plot(table))
    assert [word for word, colour in words if colour == ink(value_colour("power"))] == ["towards power"]


def test_prompts_are_spread_evenly_over_the_ranks_of_the_change() -> None:
    changes = list(np.random.default_rng(0).permutation(np.linspace(-0.4, 0.4, 21)))
    words = [word for word, _ in words_of(plots.texts_plot(generations(changes), rows=5))]
    shown = [int(word.split()[1]) for word in words if word.startswith("prompt ")]
    np.testing.assert_allclose([changes[number] for number in shown], [0.4, 0.2, 0.0, -0.2, -0.4], atol=1e-12)
    assert "5 of 21 prompts, at evenly spaced ranks" in " ".join(words[-3:])


def test_the_median_value_the_first_method_and_the_largest_gain_are_the_defaults() -> None:
    gains = {"power": 0.1, "hedonism": 0.3, "security": 0.2}
    frames = [generations([gain], value, method) for value, gain in gains.items() for method in ("caa", "neva")]
    table = (
        pd.concat(frames, ignore_index=True)
        .drop_duplicates(["method", "steered"])
        .fillna({f"score_{value}": 0.5 for value in gains})
    )
    lower = table[table["method"] == "neva"].assign(target_gain=0.2, text="of the lower gain")
    words = [word for word, _ in words_of(plots.texts_plot(pd.concat([table, lower], ignore_index=True)))]
    assert "towards security" in words and "NeVA · gain .4" in words and "lower" not in words
    words = [word for word, _ in words_of(plots.texts_plot(table, value="hedonism", method="caa"))]
    assert "towards hedonism" in words and "CAA · gain .4" in words


def test_tables_without_scores_show_the_first_prompts() -> None:
    table = generations([0.1, 0.2, 0.3]).drop(columns="score_power")
    words = [word for word, _ in words_of(plots.texts_plot(table, rows=2))]
    assert [word for word in words if word.startswith("prompt ")] == ["prompt 0 …", "prompt 1 …"]
    assert "judge's score" not in words


def test_words_stay_in_their_column() -> None:
    table = fake.generations()
    table.loc[table["method"] == "neva", "text"] += " " + "x" * 200 + " $a_b$ word" * 40
    figure = plots.texts_plot(table)
    renderer = figure.canvas.get_renderer()
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        assert (
            box.x0 >= 0 and box.x1 <= figure.bbox.width - MARGIN * figure.bbox.width / (72 * figure.get_figwidth()) + 2
        ), text.get_text()
    assert any(text.get_text() == "x" * LONGEST_WORD for text in figure.axes[0].texts)


def test_a_run_without_steered_texts_shows_the_unedited_ones() -> None:
    table = generations([0.1])
    words = [word for word, _ in words_of(plots.texts_plot(table[table["method"] == "unedited"]))]
    assert "no steered texts" in words and "old" in words and "new" not in words


def test_missing_conditions_are_refused() -> None:
    table = generations([0.1])
    with pytest.raises(InputError, match="no unedited texts"):
        plots.texts_plot(table[table["method"] != "unedited"])
    with pytest.raises(InputError, match="no texts of neva towards hedonism"):
        plots.texts_plot(table, value="hedonism")
    with pytest.raises(InputError, match="no texts of caa"):
        plots.texts_plot(table, method="caa")
