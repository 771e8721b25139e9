"""Two finished runs side by side: settings, headline measures, neurons, texts. Nothing is measured again.

Differences have intervals where both runs measured the same items: both are computed on the same bootstrap draws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.statistics import overlap
from neva_tl.core.theories import ValueTheory, recorded_theory
from neva_tl.plots.layer_profile import pick_method
from neva_tl.study.analyses.compared_measures import MeasuredPair
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.report.compare import Comparison
from neva_tl.study.report.explorer import KEYS, normalised

#: Entries of a manifest that say where and when a run was made, not how.
NOT_SETTINGS = frozenset({"command", "source", "study", "wall_time_s", "finished", "schema"})
#: Digits of a hash that a table shows.
HASH = 12


def compare_runs(run: str | Path, other: str | Path, *, n_boot: int = 2000, seed: int = 0) -> Comparison:
    """Compare two finished runs of one judge and one theory.

    Args:
        run: The first run folder.
        other: The second run folder.
        n_boot: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        The comparison; `.save("compare.html")` writes its page.

    Raises:
        InputError: A folder is not a finished run, both are the same folder, or the runs differ in judge, unit, question or
            theory, or steer no common value.

    Example:
        >>> from neva_tl.study.analyses.compare_runs import compare_runs
        >>> compare_runs("runs/first", "runs/second").save("compare.html")  # doctest: +SKIP
    """
    folders = Path(run), Path(other)
    first, second = (Run.open(folder) for folder in folders)
    if folders[0].resolve() == folders[1].resolve():
        raise InputError(f"{run} and {other} are the same folder: name two runs")
    results = [one.store.read_json("results.json") for one in (first, second)]
    _check_judges(folders, results, (first, second))
    theory = _theory(folders, (first, second))
    steered = [dict.fromkeys(map(str, one.store.read_table("tables/values")["steered"])) for one in (first, second)]
    values = [name for name in steered[0] if name in steered[1]]
    if not values:
        raise InputError(
            f"{run} and {other} cannot be compared: they steer no common value ({', '.join(steered[0])}; "
            f"{', '.join(steered[1])})"
        )
    judge, unit = str(results[0].get("judge", "unknown")), str(results[0].get("unit", "unknown"))
    notes: list[str] = []
    for one, others, folder in zip(steered, steered[::-1], folders, strict=True):
        if alone := [name for name in one if name not in others]:
            notes.append(f"Values that only {_name(folder)} steers: {', '.join(alone)}.")
    texts = [_written(one) for one in (first, second)]
    same_items = _same_items((first, second), texts)
    measured = MeasuredPair((first, second), values, same_items, set(steered[0]) == set(steered[1]), judge, unit)
    measures, per_value = measured.tables(n_boot=n_boot, seed=seed, notes=notes)
    return Comparison(
        names=_names(folders),
        judge=judge,
        unit=unit,
        theory=theory,
        paired=measured.paired,
        values=tuple(values),
        measures=measures,
        per_value=per_value,
        neurons=_neurons((first, second), values, notes),
        pairs=_pairs(texts, notes),
        settings=_settings((first, second)),
        notes=tuple(notes),
    )


def _name(folder: Path) -> str:
    return folder.resolve().name


def _names(folders: tuple[Path, Path]) -> tuple[str, str]:
    """Names of both folders; with their parents' where they are equal."""
    first, second = (_name(folder) for folder in folders)
    if first != second:
        return first, second
    parents = [folder.resolve().parent.name for folder in folders]
    if parents[0] != parents[1]:
        return f"{parents[0]}/{first}", f"{parents[1]}/{second}"
    return f"{first} (first)", f"{second} (second)"


def _check_judges(folders: tuple[Path, Path], results: Sequence[Mapping[str, Any]], runs: tuple[Run, Run]) -> None:
    for name, what in (("judge", "judges"), ("unit", "units")):
        a, b = (str(one.get(name, "unknown")) for one in results)
        if a != b:
            raise InputError(
                f"{folders[0]} and {folders[1]} cannot be compared: their {what} differ ({a}; {b}); "
                "analyses/second_judge.py scores the texts of one with the judge of the other"
            )
    questions = [run.manifest.get("question") for run in runs]
    if all(questions) and questions[0] != questions[1]:
        raise InputError(f"{folders[0]} and {folders[1]} cannot be compared: their judge was asked different questions")


def _theory(folders: tuple[Path, Path], runs: tuple[Run, Run]) -> ValueTheory:
    theories = [recorded_theory(run.manifest, run.manifest.get("values") or run.values()) for run in runs]
    if theories[0] != theories[1]:
        raise InputError(
            f"{folders[0]} and {folders[1]} cannot be compared: their theories differ "
            f"({theories[0].name}; {theories[1].name})"
        )
    return theories[0]


def _written(run: Run) -> pd.DataFrame | None:
    """The run's texts in the explorer's columns; None without texts."""
    if not run.store.has("tables/generations.parquet"):
        return None
    values = run.store.read_table("tables/values")
    table = run.store.read_table("tables/generations")
    written = normalised(table, values) if len(table) else None
    return None if written is None or not len(written) else written


def _same_items(runs: tuple[Run, Run], texts: Sequence[pd.DataFrame | None]) -> bool:
    """Whether both runs measured the same test items: the same prompts, or with a judge of texts the same open prompts."""
    hashes = [run.manifest.get("prompt_hash") for run in runs]
    if hashes[0] is not None and hashes[0] == hashes[1]:
        return True
    if not all(run.store.has("cells/base.texts.parquet") for run in runs) or any(one is None for one in texts):
        return False
    prompts = [one[one["method"] == "unedited"][KEYS].to_dict("records") for one in texts if one is not None]
    return bool(prompts[0]) and prompts[0] == prompts[1]


def _neurons(runs: tuple[Run, Run], values: Sequence[str], notes: list[str]) -> pd.DataFrame | None:
    """Shared neurons per value; None where the runs' neurons have no common names."""
    models = [run.manifest.get("model") or {} for run in runs]
    shapes = [(model.get("n_layers"), model.get("d_mlp"), model.get("weights_hash")) for model in models]
    if any(None in shape for shape in shapes):
        notes.append("Neurons: a manifest does not record the model's layers, neurons and weights.")
        return None
    if shapes[0] != shapes[1]:
        notes.append(
            f"Neurons: the runs edit different weights ({models[0].get('name')}; {models[1].get('name')}), so neurons of the "
            "same layer and index are not the same neurons."
        )
        return None
    tables = [
        run.store.read_table("tables/neurons") if run.store.has("tables/neurons.parquet") else None for run in runs
    ]
    if tables[0] is None or tables[1] is None:
        notes.append("Neurons: a run has no table neurons.")
        return None
    sets = [
        {
            str(value): set(zip(rows["layer"].astype(int), rows["neuron"].astype(int), strict=True))
            for value, rows in pick_method(table).groupby("value")
        }
        for table in tables
        if table is not None
    ]
    total = int(models[0]["n_layers"]) * int(models[0]["d_mlp"])
    rows = [
        {"value": value, **overlap(sets[0][value], sets[1][value], total)._asdict()}
        for value in values
        if value in sets[0] and value in sets[1]
    ]
    return pd.DataFrame(rows) if rows else None


def _pairs(texts: Sequence[pd.DataFrame | None], notes: list[str]) -> pd.DataFrame | None:
    """Texts of the same prompt and condition, the first run's before the second's."""
    if texts[0] is None or texts[1] is None:
        notes.append("Texts: a run has no table generations.")
        return None
    keys = [*KEYS, "method", "value", "target"]
    first, second = (
        one.drop_duplicates(keys)[[*keys, "text", "valid", "score", "dose"]].assign(target=one["target"].fillna(-1.0))
        for one in texts
        if one is not None
    )
    # the dose of a condition differs between runs: the page shows the target gain alone
    pairs = first.drop(columns="dose").merge(second.drop(columns="dose"), on=keys, suffixes=("_a", "_b"), sort=False)
    if not len(pairs):
        notes.append("Texts: the runs have no prompt in common.")
        return None
    pairs["target"] = pairs["target"].where(pairs["target"] >= 0)
    names = {
        "text": ("before", "after"),
        "valid": ("before_valid", "after_valid"),
        "score": ("before_score", "after_score"),
    }
    renames = {f"{old}_{side}": new for old, both in names.items() for side, new in zip("ab", both, strict=True)}
    return pairs.rename(columns=renames).assign(dose=np.nan)


def _settings(runs: tuple[Run, Run]) -> pd.DataFrame:
    """Settings that differ, without folders of this machine."""
    flat = [_flat({k: v for k, v in run.manifest.items() if k not in NOT_SETTINGS}) for run in runs]
    rows = [
        {"setting": name, "a": flat[0].get(name), "b": flat[1].get(name)}
        for name in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(name) != flat[1].get(name)
    ]
    return pd.DataFrame(rows, columns=["setting", "a", "b"])


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for name, item in entry.items():
        label = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(item, Mapping):
            out |= _flat(item, f"{label}: ")
        elif isinstance(item, list | tuple):
            out[label] = ", ".join(dict.fromkeys(map(str, item)))
        else:
            text = "–" if item is None else _without_folders(str(item))
            out[label] = text[:HASH] if str(name).endswith("hash") else text
    return out


def _without_folders(text: str) -> str:
    """Replace absolute paths by the name of their file: a page is handed on."""
    return re.sub(r"(?<![\w.])/(?:[^/\s:#?]+/)+", "", text)
