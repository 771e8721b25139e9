"""The chat judge: ask a language model behind an OpenAI-compatible endpoint what a text expresses.

The question is ours (`question.py`) and asks for each value on its own. Every answer is kept, as it comes, by its content
(model, address, question, settings, text, prompt), so that a killed run asks nothing twice. What the endpoint does not say
is missing (NaN), and counted; `responses.worst_case` bounds what it could have changed.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.values import VALUES
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
    read_key,
)

#: Questions in a row that get no answer at all before the judge gives up.
GIVE_UP = 10


@dataclass(frozen=True, eq=False)
class ChatJudge:
    """A TextJudge behind an OpenAI-compatible endpoint. `from_spec` makes one from a line of text.

    Attributes:
        model: the endpoint's name of it.
        base_url: the endpoint; default OPENAI_BASE_URL, else OpenAI's.
        key_env: the environment variable that holds the key (the only place it is read from); None states that the
            endpoint wants none.
        cache: where answers are kept: a file, a `JsonCache`, or None for this object's memory.
        opposes: ask how strongly each value is opposed, too.
        temperature, max_tokens: of the answer; None leaves them out of the request.
        extra: further arguments of the request (`seed`, `response_format`, `max_completion_tokens`, ...).
        timeout: seconds without a byte before a request counts as lost.
        max_retries: of a lost or turned down request (exponential backoff, jitter, Retry-After: the client's own).
        reasks: how often an answer that cannot be read, or lacks a value, is asked for again.
        requests_per_minute: rate limit, retries included; None = none.
        concurrency: questions in flight at once.
        price_in, price_out: price of a million tokens read and written, for the report.
        progress: show a bar on stderr.
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
        kept = self.cache if isinstance(self.cache, JsonCache) else JsonCache(self.cache)
        object.__setattr__(self, "_endpoint", endpoint)
        object.__setattr__(self, "_kept", kept)
        object.__setattr__(self, "_tally", tally)

    @property
    def name(self) -> str:
        """Shown in tables."""
        return f"chat:{self.model}"

    @property
    def unit(self) -> str:
        """The endpoint's own number, between 0 and 1; no probability that was ever calibrated."""
        return "stated strength"

    @property
    def question(self) -> str:
        """What is asked, word for word, before each text; printed with results."""
        return asking.question(self.opposes)

    @property
    def fingerprint(self) -> str:
        """Identity of the judge: equal for equal model, address, question and settings."""
        return content_key("chat judge", self.model, self.base_url, self.question, self._settings(), self.reasks)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """How strongly each text expresses each value, as the endpoint says; NaN where it does not.

        Texts that are no language (see `valid`) score 0 and are not asked about. Questions that failed in an earlier call
        for want of an answer are asked again.

        Raises:
            InputError: the endpoint refuses the key, or does not know the model.
            WorkError: nobody listens there, or too many questions in a row got no answer. What was answered is kept.
        """
        with self._lock:
            self._lost.clear()
        return self._scores("express", texts, prompts)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"] | None:
        """The same for opposition, from the same answers; None where it is not asked for.

        Raises:
            InputError, WorkError: as `score`.
        """
        return self._scores("oppose", texts, prompts) if self.opposes else None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Not empty and at most half of its 4-grams repeated."""
        return legible(texts)

    def report(self) -> ChatReport:
        """What was asked, cached, retried, failed and paid so far by this object."""
        return self._tally.report(self.name, self.question, (self.price_in, self.price_out))

    def _settings(self) -> dict[str, Any]:
        named = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: given for name, given in named.items() if given is not None} | dict(self.extra)

    def _scores(self, part: str, texts: Sequence[str], prompts: Sequence[str] | None) -> Float[np.ndarray, "n 10"]:
        asked = list(zip(texts, prompts if prompts is not None else [""] * len(texts), strict=True))
        readable = legible(texts)
        keys = [
            content_key(self.fingerprint, text, prompt) if ok else ""
            for (text, prompt), ok in zip(asked, readable, strict=True)
        ]
        found = self._answers({key: pair for key, pair in zip(keys, asked, strict=True) if key})
        out = np.zeros((len(asked), len(VALUES)))
        for row, key in enumerate(keys):
            if key:
                ten = found[key][part] if key in found else None
                out[row] = np.nan if ten is None else [np.nan if x is None else x for x in ten]
        return out

    def _answers(self, wanted: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        """Records of all questions that have an answer; the unknown ones are asked first."""
        found = self._kept.get_many(wanted)
        self._tally.cached(found)
        todo = {key: pair for key, pair in wanted.items() if key not in found and key not in self._lost}
        if todo:
            found |= self._ask_all(todo)
        return found

    def _ask_all(self, todo: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        bar = tqdm(total=len(todo), desc=self.name, unit="text", file=sys.stderr, disable=not self.progress)
        stop = threading.Event()
        with bar, ThreadPoolExecutor(self.concurrency) as pool:
            futures = {pool.submit(self._ask_or_stop, key, *pair, stop): key for key, pair in todo.items()}
            try:
                for future in as_completed(futures):
                    record = future.result()
                    if record is not None:
                        found[futures[future]] = record
                    bar.update()
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _ask_or_stop(self, key: str, text: str, prompt: str, stop: threading.Event) -> dict[str, Any] | None:
        """`_ask`; on what ends the work, the thread itself sees to it that no other question goes out."""
        try:
            return self._ask(key, text, prompt, stop)
        except BaseException:
            stop.set()
            raise

    def _ask(self, key: str, text: str, prompt: str, stop: threading.Event) -> dict[str, Any] | None:
        """Ask one question until its answer reads, at most `1 + reasks` times; keep it. None: it got no answer."""
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
                    f"the chat judge cannot reach {self.base_url}: start the server or mend the address, then run again "
                    f"(answers so far are {self._whereabouts()})"
                ) from None
            except NoAnswer as error:
                silence = error
                if error.kind != "bad reply":  # the client has retried all others
                    break
                continue
            silence = None
            self._tally.answered(reply.tokens)
            read = asking.read_answer(reply.content, opposes=self.opposes, finish=reply.finish, refusal=reply.refusal)
            if best is None or read.said > best.said:
                best, raw = read, reply.content if isinstance(reply.content, str) else None
            if best.failure is None:
                break
        if best is None or (silence is not None and best.failure is not None):
            # a question whose last word was silence stays open: the next run asks it again
            assert silence is not None
            self._give_up(key, silence)
            return None
        record = {"express": best.express, "oppose": best.oppose, "failure": best.failure, "undecided": best.undecided}
        with self._lock:
            self._kept.put(key, {**record, "raw": None if raw is None else self._endpoint.clean(raw)})
        self._tally.read(key, best.failure, best.undecided)
        return record

    def _give_up(self, key: str, silence: NoAnswer) -> None:
        """Count a question without answer; too many in a row end the work."""
        with self._lock:
            self._lost.add(key)
        if self._tally.silent(key, silence.kind) >= GIVE_UP:
            said = f": {silence.detail}" if silence.detail else ""
            raise WorkError(
                f"the chat judge gave up: {GIVE_UP} questions in a row got no answer from {self.base_url} (last: "
                f"{silence.kind}{said}); run again to go on (answers so far are {self._whereabouts()})"
            )

    def _whereabouts(self) -> str:
        return f"kept in {self._kept.path}" if self._kept.path is not None else "not kept: give cache=FILE"


def from_spec(spec: str) -> ChatJudge:
    """The judge of `MODEL` or `MODEL@BASE_URL`, either with `#option=value&...` behind.

    Options: `key` (a variable's name, or `none`), `cache` (a file), `opposes` (`yes`), `temperature`, `max_tokens`,
    `timeout`, `retries`, `reasks`, `rpm`, `concurrency`, `price_in`, `price_out`.

    Raises:
        InputError: the line does not read, or a key is missing.
    """
    where, _, options = spec.partition("#")
    model, url = _split(where)
    given: dict[str, Any] = {"base_url": url}
    for name, text in parse_qsl(options, keep_blank_values=True):
        if name not in _OPTIONS:
            # what was given is not repeated: it may be a key
            raise InputError(f"the chat judge has no such option: choose {', '.join(_OPTIONS)}")
        attribute, read = _OPTIONS[name]
        try:
            given[attribute] = read(text)
        except ValueError:
            raise InputError(f"the chat judge's option {name} does not read: it needs a number or yes/no") from None
    return ChatJudge(model, **given)


def _split(where: str) -> tuple[str, str | None]:
    """(model, address): cut at the @ in front of a scheme, for model names may hold @ and : themselves."""
    found = re.fullmatch(r"(.+?)@(\w+://.*)", where)
    if found:
        return found[1], found[2]
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


#: Option of a spec -> (attribute, how its text is read).
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
