"""Two values at once: a run's edits towards two values together.

Pairs are compatible (neighbours on the theory's circle, or members of a group) or opposed; a theory without relations has
unrelated pairs. Each edit has the dose that the run matched for its value alone, or a stated share of it. Two edits are
combined as follows:

- shifts of neurons (`neva_shift`): `editing.compose` with a stated rule for the neurons in both sets;
- every other method: both edits are active. Vectors add up; with `neva` the second value's probes read the activations after
  the first value's edit.

Figures are those of test prompts; intervals by cluster bootstrap over prompts, one set of draws for all pairs and methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.method_records import find_method
from neva_tl.core.theories import ValueTheory
from neva_tl.editing import Edit, Shift, compose
from neva_tl.editing.edits.compose import Shared
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import interval
from neva_tl.evaluation.measures.headline import draw, nlr
from neva_tl.models import Model
from neva_tl.study.analyses.reopened_run import Run, RunEdit
from neva_tl.study.analyses.sensitivity import spread_values
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.comparison import responses_of

#: Methods that are compared where the run has them, and the reference methods among them.
METHODS = ("neva_shift", "neva", "caa", "caa_projected")
VECTORS = ("caa", "caa_projected")
#: Number of pairs of each kind where none are named.
MOST_PAIRS = 3
COMPATIBLE, OPPOSED, UNRELATED = "compatible", "opposed", "unrelated"
#: Means over pairs, and statistics with a kink (their draws are recentred: see `estimate.interval`).
MEANS = ("gain", "min_gain", "leakage")
KINKED = ("min_gain", "leakage")


@dataclass(frozen=True)
class TwoConfig:
    """Settings of the study of two values.

    Attributes:
        pairs: Pairs of the run's values; empty takes three compatible and three opposed ones.
        methods: Methods of the run; empty takes those of `METHODS` that it has.
        shares: Shares of each edit's own dose.
        shared: Rule for the neurons in both sets (`editing.compose`).
        target: One of the run's gains; None takes its headline.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    methods: tuple[str, ...] = ()
    shares: tuple[float, ...] = (1.0,)
    shared: str = "sum"
    target: float | None = None


def kind_of(a: str, b: str, theory: ValueTheory) -> str:
    """Name the relation of two values.

    Args:
        a: First value.
        b: Second value.
        theory: Theory of the values.

    Returns:
        `compatible` for neighbours on the circle (without a circle: members of a group), `opposed` for opposites, else the
        distance in words, or `unrelated` without a circle.

    Raises:
        InputError: A value is not one of the theory's, or both are the same.
    """
    if theory.index(a) == theory.index(b):
        raise InputError(f"{a} and {b} are one value: name two")
    if theory.opposed(a, b):
        return OPPOSED
    if theory.has_circle:
        steps = theory.steps(a, b)
        return COMPATIBLE if steps == 1 else f"{steps} steps apart"
    return COMPATIBLE if theory.same_group(a, b) else UNRELATED


def default_pairs(values: Iterable[str], theory: ValueTheory, most: int = MOST_PAIRS) -> tuple[tuple[str, str], ...]:
    """Select compatible and opposed pairs of values, spread over the theory; any pairs of a theory without relations.

    Args:
        values: Available values.
        theory: Theory of the values.
        most: Largest number of pairs of each kind.

    Raises:
        InputError: The values contain no such pair.
    """
    available = theory.in_order(values)
    if len(available) < 2:
        raise InputError(f"the run steers towards {', '.join(available)} alone: two values are needed")
    every = list(combinations(theory.names, 2))
    if theory.has_circle:
        compatible = [(a, theory.neighbours(a)[1]) for a in theory.names]
    else:
        compatible = [pair for pair in every if theory.same_group(*pair)]
    selected = []
    opposed = [pair for pair in every if theory.opposed(*pair)]
    for pairs in (compatible, opposed) if compatible or opposed else (every,):
        usable = [pair for pair in pairs if set(pair) <= set(available)]
        positions = spread_values([str(i) for i in range(len(usable))], most) if usable else ()
        selected += [usable[int(i)] for i in positions]
    if not selected:
        raise InputError(f"no two of {', '.join(available)} are neighbours or opposed in the theory: name pairs")
    return tuple(selected)


def together(a: Edit, b: Edit, share: float = 1.0, shared: Shared = "sum") -> tuple[Edit, ...]:
    """Combine two edits at a share of their doses.

    Args:
        a: First edit.
        b: Second edit.
        share: Share of each edit's own dose.
        shared: Rule for the neurons in both sets.

    Returns:
        One composed shift for two shifts, else both edits.
    """
    scaled = [edit.with_dose(share * edit.dose) for edit in (a, b)]
    shifts = [edit for edit in scaled if isinstance(edit, Shift)]
    return (compose(shifts, shared=shared),) if len(shifts) == 2 else tuple(scaled)


def two_values(
    run: Run, model: Model, config: TwoConfig | None = None, *, progress: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Steer towards two values together, for every pair and method.

    Cells are stored in the run folder.

    Args:
        run: The finished run.
        model: Its loaded model.
        config: Pairs and methods.
        progress: Show a bar on stderr.

    Returns:
        Tables `two_values` (a row per pair, method and share of the dose) and `two_values_kinds` (means over the pairs of a
        kind), with gain_a, gain_b, gain (their mean), min_gain (the smaller), leakage (cross-fitted, over the other
        values), nlr = leakage / gain, kept = gain / mean gain of the two values when each is steered alone at its full dose
        (each with its ends), invalid, n_texts, perplexity, kl, accuracy, and shared (number of neurons in both sets); and as
        plain data the rows of kinds, and the difference of neurons and vectors on the same draws.

    Raises:
        InputError: The run lacks a value, method, target or file, or a pair is unusable.
    """
    lab = _TwoLab.open(run, model, config or TwoConfig())
    _ = lab.cells.base
    lab.measure(progress)
    rows, drawn = [], {}
    for pair in lab.kinds:
        for method in lab.methods:
            for share in lab.config.shares:
                draws = lab.draws(method, pair, share)
                drawn[pair, method, share] = draws
                head = {"kind": lab.kinds[pair], "a": pair[0], "b": pair[1], "method": method, "dose_share": share}
                rows.append(head | numbers(draws, lab.items) | lab.facts(method, pair, share))
    kinds, differences = summarise(lab, drawn)
    facts = {"pairs": [list(pair) for pair in lab.kinds], "shared": lab.config.shared, "target_gain": lab.target}
    about = {**facts, **lab.cells.scorer.about(), "seed": lab.run.config.seed, "n_boot": lab.cells.profile.n_boot}
    tables = {"two_values": pd.DataFrame(rows), "two_values_kinds": pd.DataFrame(kinds)}
    return tables, {**about, "study": run.manifest["study"], "kinds": kinds, "differences": differences}


@dataclass(eq=False)
class _TwoLab:
    """A reopened run with its single edits."""

    run: Run
    config: TwoConfig
    #: Pair -> its kind in the run's theory.
    kinds: Mapping[tuple[str, str], str]
    methods: tuple[str, ...]
    target: float
    cells: CellRunner
    edits: Mapping[tuple[str, str], RunEdit]

    @classmethod
    def open(cls, run: Run, model: Model, config: TwoConfig) -> _TwoLab:
        theory = run.theory()
        pairs = config.pairs or default_pairs(run.values(), theory)
        pairs = tuple((theory.value(a).name, theory.value(b).name) for a, b in pairs)
        kinds = {pair: kind_of(*pair, theory) for pair in pairs}
        methods = config.methods or tuple(name for name in METHODS if name in run.methods())
        undosed = [name for name in methods if find_method(name).dose == "none"]
        if undosed:
            raise InputError(f"{undosed[0]} has no dose: two of its edits cannot be combined")
        if not methods:
            raise InputError(f"{run.store.root} measured none of {', '.join(METHODS)}: name its methods")
        if config.shared not in get_args(Shared):
            raise InputError(f"unknown rule {config.shared!r} for shared neurons: choose {', '.join(get_args(Shared))}")
        if not config.shares or not all(0 < share < np.inf for share in config.shares):
            raise InputError(f"shares of the dose must be above 0, not {', '.join(map(str, config.shares)) or 'none'}")
        steered = theory.in_order(name for pair in pairs for name in pair)
        target = run.target(config.target)
        single = {(one.method, one.value): one for one in run.edits(model, methods, steered, target)}
        return cls(run, config, kinds, methods, target, run.cells(model), single)

    def cell(self, method: str, pair: tuple[str, str], share: float) -> str:
        ruled = self.config.shared != "sum" and isinstance(self.edits[method, pair[0]].edit, Shift)
        rule = f"-{self.config.shared}" if ruled else ""
        return f"cells/two_values/{method}{rule}/{pair[0]}+{pair[1]}@{self.target}x{share:g}"

    def measure(self, progress: bool) -> None:
        """Measure the unfinished conditions.

        On the demo's tiny model the conditions of one method are measured together.

        Args:
            progress: Show a bar on stderr.
        """
        step = len(self.kinds) * len(self.config.shares) if self.run.config.judge == "exact" else 1
        bar = progress_bar(total=len(self.methods), desc="two values", progress=progress)
        with bar:
            for method in self.methods:
                todo = []
                for pair in self.kinds:
                    a, b = (self.edits[method, name] for name in pair)
                    about = {"dose": [a.dose, b.dose], "status": [a.status, b.status]}
                    for share in self.config.shares:
                        name = self.cell(method, pair, share)
                        if not self.cells.store.has(f"{name}.json"):
                            todo.append(
                                (name, together(a.edit, b.edit, share, cast(Shared, self.config.shared)), about)
                            )
                for start in range(0, len(todo), step):
                    self.cells.measure(todo[start : start + step])
                bar.update()

    def draws(self, method: str, pair: tuple[str, str], share: float) -> dict[str, Float[np.ndarray, " b"]]:
        """Return the measures of a pair, on the data (first) and on draws.

        Args:
            method: Registered name.
            pair: Steered values.
            share: Share of the doses.
        """
        store, seed, n_boot = self.cells.store, self.run.config.seed, self.cells.profile.n_boot
        # the condition steers two values; as responses it is one row that serves both
        both = responses_of(store, method, {pair[0]: self.cell(method, pair, share)})
        alone = responses_of(store, method, {name: f"cells/measure/{method}/{name}@{self.target}" for name in pair})
        assert both is not None
        assert alone is not None
        drawn = draw(both, seed=seed, n_boot=n_boot, n_splits=8)
        single = formulas.gain(draw(alone, seed=seed, n_boot=n_boot, n_splits=1).d, alone.target)
        columns = [both.values.index(name) for name in pair]
        return pair_draws(drawn.d[:, 0], drawn.positive[:, 0], columns, single)

    @property
    def items(self) -> int:
        """Number of items of the judge."""
        rows = self.cells.store.read_table("cells/base.items").query("kind == 'score'")
        return int(rows.groupby("measured")["item"].nunique().max())

    def facts(self, method: str, pair: tuple[str, str], share: float) -> dict[str, Any]:
        """Return the fields of a pair's cell other than its scores.

        Args:
            method: Registered name.
            pair: Steered values.
            share: Share of the doses.
        """
        record = self.cells.store.read_json(f"{self.cell(method, pair, share)}.json")
        doses = record["dose"]
        out = {"dose_a": doses[0], "dose_b": doses[1], "status_a": record["status"][0], "status_b": record["status"][1]}
        return out | {"invalid": record["invalid"], "n_texts": record["n_texts"], **record["capability"],
                      "shared": self.shared(method, pair)}  # fmt: skip

    def shared(self, method: str, pair: tuple[str, str]) -> int | None:
        """Count the neurons in both edits; None where the method has no neurons.

        Args:
            method: Registered name.
            pair: Steered values.
        """
        sets = [getattr(self.edits[method, name].edit, "neurons", None) for name in pair]
        if any(neuron_set is None for neuron_set in sets):
            return None
        first, second = (set(zip(n.df["layer"], n.df["neuron"], strict=True)) for n in sets)  # type: ignore[union-attr]
        return len(first & second)


def pair_draws(
    d: Float[np.ndarray, "b j"],
    positive: Float[np.ndarray, "b j"],
    steered: Sequence[int],
    single: Float[np.ndarray, "b 2"],
) -> dict[str, Float[np.ndarray, " b"]]:
    """Compute the measures of two values that are steered together, for each draw.

    Args:
        d: Change of every measured value.
        positive: Its cross-fitted positive part.
        steered: Columns of the two steered values.
        single: Gains of each value when steered alone.

    Returns:
        `gain_a`, `gain_b`; `gain`, their mean; `min_gain`; `leakage`: mean of `positive` over the other values; `kept`: the
        gain over the mean of the single gains (`inf` where that is not above 0).
    """
    others = [j for j in range(d.shape[1]) if j not in steered]
    gain_a, gain_b = d[:, steered[0]], d[:, steered[1]]
    leakage = positive[:, others].mean(axis=1) if others else np.full(len(d), np.nan)
    out = {"gain_a": gain_a, "gain_b": gain_b, "gain": (gain_a + gain_b) / 2, "min_gain": np.minimum(gain_a, gain_b)}
    return out | {"leakage": leakage, "kept": formulas.ratio(out["gain"], single.mean(axis=1))}


def numbers(draws: Mapping[str, Float[np.ndarray, " b"]], n: int) -> dict[str, float | None]:
    """Compute estimates with their 95 % intervals.

    Args:
        draws: Measure -> numbers on the data (first) and on draws.
        n: Number of items.

    Returns:
        The measures, and `nlr`, leakage over gain: null unless the complete interval of the gain is above 0.
    """
    estimates = {name: interval(x[0], x[1:], n, recentre=name in KINKED) for name, x in draws.items()}
    if "leakage" in draws:
        estimates["nlr"] = nlr(draws["leakage"][:, None], draws["gain"][:, None], n, 0.95)
    out: dict[str, float | None] = {}
    for name, one in estimates.items():
        out |= one.columns(name)
    return out


def summarise(
    lab: _TwoLab, drawn: Mapping[tuple[tuple[str, str], str, float], Mapping[str, Float[np.ndarray, " b"]]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Average over the pairs of each kind, and compare neurons with vectors.

    Args:
        lab: The reopened run.
        drawn: (pair, method, share) -> measures on the data and on draws.

    Returns:
        Rows of means; and differences of neuron methods and each vector method on the same draws, as plain data.
    """
    kinds = list(dict.fromkeys(lab.kinds.values()))
    n = lab.items
    rows, differences = [], []
    for kind in kinds:
        pairs = [pair for pair, its_kind in lab.kinds.items() if its_kind == kind]
        for share in lab.config.shares:
            means = {
                method: {name: np.mean([drawn[pair, method, share][name] for pair in pairs], axis=0) for name in MEANS}
                for method in lab.methods
            }
            for method, mean in means.items():
                facts = [lab.facts(method, pair, share) for pair in pairs]
                texts = sum(fact["n_texts"] for fact in facts)
                row = {"kind": kind, "method": method, "dose_share": share, "pairs": len(pairs)} | numbers(mean, n)
                row["invalid"] = sum(f["invalid"] * f["n_texts"] for f in facts) / texts if texts else None
                rows.append(
                    row | {name: float(np.mean([f[name] for f in facts])) for name in lab.cells.base["capability"]}
                )
            for ours, theirs in product(means, means):
                if ours in VECTORS or theirs not in VECTORS:
                    continue
                gap = {name: means[ours][name] - means[theirs][name] for name in MEANS}
                head = {"kind": kind, "method": ours, "less": theirs, "dose_share": share}
                estimates = {name: interval(x[0], x[1:], n, recentre=name in KINKED) for name, x in gap.items()}
                differences.append(head | {name: one.to_json() for name, one in estimates.items()})
    return rows, differences
