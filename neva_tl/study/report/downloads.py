"""Files that the report hands out: small ones inside the page, the rest as links into the run folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

#: Largest size of one file inside the page and of all together, in bytes.
ONE, ALL = 200_000, 700_000
#: Tables that the page carries, in this order, as far as they fit.
TABLES = ("methods", "values", "controls", "neurons", "leakage", "dose", "ablation")
#: Columns of the table of neurons inside the page.
NEURONS = ("value", "layer", "neuron", "rank", "g", "lo", "hi", "q")
#: Title -> patterns of files in the run folder.
FOLDERS = {
    "Figures": ("figures/*.pdf", "figures/*.svg"),
    "Tables": ("tables/*.csv",),
    "Neurons": ("neurons/*.json", "neurons/*.safetensors", "gate.safetensors"),
    "Circuits (graphs)": ("circuits/*.json",),
    "Paper": ("paper/*.tex", "paper/*.bib", "paper/*.md"),
    "Saved edits": ("edits/*/edit.json", "edits/*/README.md"),
}


def downloads(
    run: Path | None, results: Mapping[str, Any], frames: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """List the files by kind, each with its address and size.

    Args:
        run: The run folder; None lists the files inside the page alone.
        results: Content of results.json.
        frames: The run's tables by name.
        manifest: Content of manifest.json without the folders of this machine, or None.

    Returns:
        Groups `title, inside, files`; a file has `name, href, size`.
    """
    groups = [{"title": "In this page", "inside": True, "files": _inside(results, frames, manifest)}]
    if run is None:
        return groups
    for title, patterns in FOLDERS.items():
        files = [file for pattern in patterns for file in sorted(run.glob(pattern)) if not file.name.startswith(".")]
        if files:
            groups.append({"title": title, "inside": False, "files": [_link(run, file) for file in files]})
    return groups


def _inside(
    results: Mapping[str, Any], frames: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    contents = {"results.json": json.dumps(results, indent=1)}
    for name in TABLES:
        if name in frames:
            table = frames[name]
            if name == "neurons":
                table = table[[column for column in NEURONS if column in table.columns]]
            contents[f"{name}.csv"] = table.to_csv(index=False, float_format="%.6g")
    if manifest is not None:
        contents["manifest.json"] = json.dumps(manifest, indent=1)
    files, used = [], 0
    for name, text in contents.items():
        data = text.encode("utf-8", errors="replace")
        if len(data) > ONE or used + len(data) > ALL:
            continue
        used += len(data)
        kind = "application/json" if name.endswith(".json") else "text/csv"
        uri = Markup(f"data:{kind};charset=utf-8;base64,{base64.b64encode(data).decode()}")
        files.append({"name": name, "href": uri, "size": _size(len(data))})
    return files


def _link(run: Path, file: Path) -> dict[str, Any]:
    path = file.relative_to(run).as_posix()
    short = path.removeprefix("figures/").removeprefix("tables/").removeprefix("neurons/").removeprefix("circuits/")
    return {"name": short, "href": quote(path), "size": _size(file.stat().st_size)}


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1000)):,} kB"
