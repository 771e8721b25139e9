"""The chat judge: scores from a language model at an OpenAI-compatible endpoint.

The question is ours (`question.py`) and requests each value separately. Every answer is cached on arrival under its content
(model, address, question, settings, text, prompt), so that a restarted run repeats no question. Numbers that the endpoint does
not give are missing (NaN) and counted; `responses.worst_case` bounds their effect.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.evaluation.judges import question as asking
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.judges.chat_report import ChatReport, Tally
from neva_tl.evaluation.judges.endpoint import (
    Endpoint,
    NoAnswer,
    Pace,
    Unreachable,
    address,
    connect,
    reachable,
    read_key,
)

#: Number of consecutive questions without an answer after which the judge stops.
GIVE_UP = 10


@dataclass(frozen=True, eq=False)
class ChatJudge:
    """A TextJudge at an OpenAI-compatible endpoint; `from_spec` creates it.

    Attributes:
        model: Name of the model at the endpoint.
        base_url: Address of the endpoint; default OPENAI_BASE_URL, else OpenAI's.
        key_env: Environment variable with the key, its only source; None for an endpoint without a key.
        cache: Cache of answers: a file, a `JsonCache`, or None for a cache in memory.
        opposes: Also request how strongly each value is opposed.
        temperature: Temperature of the answer; None leaves it out of the request.
        max_tokens: Largest length of the answer; None leaves it out of the request.
        extra: Further arguments of the request (`seed`, `response_format`, `max_completion_tokens`, ...).
        timeout: Seconds without a byte before a request counts as lost.
        max_retries: Largest number of retries of a lost or rejected request (the client's exponential backoff, jitter and
            Retry-After).
        reasks: How often a question is repeated whose answer is unreadable or lacks a value.
        requests_per_minute: Rate limit, retries included; None = unlimited.
        concurrency: Number of concurrent questions.
        price_in: Price of a million tokens read, for the report.
        price_out: Price of a million tokens written, for the report.
        progress: Show a progress bar on stderr.
        theory: Theory whose values are asked for.
    """

    model: str
    base_url: str | None = None
    key_env: str | None = "OPENAI_API_KEY"
    cache: JsonCache | str | Path | None = field(default=None, repr=False)
    opposes: bool = False
    temperature: float | None = 0.0
    max_tokens: int | None = 500
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    max_retries: int = 5
    reasks: int = 2
    requests_per_minute: float | None = None
    concurrency: int = 4
    price_in: float | None = None
    price_out: float | None = None
    progress: bool = False
    theory: ValueTheory = SCHWARTZ
    _endpoint: Endpoint = field(init=False, repr=False)
    _kept: JsonCache = field(init=False, repr=False)
    _tally: Tally = field(init=False, repr=False)
    _lost: set[str] = field(init=False, repr=False, default_factory=set)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("the chat judge needs a model: write chat:MODEL or chat:MODEL@BASE_URL")
        if self.concurrency < 1 or self.max_retries < 0 or self.reasks < 0 or not self.timeout > 0:
            raise InputError(
                "the chat judge needs concurrency >= 1, max_retries >= 0, reasks >= 0 and a timeout above 0"
            )
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise InputError("the chat judge's requests_per_minute must be above 0 (or None for no limit)")
        url, tally = address(self.base_url), Tally()
        object.__setattr__(self, "base_url", url)
        endpoint = connect(
            url,
            read_key(self.key_env),
            timeout=self.timeout,
            retries=self.max_retries,
            pace=Pace(self.requests_per_minute),
            sent=lambda: tally.add(requests=1),
        )
        cache = self.cache if isinstance(self.cache, JsonCache) else JsonCache(self.cache)
        object.__setattr__(self, "_endpoint", endpoint)
        object.__setattr__(self, "_kept", cache)
        object.__setattr__(self, "_tally", tally)

    def check(self) -> None:
        """Check that the server answers, before minutes of work for texts that it cannot read.

        Raises:
            InputError: No server listens at the address.
        """
        url = str(self.base_url)
        if not reachable(url):
            raise InputError(f"the chat judge cannot reach {url}: start the server or fix the address, then run again")

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"chat:{self.model}"

    @property
    def values(self) -> tuple[str, ...]:
        """Scored values."""
        return self.theory.names

    @property
    def unit(self) -> str:
        """The endpoint's number between 0 and 1, not a calibrated probability."""
        return "stated strength"

    @property
    def question(self) -> str:
        """Exact text of the question before each text; printed with results."""
        return asking.question(self.opposes, self.theory)

    @property
    def fingerprint(self) -> str:
        """Hash of model, address, question and settings."""
        return content_key("chat judge", self.model, self.base_url, self.question, self._settings(), self.reasks)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return the endpoint's score of each value; NaN for missing numbers.

        Texts that are not legible (see `valid`) score 0 without a question. Questions that got no answer in an earlier call are
        sent again.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.

        Raises:
            InputError: The endpoint refuses the key, or does not know the model.
            WorkError: No server listens there, or too many consecutive questions got no answer. Answers so far stay cached.
        """
        with self._lock:
            self._lost.clear()
        return self._scores("express", texts, prompts)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"] | None:
        """Return opposition scores from the same answers; None where not requested.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.

        Raises:
            InputError: See `score`.
            WorkError: See `score`.
        """
        return self._scores("oppose", texts, prompts) if self.opposes else None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible; see `base.legible`."""
        del prompts  # only the text is checked
        return legible(texts)

    def report(self) -> ChatReport:
        """Return the counts of questions, cache hits, retries, failures and cost."""
        return self._tally.report(self.name, self.question, (self.price_in, self.price_out))

    def _settings(self) -> dict[str, Any]:
        named = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: setting for name, setting in named.items() if setting is not None} | dict(self.extra)

    def _scores(self, column: str, texts: Sequence[str], prompts: Sequence[str] | None) -> Float[np.ndarray, "n v"]:
        pairs = list(zip(texts, prompts if prompts is not None else [""] * len(texts), strict=True))
        readable = legible(texts)
        keys = [
            content_key(self.fingerprint, text, prompt) if ok else ""
            for (text, prompt), ok in zip(pairs, readable, strict=True)
        ]
        records = self._answers({key: pair for key, pair in zip(keys, pairs, strict=True) if key})
        out = np.zeros((len(pairs), len(self.theory)))
        for row, key in enumerate(keys):
            if key:
                ten = records[key][column] if key in records else None
                out[row] = np.nan if ten is None else [np.nan if x is None else x for x in ten]
        return out

    def _answers(self, requested: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        """Return the records of all questions with an answer, after asking the new ones."""
        records = self._kept.get_many(requested)
        self._tally.cached(records)
        todo = {key: pair for key, pair in requested.items() if key not in records and key not in self._lost}
        if todo:
            records |= self._ask_all(todo)
        return records

    def _ask_all(self, todo: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        records: dict[str, Any] = {}
        bar = progress_bar(total=len(todo), desc=self.name, unit="text", progress=self.progress, leaf=True)
        stop = threading.Event()
        with bar, ThreadPoolExecutor(self.concurrency) as pool:
            futures = {pool.submit(self._ask_or_stop, key, *pair, stop): key for key, pair in todo.items()}
            try:
                for future in as_completed(futures):
                    record = future.result()
                    if record is not None:
                        records[futures[future]] = record
                    bar.update()
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return records

    def _ask_or_stop(self, key: str, text: str, prompt: str, stop: threading.Event) -> dict[str, Any] | None:
        """Call `_ask`; an error sets `stop`, so that no other thread sends a question."""
        try:
            return self._ask(key, text, prompt, stop)
        except BaseException:
            stop.set()
            raise

    def _ask(self, key: str, text: str, prompt: str, stop: threading.Event) -> dict[str, Any] | None:
        """Send one question until its answer is complete, at most `1 + reasks` times.

        Returns:
            The cached record, or None without an answer.
        """
        best: asking.Answer | None = None
        raw: str | None = None
        silence: NoAnswer | None = None
        for turn in range(1 + self.reasks):
            if stop.is_set():
                return None
            self._tally.add(asked=int(turn == 0), reasked=int(turn > 0), calls=1)
            content = asking.message(self.question, text, prompt, again=turn > 0)
            try:
                reply = self._endpoint.ask(self.model, content, self._settings())
            except Unreachable:
                raise WorkError(
                    f"the chat judge cannot reach {self.base_url}: start the server or fix the address, then run again "
                    f"(answers so far are {self._cache_location()})"
                ) from None
            except NoAnswer as error:
                silence = error
                if error.kind != "bad reply":  # the client has already retried all other kinds
                    break
                continue
            silence = None
            self._tally.answered(reply.tokens)
            read = asking.read_answer(
                reply.content,
                opposes=self.opposes,
                finish=reply.finish,
                refusal=reply.refusal,
                values=self.theory.names,
            )
            if best is None or read.n_answered > best.n_answered:
                best, raw = read, reply.content if isinstance(reply.content, str) else None
            if best.failure is None:
                break
        if best is None or (silence is not None and best.failure is not None):
            # a question whose last attempt got no answer is not cached: the next run repeats it
            assert silence is not None
            self._give_up(key, silence)
            return None
        record = {"express": best.express, "oppose": best.oppose, "failure": best.failure, "undecided": best.undecided}
        with self._lock:
            self._kept.put(key, {**record, "raw": None if raw is None else self._endpoint.clean(raw)})
        self._tally.read(key, best.failure, best.undecided)
        return record

    def _give_up(self, key: str, silence: NoAnswer) -> None:
        """Count a question without an answer; raise after too many in a row."""
        with self._lock:
            self._lost.add(key)
        if self._tally.silent(key, silence.kind) >= GIVE_UP:
            detail = f": {silence.detail}" if silence.detail else ""
            raise WorkError(
                f"the chat judge gave up: {GIVE_UP} questions in a row got no answer from {self.base_url} (last: "
                f"{silence.kind}{detail}); run again to go on (answers so far are {self._cache_location()})"
            )

    def _cache_location(self) -> str:
        return f"kept in {self._kept.path}" if self._kept.path is not None else "not kept: give cache=FILE"


def from_spec(spec: str, theory: ValueTheory = SCHWARTZ) -> ChatJudge:
    """Create the judge of a spec: `MODEL` or `MODEL@BASE_URL`.

    `#option=value&...` may follow.

    Options: `key` (a variable's name, or `none`), `cache` (a file), `opposes` (`yes`), `temperature`, `max_tokens`,
    `timeout`, `retries`, `reasks`, `rpm`, `concurrency`, `price_in`, `price_out`.

    Args:
        spec: The spec without `chat:`.
        theory: Theory whose values are asked for.

    Raises:
        InputError: The spec is malformed, or a key is missing.
    """
    where, _, options = spec.partition("#")
    model, url = _split(where)
    arguments: dict[str, Any] = {"base_url": url, "theory": theory}
    for name, text in parse_qsl(options, keep_blank_values=True):
        if name not in _OPTIONS:
            # the message does not repeat the option: it may be a key
            raise InputError(f"the chat judge has no such option: choose {', '.join(_OPTIONS)}")
        attribute, read = _OPTIONS[name]
        try:
            arguments[attribute] = read(text)
        except ValueError:
            raise InputError(f"the chat judge's option {name} is malformed: it needs a number or yes/no") from None
    return ChatJudge(model, **arguments)


def _split(where: str) -> tuple[str, str | None]:
    """Split into model and address at the @ before a scheme.

    Model names may contain @ and :.
    """
    match = re.fullmatch(r"(.+?)@(\w+://.*)", where)
    if match:
        return match[1], match[2]
    if re.search(r".@[^@]*[:/]", where):
        raise InputError("the chat judge's BASE_URL must start with http:// or https://: write chat:MODEL@BASE_URL")
    return where, None


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false", "1", "0", ""):
        raise ValueError(text)
    return text.lower() in ("yes", "true", "1", "")


def _number(text: str) -> float | None:
    if text.lower() == "none":
        return None
    number = float(text)
    if not np.isfinite(number):
        raise ValueError(text)
    return number


def _count(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


#: Option of a spec -> (attribute, parser of its text).
_OPTIONS: dict[str, tuple[str, Any]] = {
    "key": ("key_env", lambda text: None if text.lower() == "none" else text),
    "cache": ("cache", str),
    "opposes": ("opposes", _yes),
    "temperature": ("temperature", _number),
    "max_tokens": ("max_tokens", _count),
    "timeout": ("timeout", float),
    "retries": ("max_retries", int),
    "reasks": ("reasks", int),
    "rpm": ("requests_per_minute", _number),
    "concurrency": ("concurrency", int),
    "price_in": ("price_in", _number),
    "price_out": ("price_out", _number),
}
