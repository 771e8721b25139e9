"""The report: one self-contained page whose sentences are the numbers, whatever is missing or hostile in the run."""

from __future__ import annotations

import ast
import base64
import html
import io
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from helpers import fake_graph as circuits
from helpers import fake_run as fake
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.study.report import write_report
from neva_tl.study.report.headline import sentences
from neva_tl.study.report.numbers import fixed, interval, percent


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(fake.write_run(tmp_path_factory.mktemp("report") / "run")).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags, ids, addresses and visible text of a page."""

    VOID = frozenset({"meta", "br", "img", "col", "hr", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("src", "href") and value:
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else None}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_asks_nothing_of_the_network(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    inside = (
        "#",
        "data:image/png;base64,",
        "data:text/csv;charset=utf-8;base64,",
        "data:application/json;charset=utf-8;base64,",
    )
    assert all(link.startswith(inside) for link in parsed.links)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= parsed.ids
    assert "default-src 'none'" in page
    # no circuits in this run: the data of the texts explorer, and our own script
    assert parsed.tags.count("script") == 2 and not parsed.handlers
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]+", "", page))
    for section in ("methods", "leakage", "dose", "texts", "neurons", "layers", "circuit", "definitions", "manifest"):
        assert section in parsed.ids
    assert parsed.tags.count("svg") == 10 and "img" in parsed.tags
    assert len(page) < 6_000_000


@pytest.fixture(scope="module")
def with_circuits(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = fake.write_run(tmp_path_factory.mktemp("circuits") / "run")
    circuits.write_circuits(run, VALUES[:9])
    return write_report(run).read_text(encoding="utf-8")


def test_circuits_are_interactive_and_share_one_bundle(with_circuits: str) -> None:
    pytest.importorskip("circuitsvis")
    parsed = Page(with_circuits)
    assert parsed.open == [] and not parsed.handlers
    assert with_circuits.count('class="nv-data"') == 9 and with_circuits.count('class="neva-props"') == 18
    # a data block per picture and view, that of the texts explorer, our script, the bundle and the script that draws the views
    assert parsed.tags.count("script") == 9 + 18 + 1 + 3
    assert with_circuits.count("neva-circuitsvis") == 2  # the element, and the script that looks for it
    assert with_circuits.index('id="methods"') < with_circuits.index('id="circuit"')
    shown = "".join(parsed.text)
    assert "the circuits of 9 values" in shown and "random circuits of the same size keep 0.03" in shown
    assert with_circuits.count('class="value-panel"') == 10  # the tenth from the table
    section = with_circuits[with_circuits.index('id="faithfulness"') : with_circuits.index('id="leakage"')]
    assert section.count("<tr>") == 1 + 9 and "0.86 [0.80, 0.91]" in section
    assert "there is no table" not in shown and len(with_circuits) < 6_000_000


def test_broken_circuits_are_said(tmp_path: Path) -> None:
    run = fake.write_run(tmp_path / "run", leave_out=("circuit",))
    folder = circuits.write_circuits(run, VALUES[:2])
    (folder / "power.json").write_text("{")
    (folder / "security.json").write_text(
        json.dumps({"schema": 1, "kind": "circuit", "meta": {}, "nodes": [], "edges": []})
    )
    views = json.loads((folder / "views.json").read_text())
    views["views"][0]["patterns"] = [[[1.0]]]
    views["views"].append(3)
    (folder / "views.json").write_text(json.dumps(views))
    text = "".join(Page(write_report(run).read_text(encoding="utf-8")).text)
    assert "circuits/power.json is not a circuit" in text and "Circuit of security: it cannot be drawn" in text
    assert "Activations and attention for self-direction: patterns have shape" in text
    (folder / "views.json").write_text("[]")
    assert "views.json cannot be read" in "".join(Page(write_report(run).read_text(encoding="utf-8")).text)


def test_hostile_text_is_shown_as_text(page: str) -> None:
    shown = "".join(Page(page).text)
    assert '<script>alert("x")</script>' in shown and "onerror=alert(1)" in shown
    assert "Tom thinks <b>we</b> should" in shown or "Mara says that" in shown
    assert "</script><b>" in shown  # a token of the circuit
    assert "judged invalid" in shown


def test_sentences_say_the_numbers() -> None:
    results = fake.results(fake.methods())
    neva, caa = results["methods"]["neva"], results["methods"]["caa"]
    neva["gain"] = {"est": 0.41, "lo": 0.35, "hi": 0.47, "n": 60}
    neva["nlr"] = {"est": 0.5, "lo": 0.4, "hi": 0.6, "n": 60}
    caa["nlr"] = {"est": 0.3, "lo": 0.2, "hi": 0.45, "n": 60}
    text = " ".join(sentences(results, {"neurons": fake.neurons()}))
    assert "distinct neurons of the model's 3,072 for 10 values (40 per value; values share neurons)" in text
    assert "0.41 [0.35, 0.47]" in text
    assert "CAA leaks less per unit of gain" in text and "intervals overlap" in text
    caa["nlr"] = {"est": 0.9, "lo": 0.8, "hi": 1.0, "n": 60}
    text = " ".join(sentences(results, {}))
    assert "NeVA leaks less" in text and "overlap" not in text
    neva["nlr"] = {"est": None, "lo": None, "hi": None, "n": 60}
    assert "NLR is not defined for NeVA" in " ".join(sentences(results, {}))
    del results["methods"]["caa"]
    assert sentences({"methods": {}}, {}) == []


def test_missing_tables_are_left_out_and_said(tmp_path: Path) -> None:
    gone = ("layers", "circuit", "dose", "effects", "generations")
    text = write_report(fake.write_run(tmp_path / "run", leave_out=gone)).read_text(encoding="utf-8")
    parsed = Page(text)
    assert not {"dose", "texts", "circuit", "layers"} & parsed.ids and "missing" in parsed.ids
    for name in gone:
        assert f"there is no table '{name}'" in "".join(parsed.text)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "results.json").write_text(json.dumps({"schema": 1, "model": {"name": "x"}, "methods": {}}))
    (bare / "tables").mkdir()
    (bare / "tables" / "methods.parquet").write_text("broken")
    assert "manifest.json is missing" in "".join(Page(write_report(bare).read_text()).text)
    assert not list(bare.glob(".*"))


def test_no_results_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"results\.json"):
        write_report(tmp_path)


def test_nulls_and_nullable_types_pass(tmp_path: Path) -> None:
    run = fake.write_run(tmp_path / "run")
    table = fake.methods()
    table["nlr"] = pd.array([None] * len(table), dtype="Float64")
    table["acc"] = None
    table.to_parquet(run / "tables" / "methods.parquet")
    texts = pd.read_parquet(run / "generations.parquet").astype({"target_gain": "Float64", "steered": "string"})
    texts.drop(columns=[c for c in texts if c.startswith("score_")]).to_parquet(run / "tables" / "generations.parquet")
    (run / "generations.parquet").unlink()
    text = write_report(run).read_text(encoding="utf-8")
    shown = "".join(Page(re.sub(r"(?s)<(script|style)>.*?</\1>", "", text)).text)
    assert "towards benevolence" in shown and not re.search(r"\b(nan|None|<NA>)\b", shown)


def test_sorting_keys_are_numbers(page: str) -> None:
    table = page[page.index('id="methods"') : page.index('id="leakage"')]
    keys = re.findall(r'data-sort="([^"]*)"', table)
    numbers = [key for key in keys if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", key)]
    assert len(numbers) > 50 and "nan" not in keys and "None" not in keys


def test_numbers_as_text() -> None:
    assert [fixed(x) for x in (0.5, -0.125, None, float("nan"), np.float64(-0.001))] == [
        "0.50",
        "−0.12",
        "–",
        "–",
        "0.00",
    ]
    assert (
        interval(0.5, 0.4, 0.6) == "0.50 [0.40, 0.60]"
        and interval(0.5, None, 0.6) == "0.50"
        and interval(None, 0, 1) == "–"
    )
    assert [percent(x) for x in (0.037, 0.5, None)] == ["3.7 %", "50 %", "–"]


def test_small_files_are_inside_the_page_and_large_ones_are_links(tmp_path: Path) -> None:
    run = fake.write_run(tmp_path / "run")
    fake.methods().to_csv(run / "tables" / "methods.csv")
    (run / "figures").mkdir()
    (run / "figures" / 'a "b" <c>.pdf').write_bytes(b"%PDF" + bytes(2_000_000))
    text = write_report(run).read_text(encoding="utf-8")
    links = Page(text).links
    outside = [link for link in links if not link.startswith(("#", "data:"))]
    assert sorted(unquote(link) for link in outside) == ['figures/a "b" <c>.pdf', "tables/methods.csv"]
    assert "2.0 MB" in text and len(text) < 8_000_000
    carried = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', text))
    assert {"results.json", "methods.csv", "neurons.csv", "manifest.json"} <= set(carried)
    table = pd.read_csv(io.BytesIO(base64.b64decode(carried["methods.csv"])))
    assert np.allclose(table["gain"], fake.methods()["gain"], rtol=1e-5)
    assert json.loads(base64.b64decode(carried["results.json"])) == json.loads((run / "results.json").read_text())
    assert str(tmp_path) not in text


def test_code_to_copy_is_python_with_hostile_names_quoted(page: str) -> None:
    blocks = [html.unescape(block) for block in re.findall(r'<pre tabindex="0">(.*?)</pre>', page, flags=re.S)]
    assert len(blocks) == 4
    for block in (blocks[0], blocks[2]):
        ast.parse(block)
    assert "nv.Run.open('run')" in blocks[0] and "'neva'" in blocks[0]
    assert [shlex.split(line, comments=True)[:2] for line in blocks[1].splitlines()] == [
        ["neva-tl", "card"],
        ["neva-tl", "generate"],
        ["neva-tl", "report"],
    ]
    assert blocks[3].count("{") == blocks[3].count("}") and "@misc{neva_tl_run" in blocks[3]


def test_every_term_has_its_definition_on_the_page(page: str) -> None:
    parsed = Page(page)
    terms = re.findall(r'data-term="([^"]+)"', page) + re.findall(r'class="term" href="#([^"]+)"', page)
    assert len(set(terms)) > 8 and set(terms) <= parsed.ids
    assert 'role="tooltip"' in page
