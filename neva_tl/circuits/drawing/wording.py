"""Faithfulness from a circuit's meta: as a sentence, and as a small SVG curve."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from neva_tl.core.formatting import fixed


def number(raw: Any) -> float | None:
    """Return a finite int or float as a float, None for anything else (also booleans and numeric text).

    Args:
        raw: Any value of a file.
    """
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw) else None


def measures(meta: Mapping[str, Any]) -> dict[str, Any]:
    """`meta["faithfulness"]`, empty where it is missing or not a mapping.

    Args:
        meta: Meta of a circuit.
    """
    results = meta.get("faithfulness")
    return dict(results) if isinstance(results, Mapping) else {}


def measurable(results: Mapping[str, Any]) -> bool:
    """Whether F distinguishes nothing of the effect (0) from all of it (1).

    It does not where its interval contains both: the model's own effect on the texts is too small to divide by.

    Args:
        results: `f` and the limits of its interval, `f_lo` and `f_hi`.
    """
    if number(results.get("f")) is None:
        return False
    low, high = number(results.get("f_lo")), number(results.get("f_hi"))
    return low is None or high is None or low > 0 or high < 1


def sentence(meta: Mapping[str, Any]) -> str:
    """Faithfulness in one sentence, with that of random circuits; empty where it was not measured.

    Args:
        meta: Meta of a circuit.
    """
    results = measures(meta)
    f = number(results.get("f"))
    if f is None:
        return ""
    size = number(meta.get("size"))
    if not measurable(results):
        return "Faithfulness: not measurable here, because the interval of F contains both 0 (nothing) and 1 (all of the effect)."
    text = (
        f"Faithfulness: {f'{size:.0f} nodes' if size else 'the circuit'} alone keep{'' if size else 's'} F = {fixed(f)}"
    )
    low, high = number(results.get("f_lo")), number(results.get("f_hi"))
    if low is not None and high is not None:
        text += f" [{fixed(low)}, {fixed(high)}]"
    text += " of the model's effect (1: all of it, 0: none)"
    texts, split = number(results.get("texts")), results.get("split")
    if texts or split:
        text += f" on {f'{texts:.0f} ' if texts else ''}{f'{split} ' if split else ''}texts"
    if (completeness := number(results.get("completeness"))) is not None:
        text += f"; completeness {fixed(completeness)}"
    if (mean := number(results.get("random_mean"))) is not None:
        count = number(results.get("n_random"))
        text += f"; {f'{count:.0f} ' if count else ''}random circuits of the same size keep {fixed(mean)} on average"
        if (most := number(results.get("random_max"))) is not None:
            text += f", at most {fixed(most)}"
    return text + "."


def points(meta: Mapping[str, Any]) -> list[tuple[float, float, float | None]]:
    """(size, f, random or None) of `meta["curve"]`, by size, without rows that lack a finite number.

    Args:
        meta: Meta of a circuit.
    """
    rows = meta.get("curve")
    out = []
    for row in rows if isinstance(rows, list | tuple) else []:
        if isinstance(row, Mapping):
            size, f = number(row.get("size")), number(row.get("f"))
            if size is not None and size >= 0 and f is not None:
                out.append((size, f, number(row.get("random"))))
    return sorted(out, key=lambda point: point[0])


def curve_svg(meta: Mapping[str, Any], *, width: float = 300.0, height: float = 170.0) -> str:
    """Faithfulness against the circuit's size, random circuits dashed; empty with fewer than two points.

    Args:
        meta: Meta of a circuit.
        width: Width in pixels.
        height: Height in pixels; the size axis is a square-root axis.
    """
    curve = points(meta)
    if len(curve) < 2 or curve[-1][0] == curve[0][0]:
        return ""
    start, stop, top, bottom = 30.0, width - 8, 8.0, height - 32
    values = [y for _, f, r in curve for y in (f, r) if y is not None]
    low, high = min(0.0, *values), max(1.0, *values)
    end = math.sqrt(curve[-1][0])

    def at(size: float, f: float) -> str:
        return f"{start + (stop - start) * math.sqrt(size) / end:.1f} {bottom - (bottom - top) * (f - low) / (high - low):.1f}"

    out = [
        f'<svg class="nv-curve" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        'aria-label="Faithfulness against size" font-family="system-ui, sans-serif" font-size="10" fill="currentColor">'
    ]
    for level in (0.0, 0.5, 1.0):
        y = at(0.0, level).split()[1]
        out.append(f'<path d="M{start:.1f} {y}H{stop:.1f}" stroke="currentColor" stroke-opacity=".18"/>')
        out.append(f'<text x="{start - 5:.1f}" y="{float(y) + 3.5:.1f}" text-anchor="end">{fixed(level)}</text>')
    last = -99.0
    for size, _, _ in curve:
        x = float(at(size, 0.0).split()[0])
        if x - last >= 22:
            out.append(f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{size:.0f}</text>')
            last = x
    out.append(
        f'<text x="{(start + stop) / 2:.1f}" y="{height - 4:.1f}" text-anchor="middle">nodes in the circuit</text>'
    )
    random = [(size, r) for size, _, r in curve if r is not None]
    if len(random) > 1:
        line = "L".join(at(size, r) for size, r in random)
        out.append(
            f'<path class="nv-random" d="M{line}" fill="none" stroke="currentColor" stroke-opacity=".55" stroke-dasharray="4 3"/>'
        )
    out.append(
        f'<path class="nv-f" d="M{"L".join(at(size, f) for size, f, _ in curve)}" fill="none" stroke="#12679e" stroke-width="2"/>'
    )
    for size, f, r in curve:
        cx, cy = at(size, f).split()
        title = f"{size:.0f} nodes: F {fixed(f)}" + ("" if r is None else f", random {fixed(r)}")
        out.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="#12679e"><title>{html.escape(title)}</title></circle>')
    return "".join(out) + "</svg>"
