"""Hugging Face classifiers as judges: tiny random models against a direct computation, one text at a time."""

import warnings

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges import TextJudge, load_judge
from neva_tl.evaluation.judges.huggingface import match_labels
from neva_tl.evaluation.labels.labelled import to_values
from neva_tl.models.tiny import tiny_tokenizer
from neva_tl.prompts.readers.valueeval import CATEGORIES

TEXTS = [
    "the old king counts his golden coins in the tower",
    "she shares bread",
    "",
    "every child climbs the highest tower at night because danger makes her heart beat faster than the river",
    "keep keep keep keep keep keep keep keep keep keep",
    "nobody in the village helps a lazy dog",
]


def checkpoint(folder, labels, kind="multi_label_classification", family="bert", pad=True):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    if pad:
        tokenizer.pad_token = "</s>"
    tokenizer.model_max_length = 64
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: k for k, label in enumerate(labels)},
        "problem_type": kind,
        "initializer_range": 0.5,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "bert":
        model = BertForSequenceClassification(BertConfig(**common))
    else:
        model = LlamaForSequenceClassification(LlamaConfig(**common, num_key_value_heads=2))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def one_by_one(model, tokenizer, texts, function):
    out = []
    for text in texts:
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0].double()
        out.append(function(logits).numpy())
    return np.array(out)


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("pad", [True, False])
def test_batches_by_length_give_what_one_text_at_a_time_gives(tmp_path, family, pad):
    model, tokenizer = checkpoint(tmp_path / "m", list(CATEGORIES), family=family, pad=pad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge = load_judge(f"hf:{tmp_path / 'm'}")
    expected = one_by_one(model, tokenizer, TEXTS, torch.sigmoid)
    expected[[2, 4]] = 0  # empty, and one word over and over: invalid
    found = judge.categories(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found[[0, 1, 3, 5]], axis=0).min() > 1e-3  # the texts matter
    np.testing.assert_array_equal(judge.score(TEXTS), to_values(found, tuple(CATEGORIES)))
    assert isinstance(judge, TextJudge) and judge.unit == "P(expresses)" and judge.names == tuple(CATEGORIES)
    assert judge.oppose(TEXTS) is None and judge.valid(TEXTS).tolist() == [True, True, False, True, False, True]
    assert judge.score([]).shape == (0, 10)


def test_a_forced_choice_is_a_softmax_and_warned_about(tmp_path):
    labels = ["Power", "SELF_DIRECTION", "none"]
    model, tokenizer = checkpoint(tmp_path / "m", labels, kind="single_label_classification")
    with pytest.warns(UserWarning, match="forced choice cannot show leakage"):
        judge = load_judge(f"hf:{tmp_path / 'm'}")
    expected = one_by_one(model, tokenizer, TEXTS[:2], lambda x: torch.softmax(x, dim=-1))
    found = judge.score(TEXTS[:2])
    np.testing.assert_allclose(found[:, VALUES.index("power")], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(found[:, VALUES.index("self-direction")], expected[:, 1], atol=1e-5)
    assert np.isnan(found[:, VALUES.index("hedonism")]).all() and judge.unit == "share of a forced choice"


def test_a_config_that_does_not_say_is_taken_as_multi_label_and_said(tmp_path):
    checkpoint(tmp_path / "m", list(VALUES), kind=None)
    with pytest.warns(UserWarning, match="no problem_type"):
        judge = load_judge(f"hf:{tmp_path / 'm'}")
    assert judge.multi and judge.names == VALUES


def test_the_name_changes_with_the_weights(tmp_path):
    model, _ = checkpoint(tmp_path / "m", list(VALUES))
    first = load_judge(f"hf:{tmp_path / 'm'}").name
    assert first == load_judge(f"hf:{tmp_path / 'm'}").name
    with torch.no_grad():
        model.classifier.bias[0] += 1
    model.save_pretrained(tmp_path / "m")
    assert load_judge(f"hf:{tmp_path / 'm'}").name != first


def test_long_texts_are_cut_at_the_context(tmp_path):
    model, tokenizer = checkpoint(tmp_path / "m", list(VALUES))
    text = " ".join(f"word{k}" for k in range(300))
    cut = tokenizer(text)["input_ids"][:64]
    with torch.inference_mode():
        expected = torch.sigmoid(model(torch.tensor([cut])).logits[0]).numpy()
    np.testing.assert_allclose(load_judge(f"hf:{tmp_path / 'm'}").score([text])[0], expected, atol=1e-5)


def test_labels_meet_whatever_their_case_and_punctuation():
    assert match_labels({0: "SELF_DIRECTION", 1: "Stimulation"})[0] == ("self-direction", "stimulation")
    names, columns = match_labels({0: "other", 1: "self direction – thought", 2: "stimulation", 3: "POWER:RESOURCES"})
    assert names == ("Self-direction: thought", "Stimulation", "Power: resources") and columns == (1, 2, 3)
    names, _ = match_labels({0: "face", 1: "benevolence"})  # a category, and a value that is none
    assert names == ("Face", "benevolence")


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (["LABEL_0", "power", "bravery"], "LABEL_0, bravery"),
        (["power", "Power"], "two labels stand for power"),
        (["none"], "neither one of the ten values"),
    ],
)
def test_labels_that_do_not_fit_are_listed(tmp_path, labels, complaint):
    with pytest.raises(InputError, match=complaint):
        match_labels(dict(enumerate(labels)))
    checkpoint(tmp_path / "m", labels)
    with pytest.raises(InputError, match=f"hf:.*{complaint}"):
        load_judge(f"hf:{tmp_path / 'm'}")


def test_what_is_no_classifier_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from neva_tl.models.tiny import tiny_checkpoint

    with pytest.raises(InputError, match="is not a sequence classifier"):
        load_judge(f"hf:{tiny_checkpoint(tmp_path / 'lm')}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no config"):
        load_judge(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(InputError, match="no such folder"):
        load_judge("hf:nobody/nothing-of-that-name")
    with pytest.raises(InputError, match="needs NAME_OR_FOLDER"):
        load_judge("hf")
