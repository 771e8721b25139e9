"""Figures of the report: the run's own pictures where they are fresh, else drawn again, embedded as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from neva_tl.core.errors import reason_of
from neva_tl.core.ledger import checked_bytes
from neva_tl.plots.files import FIGURES
from neva_tl.plots.style import FIGURE_DPI

#: Figure -> alternative text.
ALT = {
    "method_bars": "Measures of every method with intervals",
    "circle_plot": "Leakage drawn around the circle of values",
    "dose_response": "Gain, plain leakage and invalid rate against dose, per method",
    "gain_leakage": "Plain leakage against gain, all methods",
    "layer_profile": "Selected neurons per layer and value",
    "layer_ablation": "Change when one layer's neurons are ablated or amplified",
}
#: A picture wider than this, in inches, scrolls on a phone instead of shrinking.
WIDE = 6.0
#: Pixels per inch of the embedded pictures, and of their size on the page (sharp on dense screens).
DPI, PAGE_DPI = 150, 100


def images(
    frames: Mapping[str, pd.DataFrame], missing: list[str], run: Path | None, reasons: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the figures whose tables exist, as PNG data.

    Args:
        frames: the run's tables by name.
        missing: list that gets a line per figure that cannot be drawn, unless `reasons` has one.
        run: the run folder; its pictures are used where they are not older than their tables.
        reasons: the run's own reasons for parts that it left out.

    Returns:
        figure -> the data of the template.
    """
    out = {}
    for name, alt in ALT.items():
        spec = FIGURES.get(name)
        if spec is None or spec.table not in frames:
            continue
        try:
            if spec.lacks(frames[spec.table]):  # the run's own list of parts left out has the reason
                continue
            drawn = None if run is None else _drawn(run, name, spec.table)
            out[name] = _embed_png(drawn, alt) if drawn else _embed(spec.draw(frames[spec.table]), alt)
        except Exception as error:  # no fault in a drawing costs the page
            if f"Figure {name}" not in reasons:
                missing.append(f"{alt}: {reason_of(error)}.")
    return out


def _drawn(run: Path, name: str, table: str) -> bytes | None:
    """The run's picture of a table; None if missing or older than the table."""
    picture, source = run / "figures" / f"{name}.png", run / "tables" / f"{table}.parquet"
    if not picture.is_file() or not source.is_file() or picture.stat().st_mtime_ns < source.stat().st_mtime_ns:
        return None
    data = checked_bytes(picture)
    return data if data.startswith(b"\x89PNG") else None


def _embed_png(data: bytes, alt: str) -> dict[str, Any]:
    # a PNG's header holds its width and height at bytes 16 to 24
    side = [int.from_bytes(data[start : start + 4], "big") / FIGURE_DPI for start in (16, 20)]
    width, height = (round(inches * PAGE_DPI) for inches in side)
    uri = Markup(f"data:image/png;base64,{base64.b64encode(data).decode()}")
    return {"uri": uri, "alt": alt, "width": width, "height": height, "wide": side[0] > WIDE}


def _embed(figure: Any, alt: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    width, height = (round(float(side) * PAGE_DPI) for side in figure.get_size_inches())
    data = base64.b64encode(buffer.getvalue()).decode()
    wide = float(figure.get_figwidth()) > WIDE
    return {"uri": Markup(f"data:image/png;base64,{data}"), "alt": alt, "width": width, "height": height, "wide": wide}
