"""The quality card, agreement and confusion: by hand, against scikit-learn, and on planted data."""

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from helpers.paths import SHARED
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.core.values import VALUES, distance_matrix
from neva_tl.evaluation.judge_quality.quality import agreement, confusion, judged, quality
from neva_tl.evaluation.judges import WordListJudge
from neva_tl.evaluation.labels.decisions import one_baseline
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.prompts.readers.valueeval import CATEGORIES

DATA = SHARED / "data"


@dataclass
class Said:
    """A judge that says what it was told to say."""

    table: dict[str, np.ndarray]
    name: str = "said"
    unit: str = "P(expresses)"
    asked: list = field(default_factory=list)

    def score(self, texts, prompts=None):
        self.asked.append(prompts)
        return np.array([self.table[text] for text in texts])

    def oppose(self, texts, prompts=None):
        return None

    def valid(self, texts, prompts=None):
        return np.ones(len(texts), dtype=bool)


@dataclass
class SaidByCategory(Said):
    names: tuple = tuple(CATEGORIES)

    def categories(self, texts, prompts=None):
        return np.array([self.table[text] for text in texts])

    def decide(self, scores):
        return (scores >= 0.3).astype(float)


def labelled(labels, names=VALUES, clusters=None, contexts=None):
    n = len(labels)
    texts = tuple(f"text {i}" for i in range(n))
    clusters = np.array([f"c{i // 4}" for i in range(n)] if clusters is None else clusters, dtype=str)
    return LabelledTexts(
        "made",
        texts,
        contexts or ("",) * n,
        np.asarray(labels, dtype=float),
        tuple(names),
        clusters,
        np.array(["test"] * n),
    )


def planted(n=200, names=VALUES, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, len(names))) < 0.3).astype(float)
    scores = np.clip(0.25 + 0.35 * labels + 0.2 * rng.standard_normal(labels.shape), 0, 1)
    found = labelled(labels, names)
    return found, dict(zip(found.texts, scores, strict=True)), scores


def test_a_card_holds_scikit_learns_numbers_and_both_conventions_of_f1():
    texts, table, scores = planted()
    card = quality(Said(table), texts, n_boot=100)
    said = scores >= 0.5
    assert card.measure("macro_f1") == pytest.approx(f1_score(texts.labels, said, average="macro"))
    found = card.df.set_index("label")
    for k, name in enumerate(VALUES):
        assert found.loc[name, "f1"] == pytest.approx(f1_score(texts.labels[:, k], said[:, k]))
        assert found.loc[name, "auroc"] == pytest.approx(roc_auc_score(texts.labels[:, k], scores[:, k]))
        assert found.loc[name, "brier"] == pytest.approx(np.mean((texts.labels[:, k] - scores[:, k]) ** 2))
        assert found.loc[name, "f1_lo"] <= found.loc[name, "f1"] <= found.loc[name, "f1_hi"]
    p, r = found["precision"].mean(), found["recall"].mean()
    assert card.measure("task_f1") == pytest.approx(2 * p * r / (p + r))
    assert card.measure("task_f1") != pytest.approx(card.measure("macro_f1"), abs=1e-4)
    expected = one_baseline(texts.labels)
    assert card.macro.set_index("measure").loc["task_f1", "one_baseline"] == pytest.approx(expected["task_f1"])
    assert set(card.df["level"]) == {"value"} and card.own_categories is None


def test_intervals_resample_clusters_as_the_statistics_do():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), 5)
    right = np.repeat(rng.random(40) < 0.7, 5)  # a cluster is right or wrong as a whole
    labels = (rng.random((200, 10)) < 0.5).astype(float)
    scores = np.where(right[:, None], labels, 1 - labels)
    texts = labelled(labels, clusters=clusters)
    row = quality(Said(dict(zip(texts.texts, scores, strict=True))), texts, n_boot=4000).df.iloc[0]
    found = cluster_bootstrap(right.astype(float), clusters, n=4000, rng=np.random.default_rng(2))
    # ends of a bootstrap of 40 equal clusters are multiples of 1/40: other draws may move one by a step
    assert (row["accuracy_lo"], row["accuracy_hi"]) == pytest.approx((found.lo, found.hi), abs=1 / 40 + 1e-9)
    # five texts of a cluster are one: the interval is far wider than that of 200 texts
    naive = cluster_bootstrap(right.astype(float), None, n=1000, rng=np.random.default_rng(2))
    assert row["accuracy_hi"] - row["accuracy_lo"] > 1.6 * (naive.hi - naive.lo)


def test_a_judge_of_categories_decides_by_its_own_thresholds_and_values_follow():
    names = tuple(CATEGORIES)
    texts, table, scores = planted(names=names)
    card = quality(SaidByCategory(table), texts, n_boot=20)
    assert card.own_categories is True and card.rule == "the judge's own thresholds"
    assert card.measure("macro_f1", "category") == pytest.approx(f1_score(texts.labels, scores >= 0.3, average="macro"))
    power = [k for k, name in enumerate(names) if CATEGORIES[name] == "power"]
    expected = f1_score(texts.labels[:, power].any(axis=1), (scores[:, power] >= 0.3).any(axis=1))
    assert card.df[card.df["level"] == "value"].set_index("label").loc["power", "f1"] == pytest.approx(expected)
    fixed = quality(SaidByCategory(table), texts, threshold=0.6, n_boot=20)
    assert fixed.measure("macro_f1", "category") == pytest.approx(
        f1_score(texts.labels, scores >= 0.6, average="macro")
    )


def test_a_judge_without_categories_gives_each_the_score_of_its_value():
    names = tuple(CATEGORIES)
    labels = np.zeros((3, 20))
    labels[0, names.index("Face")] = labels[1, names.index("Power: resources")] = 1
    scores = np.zeros((3, 10))
    scores[:2, VALUES.index("power")] = 0.9
    texts = labelled(labels, names)
    card = quality(Said(dict(zip(texts.texts, scores, strict=True))), texts, n_boot=20)
    assert card.own_categories is False and "got the score of its value" in str(card)
    found = card.df[card.df["level"] == "category"].set_index("label")
    assert found.loc["Face", ["precision", "recall"]].tolist() == [0.5, 1.0]


def test_single_value_labels_count_for_their_value_alone():
    labels = np.full((8, 10), np.nan)
    labels[:4, 0], labels[4:, 3] = [1, 1, 0, 0], [1, 0, 1, 0]
    scores = np.full((8, 10), 0.99)
    scores[:4, 0], scores[4:, 3] = [0.9, 0.4, 0.3, 0.2], [0.1, 0.05, 0.08, 0.01]
    texts = labelled(labels, clusters=range(8))
    card = quality(Said(dict(zip(texts.texts, scores, strict=True))), texts, n_boot=200)
    found = card.df.set_index("label")
    assert found.loc[VALUES[0], ["n", "support"]].tolist() == [4, 2]
    assert found.loc[VALUES[0], "accuracy"] == 0.75 and found.loc[VALUES[3], "accuracy"] == 0.5
    # the threshold does not carry over to the second value; its ranking does
    assert found.loc[VALUES[0], "auroc"] == 1.0 and found.loc[VALUES[3], "auroc"] == 1.0
    assert card.measure("accuracy") == pytest.approx(0.625)
    assert np.isnan(found.loc[VALUES[1], "accuracy"])


def test_missing_scores_are_counted_and_bounded_and_half_is_undecided():
    labels = np.ones((10, 10))
    scores = np.ones((10, 10))
    scores[:2] = np.nan
    scores[2] = 0.5
    texts = labelled(labels, clusters=range(10))
    card = quality(Said(dict(zip(texts.texts, scores, strict=True))), texts, n_boot=50)
    row = card.df.iloc[0]
    assert row["missing"] == pytest.approx(0.2) and row["undecided"] == pytest.approx(1 / 8)
    means = card.macro.set_index("measure").loc["accuracy"]
    assert (means["worst"], means["est"], means["best"]) == pytest.approx((0.8, 1.0, 1.0))


def test_one_cluster_has_no_interval_and_a_value_without_a_yes_no_f1():
    labels = np.zeros((6, 10))
    labels[:3, 0] = 1
    texts = labelled(labels, clusters=["one"] * 6)
    row = quality(Said(dict.fromkeys(texts.texts, np.full(10, 0.7))), texts, n_boot=50).df.set_index("label")
    assert row.loc[VALUES[0], "f1"] == pytest.approx(2 / 3) and np.isnan(row.loc[VALUES[0], "f1_lo"])
    assert np.isnan(row.loc[VALUES[1], "f1"]) and row.loc[VALUES[1], "accuracy"] == 0


def test_contexts_are_shown_as_prompts_only_where_there_are_any():
    texts, table, _ = planted(8)
    judge = Said(table)
    judged(judge, texts)
    assert judge.asked[-1] is None
    judged(judge, labelled(texts.labels, contexts=("asked",) * 8))
    assert judge.asked[-1] == ["asked"] * 8


def test_a_model_judge_and_no_texts_are_refused():
    class Asks:
        name, unit = "survey", "share"

        def measure(self, model, session=None, rewrite=None): ...

    texts, table, _ = planted(8)
    with pytest.raises(InputError, match="reads no texts"):
        quality(Asks(), texts)
    with pytest.raises(InputError, match="no texts to judge"):
        quality(Said(table), texts.part(np.zeros(8, dtype=bool)))


def test_a_card_is_saved_shown_and_the_same_again(tmp_path):
    texts, table, _ = planted(40, tuple(CATEGORIES))
    judge = SaidByCategory(table)
    card, again = quality(judge, texts, n_boot=50, seed=3), quality(judge, texts, n_boot=50, seed=3)
    pd.testing.assert_frame_equal(card.df, again.df)
    kept = json.loads(card.save(tmp_path / "deep" / "card.json").read_text())
    assert kept["per_label"][0]["label"] == VALUES[0] and len(kept["per_label"]) == 30
    assert kept["macro"][0]["est"] == pytest.approx(card.measure("task_f1"))
    assert isinstance(card.show(), Figure) and "task_f1" in card._repr_html_()


# ---------------------------------------------------------------- agreement


def test_agreement_is_scikit_learns_kappa_with_intervals():
    _, _, a = planted(seed=1)
    b = np.clip(a + 0.15 * np.random.default_rng(5).standard_normal(a.shape), 0, 1)
    a[3, 0] = np.nan
    clusters = np.arange(200) // 4
    found = agreement(a, b, clusters, n_boot=300)
    keep = np.arange(200) != 3
    assert found.df.loc[0, "est"] == pytest.approx(cohen_kappa_score(a[keep, 0] >= 0.5, b[keep, 0] >= 0.5))
    assert found.df.loc[0, "n"] == 199
    assert found.mean.est == pytest.approx(found.df["est"].mean())
    assert found.mean.lo < found.mean.est < found.mean.hi
    assert isinstance(found.show(), Figure) and "kappa" in found._repr_html_()
    same = agreement(b, b, clusters, n_boot=50)
    assert same.mean.est == 1 and same.mean.lo == 1


def test_chance_agrees_by_nothing_and_two_constants_by_nothing_defined():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4000, 10))
    found = agreement(a, b, np.arange(4000), n_boot=200)
    assert abs(found.mean.est) < 0.02 and found.mean.lo < 0 < found.mean.hi
    nothing = agreement(np.zeros((4, 10)), np.zeros((4, 10)), np.arange(4), n_boot=20)
    assert nothing.mean.est is None and nothing.df["est"].isna().all()
    with pytest.raises(InputError, match="shapes must agree"):
        agreement(a, b[:3], np.arange(4000))


# ---------------------------------------------------------------- confusion


def test_confusion_by_hand():
    labels = np.zeros((3, 10))
    labels[0, 0] = labels[1, [0, 1]] = 1
    scores = np.zeros((3, 10))
    scores[0, 0], scores[1, 0], scores[1, 1], scores[2, 0] = 0.9, 0.5, 0.8, 0.1
    found = confusion(scores, labels, n_permutations=50)
    assert found.matrix.iloc[0, :2].tolist() == pytest.approx([0.7, 0.4])
    assert found.lift.iloc[1, :2].tolist() == pytest.approx([0.5 - 0.5, 0.8 - 0.8 / 3])
    assert found.counts.tolist() == [2, 1] + [0] * 8 and found.matrix.iloc[5].isna().all()
    assert len(found.df) == 100


def test_a_judge_that_takes_neighbours_for_one_another_shows_the_circle():
    labels = np.tile(np.eye(10), (6, 1))
    noise = 0.02 * np.random.default_rng(0).standard_normal((60, 10))
    near = np.tile(1 - distance_matrix() / 180, (6, 1))
    found = confusion(near + noise, labels, n_permutations=999)
    assert found.rho < -0.9 and found.p < 0.01
    fall = found.by_distance.set_index("distance")["lift"]
    assert fall.index.tolist() == [0, 36, 72, 108, 144, 180] and (np.diff(fall) < 0).all()
    assert abs(confusion(noise, labels, n_permutations=99).rho) < 0.3
    assert isinstance(found.show(), Figure) and "benevolence" in found._repr_html_()
    with pytest.raises(InputError, match="nothing to confuse"):
        confusion(noise, np.zeros((60, 10)))


# ---------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def valueeval_test():
    if not (DATA / "valueeval" / "arguments-test.tsv").exists():
        pytest.skip("needs ../shared/data/valueeval")
    return LabelledTexts.load(f"valueeval:{DATA / 'valueeval'}").split("test")


def test_the_one_baseline_of_valueevals_test_texts(valueeval_test):
    found = one_baseline(valueeval_test.labels)
    assert found["task_f1"] == pytest.approx(0.263, abs=5e-4) and found["macro_f1"] == pytest.approx(0.248, abs=5e-4)
    ones = np.ones_like(valueeval_test.labels)
    assert found["macro_f1"] == pytest.approx(f1_score(valueeval_test.labels, ones, average="macro"))


def test_the_word_list_on_real_texts_finds_more_than_chance(valueeval_test):
    some = valueeval_test.head(400)
    card = quality(WordListJudge(), some, n_boot=50)
    assert card.own_categories is False and card.measure("auroc") > 0.5
    assert card.texts_per_second > 10
