"""Reading of a run folder, and writing of its report page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from neva_tl.circuits.drawing.page import assets
from neva_tl.core.errors import InputError, reason_of
from neva_tl.core.ledger import check, checked_bytes
from neva_tl.plots.files import run_theory
from neva_tl.plots.pages import asset, environment, write_page
from neva_tl.plots.style import at_gain, plain_numbers
from neva_tl.plots.value_names import using_theory
from neva_tl.plots.widgets import bundle
from neva_tl.study.report import (
    circuits,
    definitions,
    downloads,
    example,
    explorer,
    figures,
    first_picture,
    headline,
    limits,
    plain,
    sections,
    tables,
    use,
)
from neva_tl.study.report.control import controls_of, needs_control, not_measurable
from neva_tl.study.report.roles import main_method

#: Table of the report -> title of the section that is left out without it.
SECTIONS = {
    "methods": "Methods side by side",
    "values": "Per value",
    "leakage": "Value leakage",
    "dose": "Dose and response",
    "generations": "Texts",
    "neurons": "Value neurons",
    "effects": "Effect sizes",
    "layers": "Per-layer ablation",
    "circuit": "Circuits",
}
#: Further tables, whose absence is not a gap.
OPTIONAL = ("ablation", "controls")
#: Hints for tables that another command writes.
HINTS = {"layers": " (analyses/layer_ablation.py writes it; then write the report again)"}
#: Style sheets and scripts of the tables, the texts explorer and the search over neurons.
CSS = ("tables.css.j2", "explorer.css.j2", "neuron_search.css.j2")
JS = ("explorer.js.j2", "neuron_search.js.j2")


def write_report(run: str | Path) -> Path:
    """Write `RUN/report.html` from `results.json`, `manifest.json` and the tables.

    The page embeds its pictures, works offline (a content security policy forbids all requests) and escapes all text of the
    data. Sections without data, or with data that cannot be shown, are left out; the page lists them with the reasons, after
    the optional parts that the run itself left out.

    Args:
        run: the run folder.

    Returns:
        The page's path.

    Raises:
        InputError: The run folder has no readable results.json, or a file was changed since it was written.
    """
    run = Path(run)
    results = _json(run / "results.json")
    if results is None:
        raise InputError(f"{run / 'results.json'} is missing or not JSON: run `neva-tl run --out {run}` first")
    manifest = _json(run / "manifest.json")
    frames = {name: table for name in (*SECTIONS, *OPTIONAL) if (table := _table(run, name)) is not None}
    with using_theory(run_theory(run)):
        context = build_context(results, manifest, frames, run)
    return write_page(run / "report.html", template().render(context))


def _joined(names: tuple[str, ...]) -> Markup:
    return Markup("").join(asset(name) for name in names)


def template() -> jinja2.Template:
    """Return the page's template, whose filter `terms` links defined words to their definitions."""
    pages = environment().overlay()
    pages.filters = {**pages.filters, "terms": definitions.mark_terms}
    return pages.get_template("report.html.j2")


def build_context(
    results: Mapping[str, Any],
    manifest: Mapping[str, Any] | None,
    frames: Mapping[str, pd.DataFrame],
    run: Path | None = None,
) -> dict[str, Any]:
    """Collect the data of the template.

    Args:
        results: content of results.json.
        manifest: content of manifest.json, or None.
        frames: the run's tables by name.
        run: the run folder; its pictures are used where they are not older than their tables, else drawn again.

    Returns:
        The variables of the template, as plain data.
    """
    judge, unit = str(results.get("judge", "unknown")), str(results.get("unit", "unknown"))
    reasons = left_out(results, run)
    missing = [f"{name}: {reason}." for name, reason in reasons.items()]
    graphs = {} if run is None else circuits.read(run, missing)
    missing += [
        f"{title}: there is no table {name!r} in this run{HINTS.get(name, '')}."
        for name, title in SECTIONS.items()
        if name not in frames and not (name == "circuit" and graphs) and not _has_reason(name, reasons)
    ]
    if results.get("judge") and needs_control(judge) and controls_of(results) is None:
        missing.append(f"Positive control: this run did not measure what a role prompt does to the scores of {judge}.")
    css, js = assets()
    context: dict[str, Any] = {
        "css": asset("report.css.j2") + asset("report_first.css.j2") + css + _joined(CSS),
        "js": js + asset("report.js.j2") + asset("report_terms.js.j2") + asset("report_copy.js.j2") + _joined(JS),
        "model": dict(results.get("model", {})),
        "subtitle": headline.subtitle(results),
        "judge": judge,
        "unit": unit,
        "unmeasurable": not_measurable(results),
        "definitions": [(definitions.anchor(name), name, text) for name, text in definitions.definitions()],
        "images": figures.images(frames, missing, run, reasons),
    }
    metas, main = [graph.meta for graph in graphs.values()], main_method(results.get("methods", {}))
    builders: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
        ("", "Summary", lambda: {"headline": headline.sentences(results, frames, metas)}),
        ("", "First sentences", lambda: {"plain": plain.two_sentences(results)}),
        ("generations", "Example", lambda: {"example": example.example(frames["generations"], main)}),
        ("", "First picture", lambda: {"first_picture": first_picture.first_picture(results)}),
        ("methods", SECTIONS["methods"], lambda: {"methods": tables.methods(frames["methods"])}),
        ("controls", "Positive control", lambda: {"controls": tables.controls(frames["controls"])}),
        ("values", SECTIONS["values"], lambda: {"values": tables.values(frames["values"])}),
        ("leakage", SECTIONS["leakage"], lambda: sections.heatmaps(at_gain(frames["leakage"]))),
        ("generations", SECTIONS["generations"], lambda: sections.texts(frames["generations"])),
        ("generations", "Texts explorer", lambda: explorer.explorer(frames["generations"], frames.get("values"))),
        ("neurons", SECTIONS["neurons"], lambda: {"neurons": sections.neurons(frames["neurons"])}),
        ("ablation", "Ablation", lambda: {"ablation": tables.ablation(frames["ablation"])}),
        (
            "",
            SECTIONS["circuit"],
            lambda: {"circuits": circuits.panels(graphs, frames.get("circuit"), missing)},
        ),
        ("", "Faithfulness", lambda: {"faithfulness": circuits.faithfulness(graphs)}),
    ]
    for table, title, build in builders:
        if table and table not in frames:
            continue
        try:
            context |= build()
        except Exception as error:  # one section that cannot be shown does not cost the page
            missing.append(f"{title}: it cannot be shown ({reason_of(error)}).")
    context = {"headline": [], "plain": [], "circuits": [], **context}
    if "generations" in frames and not (context.get("explorer") or context.get("texts")):
        missing.append(f"{SECTIONS['generations']}: {sections.NO_TEXTS}.")
    views = {} if run is None else circuits.views(run, missing)
    for panel in context["circuits"]:
        panel["views"] = views.get(panel["value"], [])
    if any(panel["views"] for panel in context["circuits"]):
        context["bundle"] = Markup(bundle())
    context["missing"] = missing
    if manifest is None:
        missing.append("Manifest: manifest.json is missing.")
    else:
        # the page is handed on: it does not name folders of this machine
        manifest = {name: item for name, item in manifest.items() if name != "source"}
        context["manifest"] = sections.manifest_lines(manifest)
        context["manifest_raw"] = json.dumps(manifest, indent=1, ensure_ascii=False)
    context["downloads"] = downloads.downloads(run, results, frames, manifest)
    context["use"] = use.snippets(results, context.get("example"), run)
    context["citations"] = use.citations(results, manifest)
    context["limits"] = limits.limits_of(results, manifest, len(missing))
    context["contents"] = _contents(context)
    return context


def left_out(results: Mapping[str, Any], run: Path | None) -> dict[str, str]:
    """Return the optional parts that a run left out, by name, with their reasons.

    Args:
        results: content of results.json.
        run: the run folder; its files `left_out/*.json` are newer than results.json where a later analysis wrote them.

    Returns:
        name of the part -> reason.
    """
    records = [record for record in results.get("left_out") or () if isinstance(record, Mapping)]
    if run is not None:
        files = sorted((run / "left_out").glob("[!.]*.json"))
        records += [record for file in files if (record := _json(file)) is not None]
    reasons = {str(record.get("part")): record.get("reason") for record in records}
    return {name: str(reason) for name, reason in sorted(reasons.items()) if reason is not None}


def _has_reason(table: str, reasons: Mapping[str, str]) -> bool:
    """Whether `left_out` gives the reason why a table is missing."""
    names = {"circuit": "Circuit of ", "effects": "Effect sizes", "generations": "Texts"}
    return table in names and any(name.startswith(names[table]) for name in reasons)


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    images = context["images"]
    entries = [
        ("texts", "Texts", context.get("explorer") or context.get("texts")),
        ("methods", "Methods", context.get("methods")),
        ("circuit", "Circuits", context.get("circuits")),
        ("control", "Positive control", context.get("controls")),
        ("leakage", "Leakage", context.get("maps")),
        ("dose", "Dose", images.get("dose_response") or images.get("gain_leakage")),
        ("neurons", "Neurons", context.get("neurons")),
        ("layers", "Ablation", context.get("ablation") or images.get("layer_ablation")),
        ("downloads", "Downloads", context.get("downloads")),
        ("use", "Use it", context.get("use")),
        ("cite", "Cite", context.get("citations")),
        ("definitions", "Definitions", True),
        ("missing", "Left out", context.get("missing")),
        ("manifest", "Manifest", context.get("manifest")),
    ]
    return [(section, name) for section, name, present in entries if present]


def _json(path: Path) -> dict[str, Any] | None:
    check(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _table(run: Path, name: str) -> pd.DataFrame | None:
    for path in (run / "tables" / f"{name}.parquet", run / f"{name}.parquet"):
        if path.is_file():
            data = checked_bytes(path)
            try:
                table = pd.read_parquet(io.BytesIO(data))
            except Exception:
                return None
            return plain_numbers(table) if len(table) else None
    return None
