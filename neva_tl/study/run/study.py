"""A full study as one object.

Its input is a configuration, its output a run folder. A killed run resumes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import AUTO
from neva_tl.core.cards import card
from neva_tl.core.locks import lock_folder, refuse_locked
from neva_tl.core.messages import long_steps, say, timed
from neva_tl.core.theories import left_out
from neva_tl.models.sources import label
from neva_tl.plots.showable import showable
from neva_tl.selection.base import check_k
from neva_tl.study.report.control import control_line
from neva_tl.study.run import changed_files, stages, summary, tables, workers
from neva_tl.study.run.adopt import adopt
from neva_tl.study.run.auto_judge import judge_for
from neva_tl.study.run.config import Profile, StudyConfig
from neva_tl.study.run.optional import leave_out, line_of
from neva_tl.study.run.origin import keep_prompts, source
from neva_tl.study.run.preflight import Preflight, check_study
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.workers import measure_all
from neva_tl.study.run.workspace import StudyWorkspace

#: The figure that `.show()` of a run's table draws.
FIGURE_OF = {
    "leakage_heatmap": "leakage",
    "method_bars": "methods",
    "dose_response": "dose",
    "layer_profile": "neurons",
    "layer_ablation": "layers",
    "logit_lens": "lens",
    "token_lens": "lens_tokens",
    "faithfulness": "circuits",
}


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A finished run folder.

    Attributes:
        folder: Its path.

    Example:
        >>> from pathlib import Path
        >>> finished = nv.study.StudyResult(Path(run))
        >>> finished.table("methods")["method"].tolist()
        ['neva_shift', 'caa']
    """

    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        return RunFolder(self.folder).read_json("results.json")

    @check_arguments
    def table(self, name: str) -> pd.DataFrame:
        """Read a tidy table of the run.

        Args:
            name: `methods`, `leakage`, `values`, `controls`, `dose`, `neurons`, `effects`, `circuit`, `generations` or
                `ablation`.

        Returns:
            The table; its `.show()` draws the figure that belongs to it, where there is one.
        """
        figure = next((figure for figure, table in FIGURE_OF.items() if table == name), "")
        return showable(RunFolder(self.folder).read_table(f"tables/{name}"), figure)

    def text(self) -> str:
        """Format the headline table as text, with the positive control and the parts that were left out."""
        table = summary.text_table(self.table("methods"), self.results["judge"], self.results["unit"])
        return "\n".join([table, *self._notes()])

    def parts(self) -> list[str | pd.DataFrame]:
        """Return the sentences and the table of `text`, in order."""
        head, table = summary.headline(self.table("methods"), self.results["judge"], self.results["unit"])
        return [head, table, *self._notes()]

    def _notes(self) -> list[str]:
        """Return the lines below the headline table."""
        control = control_line(self.results)
        return [*([control] if control else []), *(f"left out: {line_of(record)}" for record in self.left_out)]

    @property
    def left_out(self) -> list[dict[str, str]]:
        """The optional parts that were left out: `{part, reason}` of each (none in runs of version 0.1.0)."""
        return list(self.results.get("left_out", []))

    def show(self) -> Any:
        """Draw the leakage heatmaps, one per method."""
        from neva_tl.plots import leakage_heatmap

        return leakage_heatmap(self.table("leakage"))

    def _repr_html_(self) -> str:
        results = self.results
        facts = {"model": results["model"].get("name"), "judge": results["judge"], "unit": results["unit"]}
        facts |= {"values": len(results["values"]), "folder": self.folder}
        if control := control_line(results):
            facts["positive control"] = control.partition(": ")[2]
        return card("Study", facts, self.table("methods"), rows=20)


class Study:
    """A study of one model.

    It selects the neurons of each value, measures the effect of editing them, and compares it with the baselines.

    Args:
        model: A name for `neva_tl.load`, or a loaded TransformerLens model.
        options: Fields of `StudyConfig`. The judge `auto` of an instruct model is the environment variable NEVA_JUDGE's, where
            it is set.

    Example:
        >>> study = nv.Study("demo", values=("power",), methods=("neva", "caa"), profile="quick")
        >>> study.profile.test
        60
        >>> result = study.run("runs/power")  # doctest: +SKIP
    """

    def __init__(self, model: Any = "demo", **options: Any) -> None:
        self._loaded = model if models.is_model(model) else None
        if self._loaded is None and not isinstance(model, str | PathLike):
            models.load(model)  # raises: neither a name nor a model
        name = models.info(model).name if self._loaded is not None else fspath(model)
        options = {key: fspath(option) if isinstance(option, PathLike) else option for key, option in options.items()}
        config = StudyConfig(model=name, **options)
        #: The settings as given; values and judge of prompts of one's own are decided once the prompts are read.
        self.options = replace(config, judge=judge_for(name, self._loaded)) if config.judge == AUTO else config
        self.config = self.options.resolved()
        self.profile: Profile = self.config.spending()

    def __repr__(self) -> str:
        config = self.config
        facts = f"prompts {label(config.prompts)}, judge {config.judge}, profile {config.profile}"
        return f"Study({label(config.model)}: {facts}, {len(config.methods)} methods)"

    @check_arguments
    def run(
        self,
        out: str | Path,
        *,
        workers: int | None = None,
        progress: bool = False,
        like: str | Path | None = None,
    ) -> StudyResult:
        """Run the unfinished work and write the run folder.

        It holds tables, results.json, figures and report.html. A folder of the same study with other methods keeps these: its
        tables then contain the methods of both runs.

        Args:
            out: The run folder.
            workers: Processes that share the measurements; None takes one per core where the model is small and on a CPU, else
                one. The number changes no result. A model passed as an object stays in this process.
            progress: Show bars on stderr.
            like: Another run folder, of a study that differs in gate, methods and target gains only: the results that precede
                any edit (statistics, neurons, circuits, the unedited model's scores) are copied from it.

        Raises:
            InputError: An option is unusable, the folder (or `like`) belongs to another study, or another process writes into it.
            WorkError: A judge or an edit failed.
        """
        started = time.monotonic()
        refuse_locked(out)
        inputs = check_study(self.options, out)
        self.config = config = inputs.config
        self.profile = config.spending()
        with timed(f"loading {config.model}"):
            model = self._loaded if self._loaded is not None else config.load_model()
        info = models.info(model)
        check_k(config.k, info.n_layers * info.d_mlp)
        with lock_folder(out), long_steps(progress):
            return self._finish(out, model, inputs, config, workers, progress, like, started)

    def _finish(
        self,
        out: str | Path,
        model: models.Model,
        inputs: Preflight,
        config: StudyConfig,
        workers: int | None,
        progress: bool,
        like: str | Path | None,
        started: float,
    ) -> StudyResult:
        """Run the unfinished work in the run folder, which no other process writes into; see `run`."""
        pairs = inputs.pairs
        about = stages.manifest(config, model, pairs, sys.argv) | {"source": source(config)}
        store = RunFolder.open(out, about)
        changed = store.repair()
        say(f"model {config.model}, prompts {config.prompts}, judge {config.judge}, profile {config.profile}", progress)
        say(config.decisions, progress)
        if line := left_out(pairs.theory):
            say(line, progress)
        if like is not None:
            adopt(store, about, like)
        stored = store.read_json("manifest.json") if store.has("manifest.json") else {}
        before, stored_methods = stored.get("wall_time_s", 0.0), tuple(stored.get("config", {}).get("methods", ()))
        config = replace(
            config, methods=(*stored_methods, *(name for name in config.methods if name not in stored_methods))
        )
        about["config"] = config.to_json()
        # the files alone do not show it: a run killed while it added methods still has the tables of the earlier ones
        complete = store.has("report.html") and store.has("results.json")
        finished = stored.get("finished", False) and complete and config.methods == stored_methods and not changed
        store.write_json("manifest.json", {**about, "wall_time_s": before, "finished": finished})
        if finished:
            say("already finished: delete the folder to run again", progress)
            return StudyResult(store.root)
        keep_prompts(store, pairs, config)
        if pairs.note:
            leave_out(store, "Prompts", pairs.note)
        try:
            self._work(store, model, inputs, config, workers, progress)
        finally:  # the time of an interrupted call counts too
            about["wall_time_s"] = before + time.monotonic() - started
            store.write_json("manifest.json", {**about, "finished": False})
        from neva_tl.study.report import write_report

        # the page shows the manifest; a call killed before the page exists is not taken for finished
        (store.root / "report.html").unlink(missing_ok=True)
        store.write_json("manifest.json", {**about, "finished": True})
        write_report(store.root)
        changed_files.settle(store.root, changed)
        return StudyResult(store.root)

    def _work(
        self,
        store: RunFolder,
        model: models.Model,
        inputs: Preflight,
        config: StudyConfig,
        processes: int | None,
        progress: bool,
    ) -> None:
        with timed("statistics, neurons and gate"):
            workspace = StudyWorkspace.open(store, model, inputs.pairs, config, judge=inputs.judge, progress=progress)
        count = workers.default_workers(model, config.judge) if processes is None else processes
        if self._loaded is not None:
            count = 1  # another process could not load it
        elif count > workers.cores():
            say(f"{count} workers are more than the cores: using {workers.cores()}", progress)
            count = workers.cores()
        with timed(f"measurements in {count} processes"):
            measure_all(workspace, workers=count, progress=progress)
        say("writing tables, figures and the report", progress)
        with timed("tables and figures"):
            tables.write_all(
                workspace.cells,
                workspace.plan,
                workspace.steered,
                workspace.edit_of,
                workspace.evidence.neurons,
                jobs=count,
            )
