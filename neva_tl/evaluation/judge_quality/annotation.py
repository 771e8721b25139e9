"""Human labels of a run's texts: sample, answers and summary.

Pure functions; `labels/answers.py` reads and writes the file of answers. The annotator sees only prompt and text, in random
order. Method, value and gain stay in the run folder until a hash of prompt and text joins them to the answers.
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
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights
from neva_tl.evaluation.measures.estimate import interval

#: Share of the texts that are shown a second time without notice.
REPEATED = 0.1
#: Answer keys of the ten values, in circle order.
KEYS = "1234567890"
#: Largest number of characters shown of a text.
MAX_SHOWN = 4000

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|.)?", re.DOTALL
)


@dataclass(frozen=True)
class SampledText:
    """A text to label.

    `key` is a hash of prompt and text, `topic` the unit of intervals.
    """

    key: str
    prompt: str
    text: str
    topic: str


@dataclass(frozen=True, eq=False)
class Sample:
    """Texts to label, and the conditions that generated them.

    Attributes:
        items: Each text once.
        conditions: One row per edited text: item key, `base` (key of the unedited text of the same prompt), method, steered and
            topic. Hidden from the annotator.
    """

    items: tuple[SampledText, ...]
    conditions: pd.DataFrame

    def order(self, annotator: str, seed: int) -> list[tuple[str, int]]:
        """Return the questions in order: (item key, 0 or 1 for a repeated question).

        All annotators label the same items, each in a different order. A text never follows itself.

        Args:
            annotator: Name of the annotator.
            seed: Seed of the order.
        """
        rng = np.random.default_rng(int(_digest("order", seed, annotator)[:16], 16))
        keys = [self.items[i].key for i in rng.permutation(len(self.items))]
        again = max(1, round(REPEATED * len(keys))) if len(keys) >= 4 else 0
        # texts of the first half are repeated in the second half, so that some time passes in between
        repeated = list(rng.permutation(keys[: max(len(keys) // 2, 1)])[:again])
        plan = [(key, 0) for key in keys]
        for key in repeated:
            plan.insert(int(rng.integers(len(keys) // 2 + 1, len(plan) + 1)), (str(key), 1))
        return plan


def key_of(prompt: str, text: str) -> str:
    """Return the key of a text: a hash of prompt and text.

    Args:
        prompt: The prompt.
        text: The generated text.
    """
    return _digest("item", prompt, text)[:16]


def sample(generations: pd.DataFrame, n: int, seed: int = 0) -> Sample:
    """Sample texts to label.

    For each value in turn, a prompt with its text under every method (in random order) and its unedited text.

    Args:
        generations: A run's table: method, steered, target_gain, prompt, text and, optionally, topic. Only the largest gain of
            each method is used.
        n: Largest number of texts. A text that several conditions generated counts once and is shown once.
        seed: Seed of the sample.

    Raises:
        InputError: The table has no edited text with an unedited one of its prompt, or `n` is below 2.
    """
    if n < 2:
        raise InputError(f"at least 2 texts are needed, an edited and an unedited one, not {n}")
    rows = _with_position(generations)
    records: list[dict[Any, Any]] = rows.to_dict("records")
    base = {(row["prompt"], row["position"]): row for row in records if row["method"] == "unedited"}
    edited = {
        (row["method"], row["steered"], slot): row
        for row in records
        if row["method"] != "unedited" and (slot := (row["prompt"], row["position"])) in base
    }
    if not edited:
        raise InputError(
            "the run holds no edited text with an unedited text of the same prompt: there is nothing to compare"
        )
    rng = np.random.default_rng(seed)
    methods = sorted({method for method, _, _ in edited})
    values = [
        SCHWARTZ.names[j] for j in rng.permutation(len(SCHWARTZ)) if any(v == SCHWARTZ.names[j] for _, v, _ in edited)
    ]
    slots = {value: [list(base)[k] for k in rng.permutation(len(base))] for value in values}
    items: dict[str, SampledText] = {}
    conditions: list[dict[str, Any]] = []
    for turn in range(len(base)):
        for value in values:
            slot = slots[value][turn]
            for method in (methods[k] for k in rng.permutation(len(methods))):
                row = edited.get((method, value, slot))
                if row is None:
                    continue
                pair = [_item(row), _item(base[slot])]
                new = {item.key: item for item in pair if item.key not in items}
                if len(items) + len(new) > n:
                    continue
                items |= new
                about = {"item": pair[0].key, "base": pair[1].key, "topic": row["topic"]}
                conditions.append({"method": method, "steered": value} | about)
        if len(items) >= n:
            break
    return Sample(tuple(items.values()), pd.DataFrame(conditions))


def _item(row: Mapping[Any, Any]) -> SampledText:
    return SampledText(key_of(row["prompt"], row["text"]), row["prompt"], row["text"], row["topic"])


def _with_position(generations: pd.DataFrame) -> pd.DataFrame:
    """Select the texts at each method's largest gain.

    Adds the topic, and the position of a text among those of its prompt.
    """
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
    return rows.assign(position=rows.groupby(["method", "steered", "prompt"]).cumcount())


def shown(text: str) -> str:
    """Return a text that is safe to print on a terminal.

    Removes escape sequences and control, format and private characters; keeps line breaks. Generated text is untrusted: an
    escape sequence could clear the screen or overwrite earlier lines.

    Args:
        text: The text.
    """
    plain = _ANSI.sub("", text.replace("\r\n", "\n").replace("\t", " "))
    printable = "".join(c for c in plain if c == "\n" or unicodedata.category(c)[0] != "C")
    printable = re.sub(r"\n{3,}", "\n\n", printable).strip()
    return printable if len(printable) <= MAX_SHOWN else f"{printable[:MAX_SHOWN]} … (truncated)"


def parse(answer: str) -> dict[str, int | None]:
    """Parse a typed answer.

    An answer lists the keys of the values that the text expresses, or `n` for none. Keys after `?` are undecided; a `?` without
    keys leaves all values undecided. `14` and `1 4`: the first and the fourth value. `1 ?4`: the first, undecided about the
    fourth.

    Args:
        answer: The typed line.

    Returns:
        Name of each value -> 1, 0 or None (undecided).

    Raises:
        InputError: The answer is malformed. The message addresses the person who typed it.
    """
    text = answer.strip().lower().replace(",", " ")
    sure, question, unsure = text.partition("?")
    if question and not sure.strip() and not unsure.strip():
        return dict.fromkeys(SCHWARTZ.names)
    keys = [c for c in sure if not c.isspace()]
    doubts = [c for c in unsure if not c.isspace()]
    if keys == ["n"]:
        keys = []
    elif not keys and not doubts:
        raise InputError("type the keys of the values that the text expresses, or n for none")
    strange = [c for c in (*keys, *doubts) if c not in KEYS]
    if strange:
        raise InputError(f"{strange[0]!r} is not a key: h lists them")
    both = set(keys) & set(doubts)
    if both:
        raise InputError(f"{both.pop()!r} is both expressed and undecided")
    return {name: None if key in doubts else int(key in keys) for key, name in zip(KEYS, SCHWARTZ.names, strict=True)}


def label_rows(
    items: Sequence[SampledText], answers: Mapping[tuple[str, int], Mapping[str, int | None]]
) -> list[dict[str, Any]]:
    """Format answered texts as rows that `LabelledTexts` reads.

    The keys are text, context, cluster, split and one per value. Only first answers count. All rows are in the split `test`, for
    no judge of the project was trained on them. Empty texts and texts without a decision are left out.

    Args:
        items: The texts.
        answers: (item key, 0 or 1 for a repeated question) -> labels.
    """
    rows = []
    for item in items:
        labels = answers.get((item.key, 0))
        if labels is None or all(x is None for x in labels.values()) or not item.text.strip():
            continue
        about = {"text": item.text, "context": item.prompt, "cluster": item.topic, "split": "test"}
        rows.append(about | {name: labels[name] for name in SCHWARTZ.names})
    return rows


def unblinded(
    conditions: pd.DataFrame,
    answers: Mapping[tuple[str, int], Mapping[str, int | None]],
    *,
    seed: int = 0,
    n_boot: int = 2000,
) -> pd.DataFrame:
    """Summarise the labels of each method.

    Args:
        conditions: See `Sample`.
        answers: (item key, 0 or 1 for a repeated question) -> labels. Only first answers count.
        seed: Seed of the bootstrap over topics.
        n_boot: Number of bootstrap draws.

    Returns:
        One row per method: method, n (texts with a decision), csr (share of texts that express the steered value), csr_base
        (the same in the unedited texts of the same prompts), gain (their paired difference), others (mean paired change of the
        other nine values); the last four also with _lo and _hi (95 %; NaN with one topic).
    """
    rows = []
    for method, group in conditions.groupby("method", sort=False):
        edited, base = _decisions(group["item"], answers), _decisions(group["base"], answers)
        target = np.array([SCHWARTZ.index(name) for name in group["steered"]], dtype=int)
        on_target, on_target_base = edited[np.arange(len(group)), target], base[np.arange(len(group)), target]
        change = edited - base
        change[np.arange(len(group)), target] = np.nan
        # a text without a decision on another value has no mean
        defined = ~np.isnan(change).all(axis=1)
        others = np.full(len(group), np.nan)
        others[defined] = np.nanmean(change[defined], axis=1)
        row: dict[str, Any] = {"method": method, "n": int(np.isfinite(on_target).sum())}
        series = {"csr": on_target, "csr_base": on_target_base, "gain": on_target - on_target_base, "others": others}
        for name, x in series.items():
            row |= _mean_by_topic(name, x, group["topic"].to_numpy(dtype=str), seed, n_boot)
        rows.append(row)
    return pd.DataFrame(rows)


def self_agreement(answers: Mapping[tuple[str, int], Mapping[str, int | None]]) -> dict[str, float | int | None]:
    """Compute an annotator's agreement with their first answers on repeated texts.

    Args:
        answers: (item key, 0 or 1 for a repeated question) -> labels.

    Returns:
        texts, decisions (values decided both times), agreement (share of equal decisions), kappa (Cohen's, over all decisions;
        None where all decisions are equal).
    """
    twice = [key for key, again in answers if again == 1 and (key, 0) in answers]
    pairs = [
        (first, second)
        for key in twice
        for name in SCHWARTZ.names
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
    """Return the labels of items as an array; NaN without an answer or a decision."""
    out = np.full((len(keys), len(SCHWARTZ)), np.nan)
    for row, key in enumerate(keys):
        for j, name in enumerate(SCHWARTZ.names):
            label = answers.get((key, 0), {}).get(name)
            if label is not None:
                out[row, j] = label
    return out


def _mean_by_topic(name: str, x: np.ndarray, topics: np.ndarray, seed: int, n_boot: int) -> dict[str, float | None]:
    defined = np.isfinite(x)
    names, member = np.unique(topics[defined], return_inverse=True)
    if not defined.any():
        return {name: None, f"{name}_lo": None, f"{name}_hi": None}
    count = np.bincount(member.reshape(-1)).astype(float)
    total = np.bincount(member.reshape(-1), weights=x[defined])
    drawn = bootstrap_weights((tuple(map(str, names)),), ("annotation",), n_boot=n_boot, seed=seed, shared=False)[0]
    result = interval(float(x[defined].mean()), (drawn @ total) / (drawn @ count), int(defined.sum()))
    return {name: result.est, f"{name}_lo": result.lo, f"{name}_hi": result.hi}


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
