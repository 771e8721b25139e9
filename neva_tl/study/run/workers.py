"""Several processes that measure the values of a study into one run folder.

Cells are files that are written atomically, so the processes share nothing else. Several processes are faster where a forward
pass costs little compared with Python's overhead (the demo model, SmolLM2 on a CPU); a model that fills a device stays in one
process.
"""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva_tl.core.messages import progress_bar
from neva_tl.core.method_records import METHODS, Method, find_method
from neva_tl.evaluation.judges.registry import JUDGES
from neva_tl.models import Model
from neva_tl.selection import SELECTORS, Selector
from neva_tl.selection.registry import find_selector
from neva_tl.study.report.control import CONTROL, needs_control
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.workspace import StudyWorkspace, dose_source

#: Largest number of parameters for which several processes are the default.
SMALL = 300_000_000
#: Largest default number of processes.
MOST = 8


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(model: Model, judge: str = "") -> int:
    """Return the default number of processes for a model.

    Args:
        model: The loaded model.
        judge: Name of the judge; each process would load the model of an `llm:` judge.

    Returns:
        One per core where the model is small and on a CPU, else one.
    """
    if judge.startswith("llm:"):
        return 1
    parameter = next(model.parameters())
    small = sum(p.numel() for p in model.parameters()) <= SMALL
    return min(cores(), MOST) if small and parameter.device.type == "cpu" else 1


def spread(
    root: Path,
    config: StudyConfig,
    blocks: Sequence[tuple[str, ...]],
    *,
    workers: int,
    look: Callable[[str], None] = lambda _: None,
    poll: float = 0.5,
) -> None:
    """Measure blocks of values in several processes.

    Each process takes the next block when it has finished one. The first error of a worker is raised here; the other workers
    stop at their next block.

    Args:
        root: Run folder with the statistics, the neurons and the unedited model's cells.
        config: The resolved study.
        blocks: The unmeasured values, in the groups that are measured together.
        workers: Number of processes.
        look: Called every `poll` seconds to show progress.
        poll: Seconds between two calls of `look`.
    """
    from joblib import Parallel, delayed

    registered = Registered.of(config)
    threads = max(1, cores() // workers)
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(poll):
            look(f"{workers} processes")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with warnings.catch_warnings():
            # loky restarts a worker whose memory grew and says so: the user can do nothing about it, and no result is lost
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
            Parallel(n_jobs=workers, backend="loky", batch_size=1, pre_dispatch=workers)(
                delayed(_measure)(str(root), config, block, threads, os.getpid(), registered) for block in blocks
            )
    finally:
        finished.set()
        watcher.join()


@dataclass(frozen=True)
class Registered:
    """The registered records that a study needs.

    Workers start without the records that a notebook or a script registered.

    Attributes:
        methods: Name -> record; includes the methods whose doses others take, and the positive control.
        selectors: Name -> record.
        judges: Name -> import path and form.
    """

    methods: Mapping[str, Method]
    selectors: Mapping[str, Selector]
    judges: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, config: StudyConfig) -> Registered:
        """Collect the records of a study.

        Args:
            config: The resolved study.
        """
        sources = [source for name in config.methods if (source := dose_source(name)) is not None]
        control = (CONTROL,) if needs_control(config.judge) else ()
        judge = config.judge.partition(":")[0]
        return cls(
            {name: find_method(name) for name in (*config.methods, *sources, *control)},
            {config.selector: find_selector(config.selector)},
            {judge: JUDGES[judge]} if judge in JUDGES else {},
        )

    def install(self) -> None:
        """Add the records to this process's registries."""
        METHODS.update(self.methods)
        SELECTORS.update(self.selectors)
        JUDGES.update(self.judges)


_workspaces: dict[tuple[str, str, tuple[str, ...]], Any] = {}


def _measure(
    root: str, config: StudyConfig, values: tuple[str, ...], threads: int, parent: int, registered: Registered
) -> None:
    """Measure one block in a worker, which sets up model and evidence once."""
    registered.install()
    key = (root, config.hash(), config.methods)
    if key not in _workspaces:
        _prepare(threads, parent)
        from neva_tl.study.run import stages
        from neva_tl.study.run.run_folder import RunFolder
        from neva_tl.study.run.workspace import StudyWorkspace

        pairs = stages.limit_rows(config.load_prompts(), config.spending().rows_per_value)
        model = config.load_model()
        _workspaces[key] = StudyWorkspace.open(RunFolder(Path(root)), model, pairs, config)
    _workspaces[key].measure(values)


def _prepare(threads: int, parent: int) -> None:
    import torch

    torch.set_num_threads(threads)

    def leave_with_parent() -> None:
        # after the parent is killed, workers must not write into the folder, because the next call resumes it
        while _alive(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        pass
    return True


def measure_all(workspace: StudyWorkspace, *, workers: int, progress: bool) -> None:
    """Measure every value, in this process or in several.

    An error of a cell is raised here, from the first worker that fails.

    Args:
        workspace: The study's cells and evidence.
        workers: Processes; each loads the model and measures a share of the values. 1 measures in this process.
        progress: Show a bar of cells on stderr.
    """
    store = workspace.cells.store
    _ = workspace.cells.base  # the workers read it
    names = [name for value in workspace.steered for name in workspace.names(value)]
    remaining = [value for value in workspace.steered if not all(store.has(name) for name in workspace.names(value))]
    todo = [*remaining[::2], *remaining[1::2]]  # a run that stops halfway has values from the full circle
    with progress_bar(total=len(names), desc="study", unit="cell", progress=progress) as bar:

        def look(text: str = "") -> None:
            bar.n = sum(store.has(name) for name in names)
            bar.set_postfix_str(text)

        look()
        count = max(1, min(workers, len(todo)))
        n_blocks = count if workspace.block is None else math.ceil(len(todo) / workspace.block)
        blocks = [block for start in range(n_blocks) if (block := tuple(todo[start::n_blocks]))]
        if count == 1:
            for block in blocks:
                workspace.measure(block, look)
        else:
            spread(store.root, workspace.cells.config, blocks, workers=count, look=look)
        look("done")
