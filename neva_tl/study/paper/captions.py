"""Figure environments of a paper, each with a caption whose numbers come from the tables of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neva_tl.core.formatting import finite_number, fixed, interval, short
from neva_tl.core.method_records import METHODS
from neva_tl.plots.layer_profile import pick_method
from neva_tl.plots.overlap import overlaps
from neva_tl.plots.pairing import two_conditions
from neva_tl.plots.style import at_gain, condition_label, method_label, method_order, present_values
from neva_tl.study.paper.latex import escape, figure, listed
from neva_tl.study.paper.sources import Sources


@dataclass(frozen=True)
class Caption:
    """A figure's caption.

    Attributes:
        table: Name of the table that the figure draws.
        write: Function from the run to the caption, escaped; "" where the run cannot have the figure.
        wide: Whether the figure spans both columns.
    """

    table: str
    write: Callable[[Sources], str]
    wide: bool = False


def figures(sources: Sources) -> str:
    """Write the figure environments of all figures that a run's tables allow, in the order of the paper.

    Args:
        sources: The run.
    """
    parts = []
    for name, caption in CAPTIONS.items():
        table = sources.tables.get(caption.table)
        if table is not None and len(table) and (text := caption.write(sources)):
            parts.append(figure(name, caption=text, wide=caption.wide))
    return "\n".join(parts)


def _texts(sources: Sources) -> str:
    table = sources.tables["generations"]
    methods = method_order(table.loc[table["steered"].notna() & (table["method"] != "unedited"), "method"])
    if not methods:
        return ""
    model = escape(sources.results.get("model", {}).get("name") or sources.config.model)
    scored = any(str(name).startswith("score_") for name in table.columns)
    order = (
        " Prompts are at evenly spaced ranks of the change in the judge's score, so that failures show too."
        if scored
        else ""
    )
    return (
        f"What steering does to the texts of {model}: the same prompts unedited (left) and with "
        f"{escape(method_label(methods[0]))} (right).{order} In colour: words that the unedited text does not have there."
    )


def _gain_cost(sources: Sources) -> str:
    parts = []
    for name, entry in sources.results["methods"].items():
        gain, leakage = entry.get("gain") or {}, entry.get("leakage") or {}
        kl = ((entry.get("capability") or {}).get("kl") or {}).get("edited") or {}
        numbers = [f"gain {measure(gain)}"]
        if finite_number(leakage.get("est")) is not None:
            numbers.append(f"leakage {measure(leakage)}")
        if finite_number(kl.get("est")) is not None:
            numbers.append(f"KL {fixed(kl['est'], 3)}")
        parts.append(f"{escape(method_label(name))}: {escape(', '.join(numbers))}")
    at = f" at a target gain of {short(sources.target)}" if sources.target is not None else ""
    return f"Gain against leakage and against cost, mean over values with 95~\\% intervals. Headline{at}: {'; '.join(parts)}."


def measure(entry: dict[str, Any]) -> str:
    """Format a measure of results.json with its interval, as the tables do.

    Args:
        entry: `est`, `lo`, `hi`.
    """
    return interval(entry.get("est"), entry.get("lo"), entry.get("hi"))


def _leakage(sources: Sources) -> str:
    table = at_gain(sources.tables["leakage"])
    if table["measured"].nunique() <= 1:
        return ""
    conditions = two_conditions(table, METHODS)
    parts = []
    for condition in conditions:
        rows = table[(table["method"].astype(str) == condition[0])]
        off = rows[rows["steered"] != rows["measured"]]
        rising = int((off["lo"] > 0).sum())
        parts.append(
            f"{escape(condition_label(*condition))}: {rising} of {len(off)} other cells rise (interval above 0)"
        )
    return (
        "Change of each measured value (columns) when the model is steered towards each value (rows). Outlined: gain; faint: the "
        f"95~\\% interval contains 0. {'; '.join(parts)}."
    )


def _layers(sources: Sources) -> str:
    table = sources.tables["layers"]
    rows = table[(table["operation"] == "zero") & (table["group"] == "selected")]
    lowest = ""
    if len(rows):
        mean = rows.groupby("layer")["d_csr"].mean()
        lowest = (
            f" Ablating the selected neurons to zero costs most in layer {mean.idxmin()} ({escape(fixed(mean.min()))})."
        )
    return (
        "Change of the score (top) and of the loss on neutral text (bottom) when the neurons of one layer are edited: the "
        f"selected ones, as many random ones, and all.{lowest} Bands: 95~\\% intervals."
    )


def _circuit(sources: Sources) -> str:
    table = sources.tables["circuit"]
    value = present_values(table["value"])[0]
    rows = table[table["value"] == value]
    best = rows.iloc[int(rows["attribution"].abs().to_numpy().argmax())]
    return (
        f"Circuit of {escape(value)}: its neurons (left, by layer) and the tokens that they raise or lower (right). The "
        f"strongest link is L{int(best['layer'])}.{int(best['neuron'])} to {escape(repr(str(best['token'])))} "
        f"({escape(fixed(best['attribution']))})."
    )


def _value_layers(sources: Sources) -> str:
    table = pick_method(sources.tables["neurons"])
    counts = table["layer"].astype(int).value_counts()
    share = counts.max() / len(table)
    return (
        f"Where value neurons live: share of each value's selected neurons per layer. Layer {counts.idxmax()} holds most, "
        f"{counts.max():,} of {len(table):,} ({escape(f'{100 * share:.0f} %')})."
    )


def _dose(sources: Sources) -> str:
    table = sources.tables["dose"]
    methods = [escape(method_label(method)) for method in method_order(table["method"])]
    bad = "admissible" in table.columns and int((~table["admissible"].astype(bool)).sum())
    crosses = f" Crosses: inadmissible doses ({bad} of {len(table)})." if bad else ""
    return (
        f"Dose and response of {listed(methods)} on validation prompts: thick lines are means over values, thin lines single "
        f"values. Doses have no common unit.{crosses}"
    )


def _sensitivity(sources: Sources) -> str:
    table = sources.tables["sensitivity"]
    factors = list(dict.fromkeys(table["factor"]))
    gains = table["gain"].dropna()
    return (
        f"Sensitivity to {listed([escape(name) for name in factors])}, one at a time around the run's own setting; "
        f"gains run from {escape(fixed(gains.min()))} to {escape(fixed(gains.max()))}. Bars: 95~\\% intervals."
    )


def _sparsity(sources: Sources) -> str:
    table = sources.tables["sparsity_curve"]
    selected = table.loc[table["chosen"].astype(bool), "k"]
    picked = ""
    if len(selected):
        low, high = f"{selected.min():,.0f}", f"{selected.max():,.0f}"
        picked = f" Rings: the selected sizes, {low}{f' to {high}' if high != low else ''}."
    return f"Gain against the number of edited neurons at one dose, on validation prompts.{picked}"


def _overlap(sources: Sources) -> str:
    table = pick_method(sources.tables["neurons"])
    model = sources.manifest.get("model", {})
    if table["value"].nunique() <= 1 or not {"n_layers", "d_mlp"} <= set(model):
        return ""
    pairs = overlaps(table, int(model["n_layers"]) * int(model["d_mlp"]))
    most = pairs.iloc[int(pairs["shared"].to_numpy().argmax())]
    return (
        f"Neurons that two values share. Most: {escape(most['a'])} and {escape(most['b'])}, {int(most['shared']):,} "
        f"(by chance {escape(fixed(most['expected'], 1))})."
    )


def _judges(sources: Sources) -> str:
    table = sources.tables["judges"]
    return f"Quality of {int(table['persona_auroc'].notna().sum())} judges of texts; bars: 95~\\% intervals."


#: Name of the figure -> its caption, in the order of the paper.
CAPTIONS: dict[str, Caption] = {
    "texts": Caption("generations", _texts, wide=True),
    "gain_cost": Caption("methods", _gain_cost, wide=True),
    "leakage_heatmap": Caption("leakage", _leakage, wide=True),
    "layer_ablation": Caption("layers", _layers, wide=True),
    "circuit": Caption("circuit", _circuit),
    "value_layers": Caption("neurons", _value_layers),
    "dose_response": Caption("dose", _dose, wide=True),
    "sensitivity": Caption("sensitivity", _sensitivity, wide=True),
    "sparsity": Caption("sparsity_curve", _sparsity),
    "overlap": Caption("neurons", _overlap),
    "judges": Caption("judges", _judges),
}
