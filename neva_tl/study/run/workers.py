"""Several processes on one machine, each measuring some values of a study into the same run folder.

Cells are files that are written whole, so processes share nothing else. Pays where the model is small against Python's
overhead (the demo model, SmolLM2 on a CPU); a model that fills a device stays in one process.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neva_tl.core.method_records import METHODS, Method, find_method
from neva_tl.evaluation.judges.registry import JUDGES
from neva_tl.selection import SELECTORS, Selector
from neva_tl.selection.registry import find_selector
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.workspace import StudyWorkspace, dose_source

#: A model with more parameters is not copied into several processes unless asked for.
SMALL = 300_000_000
#: Most processes taken without being asked.
MOST = 8


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(model: Any) -> int:
    """Processes for a loaded model: one per core on a CPU where the model is small, else one."""
    parameter = next(model.parameters())
    small = sum(p.numel() for p in model.parameters()) <= SMALL
    return min(cores(), MOST) if small and parameter.device.type == "cpu" else 1


def spread(
    root: Path,
    config: StudyConfig,
    blocks: Sequence[tuple[str, ...]],
    *,
    workers: int,
    look: Callable[[str], None] = lambda text: None,
    poll: float = 0.5,
) -> None:
    """Measure blocks of values in `workers` processes; each takes the next block when it has finished one.

    Args:
        root: Run folder, with statistics, neurons and the unedited model's cells in it.
        config: The resolved study.
        blocks: The values that are left, in the groups that are measured together.
        look: Called every `poll` seconds, to show progress.

    Raises:
        The first error of a worker; the others are stopped at their next block.
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
        Parallel(n_jobs=workers, backend="loky", batch_size=1, pre_dispatch=workers)(
            delayed(_measure)(str(root), config, block, threads, os.getpid(), registered) for block in blocks
        )
    finally:
        finished.set()
        watcher.join()


@dataclass(frozen=True)
class Registered:
    """The records that a study names, for processes that start without those registered in a notebook or a script.

    Attributes:
        methods: Name -> record; with the methods whose doses others take.
        selectors: Name -> record.
        judges: Name -> import path and form.
    """

    methods: Mapping[str, Method]
    selectors: Mapping[str, Selector]
    judges: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, config: StudyConfig) -> Registered:
        """The records of a study.

        Args:
            config: The resolved study.
        """
        sources = [source for name in config.methods if (source := dose_source(name)) is not None]
        judge = config.judge.partition(":")[0]
        return cls(
            {name: find_method(name) for name in (*config.methods, *sources)},
            {config.selector: find_selector(config.selector)},
            {judge: JUDGES[judge]} if judge in JUDGES else {},
        )

    def install(self) -> None:
        """Add the records to this process's registries."""
        METHODS.update(self.methods)
        SELECTORS.update(self.selectors)
        JUDGES.update(self.judges)


_benches: dict[tuple[str, str, tuple[str, ...]], Any] = {}


def _measure(
    root: str, config: StudyConfig, values: tuple[str, ...], threads: int, parent: int, registered: Registered
) -> None:
    """One block in a worker; the model and the evidence are set up once per worker."""
    registered.install()
    key = (root, config.hash(), config.methods)
    if key not in _benches:
        _prepare(threads, parent)
        from neva_tl import models, prompts
        from neva_tl.study.run import stages
        from neva_tl.study.run.run_folder import RunFolder
        from neva_tl.study.run.workspace import StudyWorkspace

        pairs = stages.limit_rows(prompts.load(config.prompts), config.spending().rows_per_value)
        model = models.load(config.model, dtype=config.dtype)
        _benches[key] = StudyWorkspace.open(RunFolder(Path(root)), model, pairs, config)
    _benches[key].measure(values)


def _prepare(threads: int, parent: int) -> None:
    import torch

    torch.set_num_threads(threads)

    def leave_with_parent() -> None:
        # a parent killed outright must not leave processes writing into a folder that the next call resumes
        while _alive(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, and somebody else's
        pass
    return True


def measure_all(workspace: StudyWorkspace, *, workers: int, progress: bool) -> None:
    """Measure every value, in this process or in several.

    Args:
        workers: Processes; each loads the model and takes a share of the values. 1 stays here.
        progress: Show a bar of cells.

    Raises:
        Whatever a cell raises, from the first worker that fails.
    """
    store = workspace.cells.store
    _ = workspace.cells.base  # the workers read it
    names = [name for value in workspace.steered for name in workspace.names(value)]
    remaining = [value for value in workspace.steered if not all(store.has(name) for name in workspace.names(value))]
    todo = [*remaining[::2], *remaining[1::2]]  # a run that is stopped halfway has values from all around the circle
    with tqdm(total=len(names), desc="study", unit="cell", file=sys.stderr, disable=not progress) as bar:

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
