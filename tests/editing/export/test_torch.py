"""export_edit(format="torch"): in a process without neva_tl and TransformerLens, logits and tokens of the hooked model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import neva_tl as nv
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import (
    SCOPES,
    Ablate,
    AddVector,
    Clamp,
    ContextAware,
    Edit,
    GateShift,
    LayerProbe,
    ProbedVector,
    PromptShift,
    RelevanceGate,
    Rescale,
    RewriteAnswer,
    RolePrompt,
    Scale,
    Shift,
    compose,
    edit_hf,
    export_edit,
    paced,
)

from . import without_neva_tl as script

AT = [(0, 3), (1, 7), (2, 40), (2, 11)]
FAMILIES = ("llama", "gpt2")
NEW = 6
#: Kinds that are tried with every scope: they read roles of tokens, or a prompt that a scope may leave out.
EVERY_SCOPE = ("shift", "resample", "prompt", "gated per query", "paced prompt")
#: Left-padded prompts of unequal length.
TOKENS = torch.tensor([[0, 0, 0, 60, 70, 80], [0, 90, 91, 92, 93, 94], [9, 8, 7, 60, 61, 62]])
MASK = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
KINDS = (
    *("shift", "composed", "scale", "rescale", "clamp", "ablate", "ablate zero", "resample", "vector", "neuron vector"),
    *("context", "probed", "prompt", "gate shift", "gated", "gated per query", "gated vector", "fading", "no repeat"),
    *("several", "paced prompt"),
)


def scopes(family: str, kind: str) -> tuple[Any, ...]:
    """The scopes of a case: all four over both families, or one in turn."""
    if kind in EVERY_SCOPE:
        return ("all", "generated") if family == "llama" else ("last", "prompt")
    return (SCOPES[(KINDS.index(kind) + FAMILIES.index(family)) % len(SCOPES)],)


def kinds(tl: Any, make_set: Any) -> dict[str, tuple[Edit, ...]]:
    info, rng = models.info(tl), np.random.default_rng(3)
    neurons = make_set(tl, AT, plus=[1.5, 1.5, -0.5, 2.0])
    vector = rng.normal(size=info.d_model)

    def probe(layer: int, width: int, index: Any) -> LayerProbe:
        weight = np.random.default_rng(layer).normal(size=width)
        return LayerProbe(layer, np.asarray(index), weight, -0.5, weight / (weight @ weight), 2.0, -4.0, 4.0)

    def wide(layer: int) -> LayerProbe:
        return probe(layer, info.d_model, np.arange(info.d_model))

    def gate(unit: Any = "token") -> RelevanceGate:
        weight = np.random.default_rng(1).normal(size=(info.n_layers, info.d_mlp))
        ones = np.ones(info.n_layers)
        return RelevanceGate(tuple(range(info.n_layers)), weight, 0.1 * ones, ones, ones, threshold=0.55, unit=unit)

    gates = make_set(tl, AT, site="gate" if info.gated else "post")
    gates = gates.with_df(gates.df.assign(p_diff=[0.6, -0.4, 0.3, -0.2], q95=1.0))
    shift, prompt = Shift(neurons, dose=3.0), PromptShift((wide(0), wide(2)), dose=6.0)
    return {
        "shift": (shift,),
        "composed": (compose([shift, Shift(make_set(tl, AT[:2]), dose=-5.0)], shared="mean"),),
        "scale": (Scale(neurons, dose=5.0),),
        "rescale": (Rescale(neurons, dose=3.0), Rescale(make_set(tl, AT[:2]), dose=-2.0, lowest=0.0)),
        "clamp": (Clamp(neurons, dose=2.0),),
        "ablate": (Ablate(neurons, mode="mean", dose=0.75),),
        "ablate zero": (Ablate(make_set(tl, AT), effects="all"),),
        "resample": (Ablate(neurons, mode="resample", seed=5),),
        "vector": (AddVector({1: vector, 2: vector}, dose=0.5),),
        "neuron vector": (AddVector({1: rng.normal(size=info.d_mlp)}, site="post"),),
        "context": (ContextAware(neurons, (probe(1, 3, [1, 7, 9]), probe(2, 2, [40, 2])), dose=6.0),),
        "probed": (ProbedVector((wide(0), wide(2)), dose=-6.0),),
        "prompt": (prompt,),
        "gate shift": (GateShift(gates, dose=1.5),),
        "gated": (shift.with_gate(gate()),),
        "gated per query": (shift.with_gate(gate("query")),),
        "gated vector": (AddVector({1: vector, 2: vector}).with_gate(gate()),),
        "fading": (paced(shift, half_life=3.0),),
        "no repeat": (paced(shift, no_repeat=1),),
        "several": (shift, Clamp(neurons), Scale(neurons, dose=2.0), AddVector({0: vector}), shift.with_dose(-1.0)),
        "paced prompt": (paced(prompt, half_life=4.0, no_repeat=2),),
    }


@dataclass(frozen=True)
class Outcome:
    """What the hooked model and the exported files give, by name of the case."""

    expected: dict[str, Tensor]
    results: dict[str, Tensor]


@pytest.fixture(scope="module")
def outcome(
    folders: dict[str, Path], loaded: dict[str, Any], make_set: Any, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    root = tmp_path_factory.mktemp("exported")
    expected, cases = {}, []
    for family in FAMILIES:
        hf = plain(folders[family])
        expected[f"{family} unedited logits"] = logits(hf)
        for kind, edits in kinds(loaded[family], make_set).items():
            for scope in scopes(family, kind):
                scoped = [item.with_scope(scope) for item in edits]
                name = f"{family} {kind} {scope}"
                # exported from either model; the files are of the weights, not of the class
                source = hf if scope in ("all", "prompt") else loaded[family]
                folder = export_edit(scoped, root / name, model=source)
                static = kind in ("gated", "prompt")
                cases.append(
                    {
                        "name": name,
                        "checkpoint": str(folders[family]),
                        "folder": str(folder),
                        "new": NEW,
                        "static": static,
                    }
                )
                with torch.no_grad(), edit_hf(hf, *scoped):
                    expected[f"{name} logits"] = logits(hf)
                    expected[f"{name} tokens"] = hf.generate(
                        TOKENS, attention_mask=MASK, max_new_tokens=NEW, do_sample=False
                    )
    save_file({"tokens": TOKENS, "mask": MASK}, root / "inputs.safetensors")
    (root / "cases.json").write_text(json.dumps(cases))
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script.__file__, str(root)], capture_output=True, text=True, cwd=root, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Outcome(expected, load_file(root / "results.safetensors"))


def plain(folder: Path) -> Any:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    hf.generation_config.eos_token_id = None  # texts of a stated length
    return hf


def logits(hf: Any) -> Tensor:
    with torch.no_grad():
        return hf(TOKENS, attention_mask=MASK, position_ids=(MASK.cumsum(1) - 1).clamp_min(0)).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_hooked_model(outcome: Outcome, family: str, kind: str) -> None:
    """Logits of left-padded prompts to 1e-5, and greedy tokens, with a dynamic and a static cache."""
    real = MASK.bool()
    unedited = outcome.expected[f"{family} unedited logits"]
    for scope in scopes(family, kind):
        name = f"{family} {kind} {scope}"
        expected, result = (table[f"{name} logits"] for table in (outcome.expected, outcome.results))
        torch.testing.assert_close(result[real], expected[real], atol=1e-5, rtol=0)
        tokens = outcome.expected[f"{name} tokens"]
        assert torch.equal(outcome.results[f"{name} tokens"], tokens), scope
        if f"{name} static" in outcome.results:
            assert torch.equal(outcome.results[f"{name} static"], tokens), scope
        if scope != "generated":  # a plain call has no generated tokens
            assert not torch.allclose(expected[real], unedited[real], atol=1e-3), "the edit must change something"


def test_the_kinds_are_all_edits_of_activations() -> None:
    """A new class of edit is exported, or joins the refused ones here."""
    from neva_tl.editing.encoded import CLASSES
    from neva_tl.editing.export.torch_steps import _STEPS

    edits = {kind for kind in CLASSES.values() if issubclass(kind, Edit)}
    assert set(_STEPS) == edits - {nv.editing.Paced, RolePrompt, RewriteAnswer}


# ---------------------------------------------------------------- the handle


@pytest.fixture(scope="module")
def steer(folders: dict[str, Path], loaded: dict[str, Any], make_set: Any, tmp_path_factory: Any) -> ModuleType:
    """The exported module of a shift of generated tokens."""
    item = Shift(make_set(loaded["llama"], AT), dose=3.0, scope="generated")
    folder = export_edit(item, tmp_path_factory.mktemp("steer"), model=loaded["llama"])
    return import_from(folder)


def import_from(folder: Path) -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("exported_steer", folder / "steer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hf(folders: dict[str, Path]) -> Any:
    return plain(folders["llama"])


def test_on_off_and_remove(steer: ModuleType, hf: Any) -> None:
    how = {"attention_mask": MASK, "max_new_tokens": NEW, "do_sample": False}
    unedited = hf.generate(TOKENS, **how)
    handle = steer.attach(hf)
    steered = hf.generate(TOKENS, **how)
    assert not torch.equal(steered, unedited)
    handle.off()
    assert torch.equal(hf.generate(TOKENS, **how), unedited)
    handle.on()
    assert torch.equal(hf.generate(TOKENS, **how), steered)
    handle.remove()
    handle.remove()
    assert torch.equal(hf.generate(TOKENS, **how), unedited)
    assert "generate" not in vars(hf)


def test_other_weights_and_a_second_handle_are_refused(steer: ModuleType, hf: Any, folders: dict[str, Path]) -> None:
    with torch.no_grad():
        hf.model.layers[0].mlp.down_proj.weight[0, 0] += 5.0
    with pytest.raises(ValueError, match="are not those of"):
        steer.attach(hf)
    with steer.attach(hf, check=False), pytest.raises(ValueError, match="steered already"):
        steer.attach(hf)
    with pytest.raises(ValueError, match=r"no module 'model\.layers\.0"):
        steer.attach(plain(folders["gpt2"]))


def test_the_same_weights_in_half_precision_are_accepted(steer: ModuleType, hf: Any) -> None:
    half = hf.to(torch.bfloat16)
    ones = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        unedited = half(TOKENS[2:]).logits
        with steer.attach(half) as handle:
            handle.mark(ones, ones)
            steered = half(TOKENS[2:]).logits
    assert steered.dtype == torch.bfloat16 and not torch.allclose(steered, unedited, atol=0.05)


def test_tokens_of_unknown_roles_are_refused_until_marked(steer: ModuleType, hf: Any) -> None:
    with torch.no_grad(), steer.attach(hf) as handle:
        cache = hf(TOKENS[2:, :3], use_cache=True).past_key_values
        with pytest.raises(RuntimeError, match="may be prompt or generated"):
            hf(TOKENS[2:, 3:], past_key_values=cache)
        with pytest.raises(RuntimeError, match="called by itself"):
            hf.model(TOKENS)
        ones = torch.ones(1, 6, dtype=torch.bool)
        handle.mark(ones, ones)
        as_generated = hf(TOKENS[2:]).logits
        handle.mark(~ones, ones)
        as_prompt = hf(TOKENS[2:]).logits
    with torch.no_grad():
        assert torch.equal(as_prompt, hf(TOKENS[2:]).logits) and not torch.allclose(as_generated, as_prompt, atol=1e-3)


def test_beams_follow_a_shift_and_not_a_stop_at_repeats(
    steer: ModuleType, hf: Any, loaded: dict[str, Any], make_set: Any, tmp_path: Path
) -> None:
    how = {"attention_mask": MASK, "max_new_tokens": NEW, "do_sample": False, "num_beams": 3}
    item = Shift(make_set(loaded["llama"], AT), dose=3.0, scope="generated")
    with edit_hf(hf, item):
        expected = hf.generate(TOKENS, **how)
    with steer.attach(hf):
        assert torch.equal(hf.generate(TOKENS, **how), expected)
    stopping = import_from(export_edit(paced(item, no_repeat=2), tmp_path, model=hf))
    with stopping.attach(hf), pytest.raises(RuntimeError, match="num_beams=1"):
        hf.generate(TOKENS, **how)


# ---------------------------------------------------------------- what cannot be exported


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda neurons: RolePrompt("Be kind."), "works through the prompt's text"),
        (lambda neurons: RewriteAnswer("Be kind."), "RewriteAnswer cannot be exported"),
        (lambda neurons: Mine(neurons), "Mine cannot be exported"),
    ],
)
def test_other_edits_are_refused_in_one_line(
    loaded: dict[str, Any], make_set: Any, tmp_path: Path, edit: Callable[[Any], Edit], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        export_edit(edit(make_set(loaded["llama"], AT)), tmp_path / "new", model=loaded["llama"])
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()


class Mine(Shift):
    """An edit of a user."""

    def moved(self, h: Tensor, *per_neuron: Tensor) -> Tensor:
        return h - self.dose * h


def test_another_model_is_refused(loaded: dict[str, Any], make_set: Any, tmp_path: Path) -> None:
    item = Shift(make_set(loaded["llama"], AT))
    with pytest.raises(InputError, match="other weights"):
        export_edit(item, tmp_path / "new", model=loaded["gpt2"])
    with pytest.raises(InputError, match="expected a transformers language model"):
        export_edit(item, tmp_path / "new", model="demo")
