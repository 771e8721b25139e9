"""Checks of a study before any work: its folder, judge and prompts, before a model is loaded or a file is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import check_output_folder, read_json
from neva_tl.evaluation.judges.base import Judge
from neva_tl.evaluation.judges.registry import load_judge
from neva_tl.prompts import ContrastSet
from neva_tl.study.run import changed_files, stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.origin import PROMPTS, run_prompts
from neva_tl.study.run.run_folder import RunFolder, another_study, is_content

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Preflight:
    """Inputs of a study that were read by its checks.

    Attributes:
        pairs: The contrast set, with the rows of the profile.
        judge: The judge of texts; None for the log-probability judge, which is fitted to the model, and in finished runs.
        config: The study with every `auto` decided, for which the theory of its prompts is needed.
    """

    pairs: ContrastSet
    judge: Judge | None
    config: StudyConfig


def check_study(options: StudyConfig, out: str | Path, *, of_run: bool = False) -> Preflight:
    """Check the folder, the judge and the prompts of a study.

    Args:
        options: The study, as its options were given.
        out: Its run folder.
        of_run: Whether the folder is a run whose own copy of the prompts counts (analyses).

    Raises:
        InputError: The folder cannot be used, the judge is missing or unreachable, or the prompts cannot be read or cover no
            value of the study.
    """
    manifest = check_run_folder(out)
    if of_run and (Path(out) / PROMPTS).is_file():
        loaded = run_prompts(RunFolder(Path(out)), options)
    else:
        loaded = options.resolved().load_prompts()
    config = options.resolved(loaded)
    if manifest is not None and not str(manifest.get("study", "")).startswith(config.hash()):
        raise InputError(another_study(out, manifest, {**manifest, "config": config.to_json()}))
    manifest = manifest or {}
    stored = manifest.get("config")
    measured = stored.get("methods") if isinstance(stored, Mapping) else None
    # a finished run is only read
    finished = (
        manifest.get("finished") is True
        and isinstance(measured, list)
        and set(config.methods) <= set(map(str, measured))
    )
    judge = load_judge(config.judge, loaded.theory) if config.kind != "model" and not finished else None
    check = getattr(judge, "check", None)
    if check is not None:
        check()
    check_source = getattr(judge, "check_source", None)
    if check_source is not None:
        check_source(config.model)
    pairs = stages.limit_rows(loaded, config.spending().rows_per_value)
    stages.steerable(config, pairs)
    return Preflight(pairs, judge, config)


def check_run_folder(root: str | Path) -> dict[str, Any] | None:
    """Check that a folder is a run folder, is empty, or can be created.

    Args:
        root: The folder.

    Returns:
        Its manifest; None where it has none.

    Raises:
        InputError: The path is a file, cannot be written, or belongs to something else.
    """
    root = Path(root)
    check_output_folder(root)
    changed_files.restore_manifest(root)
    if (root / MANIFEST).exists():
        try:
            return read_json(root / MANIFEST, "a manifest")
        except InputError as error:
            raise InputError(f"{error}: choose another --out") from error
    if root.exists() and any(is_content(entry) for entry in root.iterdir()):
        raise InputError(f"{root} is not empty and holds no manifest.json: choose another --out, or delete the folder")
    return None


def read_manifest(root: str | Path, *, measured: bool = False) -> dict[str, Any]:
    """Read the manifest of a study.

    Args:
        root: Run folder.
        measured: Whether the hashes of the model and the prompts are needed too.

    Raises:
        InputError: The folder is not a run folder, or its manifest is not that of a study.
    """
    file = Path(root) / MANIFEST
    if not file.is_file():
        raise InputError(f"{root} is not a run folder (make one with neva-tl run)")
    manifest = read_json(file, "the manifest of a run")
    model = manifest.get("model")
    texts = [manifest.get("study")]
    if measured:
        texts += [manifest.get("prompt_hash"), model.get("weights_hash") if isinstance(model, Mapping) else None]
    if not isinstance(manifest.get("config"), Mapping) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{file} is not the manifest of a study (study, config, model and prompt_hash are expected)")
    try:
        StudyConfig.from_manifest(manifest["config"])
    except InputError as error:
        raise InputError(f"{file} is not the manifest of a study ({error})") from error
    return manifest
