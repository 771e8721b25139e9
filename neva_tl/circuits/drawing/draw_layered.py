"""The layered picture (inputs, heads, neurons, tokens, values) as an SVG element and as a matplotlib figure."""

from __future__ import annotations

import html

from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from neva_tl.circuits.drawing.layered import Plan, Spot, Tie
from neva_tl.circuits.drawing.text import visible
from neva_tl.core.formatting import signed
from neva_tl.plots.style import NEGATIVE, POSITIVE, new_figure, styled

#: Half the height of a mark, where edges end.
REACH = {"input": 4.0, "head": 8.0, "neuron": 8.0, "token": 5.0, "value": 4.0}
NOTE = "red raises, blue lowers; width: |effect| over the largest of its kind"


def note_of(plan: Plan) -> str:
    """`90 of 412 edges`, and the number of omitted tokens.

    Args:
        plan: See `layered`.
    """
    text = f"{len(plan.shown)} of {len(plan.ties)} edges"
    return text + (f", {plan.hidden} tokens omitted for lack of space" if plan.hidden else "")


def ends(plan: Plan, tie: Tie) -> tuple[float, float, float, float]:
    """Start (top of the source) and end (foot of the target) of an edge: x1, y1, x2, y2.

    Args:
        plan: See `layered`.
        tie: The edge.
    """
    spots = {spot.id: spot for spot in plan.spots}
    a, b = spots[tie.source], spots[tie.target]
    # edges end at the point of a value's bar nearest to the source, so that they do not all meet in one point
    reach = 0.85 * b.span
    return a.x, a.y - REACH[a.kind], min(max(a.x, b.x - reach), b.x + reach), b.y + REACH[b.kind]


def layered_svg(plan: Plan, *, standalone: bool = False) -> str:
    """The picture as one `<svg>` element, edges with hover titles; all text is escaped.

    Args:
        plan: See `layered`.
        standalone: Whether to add an XML namespace and a white background, for a file of its own.
    """
    head = 'xmlns="http://www.w3.org/2000/svg" style="background:#fff;color:#222" ' if standalone else ""
    out = [
        f'<svg {head}class="circuit" viewBox="0 0 {plan.width:.0f} {plan.height + 14:.0f}" width="{plan.width:.0f}" '
        f'height="{plan.height + 14:.0f}" role="img" font-family="system-ui, sans-serif" font-size="10.5" '
        f'aria-label="{html.escape(note_of(plan))}">'
    ]
    for tie in plan.shown:
        x1, y1, x2, y2 = ends(plan, tie)
        kind, colour = ("up", POSITIVE) if tie.effect > 0 else ("down", NEGATIVE)
        dash = ' stroke-dasharray="5 3"' if tie.kind == "value" else ""
        title = html.escape(f"{_name(tie.source)} → {_name(tie.target)}: {signed(tie.effect)}")
        out.append(
            f'<path class="{kind}" d="{_curve(x1, y1, x2, y2)}" fill="none" stroke="{colour}"{dash} '
            f'stroke-width="{0.5 + 4 * tie.strength:.2f}" stroke-opacity="{0.25 + 0.55 * tie.strength:.2f}">'
            f"<title>{title}</title></path>"
        )
    for spot in plan.spots:
        out.append(_mark(spot, plan.slant))
    for label, y in plan.rows:
        out.append(f'<text x="2" y="{y + 3.5:.1f}" fill="currentColor" opacity=".7">{html.escape(label)}</text>')
    out.append(
        f'<text x="2" y="{plan.height + 8:.1f}" fill="currentColor" opacity=".7" font-size="9.5">'
        f"{html.escape(f'{NOTE}; {note_of(plan)}')}</text>"
    )
    return "".join(out) + "</svg>"


def _name(node: str) -> str:
    """A node's id without its kind, shortened and printable."""
    return visible(node.split(":", 1)[-1].strip(), 40)


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (y1 + y2) / 2
    return f"M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"


def _mark(spot: Spot, slant: int) -> str:
    x, y, fill = spot.x, spot.y, f'fill="{spot.colour}"'
    label = html.escape(spot.label)
    if spot.kind == "value":
        shape = f'<rect x="{x - spot.span:.1f}" y="{y - 3:.1f}" width="{2 * spot.span:.1f}" height="6" rx="2" {fill}/>'
        return shape + _turned(x, y - 9, label, slant, "start", "bold")
    if spot.kind == "token":
        shape = f'<rect x="{x - 3.5:.1f}" y="{y - 4:.1f}" width="7" height="8" rx="2" {fill}/>'
        return shape + _turned(x, y - 8, label, slant, "start")
    if spot.kind == "input":
        shape = f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" {fill}/>'
        return shape + _turned(x, y + 9, label, slant, "end")
    if spot.kind == "head":
        turn = f'transform="rotate(45 {x:.1f} {y:.1f})"'
        shape = f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" rx="2.5" {fill} {turn}/>'
    else:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" {fill}/>'
    return f'{shape}<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="currentColor" font-size="9.5">{label}</text>'


def _turned(x: float, y: float, label: str, slant: int, anchor: str, weight: str = "normal") -> str:
    shift = 3.5 if slant == -90 else 2.0
    return (
        f'<text transform="translate({x + shift:.1f} {y:.1f}) rotate({slant})" text-anchor="{anchor}" fill="currentColor" '
        f'font-weight="{weight}">{label}</text>'
    )


@styled
def layered_figure(plan: Plan) -> Figure:
    """The same picture as a matplotlib figure.

    Args:
        plan: See `layered`.
    """
    figure = new_figure(plan.width / 90, (plan.height + 20) / 90)
    ax = figure.subplots()
    ax.set_xlim(0, plan.width)
    ax.set_ylim(plan.height + 18, -10)
    ax.set_axis_off()
    for tie in plan.shown:
        x1, y1, x2, y2 = ends(plan, tie)
        middle = (y1 + y2) / 2
        path = Curve([(x1, y1), (x1, middle), (x2, middle), (x2, y2)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
        ax.add_patch(
            PathPatch(
                path,
                fill=False,
                edgecolor=POSITIVE if tie.effect > 0 else NEGATIVE,
                linewidth=0.4 + 3 * tie.strength,
                linestyle=(0, (4, 2)) if tie.kind == "value" else "-",
                alpha=0.25 + 0.55 * tie.strength,
                capstyle="butt",
            )
        )
    for spot in plan.spots:
        _draw_spot(ax, spot, plan.slant)
    for label, y in plan.rows:
        ax.text(2, y, label, va="center", fontsize=7.5, color="#666666")
    ax.text(2, plan.height + 12, f"{NOTE} · {note_of(plan)}", fontsize=6.5, color="#666666")
    return figure


def _draw_spot(ax: object, spot: Spot, slant: int) -> None:
    from matplotlib.axes import Axes

    assert isinstance(ax, Axes)
    # parse_math off: a dollar sign would start mathtext
    turned = {"rotation": -slant, "rotation_mode": "anchor", "fontsize": 7, "parse_math": False}
    if spot.kind == "value":
        ax.plot(
            [spot.x - spot.span, spot.x + spot.span],
            [spot.y] * 2,
            color=spot.colour,
            linewidth=4,
            solid_capstyle="butt",
        )
        ax.text(spot.x, spot.y - 8, spot.label, va="center", fontweight="bold", **turned)  # type: ignore[arg-type]
        return
    marker = {"neuron": "o", "head": "D", "token": "s", "input": "s"}[spot.kind]
    size = {"neuron": 8.0, "head": 7.0}.get(spot.kind, 4.5)
    ax.plot(spot.x, spot.y, marker, color=spot.colour, markersize=size, markeredgewidth=0)
    if spot.kind == "token":
        ax.text(spot.x, spot.y - 7, spot.label, va="center", **turned)  # type: ignore[arg-type]
    elif spot.kind == "input":
        ax.text(spot.x, spot.y + 8, spot.label, va="center", ha="right", **turned)  # type: ignore[arg-type]
    else:
        ax.text(spot.x, spot.y + 14, spot.label, ha="center", va="center", fontsize=6)
