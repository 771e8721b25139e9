"""Study: the whole investigation as one object. Config in, run folder out; a killed run goes on where it stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from neva_tl import models, prompts
from neva_tl.baselines import Evidence, build
from neva_tl.editing import Edit
from neva_tl.study import stages, summary, tables
from neva_tl.study.cells import Cells
from neva_tl.study.config import Profile, StudyConfig
from neva_tl.study.stages import say
from neva_tl.study.store import Store

#: Methods without a search of their own take the doses of another: placebos are matched in size, not in gain.
FOLLOWS = {"random": "neva_shift", "label_shuffled": "neva_shift"}
#: Methods without a dose: shown at their own gain.
UNDOSED = ("role",)


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A finished run folder."""

    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        return Store(self.folder).read_json("results.json")

    def table(self, name: str) -> pd.DataFrame:
        """A tidy table of the run: methods, leakage, values, dose, neurons, effects, circuit, generations, ablation."""
        return Store(self.folder).read_table(f"tables/{name}")

    def text(self) -> str:
        """The headline table as text."""
        return summary.text_table(self.table("methods"), self.results["judge"], self.results["unit"])

    def show(self) -> Any:
        """The leakage heatmaps, one per method."""
        from neva_tl.plots import leakage_heatmap

        return leakage_heatmap(self.table("leakage"))

    def _repr_html_(self) -> str:
        return f"<p>{self.folder}</p>" + self.table("methods").round(2).to_html(index=False)


class Study:
    """A study of one model: which neurons carry each value, what editing them does, beside the baselines.

    Args:
        model: a name for `neva_tl.load`, or a loaded TransformerLens model.
        options: fields of `StudyConfig`.
    """

    def __init__(self, model: Any = "demo", **options: Any) -> None:
        self._loaded = model if models.is_model(model) else None
        name = models.info(model).name if self._loaded is not None else str(model)
        self.config = StudyConfig(model=name, **options).resolved()
        self.profile: Profile = self.config.spending()

    def run(self, out: str | Path, *, progress: bool = False) -> StudyResult:
        """Run what is not done yet and write the folder's tables, results.json, figures and report.html.

        Raises:
            InputError: bad options, or the folder belongs to another study.
            WorkError: a judge or an edit failed.
        """
        started = time.monotonic()
        config, profile = self.config, self.profile
        say(f"model {config.model}, prompts {config.prompts}, judge {config.judge}, profile {config.profile}", progress)
        pairs = stages.limit_rows(prompts.load(config.prompts), profile.rows_per_value)
        model = self._loaded if self._loaded is not None else models.load(config.model, dtype=config.dtype)
        about = stages.manifest(config, model, pairs, sys.argv)
        store = Store.open(out, about)
        before = store.read_json("manifest.json").get("wall_time_s", 0.0) if store.has("manifest.json") else 0.0
        store.write_json("manifest.json", {**about, "wall_time_s": before, "finished": store.has("report.html")})
        if store.has("report.html") and store.has("results.json"):
            say("already done: delete the folder to run again", progress)
            return StudyResult(store.root)
        self._work(store, model, pairs, progress)
        about["wall_time_s"] = before + time.monotonic() - started
        store.write_json("manifest.json", {**about, "finished": True})
        from neva_tl.report import write_report

        write_report(store.root)
        return StudyResult(store.root)

    def _work(self, store: Store, model: Any, pairs: Any, progress: bool) -> None:
        config, profile = self.config, self.profile
        stats = stages.collected(store, model, pairs, config, progress)
        config = stages.steerable(config, stats)
        neurons = stages.selected(store, model, stats, config, progress)
        steered = tuple(name for name in config.values if len(neurons[name]))
        stages.write_evidence(store, model, stats, neurons)
        scorer = stages.make_scorer(model, pairs, config, profile)
        cells = Cells(store, model, scorer, config, profile)
        plan = _plan(config.methods, profile.targets)
        total = len(steered) * (len(plan) + len({FOLLOWS.get(m, m) for m, _ in plan} - set(UNDOSED)) + 1)
        with tqdm(total=total, desc="study", unit="cell", file=sys.stderr, disable=not progress) as bar:
            layers = cells.vector_layers(Evidence(model, stats, neurons, config.token_scope()), steered)
            evidence = Evidence(
                model,
                stats,
                neurons,
                config.token_scope(),
                layers,
                chat=config.chat is not False and models.info(model).chat,
                seed=config.seed,
            )
            edits: dict[tuple[str, str], Edit] = {}

            def edit_of(method: str, value: str) -> Edit:
                if (method, value) not in edits:
                    edits[method, value] = build(method, evidence, value)
                return edits[method, value]

            doses: dict[tuple[str, str], dict[str, Any]] = {}
            for method in dict.fromkeys(FOLLOWS.get(m, m) for m, _ in plan):
                if method in UNDOSED:
                    continue
                for value in steered:
                    bar.set_postfix_str(f"dose of {method} for {value}")
                    doses[method, value] = cells.calibration(method, value, edit_of)
                    bar.update()
            for method, target in plan:
                for value in steered:
                    bar.set_postfix_str(f"{method} for {value}")
                    cells.condition(method, value, target, edit_of, doses.get((FOLLOWS.get(method, method), value)))
                    bar.update()
            for value in steered:
                bar.set_postfix_str(f"ablation for {value}")
                cells.ablation(value, neurons[value])
                bar.update()
        say("writing tables, figures and the report", progress)
        tables.write_all(cells, plan, steered, edit_of, neurons)


def _plan(methods: Sequence[str], targets: Sequence[float]) -> list[tuple[str, float | None]]:
    """What is measured: every method at every target; undosed methods once."""
    return [(m, t) for m in methods for t in ((None,) if m in UNDOSED else targets)]
