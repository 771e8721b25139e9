"""The notebooks and the examples of docs/how_to_extend.md run, offline, and show what they promise.

Facts about a notebook's objects are computed a second time in its kernel, by other means than the notebook's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.notebooks import (
    LARGEST,
    MACHINE_PATH,
    NOTEBOOKS,
    code_hash,
    executed,
    nbformat,
    output_texts,
    outputs,
)
from helpers.paths import ROOT

pytest.importorskip("circuitsvis")

#: Names of the notebooks, in order.
NAMES = (
    "01_quickstart",
    "02_neurons",
    "03_leakage",
    "04_circuits",
    "05_layers",
    "06_your_own",
    "07_steering",
)
Execute = Callable[[str, str], tuple[Any, dict[str, Any]]]


@pytest.fixture
def execute(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    return lambda name, facts: executed(name, facts, tmp_path_factory)


def test_no_notebook_is_left_untested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_those_of_the_committed_code(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST, "outputs too large"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.metadata["neva_tl"]["code"] == code_hash(notebook), (
        "code changed after its execution: make notebook"
    )
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "executed in another order: make notebook"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error" and output.get("name") != "stderr", f"cell {cell.id}"
    for text in output_texts(notebook):
        assert not MACHINE_PATH.search(text), f"names a path of a machine: {text[:200]}"


@pytest.mark.parametrize("name", NAMES)
def test_links_and_badges(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if not link.startswith("https://"):
            assert (NOTEBOOKS / link.partition("#")[0]).exists(), f"no such file: {link}"
    for place in ("colab.research.google.com", "mybinder.org"):
        assert any(place in link and link.endswith(f"{name}.ipynb") for link in links), f"no badge for {place}"
    assert "What this does not show" in text and "Where to go next" in text


QUICKSTART_FACTS = """
_words = set(menu["food"])
_edited = {}
for _name, _edits in {"unedited": (), "food": (own_edit,)}.items():
    with nv.edit(model, *_edits):
        _said = nv.generate(model, test["text"].tolist(), max_new_tokens=20, temperature=1.0)
    _edited[_name] = float(np.mean([bool(_words & set(text.split())) for text in _said]))
_facts = {
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
    "own_gain": own_gain.lo,
    "own_words": _edited,
    "own_plus": own_pairs.df[own_pairs.df["pole"] == "+"]["text"].tolist(),
    "menu": menu["food"],
}
"""


@pytest.mark.timeout(600)
def test_quickstart(execute: Execute) -> None:
    """Reaches gain, matrix, circuit and texts; every figure is drawn; the widget is complete and offline."""
    notebook, facts = execute("01_quickstart", QUICKSTART_FACTS)
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
    assert facts["own_gain"] > 0 and facts["own_words"]["food"] > facts["own_words"]["unedited"] + 0.2
    assert all(set(facts["menu"]) & set(text.split()) for text in facts["own_plus"])
    for cell in ("steer", "layers", "circuit", "own-texts"):
        assert outputs(notebook, cell, "text/html"), f"cell {cell} shows no table"
    for cell in ("steer-picture", "volcano", "heatmap", "layers-picture", "circuit-picture", "own-edit"):
        (picture,) = outputs(notebook, cell, "image/png")
        assert len(picture) > 10_000, f"the figure of cell {cell} looks empty"
    (view,) = outputs(notebook, "widget", "text/html")
    assert "neva-widget" in view and len(view) > 500_000, "the CircuitsVis bundle is part of the view"
    for asked in ("unpkg.com", "cdn.", "<link", "<script src", "<img", "import("):
        assert asked not in view, f"the view would ask the network: {asked}"


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
