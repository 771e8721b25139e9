"""Contrasts in a model's own words: which answers are asked for, kept and paired, and what is said where they do not suffice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from helpers.letter_judge import LetterJudge
from neva_tl.core.errors import InputError, WorkError
from neva_tl.models import inference
from neva_tl.prompts import from_model, open_questions
from neva_tl.prompts.contrast import examples_of
from neva_tl.study.own_words import OwnWords, write
from neva_tl.study.own_words.roles import NEUTRAL, roles_of
from neva_tl.study.own_words.writing import question_table

Install = Callable[[Callable[[str, str, int], str]], list[Any]]
THRIFT = {"definition": "Spending little, and mending what breaks.", "opposite": "Buying what pleases."}


#: Roles without a concern.
PLAIN = roles_of(nv.theories.Value("x", "")).minus


def against(role: str) -> bool:
    """Whether a role is one against its value."""
    return role in PLAIN or THRIFT["opposite"].rstrip(".") in role


def planted(role: str, question: str, number: int) -> str:
    """Thrifty answers under roles for thrift, and lavish ones under roles against it; each differs from all others."""
    return f"I would {'buy' if against(role) else 'mend'} it, number {number}."


def says_mend(texts: Sequence[str]) -> list[float]:
    return [float("mend" in text) - float("buy" in text) for text in texts]


def test_the_planted_answers_make_the_pairs(chat_model: Any, answers: Install) -> None:
    calls = answers(planted)
    pairs = from_model(chat_model, "thrift", **THRIFT, judge=says_mend, questions=24, answers=2)
    assert pairs.values == ("thrift",) and pairs.paired and len(pairs) == 2 * 24 * 2
    for row, example in zip(pairs.df.to_dict("records"), pairs.examples(), strict=True):
        assert ("mend" in example.answer) == (row["pole"] == "+") and ("buy" in example.answer) == (row["pole"] == "-")
        assert example.turns == (("system", NEUTRAL),) and example.prompt.endswith(("?", "."))
    # roles reach the model in the user's turn, with the definition, behind the system's turn that the pairs are read with
    turns = [turn for prompts, _, _ in calls for turn in prompts]
    assert {(turn[0]["role"], turn[0]["content"]) for turn in turns} == {("system", NEUTRAL)}
    assert {tuple(message["role"] for message in turn) for turn in turns} == {("system", "user")}
    roles = [turn[1]["content"].split("\n\n")[0] for turn in turns]
    # no role names the concept in order to deny it
    assert all(("spending little, and mending what breaks" in role) != against(role) for role in roles)
    assert all(("Buying what pleases" in role) == against(role) for role in roles)
    facts = pairs.provenance["values"]["thrift"]
    assert facts["auroc"] == 1.0 and facts["separated"] and facts["advice"] == "" and pairs.note == ""


def test_both_poles_have_the_same_question_random_numbers_and_phrasing(chat_model: Any, answers: Install) -> None:
    answers(planted)
    table = write(chat_model, "thrift", **THRIFT, judge=says_mend, questions=20, answers=3).answers
    roles = roles_of(nv.theories.Value("thrift", THRIFT["definition"]), THRIFT["opposite"])
    assert len(set(roles.plus)) == len(set(roles.minus)) == 5
    for (_, _), pair in table.groupby(["topic", "sample"]):
        plus, minus = pair.set_index("pole").loc[["+", "-"]].to_dict("records")
        assert roles.plus.index(plus["role"]) == roles.minus.index(minus["role"])
        assert plus["answer"].split("number")[1] == minus["answer"].split("number")[1]
    # every phrasing is used, and the samples of a question have different numbers
    assert set(table["role"]) == {*roles.plus, *roles.minus}
    assert table["answer"].nunique() == len(table)


def test_the_filter_keeps_what_the_judge_tells_apart_not_what_the_role_says(chat_model: Any, answers: Install) -> None:
    """A third of the answers contradicts its role: they are not kept, and the AUROC counts them."""

    def rebels(role: str, question: str, number: int) -> str:
        return planted("" if against(role) == (number % 3 == 0) else PLAIN[0], question, number)

    answers(rebels)
    result = write(chat_model, "thrift", **THRIFT, judge=says_mend, answers=2)
    table = result.answers
    plus = (table["pole"] == "+").to_numpy()
    mends = table["answer"].str.contains("mend").to_numpy()
    assert (table["kept"].to_numpy() == (plus == mends)).all() and 0 < table["kept"].mean() < 1
    true, false = mends[plus].mean(), mends[~plus].mean()
    by_hand = true * (1 - false) + 0.5 * (true * false + (1 - true) * (1 - false))
    row = result.figures.iloc[0]
    assert row["auroc"] == pytest.approx(by_hand) and row["lo"] <= row["auroc"] <= row["hi"]
    for example, pole in zip(result.pairs.examples(), result.pairs.df["pole"], strict=True):
        assert ("mend" in example.answer) == (pole == "+")


def test_splits_are_those_of_the_questions(chat_model: Any, answers: Install) -> None:
    answers(planted)
    pairs = from_model(chat_model, "thrift", **THRIFT, judge=says_mend, answers=1)
    questions = open_questions().set_index("topic")
    assert len(questions) >= 120
    assert (pairs.df["split"] == pairs.df["cluster"].map(questions["split"])).all()
    assert pairs.df["cluster"].nunique() == len(questions)
    fewer = question_table(30)
    assert len(fewer) == 30 and fewer["split"].value_counts().to_dict() == {"train": 15, "test": 9, "validation": 6}
    assert set(fewer["topic"]) < set(question_table(60)["topic"])


def test_repetitions_empty_and_unscored_answers_are_dropped(chat_model: Any, answers: Install) -> None:
    kinds: dict[str, str] = {}

    def broken(role: str, question: str, number: int) -> str:
        kind = ("fine", "loop", "empty", "unscored", "copy")[number % 5]
        kinds[question] = kind
        text = {"loop": "mend it now and " * 8, "empty": " \n", "unscored": "mend ???"}.get(kind)
        return text or ("mend it." if kind == "copy" and not against(role) else planted(role, question, number))

    answers(broken)

    def judge(texts: Sequence[str]) -> list[float]:
        return [float("nan") if "???" in text else score for text, score in zip(texts, says_mend(texts), strict=True)]

    result = write(chat_model, "thrift", **THRIFT, judge=judge, answers=3)
    table = result.answers
    row = result.figures.iloc[0]
    loops = table["answer"].str.startswith("mend it now")
    assert loops.any() and not table.loc[loops, "valid"].any() and not table.loc[loops, "kept"].any()
    assert not table.loc[table["answer"] == "", "valid"].any() and (table["answer"] == "").any()
    assert not table.loc[table["answer"] == "mend ???", "kept"].any()
    assert (
        row["invalid"] == int((~table["valid"]).sum()) > 0 and row["unscored"] == int(table["score"].isna().sum()) > 0
    )
    copies = (
        table[(table["answer"] == "mend it.") & (table["pole"] == "+")].groupby("topic")["kept"].agg(["size", "sum"])
    )
    assert (copies["size"] > 1).any() and (copies["sum"] == 1).all()
    assert result.pairs.paired


def test_too_little_contrast_is_said_with_what_would_help(chat_model: Any, answers: Install) -> None:
    """Answers that ignore the role: the pairs exist, because a judge always sees some difference, and the result says so."""
    answers(lambda role, question, number: f"I would {['mend', 'buy'][hash_of(role + question, number)]} it, {number}.")
    result = write(chat_model, "thrift", judge=says_mend, answers=2)
    row = result.figures.iloc[0]
    assert abs(row["auroc"] - 0.5) < 0.15 and not row["separated"] and row["sufficient"]
    assert "cannot tell the roles' answers apart (AUROC 0." in row["advice"] and "\n" not in row["advice"]
    for remedy in ("more answers a role (now 2)", "a larger model", "a written definition", "an opposite"):
        assert remedy in row["advice"]
    pairs = result.pairs
    assert pairs.note == f"{row['advice']}." and not pairs.provenance["values"]["thrift"]["separated"]


def hash_of(text: str, number: int) -> int:
    from neva_tl.prompts.splits import hash_key

    return int(hash_key(f"{text} {number}")[:8], 16) % 2


def test_an_unpaired_set_has_every_answer_that_the_judge_keeps(chat_model: Any, answers: Install) -> None:
    def one_sided(role: str, question: str, number: int) -> str:
        # every second question has no answer against thrift that the judge keeps
        return planted(role if hash_of(question, 0) else "", question, number)

    answers(one_sided)
    options: dict[str, Any] = {**THRIFT, "judge": says_mend, "questions": 80, "answers": 1}
    result = write(chat_model, "thrift", **options, paired=False)
    pairs, kept = result.pairs, result.answers["kept"]
    assert not pairs.paired and len(pairs) == kept.sum()
    assert len(pairs) > len(write(chat_model, "thrift", **options).pairs)
    assert pairs.provenance["settings"]["paired"] is False


def test_an_unpaired_set_needs_questions_of_each_pole_and_no_pair(chat_model: Any, answers: Install) -> None:
    def of_one_role(role: str, question: str, number: int) -> str:
        # every question has an answer of one role, and a lukewarm one of the other
        chosen = against(role) == bool(hash_of(question, 0))
        return planted(role, question, number) if chosen else f"I would wait, number {number}."

    answers(of_one_role)
    options: dict[str, Any] = {**THRIFT, "judge": says_mend, "questions": 60, "answers": 1}
    unpaired, paired = (write(chat_model, "thrift", **options, paired=choice) for choice in (False, True))
    kept = unpaired.answers[unpaired.answers["kept"]]
    poles = kept.groupby(["split", "pole"])["topic"].nunique()
    row = unpaired.figures.iloc[0]
    assert [row[split] for split in ("train", "validation", "test")] == [
        min(poles[split, "+"], poles[split, "-"]) for split in ("train", "validation", "test")
    ]
    assert row["sufficient"] and row["pairs"] == 0 and len(unpaired.pairs) == len(kept)
    with pytest.raises(WorkError, match="too few questions keep a pair: 0 of train"):
        _ = paired.pairs


def test_too_few_pairs_are_refused_with_what_would_help(chat_model: Any, answers: Install) -> None:
    answers(planted)

    def rarely(texts: Sequence[str]) -> list[float]:
        return [float("nan")] * (len(texts) - 6) + says_mend(texts[-6:])

    with pytest.raises(WorkError, match=r"thrift: too few questions keep a pair: \d of train \(needed: 8\)") as caught:
        from_model(chat_model, "thrift", judge=rarely, questions=20, answers=1)
    assert "more questions (now 20 of " in str(caught.value) and "\n" not in str(caught.value)


def test_a_theory_keeps_the_values_that_suffice(chat_model: Any, answers: Install) -> None:
    answers(lambda role, question, number: f"{'zzz' if against(role) else 'aaa'} {question[:20]} {number}")

    class Judge(LetterJudge):
        values = ("self-direction", "stimulation")

        def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
            assert prompts is not None and not any("comes before everything" in prompt for prompt in prompts)
            apart = [text.startswith("aaa") for text in texts]
            return np.column_stack([np.array(apart, float), np.full(len(texts), 0.5)])

    pairs = from_model(chat_model, "schwartz", values=["stimulation", "self direction"], judge=Judge(), answers=1)
    assert pairs.values == ("self-direction",) and pairs.theory == nv.theories.SCHWARTZ
    assert "stimulation: the judge letters cannot tell" in pairs.note and "self-direction" not in pairs.note
    assert set(pairs.provenance["values"]) == {"self-direction", "stimulation"}


# ---------------------------------------------------------------- the model itself, cache and files


def test_real_answers_are_cached_resumed_and_read_behind_the_neutral_prompt(
    chat_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"judge": lambda texts: [len(set(t)) + hash_of(t, 0) for t in texts], "questions": 18}
    options |= {"answers": 1, "max_new_tokens": 6, "batch_size": 8}
    generate, batches = inference.generate, []

    def interrupted(model: Any, prompts: Sequence[Any], **more: Any) -> list[str]:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(prompts))
        return generate(model, prompts, **more)

    monkeypatch.setattr("neva_tl.models.inference.generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(chat_model, "thrift", **options)
    rest: list[int] = []

    def counted(model: Any, prompts: Sequence[Any], **more: Any) -> list[str]:
        rest.append(len(prompts))
        return generate(model, prompts, **more)

    monkeypatch.setattr("neva_tl.models.inference.generate", counted)
    first = write(chat_model, "thrift", **options)
    assert sum(batches) == 16 and sum(rest) == 2 * 18 - 16
    rest.clear()
    again = write(chat_model, "thrift", **options)
    assert rest == [] and again.answers.equals(first.answers)
    # other settings are other texts, and the batch size is not part of the key
    write(chat_model, "thrift", **options | {"batch_size": 5})
    assert rest == []
    write(chat_model, "thrift", **options | {"seed": 1})
    assert sum(rest) == 36
    # the texts are those of the model under the role, alone in a batch
    row = first.answers.iloc[3]
    turns = [{"role": "system", "content": NEUTRAL}, {"role": "user", "content": f"{row['role']}\n\n{row['question']}"}]
    from neva_tl.study.own_words.sampling import random_number

    number = random_number(row["question"], int(row["sample"]))
    (alone,) = generate(chat_model, [turns], max_new_tokens=6, temperature=0.7, seed=0, numbers=[number])
    assert alone.strip() == row["answer"]


def test_the_pairs_survive_files_and_are_collected_behind_their_system_turn(
    chat_model: Any, answers: Install, tmp_path: Path
) -> None:
    answers(planted)
    pairs = from_model(chat_model, "thrift", **THRIFT, judge=says_mend, questions=20, answers=1)
    for suffix in ("parquet", "jsonl", "csv"):
        file = pairs.save(tmp_path / f"pairs.{suffix}")
        again = nv.prompts.load(file)
        assert again.df.equals(pairs.df) and again.hash == pairs.hash and again.theory == pairs.theory
        assert again.provenance == pairs.provenance
        assert again.provenance["model"]["weights_hash"] == nv.fingerprint(chat_model)["weights_hash"]
    # a file that was changed since has no provenance, and prompts without a system's turn keep their columns
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[:-2]) + "\n")
    assert nv.prompts.load(tmp_path / "pairs.jsonl").provenance == {}
    assert "system" not in nv.prompts.load("schwartz").df
    plain = nv.ContrastSet(pairs.df.drop(columns="system"), "plain", theory=pairs.theory)
    assert plain.hash != pairs.hash and examples_of(plain.df)[0].turns == ()
    encoded = inference.encode_one(chat_model, [pairs.examples()[0], plain.examples()[0]])
    longer, shorter = (models_text(chat_model, item.ids) for item in encoded)
    assert NEUTRAL in longer and longer.endswith(shorter[-60:]) and NEUTRAL not in shorter
    stats = nv.collect(chat_model, pairs)
    other = nv.collect(chat_model, plain)
    assert not np.allclose(stats.delta("thrift"), other.delta("thrift"))


def models_text(model: Any, ids: Sequence[int]) -> str:
    from neva_tl import models

    return str(models.tokenizer(model).decode(list(ids)))


def test_a_template_without_a_system_turn_takes_the_role_in_the_users(
    chat_model: Any, answers: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = nv.models.tokenizer(chat_model)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", refusing + tokenizer.chat_template)
    calls = answers(planted)
    result = write(chat_model, "thrift", **THRIFT, judge=says_mend, questions=20, answers=1)
    turns = calls[0][0]
    assert all(len(turn) == 1 and turn[0]["role"] == "user" and "\n\n" in turn[0]["content"] for turn in turns)
    assert result.provenance["settings"]["role"] == "user" and result.system is None
    assert "system" not in result.pairs.df


# ---------------------------------------------------------------- refusals and names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concept": "thrift"}, "no judge knows thrift by itself"),
        ({"concept": "power", "judge": "logprob"}, "made from prompts"),
        ({"concept": "power", "judge": lambda texts: [1.0]}, "return one number for each"),
        ({"concept": "power", "judge": lambda texts: ["a"] * len(texts)}, "returned no numbers"),
        ({"concept": "schwartz", "judge": len}, "a function scores one concept, and there are 10"),
        ({"concept": "schwartz", "definition": "x"}, "describe one concept, not the theory schwartz"),
        ({"concept": "schwartz", "values": ["greed"]}, "greed"),
        ({"concept": "thrift", "values": ["thrift"], "judge": len}, "is one concept: leave out values"),
        ({"concept": "a/b", "judge": len}, "the name of a value"),
        ({"concept": "power", "questions": 5}, "5 questions give"),
        ({"concept": "power", "questions": 5000}, "there are"),
        ({"concept": "power", "questions": ["Why?"] * 30}, "appears twice"),
        ({"concept": "power", "temperature": 0.0}, "temperature above 0"),
        ({"concept": "power", "answers": 0}, "at least 1"),
    ],
)
def test_refused_before_the_model_answers(
    chat_model: Any, answers: Install, options: dict[str, Any], message: str
) -> None:
    calls = answers(planted)
    with pytest.raises(InputError, match=message) as caught:
        from_model(chat_model, **options)
    assert "\n" not in str(caught.value)
    assert calls == [] or "judge" in options


def test_a_model_without_a_template_is_refused(loaded: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="has no chat template: contrasts in its own words need an instruct model"):
        from_model(loaded["llama"], "power")


def test_a_builtin_value_brings_its_definition_and_its_words(chat_model: Any, answers: Install) -> None:
    answers(lambda role, question, number: f"{'I never command' if against(role) else 'I dominate'} {number}")
    result = write(chat_model, "Power", answers=1)
    assert isinstance(result, OwnWords) and result.theory == nv.theories.SCHWARTZ
    assert set(result.answers["value"]) == {"power"} and result.provenance["judge"] == "wordlist"
    for role, pole in zip(result.answers["role"], result.answers["pole"], strict=True):
        assert ("status and prestige" in role) == (pole == "+")
    # the judge's score is P(expresses) - P(opposes): a negated word of the list opposes
    assert set(result.answers.groupby("pole")["score"].first()) == {0.5, -0.5}
    assert "AUROC" in repr(result) and "power" in result._repr_html_() and result.show() is not None


def test_the_public_name_has_the_signature_of_the_builder() -> None:
    assert nv.prompts.from_model is from_model
    public, builder = inspect.signature(from_model).parameters, inspect.signature(write).parameters
    assert list(public) == list(builder)
    assert {name: one.default for name, one in public.items()} == {name: one.default for name, one in builder.items()}
