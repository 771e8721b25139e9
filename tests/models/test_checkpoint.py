"""The model that runs is the model that was named: weights, causality, code, installers, end tokens, modes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import inference, installers, sources
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def rewrite_weights(folder: Path, change: Any) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def rewrite_json(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_misnamed_weights_are_refused(tmp_path: Path, family: Any) -> None:
    folder = tiny_checkpoint(tmp_path / "m", family)
    rewrite_weights(folder, lambda w: {f"_orig_mod.{name}": x for name, x in w.items()})
    with pytest.raises(InputError, match=r"m lacks weights .* and holds _orig_mod"):
        models.load(folder)


def test_one_missing_weight_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    name = "model.layers.1.mlp.down_proj.weight"
    rewrite_weights(folder, lambda w: {key: x for key, x in w.items() if key != name})
    with pytest.raises(InputError, match=name):
        models.load(folder)


def test_an_unused_weight_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    rewrite_weights(folder, lambda w: w | {"model.layers.0.mlp.extra.weight": torch.ones(2)})
    with pytest.raises(InputError, match=r"no module of its config uses: model\.layers\.0\.mlp\.extra\.weight"):
        models.load(folder)


@pytest.mark.parametrize(("layers", "says"), [(5, "lacks weights"), (2, "no module of its config uses")])
def test_another_number_of_layers_is_refused(tmp_path: Path, layers: int, says: str) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    rewrite_json(folder / "config.json", num_hidden_layers=layers)
    with pytest.raises(InputError, match=says):
        models.load(folder)


def test_another_width_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    rewrite_json(folder / "config.json", intermediate_size=64)
    with pytest.raises(InputError, match=r"has shape \[.*48.*\] in the checkpoint, \[.*64.*\] by the config"):
        models.load(folder)


def test_tied_weights_and_stored_buffers_are_not_missing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, tie_word_embeddings=True, initializer_range=0.2)
    folder = saved(tmp_path, transformers.LlamaForCausalLM(config))
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    rewrite_weights(folder, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert models.info(models.load(folder)).n_layers == 2


def test_an_untied_head_that_is_missing_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    rewrite_weights(folder, lambda w: {key: x for key, x in w.items() if key != "lm_head.weight"})
    with pytest.raises(InputError, match=r"lacks weights that its config names: lm_head\.weight"):
        models.load(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    name = "model.layers.1.mlp.down_proj.weight"
    rewrite_weights(folder, lambda w: w | {name: w[name] * float("nan")})
    with pytest.raises(InputError, match="not finite in float32"):
        models.load(folder)


# ---------------------------------------------------------------- the pass of transformers itself


def test_falcon_with_alibi_is_refused_with_the_figure(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    kind = {"alibi": True, "parallel_attn": False, "bias": True, "multi_query": False}
    config = transformers.FalconConfig(**sizes, **kind, initializer_range=0.2, bos_token_id=0, eos_token_id=1)
    folder = saved(tmp_path, transformers.FalconForCausalLM(config))
    with pytest.raises(InputError, match=r"layer 0's down-projection input differs by 0\.0"):
        models.load(folder)


def test_a_loader_that_scrambles_a_layer_is_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from neva_tl.models import loading

    boot = loading._boot

    def scrambled(*args: Any) -> Any:
        model, *rest = boot(*args)
        with torch.no_grad():
            for parameter in model.blocks[1].mlp.parameters():
                parameter.mul_(1.01)
        return model, *rest

    monkeypatch.setattr(loading, "_boot", scrambled)
    with pytest.raises(InputError, match="layer 1's down-projection input differs"):
        models.load(folders["llama"])


def test_a_masked_language_model_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL, initializer_range=0.2)
    folder = saved(tmp_path, transformers.BertForMaskedLM(config))
    with pytest.raises(InputError, match="is not a causal language model"):
        models.load(folder)


def test_a_masked_language_model_that_is_passed_in_is_refused(tmp_path: Path) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, initializer_range=0.2)
    folder = saved(tmp_path, transformers.BertForMaskedLM(config))
    theirs = bridge.boot_transformers(str(folder), device="cpu")
    with pytest.raises(InputError, match="logits of a token change by"):
        models.load(theirs)


# ---------------------------------------------------------------- training mode


def test_training_mode_has_no_dropout_and_comes_back(folders: dict[str, Path]) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    theirs = bridge.boot_transformers(str(folders["gpt2"]), device="cpu")
    tokens = torch.tensor([[5, 60, 200, 7]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    theirs.eval()
    want = models.forward(theirs, tokens, mask)
    theirs.train()
    frozen = next(module for module in theirs.modules() if isinstance(module, torch.nn.Dropout))
    frozen.eval()
    before = [module.training for module in theirs.modules()]
    assert any(isinstance(module, torch.nn.Dropout) and module.training for module in theirs.modules())
    assert models.load(theirs) is theirs
    got = models.forward(theirs, tokens, mask)
    assert want is not None and got is not None
    assert torch.equal(got, want)
    with pytest.raises(IndexError):
        models.forward(theirs, tokens + 10**6, mask)
    assert [module.training for module in theirs.modules()] == before


# ---------------------------------------------------------------- tokens


def test_padding_takes_an_id_that_the_model_has(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m", "gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model = models.load(folder)
    assert tokenizer.pad_token_id >= models.info(model).d_vocab > inference.pad_id(model)
    prompts = ["The old king", "Why is the old king so sad today"]
    together = inference.generate(model, prompts, max_new_tokens=3)
    assert together == [inference.generate(model, [prompt], max_new_tokens=3)[0] for prompt in prompts]


def test_generation_ends_at_the_checkpoints_own_end_tokens(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    free = models.load(folder)
    prompt = inference.encode_one(free, [Example("The old king", "")])[0].ids
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([prompt])
    new = plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    stop = int(new[3])
    rewrite_json(folder / "generation_config.json", eos_token_id=[1, stop])
    model = models.load(folder)
    assert inference.stop_ids(model) == {1, stop}
    first = new.tolist().index(stop)
    text = inference.generate(model, ["The old king"], max_new_tokens=12)[0]
    assert text == inference.generate(free, ["The old king"], max_new_tokens=first)[0] if first else text == ""


# ---------------------------------------------------------------- installers and code


def test_loading_runs_no_installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(subprocess, "check_call", lambda command, **_: calls.append(command))
    text = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
    vision = {k: v for k, v in SMALL.items() if k != "vocab_size"} | {"image_size": 28, "patch_size": 14}
    tokens = {"image_token_index": 310, "boi_token_index": 311, "eoi_token_index": 312}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **tokens)
    folder = saved(tmp_path, transformers.Gemma3ForConditionalGeneration(config))
    assert models.info(models.load(folder)).d_mlp == 48
    assert calls == []


def test_editing_a_plain_model_with_images_runs_no_installer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`edit_hf` boots a TransformerLens twin, which asks for torchvision where it is not installed."""
    calls: list[Any] = []
    for name in ("check_call", "run", "call"):
        monkeypatch.setattr(subprocess, name, lambda command, **_: calls.append(command))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    text = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
    vision = {k: v for k, v in SMALL.items() if k != "vocab_size"} | {"image_size": 28, "patch_size": 14}
    tokens = {"image_token_index": 310, "boi_token_index": 311, "eoi_token_index": 312}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **tokens)
    assert models.info(models.plain(transformers.Gemma3ForConditionalGeneration(config).eval())).d_mlp == 48
    assert calls == []


def test_only_installers_are_blocked_and_only_inside() -> None:
    original = subprocess.run
    with installers.no_installer(), installers.no_installer():
        assert subprocess.check_output(["echo", "x"]) == b"x\n"
        for command in (
            ["uv", "pip", "install", "x"],
            ["/usr/bin/python", "-m", "pip", "install", "x"],
            "pip install x",
        ):
            with pytest.raises(FileNotFoundError):
                subprocess.run(command, check=False)
    assert subprocess.run is original


EVIL = "from pathlib import Path\nPath('{}').touch()\nclass Own: ...\n"


@pytest.mark.parametrize(
    ("file", "mapping"),
    [
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Own", None]}),
        ("tokenizer_config.json", ["evil.Own", None]),
        ("config.json", {"AutoConfig": "evil.Own", "AutoModelForCausalLM": "evil.Own"}),
    ],
)
def test_code_of_a_folder_never_runs(tmp_path: Path, file: str, mapping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = tiny_checkpoint(tmp_path / "m")
    (folder / "evil.py").write_text(EVIL.format(tmp_path / "ran"))
    rewrite_json(folder / file, auto_map=mapping)
    with pytest.raises(InputError, match="code of the model's folder") as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_transformers_has_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints older than transformers' class (Phi-3, Falcon) name their copy of it; the copy does not run."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = tiny_checkpoint(tmp_path / "m")
    (folder / "evil.py").write_text(EVIL.format(tmp_path / "ran").replace("Own", "LlamaForCausalLM"))
    rewrite_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.LlamaForCausalLM"})
    assert models.info(models.load(folder)).n_layers == 3
    assert not (tmp_path / "ran").exists()


def test_custom_generation_code_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = tiny_checkpoint(tmp_path / "m")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(EVIL.format(tmp_path / "ran") + "def generate(**_): ...\n")
    models.load(folder)
    assert not (tmp_path / "ran").exists()


def test_auto_map_class_names() -> None:
    assert sources._class_names({"AutoTokenizer": ["a--m.One", None], "AutoModel": "m.Two"}) == ["One", "Two"]
