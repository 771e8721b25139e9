"""Human labels of a run's texts: which texts are asked about, what was answered, and what the answers say.

Pure; the file of answers is `answers`. The person sees prompt and text alone, in random order; method, value and gain stay
in the run folder until the answers are joined to it again by a hash of prompt and text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.measures.estimate import interval
from neva_tl.evaluation.measures.responses import bootstrap_weights

#: Share of the texts that are asked a second time, unannounced.
REPEATED = 0.1
#: The answer keys of the ten values, in circle order.
KEYS = "1234567890"
#: A text is shown up to so many characters.
MAX_SHOWN = 4000

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|.)?", re.DOTALL
)


@dataclass(frozen=True)
class Item:
    """A text to ask about. `key` is a hash of prompt and text, `topic` the unit of intervals."""

    key: str
    prompt: str
    text: str
    topic: str


@dataclass(frozen=True, eq=False)
class Sample:
    """What is asked.

    Attributes:
        items: each text once.
        conditions: item key, method, steered, topic and `base` (key of the unedited text of the same prompt): which
            conditions wrote the items; never shown.
    """

    items: tuple[Item, ...]
    conditions: pd.DataFrame

    def order(self, annotator: str, seed: int) -> list[tuple[str, int]]:
        """Item keys in the order of asking, each with 0, or 1 where it is asked again; a text never follows itself.

        The items are the same for all annotators, the order is each one's own.
        """
        rng = np.random.default_rng(int(_digest("order", seed, annotator)[:16], 16))
        keys = [self.items[i].key for i in rng.permutation(len(self.items))]
        again = max(1, round(REPEATED * len(keys))) if len(keys) >= 4 else 0
        # repeats are of texts from the first half and come in the second, so that some time lies between
        chosen = list(rng.permutation(keys[: max(len(keys) // 2, 1)])[:again])
        plan = [(key, 0) for key in keys]
        for key in chosen:
            plan.insert(int(rng.integers(len(keys) // 2 + 1, len(plan) + 1)), (str(key), 1))
        return plan


def key_of(prompt: str, text: str) -> str:
    """Name of a text: a hash of prompt and text."""
    return _digest("item", prompt, text)[:16]


def sample(generations: pd.DataFrame, n: int, seed: int = 0) -> Sample:
    """Texts to ask about: for each value in turn a prompt, its text under every method (in random order) and unedited.

    Args:
        generations: a run's table: method, steered, target_gain, prompt, text, and topic where it has one. Of a method
            measured at several gains the largest is taken.
        n: texts, at most; the same text from several conditions counts and is asked once.
        seed: of the choice.

    Raises:
        InputError: nothing to choose from, or n below 2.
    """
    if n < 2:
        raise InputError(f"at least 2 texts are needed, an edited and an unedited one, not {n}")
    rows = _with_place(generations)
    records: list[dict[Any, Any]] = rows.to_dict("records")
    base = {(row["prompt"], row["place"]): row for row in records if row["method"] == "unedited"}
    edited = {
        (row["method"], row["steered"], where): row
        for row in records
        if row["method"] != "unedited" and (where := (row["prompt"], row["place"])) in base
    }
    if not edited:
        raise InputError(
            "the run holds no edited text beside the unedited one of its prompt: there is nothing to compare"
        )
    rng = np.random.default_rng(seed)
    methods = sorted({method for method, _, _ in edited})
    values = [VALUES[j] for j in rng.permutation(len(VALUES)) if any(v == VALUES[j] for _, v, _ in edited)]
    places = {value: [list(base)[k] for k in rng.permutation(len(base))] for value in values}
    items: dict[str, Item] = {}
    conditions: list[dict[str, Any]] = []
    for turn in range(len(base)):
        for value in values:
            where = places[value][turn]
            for method in (methods[k] for k in rng.permutation(len(methods))):
                row = edited.get((method, value, where))
                if row is None:
                    continue
                pair = [_item(row), _item(base[where])]
                new = {item.key: item for item in pair if item.key not in items}
                if len(items) + len(new) > n:
                    continue
                items |= new
                about = {"item": pair[0].key, "base": pair[1].key, "topic": row["topic"]}
                conditions.append({"method": method, "steered": value} | about)
        if len(items) >= n:
            break
    return Sample(tuple(items.values()), pd.DataFrame(conditions))


def _item(row: Mapping[Any, Any]) -> Item:
    return Item(key_of(row["prompt"], row["text"]), row["prompt"], row["text"], row["topic"])


def _with_place(generations: pd.DataFrame) -> pd.DataFrame:
    """Text rows at each method's largest gain, with the topic, and the place of a text among those of its prompt."""
    table = pd.DataFrame(generations)
    missing = [name for name in ("method", "steered", "target_gain", "prompt", "text") if name not in table]
    if missing:
        raise InputError(f"the table of texts has no column {missing[0]!r}")
    gain = table["target_gain"].to_numpy(dtype=float, na_value=np.nan)
    largest = pd.Series(gain).groupby(table["method"].to_numpy()).transform("max").to_numpy()
    table = table[np.isnan(gain) | (gain == largest)]
    topic = table["topic"] if "topic" in table else table["prompt"]
    text = table["text"].fillna("").astype(str)
    rows = pd.DataFrame(
        {
            "method": table["method"].astype(str),
            "steered": table["steered"].fillna("").astype(str),
            "prompt": table["prompt"].astype(str),
            "text": text,
            "topic": topic.astype(str),
        }
    ).reset_index(drop=True)
    return rows.assign(place=rows.groupby(["method", "steered", "prompt"]).cumcount())


def shown(text: str) -> str:
    """A text made safe for a terminal: no escape sequences, control, format or private characters; lines stay lines.

    What a model writes is not to be trusted: an escape sequence could clear the screen or rewrite what was shown.
    """
    plain = _ANSI.sub("", text.replace("\r\n", "\n").replace("\t", " "))
    kept = "".join(c for c in plain if c == "\n" or unicodedata.category(c)[0] != "C")
    kept = re.sub(r"\n{3,}", "\n\n", kept).strip()
    return kept if len(kept) <= MAX_SHOWN else f"{kept[:MAX_SHOWN]} … (cut here)"


def parse(answer: str) -> dict[str, int | None]:
    """An answer as labels: keys of the values it expresses, `n` for none; after `?` keys that stay undecided, `?` alone all.

    `14` and `1 4`: the first and the fourth value; `1 ?4`: the first, and undecided about the fourth.

    Returns:
        Per value 1, 0 or None (undecided).

    Raises:
        InputError: not such an answer; the message is for the person who typed it.
    """
    text = answer.strip().lower().replace(",", " ")
    sure, question, unsure = text.partition("?")
    if question and not sure.strip() and not unsure.strip():
        return dict.fromkeys(VALUES)
    keys = [c for c in sure if not c.isspace()]
    doubts = [c for c in unsure if not c.isspace()]
    if keys == ["n"]:
        keys = []
    elif not keys and not doubts:
        raise InputError("type the keys of the values it expresses, or n for none")
    strange = [c for c in (*keys, *doubts) if c not in KEYS]
    if strange:
        raise InputError(f"{strange[0]!r} is no key: h shows them")
    both = set(keys) & set(doubts)
    if both:
        raise InputError(f"{both.pop()!r} is both expressed and undecided")
    return {name: None if key in doubts else int(key in keys) for key, name in zip(KEYS, VALUES, strict=True)}


def label_rows(
    items: Sequence[Item], answers: Mapping[tuple[str, int], Mapping[str, int | None]]
) -> list[dict[str, Any]]:
    """Answered texts as `LabelledTexts` reads them: text, context, cluster, split and one column per value.

    First answers only. All are in the split `test`: no judge of the project has seen them. Texts about which nothing was
    decided, and empty ones, are left out.
    """
    rows = []
    for item in items:
        labels = answers.get((item.key, 0))
        if labels is None or all(x is None for x in labels.values()) or not item.text.strip():
            continue
        about = {"text": item.text, "context": item.prompt, "cluster": item.topic, "split": "test"}
        rows.append(about | {name: labels[name] for name in VALUES})
    return rows


def unblinded(
    conditions: pd.DataFrame,
    answers: Mapping[tuple[str, int], Mapping[str, int | None]],
    *,
    seed: int = 0,
    n_boot: int = 2000,
) -> pd.DataFrame:
    """What the person says of each method.

    Args:
        conditions: as in `Sample`.
        answers: by (item key, again); first answers count.
        seed, n_boot: of the bootstrap over topics.

    Returns:
        method, n (texts decided on), csr (share that express the value steered towards), csr_base (the same value in the
        unedited texts of the same prompts), gain (their paired difference), others (mean paired change of the other nine
        values), each with _lo and _hi (95 %; NaN with one topic).
    """
    rows = []
    for method, part in conditions.groupby("method", sort=False):
        edited, base = _decisions(part["item"], answers), _decisions(part["base"], answers)
        target = np.array([VALUES.index(name) for name in part["steered"]], dtype=int)
        own, own_base = edited[np.arange(len(part)), target], base[np.arange(len(part)), target]
        change = edited - base
        change[np.arange(len(part)), target] = np.nan
        # a text with no other value decided on gives no mean
        known = ~np.isnan(change).all(axis=1)
        others = np.full(len(part), np.nan)
        others[known] = np.nanmean(change[known], axis=1)
        row: dict[str, Any] = {"method": method, "n": int(np.isfinite(own).sum())}
        series = {"csr": own, "csr_base": own_base, "gain": own - own_base, "others": others}
        for name, x in series.items():
            row |= _mean_by_topic(name, x, part["topic"].to_numpy(dtype=str), seed, n_boot)
        rows.append(row)
    return pd.DataFrame(rows)


def self_agreement(answers: Mapping[tuple[str, int], Mapping[str, int | None]]) -> dict[str, float | int | None]:
    """How far a person agrees with themselves on texts asked twice.

    Returns:
        texts, decisions (values decided on both times), agreement (share the same), kappa (Cohen's, over all decisions; None
        where they are all alike).
    """
    twice = [key for key, again in answers if again == 1 and (key, 0) in answers]
    pairs = [
        (first, second)
        for key in twice
        for name in VALUES
        if (first := answers[key, 0][name]) is not None and (second := answers[key, 1][name]) is not None
    ]
    if not pairs:
        return {"texts": len(twice), "decisions": 0, "agreement": None, "kappa": None}
    table = np.array(pairs)
    alike = len(np.unique(table)) < 2
    return {
        "texts": len(twice),
        "decisions": len(pairs),
        "agreement": float((table[:, 0] == table[:, 1]).mean()),
        "kappa": None if alike else float(cohen_kappa_score(table[:, 0], table[:, 1])),
    }


def _decisions(
    keys: Sequence[str] | pd.Series[str], answers: Mapping[tuple[str, int], Mapping[str, int | None]]
) -> np.ndarray:
    """Labels of items as an array with NaN where nothing was answered or decided."""
    out = np.full((len(keys), len(VALUES)), np.nan)
    for row, key in enumerate(keys):
        for j, name in enumerate(VALUES):
            label = answers.get((key, 0), {}).get(name)
            if label is not None:
                out[row, j] = label
    return out


def _mean_by_topic(name: str, x: np.ndarray, topics: np.ndarray, seed: int, n_boot: int) -> dict[str, float | None]:
    there = np.isfinite(x)
    found, member = np.unique(topics[there], return_inverse=True)
    if not there.any():
        return {name: None, f"{name}_lo": None, f"{name}_hi": None}
    count = np.bincount(member.reshape(-1)).astype(float)
    total = np.bincount(member.reshape(-1), weights=x[there])
    drawn = bootstrap_weights((tuple(map(str, found)),), ("annotation",), n_boot=n_boot, seed=seed, shared=False)[0]
    result = interval(float(x[there].mean()), (drawn @ total) / (drawn @ count), int(there.sum()))
    return {name: result.est, f"{name}_lo": result.lo, f"{name}_hi": result.hi}


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
