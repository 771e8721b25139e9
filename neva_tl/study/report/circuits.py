"""Circuits in the report: interactive pictures, faithfulness, CircuitsVis views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from neva_tl.circuits import CircuitGraph
from neva_tl.circuits.drawing.page import edge_table, picture
from neva_tl.circuits.drawing.wording import measurable, measures, number
from neva_tl.core.errors import InputError
from neva_tl.core.ledger import check
from neva_tl.plots.style import present_values, value_colour
from neva_tl.plots.widgets import Widget, attention, neuron_activations
from neva_tl.study.report import sections, tables
from neva_tl.study.report.numbers import fixed

#: Rows of a circuit's table of edges.
EDGE_ROWS = 24
#: Text in place of an F whose interval contains both 0 and 1.
UNMEASURABLE = "not measurable here"
#: Texts per value, and tokens per text (an attention pattern grows with their square).
MOST_VIEWS, MOST_TOKENS = 2, 80


def read(run: Path, missing: list[str]) -> dict[str, CircuitGraph]:
    """Read `RUN/circuits/{value}.json` in the order of the theory.

    Args:
        run: the run folder.
        missing: list that gets a line per file that cannot be read.

    Returns:
        value -> circuit.
    """
    graphs = {}
    names = [path.stem for path in sorted((run / "circuits").glob("*.json"))]
    for value in present_values(name for name in names if name != "views" and not name.endswith(".view")):
        path = run / "circuits" / f"{value}.json"
        if path.is_file():
            check(path)
            try:
                graphs[value] = CircuitGraph.load(path)
            except InputError:
                missing.append(f"Circuit of {value}: circuits/{value}.json is not a circuit written by neva_tl.")
    return graphs


def panels(graphs: Mapping[str, CircuitGraph], table: pd.DataFrame | None, missing: list[str]) -> list[dict[str, Any]]:
    """Build a panel per value: a picture of its circuit and the strongest edges.

    The picture is interactive for a circuit of `graphs`, else the still picture of the table.

    Args:
        graphs: result of `read`.
        table: the run's table `circuit`, or None.
        missing: list that gets a line per circuit that cannot be drawn.

    Returns:
        The panels, as the template reads them.
    """
    out = []
    stills = {panel["value"]: panel for panel in sections.circuits(table)} if table is not None else {}
    for value in present_values([*graphs, *stills]):
        panel: dict[str, Any] = {"value": value, "colour": value_colour(value)}
        if value in graphs:
            try:
                panel |= {"picture": picture(graphs[value]), "table": edge_table(graphs[value], EDGE_ROWS)}
            except (InputError, KeyError, TypeError, ValueError) as error:
                missing.append(f"Circuit of {value}: it cannot be drawn ({error}).")
        if "picture" not in panel:
            if value not in stills:
                continue
            panel |= {"still": stills[value]["svg"], "note": stills[value]["note"], "table": stills[value]["table"]}
        out.append(panel)
    return out


def faithfulness(graphs: Mapping[str, CircuitGraph]) -> dict[str, Any] | None:
    """Build the table of all values with a measured circuit; None where there is none."""
    rows = []
    for value, graph in graphs.items():
        row = measures(graph.meta)
        if number(row.get("f")) is not None:
            rows.append({"value": value, "size": number(graph.meta.get("size")), **row})
    if not rows:
        return None
    columns = [
        ("value", tables.words("value", lambda row: str(row["value"]))),
        ("size", tables.number("nodes", "size", 0, "heads and neurons in the circuit")),
        ("f", _share("F", "f", "share of the model's effect with the circuit alone; 95 % interval over texts")),
        (
            "completeness",
            (
                "completeness",
                lambda row: fixed(_of_measurable(row, "completeness")),
                lambda row: _of_measurable(row, "completeness"),
                False,
                "share of the effect that is lost without the circuit",
            ),
        ),
        ("random_mean", tables.number("random, mean", "random_mean", 2, "F of random circuits of the same size")),
        ("random_max", tables.number("random, max", "random_max")),
        ("texts", tables.number("texts", "texts", 0, "held-out texts")),
    ]
    df = pd.DataFrame(rows)
    return tables.build(df, [column for name, column in columns if name in df.columns])


def _share(label: str, name: str, title: str) -> tables.Column:
    """Column of F with its interval, or the words that it is not measurable."""
    text = tables.ranged(label, name, title)[1]
    return (
        label,
        lambda row: text(row) if measurable(row) else UNMEASURABLE,
        lambda row: row.get(name) if measurable(row) else None,
        False,
        f"{title}; not measurable where the interval contains both 0 and 1",
    )


def _of_measurable(row: tables.Row, name: str) -> Any:
    return row.get(name) if measurable(row) else None


def views(run: Path, missing: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Read `RUN/circuits/views.json` as CircuitsVis views without their bundle.

    Args:
        run: the run folder.
        missing: list that gets a line per broken view.

    Returns:
        value -> per text `activations` and `attention` (one of them may be missing), as markup for a page with `bundle()`.
    """
    path = run / "circuits" / "views.json"
    if not path.is_file():
        return {}
    check(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["views"]
        assert isinstance(entries, list)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        missing.append("Activations and attention: circuits/views.json cannot be read.")
        return {}
    out: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        value = entry.get("value") if isinstance(entry, Mapping) else None
        if not isinstance(value, str) or len(out.get(value, ())) >= MOST_VIEWS:
            continue
        try:
            out.setdefault(value, []).append(_view(entry))
        except (InputError, KeyError, TypeError, ValueError) as error:
            missing.append(f"Activations and attention for {value}: {error}.")
    return {value: views_of for value, views_of in out.items() if views_of}


def _view(entry: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [str(token) for token in entry["tokens"]][:MOST_TOKENS]
    n = len(tokens)
    view: dict[str, Any] = {}
    if entry.get("neurons"):
        acts = np.asarray(entry["activations"], dtype=float)[:n]
        view["activations"] = _bare(neuron_activations(tokens, acts, [str(name) for name in entry["neurons"]]))
    if entry.get("heads"):
        patterns = np.asarray(entry["patterns"], dtype=float)[:, :n, :n]
        view["attention"] = _bare(attention(tokens, patterns, [str(name) for name in entry["heads"]]))
    return view


def _bare(widget: Widget) -> Markup:
    # the widget has escaped every text
    return Markup(widget.bare)
