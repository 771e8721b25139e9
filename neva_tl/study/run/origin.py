"""Where a run's model and prompts came from, so that analyses find them again.

The manifest's `source` holds the names as they were given and the folder of a local model; prompts of one's own are copied into
the run as `prompts.parquet`. A model that is found again is checked by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.ledger import check
from neva_tl.models import inference
from neva_tl.models.sources import local_folder
from neva_tl.prompts import ContrastSet, load
from neva_tl.prompts.registry import BUILT_IN
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder

#: Copy of the run's own prompts.
PROMPTS = "prompts.parquet"


def source(config: StudyConfig) -> dict[str, str]:
    """Return the names of model and prompts as given, and the absolute path of a local model.

    Args:
        config: The study.
    """
    folder = local_folder(config.model)
    return {"model": config.model, **({"folder": folder} if folder else {}), "prompts": config.prompts}


def keep_prompts(store: RunFolder, pairs: ContrastSet, config: StudyConfig) -> None:
    """Copy prompts of one's own into the run folder.

    Args:
        store: The run folder.
        pairs: The contrast set that the study runs on.
        config: The study.
    """
    if config.prompts not in BUILT_IN and not store.has(PROMPTS):
        pairs.save(store.path(PROMPTS))


def run_prompts(store: RunFolder, config: StudyConfig) -> ContrastSet:
    """Return a run's prompts: its copy, else what its spec names.

    Args:
        store: The run folder.
        config: The run's settings.

    Raises:
        InputError: There is no copy, and the prompts cannot be read.
    """
    if not store.has(PROMPTS):
        return config.load_prompts()
    check(store.root / PROMPTS)
    return load(store.root / PROMPTS, theory=config.theory)


def run_model(store: RunFolder, config: StudyConfig, manifest: Mapping[str, Any], name: str | None = None) -> Any:
    """Load a run's model.

    Args:
        store: The run folder.
        config: The run's settings.
        manifest: Its manifest.
        name: Another name or folder of the same model, for example after a move; None takes the recorded one.

    Raises:
        InputError: The model cannot be found, or is another one.
    """
    recorded = manifest.get("source")
    folder = str(recorded.get("folder", "")) if isinstance(recorded, Mapping) else ""
    demo = "demo:" if config.model.startswith("demo:") else ""
    spec = name or (f"{demo}{folder}" if folder and Path(folder).exists() else config.model)
    try:
        model = config.load_model(spec)
    except InputError as error:
        if name is not None:
            raise
        raise InputError(
            f"{store.root} ran {config.model!r}, which cannot be loaded here ({error}): name its path with --model"
        ) from error
    facts = manifest.get("model")
    stored: Mapping[str, Any] = facts if isinstance(facts, Mapping) else {}
    if stored.get("weights_hash") != models.fingerprint(model)["weights_hash"]:
        raise InputError(f"{store.root} was made on other weights than {spec}: name the run's own model")
    if difference := models.function_difference(stored, models.fingerprint(model)):
        raise InputError(f"{store.root} was made on another model than {spec} ({difference})")
    template = manifest.get("template")
    if isinstance(template, Mapping) and template:  # version 0.1.0 recorded none
        if "date" in template or "arguments" in template:
            inference.set_template(model, date=template.get("date"), **template.get("arguments", {}))
        if template != inference.encoding_change(model, config.chat):
            raise InputError(
                f"{store.root} ran another chat template than {spec} has here: name the run's own model, or use the versions "
                "in its manifest.json"
            )
    return model
