"""Notebooks 02 to 07 run, offline, and their objects are what the text says they are.

Facts are computed a second time in the notebook's kernel, by other means than the notebook's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.notebooks import executed, outputs

Execute = Callable[[str, str], tuple[Any, dict[str, Any]]]


@pytest.fixture
def execute(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    return lambda name, facts: executed(name, facts, tmp_path_factory)


NEURONS_FACTS = """
import scipy.stats as _scipy
from statsmodels.stats.multitest import multipletests as _multipletests
_h, _table = np.asarray(stats.samples.h), stats.samples.table
_all = effects.sample(12, random_state=0)
_t = []
for _row in _all.itertuples():
    _of = _table["value"].eq(value).to_numpy()
    _pairs = _table[_of].assign(h=_h[_of, _row.layer, _row.neuron]).pivot(index="pair_id", columns="pole", values="h")
    _test = _scipy.ttest_rel(_pairs["+"], _pairs["-"])
    _low, _high = _test.confidence_interval(0.95)
    _t.append([float(_test.statistic), float(_row.g), len(_pairs), float(_low), float(_high), float(_row.lo), float(_row.hi)])
_base = judge.score(nv.generate(model, prompts["text"].tolist(), max_new_tokens=16, temperature=1.0), prompts["text"].tolist())
_gains = {}
for _name, _edit in edits.items():
    with nv.edit(model, _edit):
        _said = nv.generate(model, prompts["text"].tolist(), max_new_tokens=16, temperature=1.0)
    _gains[_name] = float((judge.score(_said, prompts["text"].tolist()) - _base)[:, nv.VALUES.index(value)].mean())
_facts = {
    "g": [by_hand, float(strongest["g"])],
    "t": _t,
    "bh": [int(_multipletests(effects["p"], alpha=0.05, method="fdr_bh")[0].sum()), int((effects["q"] <= 0.05).sum())],
    "null": null.runs[null.runs["delta"] == 0.2]["bh"].tolist(),
    "nested": [nested.apparent, nested.corrected],
    "gains": {name: [gain.est, gain.lo, gain.hi] for name, gain in gains.items()},
    "recomputed": _gains,
    "sizes": {name: len(chosen) for name, chosen in sets.items()},
    "planted": planted.to_dict("index"),
    "truth": truth["kind"].value_counts().to_dict(),
}
"""


@pytest.mark.timeout(600)
def test_neurons_and_trust(execute: Execute) -> None:
    notebook, facts = execute("02_neurons", NEURONS_FACTS)
    by_hand, in_table = facts["g"]
    assert by_hand == pytest.approx(in_table, abs=2e-3)
    for t, g, n, low, high, lo, hi in facts["t"]:
        assert g == pytest.approx(t / n**0.5, rel=0.02, abs=1e-6), "g is t over the root of n, but for the correction"
        if abs(t) > 5:
            assert (low > 0) == (lo > 0) and (high < 0) == (hi < 0), "both intervals say the same of 0"
    by_statsmodels, counted = facts["bh"]
    assert by_statsmodels == counted > 100
    assert sum(facts["null"]) < 0.05 * counted * len(facts["null"]), "shuffled labels give few discoveries"
    apparent, corrected = facts["nested"]
    assert 0 < corrected < apparent
    for name, gain in facts["recomputed"].items():
        assert facts["gains"][name][0] == pytest.approx(gain, abs=1e-6)
    assert facts["gains"]["selected"][1] > max(facts["gains"][name][2] for name in ("random", "label-shuffled"))
    assert len(set(facts["sizes"].values())) == 1, "placebos are of the same size"
    planted, truth = facts["planted"], facts["truth"]
    assert planted["planted"]["writer"] == truth["writer"] > 0 and planted["planted"]["not planted"] == 0
    for method in ("effect_size", "neva", "causal"):
        assert planted[method]["writer"] == truth["writer"]
    assert planted["effect_size"]["silent decoy"] == truth["silent decoy"] and planted["neva"]["silent decoy"] == 0
    assert planted["causal"]["decoy"] < planted["effect_size"]["decoy"]
    for cell in ("by-hand", "volcano", "nested", "placebos"):
        (picture,) = outputs(notebook, cell, "image/png")
        assert len(picture) > 5_000


LEAKAGE_FACTS = """
_texts, _change, _nlr, _some = prompts["text"].tolist(), {}, {}, ("hedonism", "power")
_base = judge.score(nv.generate(model, _texts, max_new_tokens=16, temperature=1.0), _texts)
for _method in edits:
    _rows = []
    for _name in _some:
        with nv.edit(model, edits[_method][_name]):
            _said = nv.generate(model, _texts, max_new_tokens=16, temperature=1.0)
        _rows.append((judge.score(_said, _texts) - _base).mean(axis=0))
    _d = measured[_method].matrix.to_numpy()
    _change[_method] = [np.stack(_rows).tolist(), measured[_method].matrix.loc[list(_some)].to_numpy().tolist()]
    _off = ~np.eye(10, dtype=bool)
    _nlr[_method] = [
        float((np.maximum(_d, 0) * _off).sum(axis=1).sum() / 9 / np.diag(_d).sum()), measured[_method].nlr_plain.est]
_facts = {
    "matrices": _change,
    "plain": _nlr,
    "order": [list(nv.VALUES), list(measured["neva"].matrix.index)],
    "circle": [v.angle for v in theory.values],
    "rho": {method: [r.circle.rho.est, r.circle.rho.hi] for method, r in measured.items()},
    "difference": comparison.difference.lo,
    "gains": {method: np.diag(measured[method].matrix).tolist() for method in ("neva", "caa")},
    "by_hand": by_hand,
}
"""


@pytest.mark.timeout(600)
def test_leakage_and_circle(execute: Execute) -> None:
    import numpy as np

    notebook, facts = execute("03_leakage", "import numpy as np\n" + LEAKAGE_FACTS)
    assert facts["order"][0] == facts["order"][1]
    for recomputed, stored in facts["matrices"].values():
        assert np.abs(np.array(recomputed) - np.array(stored)).max() < 1e-6
    for recomputed, stored in facts["plain"].values():
        assert recomputed == pytest.approx(stored, rel=1e-6)
    assert facts["by_hand"] == pytest.approx(facts["matrices"]["leaky"][0][0][facts["order"][0].index("achievement")])
    assert facts["circle"] == sorted(facts["circle"]) and len(set(facts["circle"])) == 10
    assert facts["rho"]["leaky"][1] < 0, "the control's leakage follows the circle"
    assert facts["difference"] > 0, "the paired interval tells the control from the plain edits"
    assert all(np.mean(gains) > 0.2 for gains in facts["gains"].values())
    for cell in ("heatmap", "circle"):
        (picture,) = outputs(notebook, cell, "image/png")
        assert len(picture) > 10_000


CIRCUITS_FACTS = """
import torch as _torch
# one neuron's direct effect from the weights alone
_one = neurons.head(8).df.iloc[0]
_layer, _neuron = int(_one["layer"]), int(_one["neuron"])
_w = nv.models.w_out(model, _layer)[_neuron].double() * float(_one["mean_plus"] - _one["mean_minus"])
_norm = nv.models.final_norm(model)
_logits = (_w * _norm.weight.double()) @ nv.models.w_u(model).double()
_logits = _logits - _logits.mean()
_mine = written[(written["layer"] == _layer) & (written["neuron"] == _neuron)]
_ids = [nv.models.tokenizer(model).convert_tokens_to_ids(token.strip()) for token in _mine["token"]]
_train, _test = ({e.lead + e.answer for e in texts.examples} for texts in (task, test))
_facts = {
    "direct": [_logits[_ids].tolist(), _mine["attribution"].tolist()],
    "sizes": {size: [len(c.nodes.head_list()) + len(c.nodes.neuron_list()), c.size] for size, c in sizes.items()},
    "table": table.to_dict("records"),
    "split": [task.split, test.split, sorted(_train & _test)],
    "graph": [len(graph.nodes("head")) + len(graph.nodes("neuron")), len(small.head_list()) + len(small.neuron_list())],
    "texts": [texts[name].tolist() for name in texts.columns],
    "peaks": [[float(c.activations[c.at]), max(c.activations)] for found in contexts.values() for c in found],
}
"""


@pytest.mark.timeout(600)
def test_circuits(execute: Execute) -> None:
    import numpy as np

    notebook, facts = execute("04_circuits", CIRCUITS_FACTS)
    from_weights, attributed = (np.array(x) for x in facts["direct"])
    ratio = from_weights / attributed
    assert ratio.min() > 0 and ratio.max() / ratio.min() < 1.001, "attribution is proportional to the weights' product"
    assert all(members == size for members, size in facts["sizes"].values())
    assert facts["split"][:2] == ["train", "test"] and facts["split"][2] == []
    rows = facts["table"]
    assert [row["size"] for row in rows] == [30, 120]
    assert rows[-1]["f"] > 0.4 and rows[-1]["lo"] > rows[-1]["random_max"]
    assert all(row["lo"] <= row["f"] <= row["hi"] for row in rows)
    assert facts["graph"][0] == facts["graph"][1]
    assert all(peak == largest for peak, largest in facts["peaks"])
    _, unedited, without, random = facts["texts"]
    assert sum(a != b for a, b in zip(unedited, without, strict=True)) >= 3
    assert sum(a != b for a, b in zip(unedited, without, strict=True)) >= sum(
        a != b for a, b in zip(unedited, random, strict=True)
    )
    (picture,) = outputs(notebook, "faithfulness", "image/png")
    assert len(picture) > 5_000 and outputs(notebook, "wiring", "text/html") + outputs(notebook, "wiring", "image/png")


LAYERS_FACTS = """
_zero = layers[(layers["operation"] == "zero") & (layers["group"] == "selected")]
_facts = {
    "counts": [{int(l): int(n) for l, n in zip(_zero["layer"], _zero["n_neurons"])},
               {int(l): int(n) for l, n in neurons.df.groupby("layer").size().items()}],
    "groups": sorted({(row.operation, row.group) for row in layers.itertuples()}),
    "amplified": layers[(layers["operation"] == "amplify")].groupby("group")["d_csr"].max().to_dict(),
    "inside": bool(((layers["lo"] <= layers["d_csr"]) & (layers["d_csr"] <= layers["hi"])).all()),
    "texts": {name: texts[name].tolist() for name in texts.columns},
    "lens": lens[lens["condition"] == "edited"].groupby("value")["change"].last().to_dict(),
    "lens_base": lens[(lens["condition"] == "unedited") & (lens["value"] == value)]["log_odds"].iloc[-1],
}
with torch.no_grad():
    _ids = nv.attribution.value_tokens(model, [value, "power"])
    _ids = _ids[(_ids["value"] == value) & ~_ids["shared"]]
    _columns = _ids["token"].tolist()
    _odds = []
    for _e in withholding:
        _p = model(nv.inference.encode(model, [_e]).tokens)[0, -1].double().softmax(-1)[_columns].sum()
        _odds.append(float(torch.log(_p / (1 - _p))))
_facts["lens_by_hand"] = float(np.mean(_odds))
"""


@pytest.mark.timeout(600)
def test_layers(execute: Execute) -> None:
    notebook, facts = execute("05_layers", "import numpy as np\nimport torch\n" + LAYERS_FACTS)
    assert facts["counts"][0] == facts["counts"][1]
    assert len(facts["groups"]) == 9 and facts["inside"]
    assert facts["amplified"]["selected"] > facts["amplified"]["random"]
    assert facts["lens"]["benevolence"] > max(0.5, facts["lens"]["power"])
    assert facts["lens_base"] == pytest.approx(facts["lens_by_hand"], abs=1e-3)
    texts = facts["texts"]
    assert any(texts[name] != texts["unedited"] for name in texts if name.startswith("layer"))
    for cell in ("layers-picture", "lens"):
        (picture,) = outputs(notebook, cell, "image/png")
        assert len(picture) > 10_000


OWN_FACTS = """
_texts = prompts["text"].tolist()
_rows = leaked.generations
_mean = _rows.assign(steered=_rows["steered"].fillna("unedited")).groupby("steered")[["score_" + n for n in theory.names]].mean()
with nv.edit(model, steered["food"]):
    _said = nv.generate(model, _texts, max_new_tokens=16, temperature=1.0)
_facts = {
    "demo": info.demo,
    "theory": [list(theory.names), theory.has_circle, theory.has_groups, list(leaked.matrix.index)],
    "rows": [len(table), len(pairs)],
    "splits": pairs.df.groupby("cluster")["split"].nunique().max().item(),
    "words": [[row.text for row in pairs.for_value(c.name).df.itertuples() if row.pole == "+"
               and not set(c.words) & set(row.text.split())] for c in theory.values],
    "matrix": {name: leaked.matrix.loc[name].tolist() for name in theory.names},
    "recomputed": {name: (_mean.loc[name] - _mean.loc["unedited"]).tolist() for name in theory.names},
    "stored": _rows[_rows["steered"] == "food"]["text"].tolist() == _said,
    "gains": {name: [gain.est, gain.lo] for name, gain in leaked.gains.items()},
    "undefined": sorted(leaked.undefined),
}
"""


@pytest.mark.timeout(600)
def test_your_own(execute: Execute) -> None:
    notebook, facts = execute("06_your_own", "import numpy as np\n" + OWN_FACTS)
    names, circle, groups, rows = facts["theory"]
    assert not facts["demo"] and names == rows == ["food", "contest", "faith", "home"] and groups and not circle
    assert facts["rows"][0] == facts["rows"][1] and facts["splits"] == 1
    assert facts["stored"]
    assert all(without == [] for without in facts["words"]), "every + text names the concept"
    for name in names:
        assert facts["matrix"][name] == pytest.approx(facts["recomputed"][name], abs=1e-6)
        assert facts["matrix"][name].index(max(facts["matrix"][name])) == names.index(name), (
            "the largest rise is the gain"
        )
    assert facts["gains"]["food"][1] > 0 and facts["undefined"] == ["circle", "ngl"]
    (refusal,) = [o["text"] for c in notebook.cells if c.get("id") == "error" for o in c.outputs]
    assert refusal.count("\n") == 1 and "broken.csv" in refusal and "pole" in refusal


STEERING_FACTS = """
_shift = edit.neurons.df
_layer = int(_shift["layer"].iloc[0])
_of = _shift[_shift["layer"] == _layer]
_texts = validation["text"].tolist()
def _score(change):
    with nv.edit(model, change):
        _said = nv.generate(model, _texts, max_new_tokens=16, temperature=1.0)
    return judge.score(_said, _texts)[:, nv.VALUES.index("benevolence")]
_facts = {
    "dose": [edit.dose, calibration.doses[0.4]],
    "gain": [float((_score(edit) - _score(edit.with_dose(0.0))).mean()),
             float(calibration.table.set_index("dose").loc[edit.dose, "gain"])],
    "attached": {name: attached[name].tolist() for name in attached.columns},
    "written": texts["1 x dose"].tolist(),
    "again": again.dose == edit.dose and again.neurons.df[["layer", "neuron"]].equals(edit.neurons.df[["layer", "neuron"]]),
    "difference": difference,
    "baked": [by_hooks, write(baked)],
    "hooks_left": nv.models.has_hooks(model) or bool(nv.editing.attached(hf_model)),
    "composed": [row["P benevolence"] for row in rows] + [row["P tradition"] for row in rows],
    "capability": {name: [row["kl"], row["whole texts"]] for name, row in valid.items()},
    "bias": float((baked.model.layers[_layer].mlp.down_proj.bias.detach().double()
        - torch.tensor(((_of["mean_plus"] - _of["mean_minus"]) * constant.dose).to_numpy()).double()
        @ nv.models.w_out(model, _layer)[_of["neuron"].tolist()].double()).abs().max()),
}
"""


@pytest.mark.timeout(600)
def test_steering_in_practice(execute: Execute) -> None:
    notebook, facts = execute("07_steering", STEERING_FACTS)
    assert facts["dose"][0] == facts["dose"][1] > 0
    assert facts["gain"][0] == pytest.approx(facts["gain"][1], abs=1e-6) and facts["gain"][0] >= 0.4
    attached = facts["attached"]
    strip = [[text.strip() for text in column] for column in (attached["attached"], facts["written"])]
    assert strip[0] == strip[1], "the attached model writes what the edited one writes"
    assert attached["off"] == attached["unedited"] != attached["attached"]
    assert facts["again"] and not facts["hooks_left"]
    assert facts["difference"] < 1e-3 and facts["bias"] < 1e-4
    assert [text.strip() for text in facts["baked"][0]] == [text.strip() for text in facts["baked"][1]]
    b_unedited, b_alone, b_other, b_both, t_unedited, t_other, t_alone, t_both = facts["composed"]
    assert b_alone > b_unedited < b_both and t_alone > t_unedited < t_both
    assert b_alone > b_other and t_alone > t_other
    assert facts["capability"]["unedited"][0] == pytest.approx(0, abs=1e-6)
    assert facts["capability"]["gate"][0] < facts["capability"]["no gate"][0]
    assert facts["capability"]["gate"][1] > facts["capability"]["no gate"][1]
    refused = [o["text"] for c in notebook.cells if c.get("id") in ("save", "bake-refused") for o in c.outputs]
    assert sum(text.count("refused: ") for text in refused) == 2
