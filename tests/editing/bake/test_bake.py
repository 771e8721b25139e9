"""bake(): what is written, from which models, what is refused, and that nothing half-written is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import neva_tl as nv
from helpers.architectures import ARCHITECTURES, save
from helpers.baking import greedy, load_plain, logits, neuron_set
from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.bake import write
from neva_tl.editing.bake.write import FACTS
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a chat template and settings of its generation."""
    path = tiny_checkpoint(tmp_path_factory.mktemp("bake") / "tiny", chat=True)
    (path / "generation_config.json").write_text('{"eos_token_id": [1, 7], "repetition_penalty": 1.3}')
    return path


@pytest.fixture(scope="module")
def hf(folder: Path) -> Any:
    return load_plain(folder)


@pytest.fixture(scope="module")
def shift(hf: Any) -> nv.Shift:
    return nv.Shift(neuron_set(hf), dose=1.5)


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FACTS).read_text())


def test_a_name_a_loaded_model_and_a_saved_edit_give_the_same_checkpoint(
    folder: Path, hf: Any, shift: nv.Shift, tmp_path: Path
) -> None:
    loaded = models.load(folder)
    saved = nv.save_edit(shift, tmp_path / "edit", model=loaded)
    baked = [
        nv.bake(hf, shift, tmp_path / "a"),
        nv.bake(str(folder), saved, tmp_path / "b"),
        nv.bake(loaded, saved, tmp_path / "c"),
    ]
    expected = logits(hf, (shift,))
    for out in baked:
        assert torch.allclose(logits(load_plain(out)), expected, atol=1e-5)
        assert (out / "tokenizer.json").is_file() and "<assistant>" in json.dumps(
            [(file.read_text()) for file in (*out.glob("*.jinja"), out / "tokenizer_config.json")]
        )
        assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [1, 7]
        text = (out / "README.md").read_text()
        assert "dose 1.5" in text and f"{facts(out)['check']['difference']:.2g}" in text
        assert not list(out.glob("*.bin")) and not list(out.glob("*.py"))
    # the model itself stays as it was, and the folder is one that neva_tl loads
    assert not torch.allclose(logits(hf), expected, atol=1e-2)
    assert "b_out" in models.biases(models.load(baked[0]), 0)


def test_the_saved_edit_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    vector = nv.AddVector({0: torch.ones(32).numpy()})
    saved = nv.save_edit(vector, tmp_path / "edit", model=models.load(folder))
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="was made for tiny"):
        nv.bake(str(other), saved, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_keep_their_format_and_rounding_is_measured(
    folder: Path, hf: Any, shift: nv.Shift, tmp_path: Path
) -> None:
    half = load_plain(folder, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    tiny_tokenizer(chat=True).save_pretrained(tmp_path / "half")
    # a name is loaded in float32, which holds bfloat16, and written as it is stored
    full = load_plain(tmp_path / "half", dtype=torch.float32)
    edit = nv.Shift(neuron_set(full), dose=1.5)
    for out in (
        nv.bake(tmp_path / "half", edit, tmp_path / "a"),
        nv.bake(half, nv.Shift(neuron_set(half), dose=1.5), tmp_path / "b"),
    ):
        assert load_plain(out, dtype="auto").dtype == torch.bfloat16
        check = facts(out)["check"]
        assert 0 < check["kl"] < 0.05 and 1e-4 < check["relative"] < 0.1
        assert "rounded to bfloat16" in (out / "README.md").read_text()
    rounded = nv.bake(hf, shift, tmp_path / "c", dtype="float16")
    assert load_plain(rounded, dtype="auto").dtype == torch.float16
    with pytest.raises(InputError, match="int8"):
        nv.bake(hf, shift, tmp_path / "d", dtype="int8")


def test_a_folder_with_content_is_replaced_only_by_the_same_edit(hf: Any, shift: nv.Shift, tmp_path: Path) -> None:
    out = nv.bake(hf, shift, tmp_path / "below" / "out", texts=())
    (out / "config.json").write_text("{}")
    assert nv.bake(hf, shift, out, texts=()) == out and json.loads((out / "config.json").read_text())["mlp_bias"]
    with pytest.raises(InputError, match="is not empty"):
        nv.bake(hf, shift.with_dose(3.0), out, texts=())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty"):
        nv.bake(hf, shift, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"
    assert json.loads((out / "config.json").read_text())["mlp_bias"]


def test_a_checkpoint_that_differs_from_the_hooks_leaves_nothing(
    hf: Any, shift: nv.Shift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write.baked_model

    def wrong(*args: Any) -> Any:
        model = real(*args)
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.bias.add_(0.01)
        return model

    monkeypatch.setattr(write, "baked_model", wrong)
    with pytest.raises(WorkError, match="left nothing behind"):
        nv.bake(hf, shift, tmp_path / "out", texts=())
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(write, "baked_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        nv.bake(hf, shift, tmp_path / "out", texts=())
    assert list(tmp_path.iterdir()) == []


def test_a_dose_without_finite_logits_is_refused(hf: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="not finite"):
        nv.bake(hf, nv.Scale(neuron_set(hf), dose=1e38), tmp_path / "out", texts=())
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_edit_is_offered_with_its_difference_and_baked_on_request(
    hf: Any, shift: nv.Shift, tmp_path: Path
) -> None:
    scoped = shift.with_scope("generated")
    with pytest.raises(InputError, match=r"nearest=True .*mean KL [\d.e-]+ nats per token") as caught:
        nv.bake(hf, scoped, tmp_path / "out")
    assert "\n" not in str(caught.value) and "nv.attach" in str(caught.value) and not (tmp_path / "out").exists()
    out = nv.bake(hf, scoped, tmp_path / "out", nearest=True)
    assert torch.allclose(logits(load_plain(out)), logits(hf, (shift,)), atol=1e-5)
    assert facts(out)["nearest_kl"] > 1e-4 and f"{facts(out)['nearest_kl']:.3g}" in str(caught.value)
    assert "scope generated" in (out / "README.md").read_text()


def test_the_mean_step_comes_nearer_than_no_edit(hf: Any, tmp_path: Path) -> None:
    clamp = nv.Clamp(neuron_set(hf), quantile=0.9)
    out = nv.bake(hf, clamp, tmp_path / "out", nearest=True)
    target, unedited = (torch.log_softmax(logits(hf, edits), -1) for edits in ((clamp,), ()))
    near = torch.log_softmax(logits(load_plain(out)), -1)
    kl = [float((target.exp() * (target - other)).sum(-1).mean()) for other in (near, unedited)]
    assert 0 < kl[0] < kl[1]


def test_edits_of_the_prompt_and_paced_ones_have_no_substitute(hf: Any, shift: nv.Shift, tmp_path: Path) -> None:
    for edit, words in (
        (nv.RolePrompt("Be kind."), "rewrite the prompts"),
        (nv.editing.paced(shift, half_life=4.0), ".edit"),
    ):
        for nearest in (False, True):
            with pytest.raises(InputError) as caught:
                nv.bake(hf, edit, tmp_path / "out", nearest=nearest)
            assert "\n" not in str(caught.value)
        assert words in str(caught.value)


def test_models_that_a_plain_checkpoint_cannot_hold(hf: Any, shift: nv.Shift, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to bake"):
        nv.bake(hf, [], tmp_path / "out")
    tied = load_plain(Path(hf.config._name_or_path))
    tied.model.layers[1].mlp.down_proj.weight = tied.model.layers[0].mlp.down_proj.weight
    with pytest.raises(InputError, match=r"shares its weight with model\.layers\.1\.mlp\.down_proj"):
        nv.bake(tied, nv.Scale(neuron_set(tied), dose=0.5), tmp_path / "out", texts=())
    tied.peft_config = {"default": None}
    with pytest.raises(InputError, match="merge_and_unload"):
        nv.bake(tied, shift, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_further_layers_are_asked_for_by_name_and_leave_the_window_alone(tmp_path: Path) -> None:
    (item,) = (item for item in ARCHITECTURES if item.family == "Gemma 3" and not item.head.startswith("ForCond"))
    hf = load_plain(save(item, tmp_path / "model"))
    push = nv.AddVector({1: torch.linspace(-2, 2, 32).numpy()})
    with pytest.raises(InputError, match=r"extra_layers=True .* adds 1 layers"):
        nv.bake(hf, push, tmp_path / "out", texts=())
    baked = load_plain(nv.bake(hf, push, tmp_path / "out", texts=(), extra_layers=True))
    assert baked.config.layer_types == [*hf.config.layer_types, "full_attention"]
    assert greedy(baked) == greedy(hf, (push,))
    assert torch.allclose(logits(baked), logits(hf, (push,)), atol=1e-5)
    assert not torch.allclose(logits(baked), logits(hf), atol=1e-2)


def test_the_command(folder: Path, hf: Any, shift: nv.Shift, tmp_path: Path, call: Any) -> None:
    saved = nv.save_edit(shift.with_scope("last"), tmp_path / "edit", model=models.load(folder))
    status, _, err = call("bake", folder, saved, tmp_path / "out")
    assert status == 2 and "--nearest" in err and err.count("\n") == 1
    status, out, err = call("bake", folder, saved, tmp_path / "out", "--nearest")
    assert status == 0 and "baked in float32" in out and "nearest edit" in out and "written" in err
    assert torch.allclose(logits(load_plain(tmp_path / "out")), logits(hf, (shift,)), atol=1e-5)
    status, out, _ = call("bake", folder, saved, tmp_path / "out", "--nearest", "--json")
    assert status == 0 and json.loads(out)["request"]["dtype"] == "float32"
