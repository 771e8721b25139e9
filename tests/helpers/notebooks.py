"""Execution of the committed notebooks, each in a kernel of its own, and what their outputs hold.

With `NEVA_TL_WRITE_DOCS=1` the executed notebook replaces the committed one (`make notebook`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = ROOT / "notebooks"
#: Largest committed notebook, in bytes.
LARGEST = 400_000
#: Longer outputs are not committed (the CircuitsVis bundle alone has 1.3 MB).
LONGEST_OUTPUT = 200_000
#: Pictures above this size (base64) are committed with 256 colours.
LARGE_PICTURE = 70_000
#: Text that stands for an output that is not committed.
NOT_COMMITTED = "(An interactive view, too large for the committed file: execute the cell to see it.)"
#: Folders of a machine, which no committed output may name.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:tmp|work|home|root|Users|usr|var|mnt|private)/")

#: Executed before the notebook's first cell: a connection to another machine fails, with a trace.
NO_NETWORK = """
import socket as _socket
_plain = _socket.socket.connect
def _local_only(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"the notebook asked the network: {address}")
    return _plain(self, address)
_socket.socket.connect = _local_only
"""


def code_hash(notebook: Any) -> str:
    """Return the hash of all code of a notebook; a committed one records that of the code that made its outputs."""
    cells = [[cell.id, cell.source] for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def executed(name: str, facts: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """Execute a committed notebook offline, and check that it ran quietly and left no file in its folder.

    Args:
        name: File name without suffix.
        facts: Code that is executed after the last cell and sets `_facts`, a dict of plain data.
        tmp_path_factory: Of the test. The workers of one test run share a cache, so that notebooks share what they measure.

    Returns:
        The notebook with outputs, and the facts.
    """
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    added = [
        nbformat.v4.new_code_cell(NO_NETWORK, id="no-network"),
        nbformat.v4.new_code_cell(
            f"{facts}\nimport json as _json\nprint(_json.dumps(_facts, default=lambda number: number.item()))",
            id="facts",
        ),
    ]
    notebook.cells = [added[0], *notebook.cells, added[1]]
    folder = tmp_path_factory.mktemp("notebook")
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "notebook-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("NEVA_TL_CACHE", str(cache))
        nbclient.NotebookClient(
            notebook,
            timeout=240,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    assert not list(folder.iterdir()), "the notebook left files in its folder"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", f"cell {cell.id}: {output.get('evalue')}"
            assert output.get("name") != "stderr", f"cell {cell.id} warns: {output.get('text')}"
    printed = "".join(output["text"] for output in notebook.cells[-1].outputs if output["output_type"] == "stream")
    notebook.cells = notebook.cells[1:-1]
    if os.environ.get("NEVA_TL_WRITE_DOCS"):
        write(notebook, path)
    return notebook, json.loads(printed)


def write(notebook: Any, path: Path) -> None:
    """Write an executed notebook for the repository: outputs that are too large become a line, and cells are counted anew.

    Args:
        notebook: The executed notebook; stays as it is.
        path: File to write.
    """
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
        cell.metadata.pop("execution", None)
        for index, output in enumerate(cell.outputs):
            if "execution_count" in output:
                output["execution_count"] = count
            data = output.get("data", {})
            if len(data.get("image/png", "")) > LARGE_PICTURE:
                data["image/png"] = smaller(data["image/png"])
            if len(json.dumps(output)) > LONGEST_OUTPUT:
                cell.outputs[index] = nbformat.v4.new_output(
                    "display_data", data={"text/markdown": NOT_COMMITTED, "text/plain": NOT_COMMITTED}
                )
    notebook.metadata["neva_tl"] = {"code": code_hash(notebook)}
    nbformat.write(notebook, path)


def smaller(picture: str) -> str:
    """Return a picture (PNG, base64) with a palette of 256 colours, if that makes it smaller."""
    from PIL import Image

    reduced = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(reduced, "PNG", optimize=True)
    encoded = base64.b64encode(reduced.getvalue()).decode()
    return min(encoded, picture, key=len)


def outputs(notebook: Any, cell: str, kind: str) -> list[str]:
    """Return the outputs of one kind (a MIME type) of the cell with this id."""
    (match,) = [c for c in notebook.cells if c.get("id") == cell]
    return [output["data"][kind] for output in match["outputs"] if kind in output.get("data", {})]


def output_texts(notebook: Any) -> list[str]:
    """Return all text of a notebook's outputs: streams, and data other than pictures."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            texts += [str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/")]
    return texts
