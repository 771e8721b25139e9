"""Scoring a public set by log-probabilities, unedited or under edits."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm import tqdm

from neva_tl import models
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, as_edits, edit, rewrite
from neva_tl.editing.session import Found
from neva_tl.evaluation.benchmarks.items import Benchmark, Kind
from neva_tl.evaluation.benchmarks.metrics import METRICS, choice_rows, estimate
from neva_tl.models import inference
from neva_tl.models.inference.encoding import Encoded

#: Which tokens of an item count as generated for the edits' token scopes: the whole text, or the candidate alone.
Span = Literal["text", "answer"]


@dataclass(frozen=True, eq=False)
class Scores:
    """A set scored in one condition.

    Attributes:
        name: of the set.
        kind: how it is scored.
        key: hash of its items: only scores of the same items are compared.
        condition: what was done to the model.
        table: one row per item: `item`, `cluster`, and by kind `acc`, `acc_norm`, `acc_token` (1 or 0), `margin` (nats),
            `loss` (nats), `tokens`, `bytes`; `cut` where the prompt lost tokens to the context's length.
    """

    name: str
    kind: Kind
    key: str
    condition: str
    table: pd.DataFrame

    @cached_property
    def df(self) -> pd.DataFrame:
        """`set, condition, metric, est, lo, hi, n`; the intervals are those of `metrics.estimate`."""
        rows = []
        for metric in METRICS[self.kind]:
            found = estimate(self.table, metric)
            about = {"set": self.name, "condition": self.condition, "metric": metric.name}
            rows.append(about | {"est": found.est, "lo": found.lo, "hi": found.hi, "n": found.n})
        return pd.DataFrame(rows)

    def by_cluster(self) -> pd.DataFrame:
        """The headline figure of every cluster (BLiMP's paradigms): cluster, est, n."""
        metric = METRICS[self.kind][0]
        rows = [(str(k), metric.of(metric.rows(part)), len(part)) for k, part in self.table.groupby("cluster")]
        return pd.DataFrame(rows, columns=["cluster", "est", "n"])

    def _repr_html_(self) -> str:
        return card(f"{self.name}, {self.condition}", {"items": len(self.table)}, self.df)

    def show(self) -> Any:
        """The figures with their intervals as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        return interval_plot(self.df.rename(columns={"metric": "label"}), title=f"{self.name}, {self.condition}")


def score_benchmark(
    model: models.Model,
    benchmark: Benchmark,
    edits: Edit | Sequence[Edit] | None = None,
    *,
    span: Span = "text",
    condition: str = "",
    token_budget: int = 2048,
    progress: bool = False,
) -> Scores:
    """Score every item of a set.

    Everything is plain text without chat template, as public figures are measured. `choice`, `letter`: see
    `metrics.choice_rows`. `pair`: the good sentence's summed log-probability is the larger one, the first word included (BOS in
    front). `last_word`: every token of the word is the most probable one at its place; perplexity is exp of the mean loss per
    word. `text`: loss of every token, in windows of the context's length where a text is longer.

    Prompts that candidates share are run once. A role prompt goes before each prompt.

    Args:
        model: a TransformerLens model.
        benchmark: the set.
        edits: in force meanwhile; None is the unedited model.
        span: `text` counts all of an item but a separator in front as generated, as neutral text does elsewhere: an edit of
            generated tokens would not touch what predicts a letter or a last word, and cost nothing on paper. `answer` counts
            the candidate's tokens alone, as the log-probability judge does.
        condition: what tables call it.
        token_budget: tokens of a forward pass, padding included.
        progress: show a bar on stderr.

    Raises:
        InputError: an unknown span, or a candidate that does not fit the context.
    """
    if span not in ("text", "answer"):
        raise InputError(f"unknown span {span!r}: choose text or answer")
    wanted = as_edits(edits)
    pairs = [
        _edited(wanted, prompt, candidate)
        for item in benchmark.items
        for prompt, candidate in zip(item.prompts, item.continuations, strict=True)
    ]
    with edit(model, *wanted) as found:
        opened = inference.prepends_bos(model) or not pairs[0][0]
        session: Any = _WholeText(found, opened) if span == "text" and wanted else found if wanted else None
        run = (
            _text_rows if benchmark.kind == "text" else _word_rows if benchmark.kind == "last_word" else _candidate_rows
        )
        rows = run(model, benchmark, pairs, session, token_budget, progress)
    table = pd.DataFrame(rows)
    table.insert(0, "item", [item.id for item in benchmark.items])
    table.insert(1, "cluster", [item.cluster for item in benchmark.items])
    named = condition or ("unedited" if not wanted else " + ".join(type(one).__name__ for one in wanted))
    return Scores(benchmark.name, benchmark.kind, benchmark.key, named, table)


def score_all(
    model: models.Model, benchmarks: Sequence[Benchmark], edits: Edit | Sequence[Edit] | None = None, **options: Any
) -> dict[str, Scores]:
    """Several sets in one condition: name -> scores; `options` as in `score_benchmark`."""
    return {one.name: score_benchmark(model, one, edits, **options) for one in benchmarks}


class _WholeText:
    """An edit session to which prompts count as generated too, but for a separator in front of the text."""

    def __init__(self, session: Any, opened: bool) -> None:
        self._session, self._opened = session, opened

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        whole = mask.clone()
        if self._opened:
            row, first = torch.arange(len(mask), device=mask.device), mask.int().argmax(dim=1)
            whole[row, first] = generated[row, first]
        self._session.mark(whole, mask)

    def found(self) -> Found:
        return self._session.found()

    def go_on(self, found: Found, index: Int[Tensor, " r"]) -> None:
        self._session.go_on(found, index)


def _edited(edits: Sequence[Edit], prompt: str, candidate: str) -> tuple[str, str]:
    """Prompt and candidate under a role prompt; a text without prompt of its own stands a space behind the role."""
    role = rewrite(edits, prompt)
    return role, candidate if bool(prompt) == bool(role) else f" {candidate}"


def _encoded(model: models.Model, pairs: Sequence[tuple[str, str]], name: str) -> tuple[list[Encoded], list[bool]]:
    """Token ids, and which of them were cut at the left.

    Raises:
        InputError: a candidate without a token that can be scored.
    """
    encoded = inference.encode_continuations(model, pairs)
    for (prompt, candidate), item in zip(pairs, encoded, strict=True):
        if len(item.ids) <= max(item.start, 1):
            raise InputError(f"{name}: {(prompt + candidate)[:60]!r} has no token to score")
    room = models.info(model).n_ctx
    return encoded, [
        len(item.ids) == room and _is_cut(model, pair, room) for pair, item in zip(pairs, encoded, strict=True)
    ]


def _is_cut(model: models.Model, pair: tuple[str, str], room: int) -> bool:
    ids = models.tokenizer(model)("".join(pair), add_special_tokens=False)["input_ids"]
    return len(ids) + int(inference.prepends_bos(model) or not pair[0]) > room


def _candidate_rows(
    model: models.Model,
    benchmark: Benchmark,
    pairs: list[tuple[str, str]],
    session: Any,
    token_budget: int,
    progress: bool,
) -> list[dict[str, Any]]:
    encoded, cut = _encoded(model, pairs, benchmark.name)
    total, count = np.zeros(len(encoded)), np.array([len(x.ids) - max(x.start, 1) for x in encoded])
    starts = np.cumsum([0, *(len(item.continuations) for item in benchmark.items)])
    with _bar(benchmark, len(benchmark), progress) as bar:
        for numbers in _parts(encoded, starts, token_budget):
            rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in numbers])
            some = [encoded[i] for i in rows]
            cache = None
            if pairs[0][0]:  # whole sentences share nothing but BOS
                cache = inference.PrefixCache(model, some, session=session, token_budget=token_budget)
            total[rows], _ = inference.encoded_logprobs(
                model, some, session=session, token_budget=token_budget, prefix=cache
            )
            bar.update(len(numbers))
    out: list[dict[str, Any]] = [dict(row) for row in choice_rows(benchmark, total, count)]
    for number, row in enumerate(out):
        row["cut"] = any(cut[starts[number] : starts[number + 1]])
        if benchmark.kind != "choice":
            del row["acc_norm"], row["acc_token"]
    return out


def _parts(encoded: Sequence[Encoded], starts: Int[np.ndarray, " s"], token_budget: int) -> Iterator[list[int]]:
    """Items in groups of like length, so many that a group's prompts fit the budget (their keys and values are held)."""
    longest = [max(len(encoded[i].ids) for i in range(a, b)) for a, b in pairwise(starts.tolist())]
    part: list[int] = []
    held = 0
    for number in np.argsort(longest, kind="stable").tolist():
        if part and held + longest[number] > token_budget:
            yield part
            part, held = [], 0
        part.append(number)
        held += longest[number]
    yield part


def _word_rows(
    model: models.Model,
    benchmark: Benchmark,
    pairs: list[tuple[str, str]],
    session: Any,
    token_budget: int,
    progress: bool,
) -> list[dict[str, Any]]:
    encoded, cut = _encoded(model, pairs, benchmark.name)
    total, greedy = inference.answer_greedy(
        model, encoded, session=session, token_budget=token_budget, progress=progress
    )
    return [
        {"acc": float(right), "loss": -float(logprob), "cut": short}
        for right, logprob, short in zip(greedy, total, cut, strict=True)
    ]


def _text_rows(
    model: models.Model,
    benchmark: Benchmark,
    pairs: list[tuple[str, str]],
    session: Any,
    token_budget: int,
    progress: bool,
) -> list[dict[str, Any]]:
    windows, owner = [], []
    for number, item in enumerate(inference.encode_continuations(model, pairs, windows=True)):
        pieces = _windows(item, models.info(model).n_ctx)
        windows += pieces
        owner += [number] * len(pieces)
    total, count = inference.encoded_logprobs(
        model, windows, session=session, token_budget=token_budget, progress=progress
    )
    loss, tokens = np.zeros(len(pairs)), np.zeros(len(pairs))
    np.subtract.at(loss, owner, total)
    np.add.at(tokens, owner, count)
    if not tokens.all():
        raise InputError(f"{benchmark.name}: text {int(np.argmin(tokens)) + 1} has no token to score")
    return [
        {"loss": float(nats), "tokens": int(n), "bytes": len(item.continuations[0].encode())}
        for nats, n, item in zip(loss, tokens, benchmark.items, strict=True)
    ]


def _windows(item: Encoded, room: int) -> list[Encoded]:
    """A text in pieces that fit the context, every token scored once; each piece after the first sees one token before it."""
    out, done = [], max(item.start, 1)
    first = done
    while done < len(item.ids):
        # a role prompt is part of the first piece only
        begin = 0 if done == first else done - 1
        stop = min(len(item.ids), begin + room)
        out.append(Encoded(item.ids[begin:stop], done - begin))
        done = stop
    return out


def _bar(benchmark: Benchmark, n: int, progress: bool) -> Any:
    return tqdm(total=n, desc=benchmark.name, unit="item", file=sys.stderr, disable=not progress)
