"""The quickstart notebook and the examples of docs/how_to_extend.md run, offline, and show what they promise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("circuitsvis")

NOTEBOOKS = ROOT / "notebooks"
QUICKSTART = NOTEBOOKS / "01_quickstart.ipynb"

#: Run in the notebook's own kernel before its first cell: any connection to another machine fails, with a trace.
NO_NETWORK = """
import socket as _socket
_plain = _socket.socket.connect
def _local_only(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"the notebook asked the network: {address}")
    return _plain(self, address)
_socket.socket.connect = _local_only
"""
#: Run after its last cell: what the notebook's own objects are.
FACTS = """
import json as _json
print(_json.dumps({
    "steered": [result.status, result.gain.lo, loaded.dose == result.dose],
    "same_neurons": neurons.df[["layer", "neuron"]].equals(result.neurons.df[["layer", "neuron"]]),
    "layers": sorted(layers["operation"].unique()),
    "matrix": list(leaked.matrix.shape),
    "matrix_is_table": isinstance(leaked.matrix, pd.DataFrame),
    "rows": list(leaked.matrix.index),
    "columns": list(leaked.matrix.columns),
    "finite": bool(np.isfinite(leaked.matrix.to_numpy()).all()),
    "order": list(nv.VALUES),
    "edges": len(graph.table()),
    "circuit_columns": list(graph.table().columns),
    "measured": bool(np.isfinite(graph.table()["measured"]).all()),
    "texts": [texts[name].tolist() for name in ("unedited", "Amplify", "ContextAware")],
    "doses": {name: edit.dose for name, edit in edits.items()},
    "neurons": {name: len(edit.neurons) for name, edit in edits.items()},
}))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after a run in a fresh kernel (in a folder of its own, so that a stray file would be seen)."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(NO_NETWORK, id="no-network"))
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS, id="facts"))
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("NEVA_TL_CACHE", str(tmp_path_factory.mktemp("notebook-cache")))
        nbclient.NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    assert not list(folder.iterdir()), "the notebook left files behind"
    return notebook


def _outputs(notebook: Any, cell: str, kind: str) -> list[str]:
    """Outputs of one kind (a MIME type) of the cell with this id."""
    (found,) = [c for c in notebook.cells if c.get("id") == cell]
    return [o["data"][kind] for o in found["outputs"] if kind in o.get("data", {})]


def test_committed_without_outputs() -> None:
    notebook = nbformat.read(QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, f"cell {cell.id} holds outputs: clear them"


@pytest.mark.timeout(600)
def test_quickstart_runs(executed: Any) -> None:
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", f"cell {cell.id}: {output.get('evalue')}"
            assert output.get("name") != "stderr", f"cell {cell.id} warns: {output.get('text')}"


@pytest.mark.timeout(600)
def test_quickstart_reaches_matrix_circuit_and_texts(executed: Any) -> None:
    (facts_cell,) = [c for c in executed.cells if c.get("id") == "facts"]
    facts = json.loads("".join(o["text"] for o in facts_cell["outputs"] if o["output_type"] == "stream"))
    status, least_gain, same_dose = facts["steered"]
    assert status == "reached" and least_gain > 0 and same_dose and facts["same_neurons"]
    assert facts["layers"] == ["amplify", "mean", "zero"]
    assert facts["matrix_is_table"] and facts["matrix"] == [10, 10] and facts["finite"]
    assert facts["rows"] == facts["columns"] == facts["order"]
    assert facts["edges"] > 0 and facts["measured"]
    assert {"layer", "neuron", "token", "token_value", "attribution", "measured"} <= set(facts["circuit_columns"])
    assert all(len(column) == 5 and all(text.strip() for text in column) for column in facts["texts"])
    assert len(facts["doses"]) == 10 and all(dose > 0 for dose in facts["doses"].values())
    assert all(count > 0 for count in facts["neurons"].values())
    assert _outputs(executed, "steer", "text/html"), "the steering is shown as a card"
    assert _outputs(executed, "layers", "text/html"), "the layer table is shown"
    assert _outputs(executed, "circuit", "text/html"), "the circuit table is shown"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", ["steer-picture", "volcano", "heatmap", "layers-picture", "circuit-picture"])
def test_figures_are_drawn(executed: Any, cell: str) -> None:
    (picture,) = _outputs(executed, cell, "image/png")
    assert len(picture) > 10_000, f"the figure of cell {cell} looks empty"


@pytest.mark.timeout(600)
def test_widget_is_complete_and_offline(executed: Any) -> None:
    (view,) = _outputs(executed, "widget", "text/html")
    assert "neva-widget" in view and len(view) > 500_000, "the CircuitsVis bundle is part of the view"
    for asked in ("unpkg.com", "cdn.", "<link", "<script src", "<img", "import("):
        assert asked not in view, f"the view would ask the network: {asked}"


def test_no_notebook_is_left_untested() -> None:
    assert sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")) == [QUICKSTART.name]


@pytest.fixture
def examples() -> Iterator[dict[str, Any]]:
    """Names defined by the Python blocks of docs/how_to_extend.md; what they register is taken out again."""
    from neva_tl import methods, selection
    from neva_tl.evaluation.judges.registry import JUDGES
    from neva_tl.plots.files import FIGURES

    registries: list[Any] = [selection.SELECTORS, methods.METHODS, JUDGES, FIGURES]
    before = [dict(registry) for registry in registries]
    names: dict[str, Any] = {"__name__": "examples"}
    text = (ROOT / "docs" / "how_to_extend.md").read_text(encoding="utf-8")
    try:
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(block, "how_to_extend.md", "exec"), names)
        yield names
    finally:
        for registry, held in zip(registries, before, strict=True):
            registry.clear()
            registry.update(held)


def test_extension_examples_run(demo: Any, examples: dict[str, Any]) -> None:
    import torch

    import neva_tl as nv
    from neva_tl.evaluation.judges import TextJudge

    pairs = nv.prompts.load("demo", per_value=12).for_value("power", "benevolence")
    stats = nv.collect(demo, pairs, samples=True)
    relaxed = {"require_q": False, "require_split_half": False}
    found = nv.select(stats, "power", method="loudest", k=5, power=0.5, **relaxed)
    size = (found.df["mean_plus"] - found.df["mean_minus"]).abs()
    assert len(found) == 5 and size.is_monotonic_decreasing and found.settings["options"] == {"power": 0.5}

    evidence = nv.baselines.Evidence(demo, stats, {"power": found})
    full = nv.baselines.build("soften", evidence, "power")
    layer, neuron = (int(found.df[name].iloc[0]) for name in ("layer", "neuron"))
    hook = nv.models.hook_name(demo, layer, "post")
    batch = nv.inference.encode(demo, [nv.Example("", "tom thinks that")])
    seen = []
    for edits in ((), (full.with_dose(0.0),), (full,)):
        with nv.edit(demo, *edits):
            # added after the edit's own hook, so that it sees the edited activation
            handle = nv.models.add_hook(demo, hook, lambda x, hook=None: seen.append(x[0, :, neuron].detach()))
            nv.inference.forward_batch(demo, batch)
            handle.remove()
    assert torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[2], torch.tensor(float(found.df["mean_plus"].iloc[0])), atol=1e-4)

    judge = examples["NamingJudge"]()
    assert isinstance(judge, TextJudge)
    scores = judge.score(["Power is everything .", "tom likes tea ."])
    assert scores.shape == (2, 10) and scores[0, nv.VALUES.index("power")] == 1 and scores.sum() == 1
    prompts = nv.prompts.open_prompts("demo", "test").head(3)
    result = nv.leakage(demo, {"power": full}, prompts, judge, progress=False, n_boot=20, n_permutations=9)
    assert result.matrix.shape == (1, 10)
    assert examples["neuron_counts"](found.df.assign(value="power")).axes[0].patches


def test_extension_examples_work_in_a_study_by_name(
    demo: Any, examples: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selector, method, judge and figure in one study: every table and the figure's file are there."""
    import sys
    from types import ModuleType

    import neva_tl as nv
    from neva_tl.evaluation.judges.registry import JUDGES
    from neva_tl.study.run import tables

    module = ModuleType("naming_judge")
    module.NamingJudge = examples["NamingJudge"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "naming_judge", module)
    JUDGES["naming"] = ("naming_judge:NamingJudge", "")
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    small = {"validation": 3, "test": 3, "max_new_tokens": 4, "neutral": 3, "questions": 3, "refine": 0, "n_boot": 20}
    run = tmp_path / "run"
    table = nv.compare(
        demo, ("neva_shift", "soften"), ("power",), at_gain=(0.2,), out=run, judge="naming", selector="loudest", k=8,
        selection={"power": 0.5, "require_q": False}, overrides={**small, "rows_per_value": 12},
    )  # fmt: skip
    assert list(table["method"]) == ["neva_shift", "soften"]
    result = nv.Study(
        demo, methods=("neva_shift", "soften"), values=("power",), judge="naming", selector="loudest", k=8,
        selection={"power": 0.5, "require_q": False}, overrides={**small, "rows_per_value": 12, "targets": (0.2,)},
    ).run(run)  # fmt: skip
    assert result.results["judge"] == "naming" and set(result.table("neurons")["method"]) == {"loudest"}
    doses = result.table("dose")
    assert doses.loc[doses["method"] == "soften", "dose"].max() <= 1, "a share ends at the level itself"
    assert [path.name for path in nv.plots.write_figures(run, ("neuron_counts",))] == [
        "neuron_counts.pdf",
        "neuron_counts.png",
    ]
    assert nv.plots.style.method_label("soften") == "softened"
