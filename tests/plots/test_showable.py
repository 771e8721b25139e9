"""Every public result shows itself: a card of escaped HTML in a notebook, a figure with something in it on request."""

from __future__ import annotations

import dataclasses
import inspect
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import neva_tl as nv
from helpers import fake_run as fake
from helpers.public_inputs import EDITS, JUDGES, TASKS
from helpers.public_results import (
    RESULTS,
    activation_stats,
    item_scores,
    neuron_set,
    samples,
    study_result,
)
from neva_tl import evaluation
from neva_tl.activations.stats import ActivationStats
from neva_tl.circuits import CircuitGraph
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import format_fact
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.plots.showable import ResultTable, showable
from neva_tl.prompts import ContrastSet
from neva_tl.study import StudyResult

#: Tags that a card, a pandas table and a circuit's own drawing are made of; `br` stands alone.
OWN = {"div", "p", "b", "br", "table", "thead", "tbody", "tr", "th", "td"}


#: Dataclasses of the circuit search: a circuit shows itself as the graph that is made of them.
OF_CIRCUITS = {
    "Context",
    "Effects",
    "Faithfulness",
    "SearchResult",
    "Means",
    "Nodes",
    "ValueTask",
}  # see tests/circuits
#: Exported dataclasses that are no results: what goes in (settings, edits, judges, texts), parts of other results, and
#: arrays that mean nothing alone.
NOT_RESULTS = {
    "Ablate", "AddVector", "Batch", "Change", "Clamp", "Composed", "ContextAware", "Decoding", "DosePoint",
    "Edit", "EditSession", "Encoded", "Evidence", "ExactJudge", "Example", "GateShift", "LayerProbe",
    "LogProbJudge", "Method", "ModelInfo", "NeuronEdit", "Paced", "PlainModel", "Plant", "Posterior", "ProbedVector",
    "Profile", "Rescale", "Run",
    "PromptContext", "PromptShift", "Reference", "Request", "RewriteAnswer", "RolePrompt", "Scale", "Selector", "Shift",
    "StudyConfig", "SurveyJudge", "Text", "Value", "ValueTheory",
    "Widget", "WordListJudge", "World", "YesNoJudge",
}  # fmt: skip


class Checker(HTMLParser):
    """Every tag that opens must close, in order; attributes and tags are remembered."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    return checker


@pytest.fixture(params=list(RESULTS), ids=lambda c: c.__name__)
def result(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = study_result(tmp_path) if request.param is StudyResult else RESULTS[request.param]()
    assert isinstance(made, request.param)
    return made


def drawn(figure: Figure) -> bool:
    """Whether the figure's canvas holds more than its ground."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    return bool(figure.axes) and float(pixels.std()) > 3


def test_card_is_html_and_escapes(result: Any) -> None:
    html = result._repr_html_()
    checker = parsed(html)
    assert len(checker.text) > 20
    if not isinstance(result, CircuitGraph):  # its card holds a drawing
        assert checker.seen <= OWN, checker.seen - OWN
        assert checker.attributes <= {"class", "border", "style", "colspan", "rowspan", "valign", "halign"}
    assert len(html) < 60_000


@pytest.mark.parametrize("kind", [*EDITS, *JUDGES, *TASKS], ids=lambda c: c.__name__)
def test_edits_judges_and_tasks_have_cards(kind: type) -> None:
    """Each says what it is; a card of one without a text of its own has no hostile text to hide."""
    thing = (EDITS | JUDGES | TASKS)[kind]()
    html = thing._repr_html_()
    checker = parsed(html)
    assert checker.seen <= OWN and len(html) < 20_000
    words = {
        "Edit": ("dose:", "scope:", "gate:"),
        "Judge": ("unit:", "reads:", "values:"),
        "Benchmark": ("items: 30", "of: 40", "metric: acc", "source:"),
    }["Edit" if kind in EDITS else "Judge" if kind in JUDGES else "Benchmark"]
    assert [word for word in words if word not in checker.text] == []
    if hasattr(thing, "neurons"):
        assert "value: power" in checker.text and "of 24" in checker.text and "model: 3 layers" in checker.text
    elif kind in EDITS and kind.__name__ in ("AddVector", "ProbedVector", "PromptShift"):
        assert "layers: " in checker.text
    if kind.__name__ in ("ChatJudge", "Classifier", "HuggingFaceJudge", "Benchmark"):
        assert '<script>alert("x")</script>' in checker.text


def test_hostile_text_is_still_there_as_text(result: Any) -> None:
    if isinstance(
        result, (NeuronSet, ContrastSet, ActivationStats, evaluation.LeakageResult, evaluation.NlrComparison)
    ):
        assert '<script>alert("x")</script>' in parsed(result._repr_html_()).text


def test_show_gives_a_figure_with_something_drawn(result: Any) -> None:
    figure = result.show()
    assert isinstance(figure, Figure) and drawn(figure)


def test_no_exported_result_is_forgotten() -> None:
    found: dict[str, type] = {}
    for module in (x for x in (getattr(nv, name) for name in nv.__all__) if inspect.ismodule(x)):
        found |= {n: getattr(module, n) for n in getattr(module, "__all__", ()) if inspect.isclass(getattr(module, n))}
    found |= {n: getattr(nv, n) for n in nv.__all__ if inspect.isclass(getattr(nv, n))}
    results = {n for n, c in found.items() if dataclasses.is_dataclass(c)} - NOT_RESULTS - OF_CIRCUITS
    assert results <= {c.__name__ for c in RESULTS}, results - {c.__name__ for c in RESULTS}


def test_the_profile_finds_the_neuron_that_tells_the_poles_apart() -> None:
    stats = activation_stats()
    profile = stats.profile()
    assert len(profile) == 2 * 3
    for value in ("power", "benevolence"):
        part = profile[profile["value"] == value].set_index("layer")
        assert part["d_max"].idxmax() == 1 and part.loc[1, "neuron"] == 5
        own = samples()
        rows = (own.table["value"] == value).to_numpy()
        plus = own.h[rows & (own.table["pole"] == "+").to_numpy(), 1, 5]
        minus = own.h[rows & (own.table["pole"] == "-").to_numpy(), 1, 5]
        sd = np.sqrt((plus.var(ddof=1) + minus.var(ddof=1)) / 2)
        assert part.loc[1, "d_max"] == pytest.approx((plus.mean() - minus.mean()) / sd, rel=1e-4)


def test_item_scores_are_means_with_intervals_by_topic() -> None:
    table = item_scores().table().set_index("label")
    assert table.loc["power", "est"] == pytest.approx(0.2)
    assert table["n"].tolist() == [3, 4] and table["missing"].tolist() == [1, 0]
    # two topics of two items, scores 1 and 0: draws of whole topics reach both ends
    assert (table.loc["tradition", "lo"], table.loc["tradition", "hi"]) == (0.0, 1.0)


def test_tables_show_themselves_and_stay_tables() -> None:
    leak = showable(fake.leakage(), "leakage_heatmap")
    assert isinstance(leak, pd.DataFrame) and drawn(leak.show())
    part = leak[leak["method"] == "caa"].reset_index(drop=True)
    assert isinstance(part, ResultTable) and drawn(part.show())
    pd.testing.assert_frame_equal(pd.DataFrame(leak), fake.leakage())
    dose = pd.DataFrame({"dose": [1.0, 2.0], "gain": [0.1, 0.3], "leakage": [0.0, 0.1], "invalid": [0.0, 0.0]})
    assert drawn(showable(dose, "dose_response", method="Shift", steered="power").show())
    with pytest.raises(InputError, match="no figure draws this table"):
        ResultTable({"x": [1]}).show()
    with pytest.raises(InputError, match="lacks the columns"):
        leak[["d"]].show()


def test_a_runs_tables_know_their_figure(tmp_path: Path) -> None:
    from neva_tl.plots import FIGURES
    from neva_tl.study.run.study import FIGURE_OF

    assert {FIGURES[figure].table for figure in FIGURE_OF} == set(FIGURE_OF.values())
    assert all(FIGURES[figure].table == table for figure, table in FIGURE_OF.items())
    found = study_result(tmp_path)
    for table in ("methods", "neurons", "lens"):
        assert drawn(found.table(table).show())
    with pytest.raises(InputError):
        found.table("circuit").show()


def test_empty_sets_and_undefined_numbers_are_shown_as_such() -> None:
    empty = neuron_set().head(0)
    assert "neurons: 0" in parsed(empty._repr_html_()).text
    with pytest.raises(InputError, match="no rows"):
        empty.show()
    nothing = Estimate(None, None, None, 0)
    assert "–" in parsed(nothing._repr_html_()).text
    assert "not defined" in {text.get_text() for text in nothing.show().axes[0].texts}


def test_card_writes_numbers_short_and_says_what_it_left_out() -> None:
    html = card("t", {"a": 1234567, "b": 0.123456, "c": None, "d": True}, pd.DataFrame({"x": range(25)}), rows=5)
    text = parsed(html).text
    assert "a: 1,234,567 · b: 0.123 · c: – · d: True" in text and "the first 5 of 25 rows" in text
    assert format_fact(float("nan")) == "–"
