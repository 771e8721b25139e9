"""A task of lm-evaluation-harness, edited and unedited, against log-probabilities computed text by text."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import neva_tl as nv
from neva_tl.core.errors import InputError

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason='needs lm-eval: pip install "neva_tl[lm-eval]"'
)
DOCUMENTS = (
    ("The king counts", ("his coins", "every golden coin that the old king had", "a river"), 0),
    ("Question: who shares bread?\nAnswer:", ("children", "nobody in the village", "danger"), 1),
    ("At night she climbs", ("the tower", "bread", "the old tower of the village"), 2),
    ("A fox", ("helps", "a dog", "é ü"), 0),
    ("Strangers cross the", ("river while the king sleeps", "coins", "bread"), 1),
)
MULTIPLE_CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def hf(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Any:
    return AutoModelForCausalLM.from_pretrained(folders[request.param], dtype=torch.float32).eval()


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with the five documents and the task's YAML file."""
    data = tmp_path / "documents.jsonl"
    rows = [{"prompt": prompt, "options": options, "gold": gold} for prompt, options, gold in DOCUMENTS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "tiny_choice.yaml").write_text(MULTIPLE_CHOICE.format(data=data), encoding="utf-8")
    return tmp_path


def vector(scope: Any = "all", dose: float = 3.0) -> nv.AddVector:
    noise = np.random.default_rng(3).normal(size=32)
    return nv.AddVector({1: noise, 2: -noise}, dose=dose, scope=scope)


def hooks(hf: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())


def direct(hf: Any, edit: Any, context: str, continuation: str, first: int | None = None) -> float:
    """Log-probability of a continuation, one text in a pass; from token `first` on the tokens count as generated."""
    tokenizer = AutoTokenizer.from_pretrained(hf.config.name_or_path)
    n = len(tokenizer(context)["input_ids"])
    ids = torch.tensor([tokenizer(context + continuation)["input_ids"]])
    start = n if first is None else first
    generated = torch.arange(ids.shape[1] - 1)[None] >= start
    with torch.no_grad():
        if edit is None:
            logits = hf(ids[:, :-1]).logits
        else:
            with nv.edit_hf(hf, edit) as session:
                session.mark(generated, torch.ones_like(generated))
                logits = hf(ids[:, :-1]).logits
    logprobs = logits[0].double().log_softmax(-1)
    return float(logprobs.gather(1, ids[0, 1:, None])[n - 1 :].sum())


def evaluated(model: Any, task: Path) -> dict[str, Any]:
    """Results of the task, and the summed log-probability of each option."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(task), include_defaults=False)
    out = simple_evaluate(model, tasks=["tiny_choice"], task_manager=manager, bootstrap_iters=0, log_samples=True)
    samples = sorted(out["samples"]["tiny_choice"], key=lambda sample: sample["doc_id"])
    return {
        "acc": out["results"]["tiny_choice"]["acc,none"],
        "scores": np.array([[option[0] for option in sample["filtered_resps"]] for sample in samples]),
        "edits": out["config"]["neva_tl_edits"],
    }


@needs_lm_eval
def test_a_task_runs_edited_and_unedited(hf: Any, task: Path) -> None:
    edited_model = nv.evaluation.lm_eval_model(hf, vector(), batch_size=4)
    edited, unedited = evaluated(edited_model, task), evaluated(nv.evaluation.lm_eval_model(hf), task)
    for found, edit in ((edited, vector()), (unedited, None)):
        expected = [[direct(hf, edit, prompt, f" {option}") for option in options] for prompt, options, _ in DOCUMENTS]
        np.testing.assert_allclose(found["scores"], expected, atol=2e-5)
        right = [int(np.argmax(row) == gold) for row, (*_, gold) in zip(expected, DOCUMENTS, strict=True)]
        assert found["acc"] == pytest.approx(np.mean(right))
    assert np.abs(edited["scores"] - unedited["scores"]).min() > 1e-3
    assert edited["edits"][0]["content_hash"] == nv.editing.content_hash(vector()) and unedited["edits"] == []
    assert hooks(hf) == 0


@needs_lm_eval
def test_the_unedited_model_scores_as_the_harness_itself(hf: Any, task: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = AutoTokenizer.from_pretrained(hf.config.name_or_path)
    theirs, ours = HFLM(hf, tokenizer=tokenizer, batch_size=4), nv.evaluation.lm_eval_model(hf, batch_size=4)
    pairs = [(prompt, f" {option}") for prompt, options, _ in DOCUMENTS for option in options] + [("", "a fox")]
    long = " ".join(prompt for prompt, *_ in DOCUMENTS * 40)  # longer than the context
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in [*pairs, (long, " bread")]]
    for one, other in zip(theirs.loglikelihood(requests), ours.loglikelihood(requests), strict=True):
        assert one[0] == pytest.approx(other[0], abs=2e-5) and one[1] == other[1]
    rolling = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in (long, "a fox helps")]
    np.testing.assert_allclose(
        theirs.loglikelihood_rolling(rolling), ours.loglikelihood_rolling(rolling), rtol=1e-6, atol=2e-5
    )


@needs_lm_eval
@pytest.mark.parametrize("span", ["text", "answer"])
def test_spans_say_which_tokens_count_as_generated(hf: Any, span: Any) -> None:
    from lm_eval.api.instance import Instance

    edit = vector("generated")
    model = nv.evaluation.lm_eval_model(hf, edit, span=span, batch_size=8)
    opened = model.tok_encode("a")[0] == model.prefix_token_id
    requests = [
        Instance("loglikelihood", {}, (prompt, f" {option}"), 0)
        for prompt, options, _ in DOCUMENTS
        for option in options
    ]
    starts = {"text": int(opened), "answer": None}
    expected = {
        name: [direct(hf, edit, *request.args, first) for request in requests] for name, first in starts.items()
    }
    np.testing.assert_allclose([x for x, _ in model.loglikelihood(requests)], expected[span], atol=2e-5)
    assert np.abs(np.subtract(expected["text"], expected["answer"])).min() > 1e-3


@needs_lm_eval
def test_generated_texts_are_those_of_edit_hf(hf: Any) -> None:
    from lm_eval.api.instance import Instance

    model = nv.evaluation.lm_eval_model(hf, vector("generated"), batch_size=2)
    prompts = [prompt for prompt, *_ in DOCUMENTS]
    requests = [Instance("generate_until", {}, (x, {"until": ["\n\n\n"], "max_gen_toks": 6}), 0) for x in prompts]
    tokenizer = AutoTokenizer.from_pretrained(hf.config.name_or_path)
    for text, prompt in zip(model.generate_until(requests), prompts, strict=True):
        with nv.edit_hf(hf, vector("generated")):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            out = hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        assert text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@needs_lm_eval
def test_a_transformer_lens_model_scores_as_its_transformers_twin(hf: Any, loaded: dict[str, Any]) -> None:
    from lm_eval.api.instance import Instance

    model = next(x for x in loaded.values() if nv.models.info(x).gated == (hf.config.model_type == "llama"))
    requests = [Instance("loglikelihood", {}, (prompt, f" {options[1]}"), 0) for prompt, options, _ in DOCUMENTS]
    edit = vector("last")
    one, other = (nv.evaluation.lm_eval_model(x, edit).loglikelihood(requests) for x in (model, hf))
    np.testing.assert_allclose([x for x, _ in one], [x for x, _ in other], atol=2e-5)
    assert not nv.models.has_hooks(model)


# ---------------------------------------------------------------- refused, with lm-eval or without


def test_edits_that_the_harness_cannot_run_are_refused(hf: Any) -> None:
    with pytest.raises(InputError, match="system_instruction"):
        nv.evaluation.lm_eval_model(hf, nv.RolePrompt("be kind"))
    with pytest.raises(InputError, match="RewriteAnswer"):
        nv.evaluation.lm_eval_model(hf, nv.editing.RewriteAnswer("be kind"))
    with pytest.raises(InputError, match="span"):
        nv.evaluation.lm_eval_model(hf, vector(), span="all")


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(InputError):
        nv.evaluation.lm_eval_model(torch.nn.Linear(2, 2))


def test_without_the_package_one_line_says_what_to_install(hf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("lm_eval", "lm_eval.models.huggingface"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "neva_tl.evaluation.benchmarks.harness_model", raising=False)
    with pytest.raises(InputError, match=r'pip install "neva_tl\[lm-eval\]"') as caught:
        nv.evaluation.lm_eval_model(hf, vector())
    assert "\n" not in str(caught.value)
