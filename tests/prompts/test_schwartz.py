"""The natural-English instrument: how texts are rendered, and whether what is shipped keeps its promises."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts import people, schwartz

NEGATION = re.compile(
    r"\b(not|no|never|nobody|none|nothing|nowhere|neither|nor|without|cannot|\w+n't)\b", re.IGNORECASE
)
MODALS = {"can", "could", "may", "might", "must", "should", "would", "had", "always", "will", "truly", "also", "set"}
TOPIC = {
    "topic": "t",
    "ask": "{my} uncle wants {me} to say what {I} need and {I} have a list of {mine}",
    "plus": "tell {my} uncle and do it {myself}",
    "minus": "wait until {I} could answer.",
}
HER = people.Person("Priya", {"I": "she", "me": "her", "my": "her", "mine": "hers", "myself": "herself"}, third=True)


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    whole = prompts.load("schwartz")
    return whole.df.assign(answer=[example.answer for example in whole.examples()])


# --- rendering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "pole", "question", "answer"),
    [
        (
            "statement_1st",
            "+",
            "",
            "When my uncle wants me to say what I need and I have a list of mine, I would tell my uncle and do it myself.",
        ),
        (
            "statement_3rd",
            "-",
            "",
            "When her uncle wants her to say what she needs and she has a list of hers, Priya would wait until she could answer.",
        ),
        (
            "question_1st",
            "+",
            "What would you do when your uncle wants you to say what you need and you have a list of yours?",
            "I would tell my uncle and do it myself.",
        ),
        (
            "question_3rd",
            "+",
            "What would Priya do when her uncle wants her to say what she needs and she has a list of hers?",
            "She would tell her uncle and do it herself.",
        ),
    ],
)  # fmt: skip
def test_the_four_forms(form: str, pole: str, question: str, answer: str) -> None:
    assert schwartz.render(TOPIC, pole, form, HER) == (question, answer)


@pytest.mark.parametrize(
    ("template", "third", "second"),
    [
        ("{I} always reach it", "she always reaches it", "you always reach it"),
        ("what {I} really think", "what she really thinks", "what you really think"),
        ("{I} wanted {I} am {I} do {I} go", "she wanted she is she does she goes", "you wanted you are you do you go"),
        ("as {I} please", "as she pleases", "as you please"),
        ("{I}", "she", "you"),
    ],
)
def test_verbs_agree(template: str, third: str, second: str) -> None:
    assert schwartz.fill(template, HER) == third
    assert schwartz.fill(template, people.SECOND) == second


def test_unknown_placeholder() -> None:
    with pytest.raises(InputError, match=r"unknown placeholder \{we\}"):
        schwartz.fill("{we} go", HER)


def test_people_are_many_and_fixed() -> None:
    assert people.third_person("power/x") == people.third_person("power/x")
    names = [name for name, _ in people.NAMES]
    assert len(set(names)) == len(names) >= 80
    share = np.mean([pronoun == "she" for _, pronoun in people.NAMES])
    assert 0.45 <= share <= 0.55


# --- the shipped texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_forty_topics_in_four_forms(value: str, shipped: pd.DataFrame) -> None:
    topics = schwartz.topics(value)
    assert len({topic["topic"] for topic in topics}) == 40
    own = shipped[shipped["value"] == value]
    assert Counter(own["form"]) == dict.fromkeys(schwartz.FORMS, 80)
    assert own.groupby("cluster").size().eq(8).all()
    assert own.groupby("split")["cluster"].nunique().to_dict() == {"train": 20, "validation": 8, "test": 12}


def test_no_text_twice_and_no_situation_twice(shipped: pd.DataFrame) -> None:
    assert not shipped["text"].duplicated().any()
    situations = Counter(topic["ask"] for value in VALUES for topic in schwartz.topics(value))
    deeds = Counter(topic[pole] for value in VALUES for topic in schwartz.topics(value) for pole in ("plus", "minus"))
    assert max(situations.values()) == max(deeds.values()) == 1


def test_sentences_are_well_formed(shipped: pd.DataFrame) -> None:
    for text in shipped["text"]:
        assert not re.search(r"[{}\t\n]|  | [,.?!;:]|[,.?!]{2}", text), text
        assert re.match(r"[A-Z]", text) and text.endswith("."), text
        assert not re.search(r"\bi\b|[.?!] [a-z]", text), text
        assert not re.search(r"\b(\w+) \1\b", text), text


def test_articles(shipped: pd.DataFrame) -> None:
    wrong_a = re.compile(r"\ba (?!one\b|once\b|uni|use|usu|euro|ewe|u-)[aeiou]\w*", re.IGNORECASE)
    wrong_an = re.compile(r"\ban (?!hour|honest|honour|heir|X-ray|MP\b|F\b)[^aeiou\W]\w*", re.IGNORECASE)
    found = {m for text in shipped["text"] for m in wrong_a.findall(text) + wrong_an.findall(text)}
    assert not found


def test_third_person_verbs(shipped: pd.DataFrame) -> None:
    third = shipped[shipped["form"].str.endswith("3rd")]
    verbs = {verb for text in third["text"] for verb in re.findall(r"\b(?:he|she) ([a-z]+)", text)}
    assert {v for v in verbs if v not in MODALS and not v.endswith(("s", "ed"))} == set()
    assert not third["text"].str.contains(r"\b(?:I|me|my|mine|myself|you|your)\b").any()
    first = shipped[shipped["form"] == "statement_1st"]
    assert not first["text"].str.contains(r"\b(?:you|your|yours)\b").any()


def test_poles_share_everything_but_the_deed(shipped: pd.DataFrame) -> None:
    questions = shipped[shipped["form"].str.startswith("question")]
    heads = questions.assign(head=[t[:n] for t, n in zip(questions["text"], questions["answer_start"], strict=True)])
    assert heads.groupby("pair_id")["head"].nunique().eq(1).all()
    names = shipped.groupby("cluster")["text"].agg(
        lambda texts: len(set(re.findall(r"What would (\w+) do", " ".join(texts))))
    )
    assert names.eq(2).all()  # "you" and one name


@pytest.mark.parametrize("value", VALUES)
def test_poles_are_alike_in_length_and_negation(value: str) -> None:
    plus, minus = ([topic[pole] for topic in schwartz.topics(value)] for pole in ("plus", "minus"))
    for measure in (lambda text: len(text.split()), len):
        a, b = (np.array([measure(text) for text in texts], dtype=float) for texts in (plus, minus))
        assert abs(a.mean() / b.mean() - 1) <= 0.05
        # Area under the curve of telling the poles by length alone: .5 is chance.
        assert abs(mannwhitneyu(a, b).statistic / (len(a) * len(b)) - 0.5) <= 0.15
    assert max(abs(len(p.split()) - len(m.split())) for p, m in zip(plus, minus, strict=True)) <= 3
    negations = [sum(len(NEGATION.findall(text)) for text in texts) for texts in (plus, minus)]
    assert abs(negations[0] - negations[1]) <= 2


def test_no_value_is_called_by_its_name(shipped: pd.DataFrame) -> None:
    # Else a model could tell the poles by the label instead of what it stands for.
    label = re.compile("|".join(rf"\b{value}\b" for value in VALUES), re.IGNORECASE)
    assert [text for text in shipped["answer"] if label.search(text)] == []


# --- questions and open prompts -------------------------------------------------------------------------------------


def test_questions() -> None:
    table = prompts.load_questions("schwartz")
    assert list(table.columns) == ["value", "against", "first", "text", "topic", "split"]
    for value, own in table.groupby("value"):
        assert len(own) >= 40 and value not in set(own["against"])
        assert own["against"].nunique() >= 5 and own["against"].isin(VALUES).all()
        assert abs((own["first"] == "value").mean() - 0.5) <= 0.05
        shares = own["split"].value_counts(normalize=True)
        assert shares["train"] == pytest.approx(0.5, abs=0.03) and shares["test"] == pytest.approx(0.3, abs=0.03)
    assert table["text"].str.match(r"Should [A-Z].* rather than .*\?$").all()
    assert not table["text"].duplicated().any() and not table.duplicated(["value", "topic"]).any()


def test_open_prompts_name_no_value() -> None:
    table = prompts.open_prompts("schwartz")
    assert len(table) >= 60 and not table["text"].duplicated().any() and not table["topic"].duplicated().any()
    listed = {word for value in VALUES for word in prompts.words(value)} | set(VALUES)
    for text in table["text"]:
        assert not listed & set(re.findall(r"[a-z-]+", text.lower())), text
    sizes = {split: len(prompts.open_prompts("schwartz", split)) for split in ("train", "validation", "test")}
    assert sum(sizes.values()) == len(table) and sizes["test"] >= 30 and sizes["validation"] >= 18
    with pytest.raises(InputError, match="unknown split"):
        prompts.open_prompts("schwartz", "dev")


def test_other_sets_share_the_natural_english_prompts() -> None:
    pd.testing.assert_frame_equal(prompts.open_prompts("persona:anywhere"), prompts.open_prompts("schwartz"))
    pd.testing.assert_frame_equal(prompts.load_questions("pairs:x.csv"), prompts.load_questions("schwartz"))
