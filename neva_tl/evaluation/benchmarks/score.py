"""Scores of a public set by log-probabilities, unedited or under edits."""

from __future__ import annotations

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

from neva_tl import models
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.editing import Edit, as_edits, edit, rewrite
from neva_tl.evaluation.benchmarks.items import Benchmark, Kind
from neva_tl.evaluation.benchmarks.metrics import METRICS, choice_rows, estimate
from neva_tl.models import inference
from neva_tl.models.inference.encoding import Encoded

#: Tokens of an item that count as generated for the edits' token scopes: the entire text, or only the candidate.
Span = Literal["text", "answer"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a set in one condition.

    Attributes:
        name: Name of the set.
        kind: Scoring rule.
        key: Hash of the items; only scores of the same items can be compared.
        condition: Name of the condition.
        table: One row per item: `item`, `cluster`, and by kind `acc`, `acc_norm`, `acc_token` (1 or 0), `margin` (nats),
            `loss` (nats), `tokens`, `bytes`, and `cut`, whether the prompt was truncated to the context's length.
    """

    name: str
    kind: Kind
    key: str
    condition: str
    table: pd.DataFrame

    @cached_property
    def df(self) -> pd.DataFrame:
        """Estimates: `set, condition, metric, est, lo, hi, n` (see `metrics.estimate`)."""
        rows = []
        for metric in METRICS[self.kind]:
            value = estimate(self.table, metric)
            about = {"set": self.name, "condition": self.condition, "metric": metric.name}
            rows.append(about | {"est": value.est, "lo": value.lo, "hi": value.hi, "n": value.n})
        return pd.DataFrame(rows)

    def by_cluster(self) -> pd.DataFrame:
        """Return the headline metric of every cluster: cluster, est, n."""
        metric = METRICS[self.kind][0]
        means = [(str(k), metric.of(metric.rows(rows)), len(rows)) for k, rows in self.table.groupby("cluster")]
        return pd.DataFrame(means, columns=["cluster", "est", "n"])

    def _repr_html_(self) -> str:
        return card(f"{self.name}, {self.condition}", {"items": len(self.table)}, self.df)

    def show(self) -> Any:
        """Plot the metrics with their intervals as a matplotlib figure."""
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

    All texts are plain text without a chat template, as in public results. `choice`, `letter`: see `metrics.choice_rows`.
    `pair`: right where the good sentence has the larger summed log-probability, the first word included (after BOS).
    `last_word`: right where every token of the word is the most probable one at its position; perplexity is exp of the mean loss
    per word. `text`: loss of every token, in windows of the context's length where a text is longer.

    A prompt that several candidates share is run once. A role prompt precedes each prompt.

    Args:
        model: A TransformerLens model.
        benchmark: The set.
        edits: Edits that are active while the set is scored. None scores the unedited model.
        span: `text` counts all tokens of an item except a leading separator as generated, as for neutral text elsewhere. An edit
            of generated tokens would otherwise not touch the positions that predict a letter or a last word, and would appear to
            be free. `answer` counts only the candidate's tokens, as the log-probability judge does.
        condition: Name in tables. Default: the names of the edits.
        token_budget: Tokens of a forward pass, padding included.
        progress: Show a progress bar on stderr.

    Raises:
        InputError: The span is unknown, or a candidate does not fit the context.
    """
    if span not in ("text", "answer"):
        raise InputError(f"unknown span {span!r}: choose text or answer")
    active = as_edits(edits)
    pairs = [
        _edited(active, prompt, candidate)
        for item in benchmark.items
        for prompt, candidate in zip(item.prompts, item.continuations, strict=True)
    ]
    with edit(model, *active) as edit_session:
        opened = inference.prepends_bos(model) or not pairs[0][0]
        session: inference.TokenSession | None = None
        if active:
            session = _WholeText(edit_session, opened) if span == "text" else edit_session
        run = (
            _text_rows if benchmark.kind == "text" else _word_rows if benchmark.kind == "last_word" else _candidate_rows
        )
        rows = run(model, benchmark, pairs, session, token_budget, progress)
    table = pd.DataFrame(rows)
    table.insert(0, "item", [item.id for item in benchmark.items])
    table.insert(1, "cluster", [item.cluster for item in benchmark.items])
    named = condition or ("unedited" if not active else " + ".join(type(one).__name__ for one in active))
    return Scores(benchmark.name, benchmark.kind, benchmark.key, named, table)


def score_all(
    model: models.Model, benchmarks: Sequence[Benchmark], edits: Edit | Sequence[Edit] | None = None, **options: Any
) -> dict[str, Scores]:
    """Score several sets in one condition.

    Args:
        model: A TransformerLens model.
        benchmarks: The sets.
        edits: Edits that are active while the sets are scored.
        **options: Further arguments of `score_benchmark`.

    Returns:
        Name of each set -> scores.
    """
    return {one.name: score_benchmark(model, one, edits, **options) for one in benchmarks}


class _WholeText:
    """Edit session that counts prompt tokens as generated, except a leading separator."""

    #: Even an edit of generated tokens touches prompts here: caches of unedited prompts are not exact.
    active_scopes = frozenset({"all"})

    def __init__(self, session: inference.TokenSession, opened: bool) -> None:
        self._session, self._opened = session, opened
        self.mark_new, self.set_rows, self.keep_rows = session.mark_new, session.set_rows, session.keep_rows
        self.prompt_state, self.resume_from = session.prompt_state, session.resume_from

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Mark prompts as generated as well."""
        scored = mask.clone()
        if self._opened:
            row, first = torch.arange(len(mask), device=mask.device), mask.int().argmax(dim=1)
            scored[row, first] = generated[row, first]
        self._session.mark(scored, mask)


def _edited(edits: Sequence[Edit], prompt: str, candidate: str) -> tuple[str, str]:
    """Return prompt and candidate under a role prompt.

    A text without a prompt follows the role after a space.
    """
    role = rewrite(edits, prompt)
    return role, candidate if bool(prompt) == bool(role) else f" {candidate}"


def _encoded(model: models.Model, pairs: Sequence[tuple[str, str]], name: str) -> tuple[list[Encoded], list[bool]]:
    """Return token ids, and whether each sequence was truncated at the left.

    Raises:
        InputError: A candidate has no token that can be scored.
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
    session: inference.TokenSession | None,
    token_budget: int,
    progress: bool,
) -> list[dict[str, Any]]:
    encoded, cut = _encoded(model, pairs, benchmark.name)
    total, count = np.zeros(len(encoded)), np.array([len(x.ids) - max(x.start, 1) for x in encoded])
    starts = np.cumsum([0, *(len(item.continuations) for item in benchmark.items)])
    with _bar(benchmark, len(benchmark), progress) as bar:
        for numbers in _item_groups(encoded, starts, token_budget):
            rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in numbers])
            some = [encoded[i] for i in rows]
            cache = None
            if pairs[0][0]:  # complete sentences share only BOS
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


def _item_groups(encoded: Sequence[Encoded], starts: Int[np.ndarray, " s"], token_budget: int) -> Iterator[list[int]]:
    """Yield groups of items of similar length whose prompts fit the token budget.

    The keys and values of a group's prompts stay in memory.
    """
    longest = [max(len(encoded[i].ids) for i in range(a, b)) for a, b in pairwise(starts.tolist())]
    group: list[int] = []
    tokens = 0
    for number in np.argsort(longest, kind="stable").tolist():
        if group and tokens + longest[number] > token_budget:
            yield group
            group, tokens = [], 0
        group.append(number)
        tokens += longest[number]
    yield group


def _word_rows(
    model: models.Model,
    benchmark: Benchmark,
    pairs: list[tuple[str, str]],
    session: inference.TokenSession | None,
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
    session: inference.TokenSession | None,
    token_budget: int,
    progress: bool,
) -> list[dict[str, Any]]:
    windows, owner = [], []
    for number, item in enumerate(inference.encode_continuations(model, pairs, windows=True)):
        of_text = _windows(item, models.info(model).n_ctx)
        windows += of_text
        owner += [number] * len(of_text)
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
    """Split a text into windows that fit the context.

    Every token is scored once. Each window after the first begins with the last token of the window before it.
    """
    out, start = [], max(item.start, 1)
    first = start
    while start < len(item.ids):
        # only the first window contains a role prompt
        begin = 0 if start == first else start - 1
        stop = min(len(item.ids), begin + room)
        out.append(Encoded(item.ids[begin:stop], start - begin))
        start = stop
    return out


def _bar(benchmark: Benchmark, n: int, progress: bool) -> Any:
    return progress_bar(total=n, desc=benchmark.name, unit="item", progress=progress, leaf=True)
