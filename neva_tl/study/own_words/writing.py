"""From a model and a value to contrastive pairs in the model's own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.theories import TheorySpec
from neva_tl.core.user_cache import prune
from neva_tl.evaluation import Decoding
from neva_tl.models.sources import label
from neva_tl.prompts import ContrastSet, open_questions
from neva_tl.prompts.splits import SPLITS, by_rank, hash_key
from neva_tl.study.own_words.concept import Concepts, find_concepts
from neva_tl.study.own_words.contrast import above_and_below, pair_rows, repeated, separation
from neva_tl.study.own_words.judging import Scorer, find_scorer, score_answers, scorer_name
from neva_tl.study.own_words.result import NEEDED, OwnWords, advice_of
from neva_tl.study.own_words.roles import NEUTRAL, roles_of
from neva_tl.study.own_words.sampling import Conversation, sample_answers
from neva_tl.study.run.run_folder import versions


def from_model(model: models.Model, concept: TheorySpec, **options: Any) -> ContrastSet:
    """Return the pairs of `write`; `neva_tl.prompts.from_model` documents it.

    Args:
        model: See `write`.
        concept: See `write`.
        **options: See `write`.

    Raises:
        InputError: See `write`.
        WorkError: See `OwnWords.pairs`.

    Example:
        >>> own = nv.study.own_words.from_model(model, "thrift", judge="llm:qwen2.5-coder-1.5b")  # doctest: +SKIP
    """
    return write(model, concept, **options).pairs


def write(
    model: models.Model,
    concept: TheorySpec,
    *,
    definition: str = "",
    opposite: str = "",
    values: Sequence[str] | None = None,
    judge: Scorer = "auto",
    questions: int | Sequence[str] | None = None,
    answers: int = 2,
    max_new_tokens: int = 60,
    temperature: float = 0.7,
    system: str | None = NEUTRAL,
    paired: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> OwnWords:
    """Let a model answer open questions under roles for a value and without it, and keep the answers that a judge tells apart.

    Args:
        model: A TransformerLens model with a chat template.
        concept: A theory (also its name or file), or the name of one concept.
        definition: Meaning of the concept in a sentence.
        opposite: The concern of the other roles; "" for roles without a concern.
        values: Some of a theory's values; None takes all.
        judge: A judge of texts, its name, or a function from texts to numbers; `auto` counts the words of the theory's lists.
        questions: Number of open questions of ours, or texts of your own; None takes all of ours.
        answers: Sampled answers per question and role.
        max_new_tokens: Largest length of an answer.
        temperature: Sampling temperature.
        system: System's turn with which the answers are read; None for the chat template's own.
        paired: Arrange the answers kept as pairs of one question; False keeps also those whose question keeps no answer of the
            other pole, as an unpaired set.
        seed: Seed of sampling and bootstrap.
        batch_size: Answers in one batch; None chooses it by the size of the model.
        progress: Show a bar on stderr.

    Returns:
        All answers with their scores, the figures, and the pairs.

    Raises:
        InputError: The concept, the judge or an option is not usable, the model has no chat template or carries hooks.

    Example:
        >>> from neva_tl.models.tiny import tiny_checkpoint
        >>> chat = nv.load(tiny_checkpoint("tiny", chat=True, n_ctx=512))
        >>> lengths = lambda texts: [float(len(text)) for text in texts]
        >>> own = nv.study.own_words.write(chat, "thrift", judge=lengths, questions=24, max_new_tokens=4)
        >>> own.figures["answers"].tolist()  # 24 questions, two roles, two answers each
        [96]
    """
    concepts = find_concepts(concept, definition, opposite, None if values is None else tuple(values))
    scorer = find_scorer(judge, concepts)
    decoding = Decoding(max_new_tokens, temperature, answers, seed, batch_size=batch_size)
    table = question_table(questions)
    if hasattr(scorer, "check_model"):
        scorer.check_model(model)  # a model is not the only judge of its own answers
    system = Conversation.of(model, system).text
    requests = _requests(concepts, table, answers)
    requests["answer"] = [
        text.strip() for text in sample_answers(model, requests, decoding, system=system, progress=progress)
    ]
    judged = pd.concat([_judged(requests, name, scorer) for name in concepts.values], ignore_index=True)
    rows = []
    for member in concepts.members:
        row = _figures(judged[judged["value"] == member.name], table, seed, paired=paired)
        # an opposite cannot be given for several values at once
        opposed = bool(opposite) or len(concepts.values) > 1
        facts: dict[str, Any] = {"defined": bool(member.definition), "opposed": opposed, "most": len(open_questions())}
        facts["paired"] = paired
        advice = advice_of(member.name, row, scorer_name(scorer), answers, **facts)
        rows.append({"value": member.name, **row, "advice": advice})
    figures = pd.DataFrame(rows)
    info = models.info(model)
    record = {
        "kind": "own words",
        "model": {"name": label(info.name), **models.fingerprint(model)},
        "judge": scorer_name(scorer),
        "seed": seed,
        "settings": {
            "answers": answers,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "questions": len(table),
            "role": "user",
            "system": system,
            **({} if paired else {"paired": False}),
        },
        "opposite": opposite,
        "roles": {one.name: vars(roles_of(one, opposite)) for one in concepts.members},
        "values": {row["value"]: row for row in figures.to_dict("records")},
        "versions": versions(),
    }
    prune()
    name = f"{'-'.join(concepts.values[:3])} in the words of {label(info.name)}"
    return OwnWords(judged, figures, concepts.theory, system, name, to_json(record), paired)


def question_table(questions: int | Sequence[str] | None = None) -> pd.DataFrame:
    """Return the questions to answer: `text`, `topic`, `kind`, `split`.

    Args:
        questions: Number of questions of ours, with the same shares of splits and the first by a hash of their topics; or
            texts of your own, each a topic of its own; None takes all of ours.

    Raises:
        InputError: Too few questions for the three splits, a repeated or empty one, or more than there are.
    """
    if questions is None or isinstance(questions, int):
        table = open_questions()
        n = len(table) if questions is None else questions
        if n > len(table):
            raise InputError(f"{n} questions were requested, and there are {len(table)}: name fewer, or pass your own")
        order = sorted(table["topic"], key=lambda topic: hash_key(topic, salt="own words "))
        rank = table["topic"].map({topic: number for number, topic in enumerate(order)})
        shares = table["split"].value_counts()
        quota = {split: round(n * shares[split] / len(table)) for split in ("validation", "test")}
        quota["train"] = n - sum(quota.values())
        position = rank.groupby(table["split"]).rank(method="first")
        table = table[position <= table["split"].map(quota)].reset_index(drop=True)
    else:
        texts = [str(text).strip() for text in questions]
        if len(set(texts)) < len(texts) or not all(texts):
            raise InputError("a question is empty or appears twice: give each once")
        split = by_rank(texts)
        table = pd.DataFrame({"text": texts, "topic": texts, "kind": "own", "split": [split[text] for text in texts]})
    counts = table["split"].value_counts()
    if short := [split for split in SPLITS if counts.get(split, 0) < NEEDED[split]]:
        needed = ", ".join(f"{NEEDED[split]} of {split}" for split in SPLITS)
        raise InputError(
            f"{len(table)} questions give {counts.get(short[0], 0)} of {short[0]}, and pairs for the three splits need "
            f"questions with a pair: {needed}; use more questions"
        )
    return table


def _requests(concepts: Concepts, table: pd.DataFrame, answers: int) -> pd.DataFrame:
    """Return one row per answer to sample; both poles of a question have the same phrasing of the role."""
    rows = []
    for value in concepts.members:
        roles = roles_of(value, concepts.opposite)
        for number, question in enumerate(table.to_dict("records")):
            for sample in range(answers):
                for pole in ("+", "-"):
                    rows.append(
                        {
                            "value": value.name,
                            **{key: question[key] for key in ("topic", "kind", "split")},
                            "question": question["text"],
                            "pole": pole,
                            "sample": sample,
                            "role": roles.of(pole, number + sample),
                        }
                    )
    return pd.DataFrame(rows)


def _judged(requests: pd.DataFrame, value: str, scorer: Any) -> pd.DataFrame:
    """Add `score`, `valid` and `kept` to the answers of one value."""
    table = requests[requests["value"] == value].reset_index(drop=True)
    score, valid = score_answers(scorer, value, table["answer"].tolist(), table["question"].tolist())
    table["score"], table["valid"] = score, valid & (table["answer"] != "").to_numpy()
    usable = np.asarray(table["valid"] & table["score"].notna() & ~repeated(table), dtype=bool)
    mask = np.zeros(len(table), dtype=bool)
    plus = (table["pole"] == "+").to_numpy()
    mask[usable] = above_and_below(score[usable], plus[usable])
    table["kept"] = mask
    return table


def _figures(table: pd.DataFrame, questions: pd.DataFrame, seed: int, *, paired: bool) -> dict[str, Any]:
    """Return the figures of one value, without its name and the advice."""
    usable = table[table["valid"] & table["score"].notna()]
    apart = separation(
        usable["score"].to_numpy(dtype=float), (usable["pole"] == "+").to_numpy(), usable["topic"].to_numpy(), seed
    )
    pairs = pd.DataFrame(pair_rows(table[table["kept"]], None), columns=["pair_id", "cluster", "split"])
    if paired:
        by_split = pairs.groupby("split")["cluster"].nunique()
    else:
        # an unpaired set needs the questions of each pole, not the same questions
        poles = table[table["kept"]].groupby(["split", "pole"])["topic"].nunique().unstack(fill_value=0)
        by_split = poles.reindex(columns=["+", "-"], fill_value=0).min(axis=1)
    counts = {split: int(by_split.get(split, 0)) for split in SPLITS}
    return {
        "auroc": apart.est,
        "lo": apart.lo,
        "hi": apart.hi,
        "questions": apart.n,
        "requested": len(questions),
        "answers": len(table),
        "invalid": int((~table["valid"]).sum()),
        "unscored": int(table["score"].isna().sum()),
        **counts,
        "pairs": int(pairs["pair_id"].nunique()),
        "separated": bool(apart.lo is not None and apart.lo > 0.5),
        "sufficient": all(counts[split] >= NEEDED[split] for split in SPLITS),
    }
