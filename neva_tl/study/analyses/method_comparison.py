"""The method comparison: every method at matched gains under every gate.

A comparison is a folder of studies, one for each setting of the relevance gate (`gate-none`, `gate-relevance`), run and
resumed by `Study`. This module combines them into one table of all conditions, and into *contests*: a neuron method against a
vector method under an equal gate at one target gain, over the values that both reached. Gates are a factor: with each method's
own gate (`Method.gate`) and the relevance gate on or off there are {neurons, vectors} x {none, probe, relevance,
probe+relevance}. ConVA's probe at the prompt's last token counts as a probe gate.

Goals (issue's; ours): NLR at most half of the rival's, and each loss of capability at most half (demo
model) or no larger (real models).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.method_records import METHODS, find_method
from neva_tl.core.statistics import shifted
from neva_tl.models.sources import is_demo
from neva_tl.study.analyses.equal_gain import Curve, contest, curve_of, curves_table, equal_gain_contests, numeric
from neva_tl.study.run.comparison import paired_nlr
from neva_tl.study.run.run_folder import RunFolder

#: Methods that are compared on the demo model only. `npti`, `dpn_le` and `lape` never reached the gain in smoke runs on real
#: models; `label_shuffled` and `rotated` repeat the other placebo; of the vectors with a probe or over several layers only the
#: form with the other values projected out is compared on real models, because it leaks less.
DEMO_ONLY = frozenset({"npti", "dpn_le", "lape", "label_shuffled", "rotated", "caa_probe", "caa_layers"})
#: Matched gains on real models: three, so that curves can be read at equal gains between them.
REAL_TARGETS = (0.2, 0.4, 0.6)
GATES: tuple[str, ...] = ("none", "relevance")
#: Goal: largest NLR of a neuron method, as a share of the vector method's.
NLR_GOAL = 0.5
#: Goals: largest loss of capability, as a share of the vector method's, on the demo model and elsewhere.
DEMO_LOSS_GOAL, LOSS_GOAL = 0.5, 1.0
OURS = ("neva", "neva_shift")
LOSSES = ("kl", "loss", "accuracy")
#: Columns of the printed tables.
CONDITION_COLUMNS = (
    "method", "gate", "target_gain", "reached", "gain", "nlr", "nlr_lo", "nlr_hi", "nlr_plain", "ngl", "invalid",
    "loss_ppl", "loss_acc", "kl", "kl_median",
)  # fmt: skip
CONTEST_COLUMNS = (
    "gate", "target_gain", "ours", "rival", "n_values", "nlr_ours", "nlr_rival", "nlr_ratio", "kl_ratio",
)  # fmt: skip
EQUAL_GAIN_COLUMNS = (
    "gate", "gain", "ours", "rival", "n_values", "nlr_ours", "nlr_rival", "nlr_ratio", "nlr_difference", "kl_ratio",
    "loss_ratio",
)  # fmt: skip
#: Fields of a study's manifest that the comparison stores.
MANIFEST_FIELDS = ("study", "config", "model", "versions", "wall_time_s")


def methods_for(model: str) -> tuple[str, ...]:
    """Return the methods that are compared on a model by default.

    These are all registered ones that can be built everywhere; on real models without `DEMO_ONLY`. Optional methods (`sae`
    needs a sparse autoencoder, `visa` a chat model) are named explicitly.

    Args:
        model: Name of the model.

    Returns:
        Names in the order of the comparison's tables: methods with a gate of their own, then methods without one, then
        placebos, then prompts.
    """
    group = {"neurons": 0, "vectors": 0, "placebo": 1, "prompt": 2}
    always = [name for name, record in METHODS.items() if not record.optional]
    names = sorted(always, key=lambda name: (METHODS[name].gate == "none", group[METHODS[name].family]))
    return tuple(name for name in names if is_demo(model) or name not in DEMO_ONLY)


def targets_for(model: str) -> tuple[float, ...] | None:
    """Return the default gains at which methods are matched on a model.

    Args:
        model: Name of the model.

    Returns:
        The gains; None for those of the profile.
    """
    return None if is_demo(model) else REAL_TARGETS


def gate_class(gate: str) -> str:
    """Return the class of a gate; methods with gates of one class are compared.

    Args:
        gate: Name of the gate; a probe at the prompt counts as a probe.
    """
    return gate.replace("prompt_probe", "probe")


def folders(root: Path) -> dict[str, RunFolder]:
    """Open the finished studies of a comparison, by their relevance gate.

    Args:
        root: Folder of the comparison.

    Raises:
        InputError: No study is finished.
    """
    stores = {gate: RunFolder(root / f"gate-{gate}") for gate in GATES}
    finished = {gate: store for gate, store in stores.items() if store.has("results.json")}
    if not finished:
        raise InputError(f"{root} has no finished study: run analyses/method_comparison.py")
    return finished


def combined(studies: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Combine the studies' `methods` tables, with the losses of capability.

    Args:
        studies: Setting of the relevance gate -> finished study.

    Returns:
        One row per method, gate and target gain: the columns of `tables/methods`, and `relevance` (the study's setting),
        `family`, `gate_class`, `kl_median` (over the values; one value out of reach dominates the mean), `loss_ppl` (rise of
        the mean loss on neutral text, nats per token) and `loss_acc` (fall of accuracy on neutral questions).
    """
    frames = []
    for gate, store in studies.items():
        table = store.read_table("tables/methods")
        steered = store.read_table("tables/values").groupby("method")["steered"].unique()
        base = store.read_json("cells/base.json")["capability"]
        targets = [None if pd.isna(target) else float(target) for target in table["target_gain"]]
        medians = [
            float(np.median([losses_of(store, base, method, value, target)["kl"] for value in steered[method]]))
            for method, target in zip(table["method"], targets, strict=True)
        ]
        frames.append(
            table.assign(
                relevance=gate,
                family=[find_method(str(method)).family for method in table["method"]],
                gate_class=[gate_class(method_gate) for method_gate in table["gate"]],
                kl_median=medians,
                loss_ppl=np.log(table["ppl"].astype(float) / table["ppl_base"].astype(float)),
                loss_acc=table["acc_base"].astype(float) - table["acc"].astype(float),
            )
        )
    return pd.concat(frames, ignore_index=True)


def contests(studies: Mapping[str, RunFolder], *, seed: int = 0, n_boot: int = 2000) -> pd.DataFrame:
    """Compare our methods with each vector method under an equal gate.

    The comparison is over the values that both reached. NLR: ratio and difference on the same bootstrap draws over prompts.
    Losses of capability: ratio of the means over those values, with an interval from resampling values.

    Args:
        studies: Setting of the relevance gate -> finished study.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Returns:
        One row per `gate, target_gain, ours, rival`: `n_values`, `reached_ours`, `reached_rival`, `nlr_ours`, `nlr_rival`,
        `nlr_ratio`, `nlr_difference`, and per loss (`kl`, `loss`, `accuracy`) `_ours`, `_rival`, `_ratio`; `_lo`, `_hi` for
        ratios and differences. NaN where a number does not exist.
    """
    rows: list[dict[str, Any]] = []
    for store in studies.values():
        values = store.read_table("tables/values")
        base = store.read_json("cells/base.json")["capability"]
        values = values.assign(gate_class=[gate_class(gate) for gate in values["gate"]])
        for (gate, target), group in values.dropna(subset=["target_gain"]).groupby(["gate_class", "target_gain"]):
            present = list(dict.fromkeys(group["method"]))
            for ours, rival in rivalries(present):
                one = _Contest(str(gate), float(str(target)), ours, rival)
                rows.append(one.row(store, base, group, seed=seed, n_boot=n_boot))
    return pd.DataFrame(rows)


def rivalries(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each of our methods with each vector method.

    Args:
        methods: Methods of a study.
    """
    present = list(methods)
    return [(a, b) for a in OURS if a in present for b in present if find_method(b).family == "vectors"]


@dataclass(frozen=True)
class _Contest:
    """A neuron method against a vector method at one matched gain.

    Attributes:
        gate: The gate that both have.
        target: Matched gain.
        ours: The neuron method.
        rival: The vector method.
    """

    gate: str
    target: float
    ours: str
    rival: str

    def row(
        self, store: RunFolder, base: Mapping[str, float], values: pd.DataFrame, *, seed: int, n_boot: int
    ) -> dict[str, Any]:
        """Return the contest's row, over the values that both methods reached.

        Args:
            store: The run folder of the study.
            base: Capability of the unedited model.
            values: Rows of `tables/values` under this gate and target.
            seed: Seed of the bootstraps.
            n_boot: Bootstrap draws.
        """
        pair = (self.ours, self.rival)
        reached_rows = values[values["status"] == "reached"]
        reached = {method: list(reached_rows.loc[reached_rows["method"] == method, "steered"]) for method in pair}
        common = [value for value in reached[self.ours] if value in reached[self.rival]]
        row: dict[str, Any] = {"gate": self.gate, "target_gain": self.target, "ours": self.ours, "rival": self.rival}
        row |= {"n_values": len(common)}
        row |= {"reached_ours": len(reached[self.ours]), "reached_rival": len(reached[self.rival])}
        if not common:
            return row
        comparison = paired_nlr(store, self.ours, self.rival, self.target, common, seed=seed, n_boot=n_boot)
        row |= {"nlr_ours": comparison.nlr_a.est, "nlr_rival": comparison.nlr_b.est}
        row |= comparison.ratio.columns("nlr_ratio") | comparison.difference.columns("nlr_difference")
        losses = {method: [losses_of(store, base, method, value, self.target) for value in common] for method in pair}
        for name in LOSSES:
            numbers = [np.array([one[name] for one in losses[method]], dtype=float) for method in pair]
            row |= ratio_of_means(*numbers, name=name, seed=seed, n_boot=n_boot)
        return row


def losses_of(
    store: RunFolder, base: Mapping[str, float], method: str, value: str, target: float | None
) -> dict[str, float]:
    """Return the costs of a condition on neutral text and questions.

    Args:
        store: The run folder.
        base: Capability of the unedited model.
        method: Name of the method.
        value: Steered value.
        target: Matched gain; None for a method without a dose.

    Returns:
        `kl`, `loss` (rise; both in nats per token) and `accuracy` (fall; NaN without questions).
    """
    edited = store.read_json(f"cells/measure/{method}/{value}@{target}.json")["capability"]
    return {
        "kl": float(edited["kl"]),
        "loss": float(np.log(edited["perplexity"] / base["perplexity"])),
        "accuracy": float(base["accuracy"] - edited["accuracy"]) if "accuracy" in edited else float("nan"),
    }


def ratio_of_means(
    ours: np.ndarray, rival: np.ndarray, *, name: str, seed: int = 0, n_boot: int = 2000
) -> dict[str, float]:
    """Compute the ratio of two means with an interval from resampling values.

    Percentiles, shifted where they exclude the ratio (`statistics.limits.shifted`).

    Args:
        ours: Costs of our method, one per value.
        rival: Costs of the rival on the same values.
        name: Name of the cost.
        seed: Seed of the resampling.
        n_boot: Bootstrap draws.

    Returns:
        `NAME_ours`, `NAME_rival`, `NAME_ratio` with `_lo` and `_hi`; NaN unless the rival's mean cost is above 0.
    """
    row = {f"{name}_ours": float(ours.mean()), f"{name}_rival": float(rival.mean())}
    blank = dict.fromkeys((f"{name}_ratio", f"{name}_ratio_lo", f"{name}_ratio_hi"), float("nan"))
    if not (np.isfinite(ours).all() and np.isfinite(rival).all()) or rival.mean() <= 0:
        return row | blank
    draws = np.random.default_rng(seed).integers(0, len(ours), size=(n_boot, len(ours)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = ours[draws].mean(axis=1) / rival[draws].mean(axis=1)
    low, middle, high = np.nanquantile(ratio, [0.025, 0.5, 0.975])
    estimate = float(ours.mean() / rival.mean())
    low, high = shifted(estimate, low, middle, high)
    return row | {
        f"{name}_ratio": estimate,
        f"{name}_ratio_lo": float(low),
        f"{name}_ratio_hi": float(high),
    }


def gain_curves(studies: Mapping[str, RunFolder], *, seed: int = 0, n_boot: int = 2000) -> dict[str, list[Curve]]:
    """Read the curve of every method with a dose, over all steered values.

    Args:
        studies: Setting of the relevance gate -> finished study.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Returns:
        Gate -> curves.
    """
    curves: dict[str, list[Curve]] = {}
    for store in studies.values():
        table = store.read_table("tables/values").dropna(subset=["target_gain"])
        for (gate, method), group in table.groupby(["gate", "method"], sort=False):
            name, targets = str(method), [float(t) for t in sorted(group["target_gain"].unique())]
            values = list(dict.fromkeys(group["steered"]))
            curve = _curve(store, name, targets, values, seed=seed, n_boot=n_boot)
            curves.setdefault(gate_class(str(gate)), []).append(curve)
    return curves


def reachable_contests(
    studies: Mapping[str, RunFolder], gains: Sequence[float], *, seed: int = 0, n_boot: int = 2000
) -> pd.DataFrame:
    """Compare methods at equal gains over the values that both reach there.

    A value out of a method's reach is measured at the dose that gained most, where KL may be a hundred times larger than
    elsewhere and dominates a mean over all values. Here both methods must have reached a value (on validation prompts) at the
    matched gain and at the next larger one, because the curves are read between these points.

    Args:
        studies: Setting of the relevance gate -> finished study.
        gains: Gains at which curves are read.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Returns:
        The columns of `equal_gain_contests`; rows only where both reached some value (`n_values` of them).
    """
    rows: list[dict[str, Any]] = []
    for store in studies.values():
        table = store.read_table("tables/values").dropna(subset=["target_gain"])
        for gate, group in table.groupby([gate_class(gate) for gate in table["gate"]], sort=False):
            targets = [float(t) for t in sorted(group["target_gain"].unique())]
            for gain in gains:
                ends = [t for t in targets if t >= gain][:2]
                points = [t for t in targets if t <= max(ends, default=gain)]
                reached = reached_at(group, ends)
                for pair in rivalries(reached):
                    able = [value for value in reached[pair[0]] if value in reached[pair[1]]]
                    if able:
                        ours_curve, theirs = (_curve(store, m, points, able, seed=seed, n_boot=n_boot) for m in pair)
                        rows.append({"gate": gate} | contest(ours_curve, theirs, gain))
    return numeric(pd.DataFrame(rows))


def reached_at(group: pd.DataFrame, targets: Sequence[float]) -> dict[str, list[str]]:
    """Return the values that each method reached at all of some targets.

    Args:
        group: Rows of `tables/values`.
        targets: Matched gains.
    """
    at_targets = group[group["target_gain"].isin(targets)]
    reached = (
        (at_targets["status"] == "reached").groupby([at_targets["method"], at_targets["steered"]], sort=False).all()
    )
    values_of: dict[str, list[str]] = {str(method): [] for method in dict.fromkeys(group["method"])}
    for row in reached.reset_index(name="yes").itertuples():
        if row.yes:
            values_of[str(row.method)].append(str(row.steered))
    return values_of


def _curve(
    store: RunFolder, method: str, targets: Sequence[float], values: Sequence[str], *, seed: int, n_boot: int
) -> Curve:
    """Read a method's curve over some values from its conditions at matched gains."""
    base = store.read_json("cells/base.json")["capability"]
    losses = {t: [losses_of(store, base, method, value, t) for value in values] for t in targets}
    return curve_of(store, method, targets, values, losses, seed=seed, n_boot=n_boot)


def verdicts(table: pd.DataFrame, *, loss: float, least: int = 1) -> list[dict[str, Any]]:
    """Judge the goals for each gate, target and method of ours.

    The rival is the one with the lowest NLR on the test prompts, which favours the rivals.

    Args:
        table: Table of `contests`.
        loss: Share of the rival's loss of capability that ours may have.
        least: Values that both must have reached for a rival to count.
    """
    lines = []
    for (gate, target, ours), group in table.groupby(["gate", "target_gain", "ours"], sort=False):
        able = group[(group["n_values"] >= least) & group["nlr_rival"].notna()] if "nlr_rival" in group else group[:0]
        row: dict[str, Any] = {"gate": gate, "target_gain": target, "ours": ours}
        if not len(able):
            most = int(group["reached_ours"].max())
            reason = (
                "no vector method reached the gain on the values that it reached" if most else "reached for no value"
            )
            lines.append(row | {"rival": None, "reason": reason})
            continue
        best = able.iloc[int(able["nlr_rival"].to_numpy(dtype=float).argmin())]
        ratio = best["nlr_ratio"]
        row |= {"rival": best["rival"], "n_values": int(best["n_values"])}
        row |= {k: best[k] for k in best.index if k.startswith(("nlr_", "kl_", "loss_", "accuracy_"))}
        # without leakage the ratio is undefined: neither method leaks
        row["nlr_goal"] = None if pd.isna(ratio) else bool(ratio <= NLR_GOAL)
        for name in LOSSES:
            share = best.get(f"{name}_ratio", float("nan"))
            row[f"{name}_goal"] = None if pd.isna(share) else bool(share <= loss)
        lines.append(row)
    return lines


def dose_curves(studies: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Combine the dose-response points of all searches (validation prompts).

    Args:
        studies: Setting of the relevance gate -> finished study.
    """
    frames = [
        store.read_table("tables/dose").assign(relevance=gate)
        for gate, store in studies.items()
        if store.has("tables/dose.parquet")
    ]
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, eq=False)
class _Tables:
    """Tables of a comparison.

    Attributes:
        conditions: Of `combined`.
        contests: Of `contests`.
        dose_curves: Of `dose_curves`.
        gain_curves: Of `curves_table`.
        equal_gain: Of `equal_gain_contests`.
        equal_gain_reached: Of `reachable_contests`.
    """

    conditions: pd.DataFrame
    contests: pd.DataFrame
    dose_curves: pd.DataFrame
    gain_curves: pd.DataFrame
    equal_gain: pd.DataFrame
    equal_gain_reached: pd.DataFrame

    @classmethod
    def of(cls, studies: Mapping[str, RunFolder], seed: int) -> _Tables:
        """Compute the tables.

        Args:
            studies: Setting of the relevance gate -> finished study.
            seed: Seed of the bootstraps.
        """
        conditions = combined(studies)
        curves = gain_curves(studies, seed=seed)
        gains = [float(gain) for gain in sorted(conditions["target_gain"].dropna().unique())]
        return cls(
            conditions=conditions,
            contests=contests(studies, seed=seed),
            dose_curves=dose_curves(studies),
            gain_curves=curves_table(curves),
            equal_gain=equal_gain_contests(curves, gains, OURS),
            equal_gain_reached=reachable_contests(studies, gains, seed=seed),
        )

    def write(self, store: RunFolder) -> None:
        """Write the tables.

        Args:
            store: Folder of the comparison.
        """
        store.write_table("tables/method_comparison", self.conditions)
        store.write_table("tables/method_contests", self.contests)
        store.write_table("tables/method_curves", self.dose_curves)
        store.write_table("tables/gain_curves", self.gain_curves)
        store.write_table("tables/equal_gain", self.equal_gain)
        store.write_table("tables/equal_gain_reached", self.equal_gain_reached)

    def text(self) -> str:
        """Format the tables as text."""
        blocks = [
            printed(self.conditions, CONDITION_COLUMNS),
            "doses matched on validation prompts:\n" + printed(self.contests, CONTEST_COLUMNS),
            "at equal gains on test prompts, read off the curves over all values:\n"
            + printed(self.equal_gain, EQUAL_GAIN_COLUMNS),
            "... and over the values that both reached at that gain and the next:\n"
            + printed(self.equal_gain_reached, EQUAL_GAIN_COLUMNS),
        ]
        return "\n\n".join(blocks)


def write(root: Path, *, seed: int = 0, seconds: float = 0.0) -> str:
    """Write the tables and `method_comparison.json` of a comparison's folder.

    Args:
        root: Folder that holds the studies.
        seed: Seed of the bootstraps.
        seconds: Wall time of this call, stored with the wall times of the studies.

    Returns:
        The tables as text.

    Raises:
        InputError: No study is finished.
    """
    studies = folders(root)
    store = RunFolder(root)
    tables = _Tables.of(studies, seed)
    tables.write(store)
    manifests = {gate: one.read_json("manifest.json") for gate, one in studies.items()}
    loss = DEMO_LOSS_GOAL if all(is_demo(one["config"]["model"]) for one in manifests.values()) else LOSS_GOAL
    verdict_lines = verdicts(tables.contests, loss=loss)
    store.write_json(
        "method_comparison.json",
        {
            "goals": {"nlr": NLR_GOAL, "loss": loss},
            "verdicts": verdict_lines,
            "conditions": tables.conditions.to_dict("records"),
            "contests": tables.contests.to_dict("records"),
            "equal_gain": tables.equal_gain.to_dict("records"),
            "equal_gain_reached": tables.equal_gain_reached.to_dict("records"),
            "studies": {
                gate: {name: one[name] for name in MANIFEST_FIELDS if name in one} for gate, one in manifests.items()
            },
            "seed": seed,
            "seconds": seconds,
        },
    )
    return "\n\n".join([tables.text(), "\n".join(sentence(one) for one in verdict_lines)])


def sentence(verdict: Mapping[str, Any]) -> str:
    """Format a verdict as a sentence.

    Args:
        verdict: Entry of `verdicts`.
    """
    condition = f"{verdict['ours']} under gate {verdict['gate']} at gain {verdict['target_gain']:g}"
    if verdict["rival"] is None:
        return f"{condition}: {verdict['reason']}"
    parts = []
    for name in ("nlr", *LOSSES):
        met, ratio = verdict[f"{name}_goal"], verdict.get(f"{name}_ratio")
        if met is None:
            parts.append(f"{name}: no ratio (the rival's is within noise of 0)")
        else:
            low, high = verdict[f"{name}_ratio_lo"], verdict[f"{name}_ratio_hi"]
            parts.append(
                f"{name} {ratio:.2f} [{low:.2f}, {high:.2f}] of the rival's, goal {'met' if met else 'missed'}"
            )
    return f"{condition}, against {verdict['rival']} over {verdict['n_values']} values: {'; '.join(parts)}"


def printed(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """Format some columns of a table as text, with three decimals.

    Args:
        table: The table.
        columns: Names of columns; those that the table lacks are skipped.
    """
    return str(table[[c for c in columns if c in table]].round(3).to_string(index=False, na_rep="-"))
