"""Client of an OpenAI-compatible endpoint, with a rate limit and counts.

The `openai` client does the retries (timeouts, lost connections, 408, 409, 429, 5xx) with exponential backoff, jitter and
Retry-After. This module counts the requests, limits their rate, and translates errors into short messages. The key is read from
the environment when the client is created, and is stored only in the client.
"""

from __future__ import annotations

import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from neva_tl.core.errors import InputError

#: Log-probability of tokens that are impossible (some servers write -inf or -9999).
LEAST = -100.0
#: Default address of the openai client.
OPENAI = "https://api.openai.com/v1"


class Fatal(InputError):
    """The key is wrong, or the model or address unknown; no more requests are sent."""


class Unreachable(Exception):
    """No server listens at the address."""


class NoAnswer(Exception):
    """One question got no answer after all retries.

    Args:
        kind: The cause in a word or two.
        detail: The endpoint's message.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint.

    Attributes:
        content: Text of the answer.
        finish: Reason of its end (`finish_reason`).
        refusal: Refusal, if any.
        tokens: Tokens read and written; None where the endpoint does not report them.
        first: Log-probabilities of the likeliest first tokens of the answer; empty where the endpoint does not give them.
    """

    content: Any
    finish: str | None
    refusal: Any
    tokens: tuple[int, int] | None
    first: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Pace:
    """Rate limit over all threads: evenly spaced requests.

    Attributes:
        per_minute: Largest number of requests per minute; None = unlimited.
    """

    per_minute: float | None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self) -> None:
        """Wait until the next request is allowed."""
        if self.per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + 60.0 / self.per_minute
        time.sleep(start - now)


def address(base_url: str | None) -> str:
    """Return the endpoint's address.

    Args:
        base_url: The address; None uses OPENAI_BASE_URL, or OpenAI's address without that variable.

    Raises:
        InputError: It is not an http address, or it contains credentials (it is written into results and caches).
    """
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise InputError("the chat judge's BASE_URL must be an http address, such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            "the chat judge's BASE_URL must contain no user, password or query (it is written into results): put the key "
            "into an environment variable"
        )
    return url


def reachable(url: str, seconds: float = 5.0) -> bool:
    """Return whether a server accepts a connection; True without a test where a proxy is set, which answers for it.

    Args:
        url: Address of the endpoint.
        seconds: Longest wait.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if getproxies().get(parts.scheme) and not proxy_bypass(host):
        return True
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


def read_key(variable: str | None) -> str:
    """Read the key from an environment variable.

    Args:
        variable: Name of the variable; None for an endpoint without a key.

    Raises:
        InputError: The variable is not set, or its name is invalid (the message does not repeat it: it may be the key itself).
    """
    if variable is None:
        return ""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", variable):
        raise InputError(
            "the chat judge's key option names an environment variable in capitals (or is `none`); never put a key there"
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(
            f"the chat judge needs a key: set the environment variable {variable}, name another (key=VARIABLE), or state "
            "that the server needs none (key=none)"
        )
    return key


@dataclass(frozen=True, eq=False, repr=False)
class Endpoint:
    """A client of one endpoint; create it with `connect`."""

    client: Any
    key: str

    def ask(self, model: str, content: str, settings: Mapping[str, Any], system: str = "") -> Reply:
        """Send one user turn and return the answer.

        Args:
            model: Name of the model.
            content: The user turn.
            settings: Further arguments of the request.
            system: The system message; "" for none.

        Raises:
            Fatal: The status is 401, 403 or 404.
            Unreachable: No server listens at the address.
            NoAnswer: Any other error that remains after the retries.
        """
        import openai

        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": content})
        try:
            completion = self.client.chat.completions.create(model=model, messages=turns, **settings)
        except openai.APITimeoutError:
            raise NoAnswer("timeout") from None
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
                raise Unreachable() from None
            raise NoAnswer("connection lost") from None
        except openai.APIStatusError as error:
            self._status(error, model)
        except (openai.APIError, ValueError):
            raise NoAnswer("bad reply") from None
        return self._reply(completion)

    def _status(self, error: Any, model: str) -> None:
        status = int(error.status_code)
        if status in (401, 403):
            raise Fatal(
                f"the chat judge's endpoint refused the key (HTTP {status}): set the right one, then run again"
            ) from None
        detail = self.clean(" ".join(str(error.message).split()))[:200]
        if status == 404:
            raise Fatal(
                f"the chat judge's endpoint knows no model {model!r} at its address (HTTP 404: {detail})"
            ) from None
        raise NoAnswer(f"HTTP {status}", detail) from None

    def _reply(self, completion: Any) -> Reply:
        """Read the first choice; a body that is not a chat completion raises `NoAnswer`."""
        choices = getattr(completion, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        if message is None:
            raise NoAnswer("bad reply")
        usage = getattr(completion, "usage", None)
        read, written = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
        tokens = (read, written) if isinstance(read, int) and isinstance(written, int) else None
        finish = getattr(first, "finish_reason", None)
        content, refusal = getattr(message, "content", None), getattr(message, "refusal", None)
        return Reply(content, finish if isinstance(finish, str) else None, refusal, tokens, _first_token(first))

    def clean(self, text: str) -> str:
        """Remove the key from a text of the endpoint.

        Keys shorter than 8 characters, such as `EMPTY`, are not secret and stay.

        Args:
            text: The text.
        """
        return text.replace(self.key, "[key]") if len(self.key) >= 8 else text


def _first_token(choice: Any) -> dict[str, float]:
    """Return the log-probabilities that a choice lists for its first token; spellings of one token text add up."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    listed = getattr(content[0], "top_logprobs", None) if isinstance(content, list) and content else None
    out: dict[str, float] = {}
    for entry in listed if isinstance(listed, list) else []:
        token, logprob = getattr(entry, "token", None), getattr(entry, "logprob", None)
        if isinstance(token, str) and isinstance(logprob, int | float) and not math.isnan(logprob):
            out[token] = max(float(logprob), LEAST) if token not in out else float(np.logaddexp(out[token], logprob))
    return out


def connect(url: str, key: str, *, timeout: float, retries: int, pace: Pace, sent: Callable[[], None]) -> Endpoint:
    """Create a client of an endpoint.

    Args:
        url: Address of the endpoint.
        key: Key of the endpoint; empty without one.
        timeout: Seconds without a byte after which a request counts as lost.
        retries: Largest number of retries of a question by the client.
        pace: Rate limit of all requests, retries included.
        sent: Function that is called before every request.

    Raises:
        InputError: The openai package is not installed.
    """
    try:
        import openai
    except ImportError:
        raise InputError("the chat judge needs the openai package: pip install 'neva_tl[judges]'") from None

    def before(request: Any) -> None:
        del request
        pace.wait()
        sent()

    http = openai.DefaultHttpxClient(timeout=timeout, event_hooks={"request": [before]})
    # the client always sends a key
    client = openai.OpenAI(api_key=key or "none", base_url=url, timeout=timeout, max_retries=retries, http_client=http)
    return Endpoint(client, key)
