"""An OpenAI-compatible endpoint: one call, paced, retried and counted. What stands between the chat judge and the network.

Retries (timeouts, lost connections, 408, 409, 429, 5xx) with exponential backoff, jitter and Retry-After are the `openai`
client's own; here the requests are counted and kept to a rate, and its errors become short words. The key is read from
the environment when the client is made and is held by the client alone.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from neva_tl.core.errors import InputError

#: Where the openai client goes when nothing else is said.
OPENAI = "https://api.openai.com/v1"


class Fatal(InputError):
    """No question can be answered: wrong key, unknown model or address. Nothing more is sent."""


class Unreachable(Exception):
    """Nothing listens at the address."""


class NoAnswer(Exception):
    """One question got no answer, after all retries; `kind` says why in a word or two, `detail` what was said."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Reply:
    """What came back: text, why it ended, refusal, tokens read and written (None where the endpoint does not say)."""

    content: Any
    finish: str | None
    refusal: Any
    tokens: tuple[int, int] | None


@dataclass
class Pace:
    """At most so many requests a minute, evenly spaced, over all threads; None = as fast as they come."""

    per_minute: float | None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self) -> None:
        """Until the next request may go."""
        if self.per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + 60.0 / self.per_minute
        time.sleep(at - now)


def address(base_url: str | None) -> str:
    """The endpoint's address: the one given, else OPENAI_BASE_URL, else OpenAI's.

    Raises:
        InputError: no http address, or one that carries credentials (it is written into results and caches).
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
            "the chat judge's BASE_URL must hold no user, password or query (it is written into results): put the key "
            "into an environment variable"
        )
    return url


def read_key(variable: str | None) -> str:
    """The key in an environment variable; None states that the endpoint wants none.

    Raises:
        InputError: the variable is not set, or is no variable's name (which is not repeated: it may be the key itself).
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
            "that the server wants none (key=none)"
        )
    return key


@dataclass(frozen=True, eq=False, repr=False)
class Endpoint:
    """A client for one endpoint; make it with `connect`."""

    client: Any
    key: str

    def ask(self, model: str, content: str, settings: Mapping[str, Any]) -> Reply:
        """One user turn, one answer.

        Raises:
            Fatal: 401, 403 or 404. Unreachable: nobody listens. NoAnswer: anything else that stayed wrong after the
                retries.
        """
        import openai

        turn = [{"role": "user", "content": content}]
        try:
            got = self.client.chat.completions.create(model=model, messages=turn, **settings)
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
        return self._reply(got)

    def _status(self, error: Any, model: str) -> None:
        status = int(error.status_code)
        if status in (401, 403):
            said = f"the chat judge's endpoint refused the key (HTTP {status}): set the right one, then run again"
            raise Fatal(said) from None
        said = self.clean(" ".join(str(error.message).split()))[:200]
        if status == 404:
            raise Fatal(
                f"the chat judge's endpoint knows no model {model!r} at its address (HTTP 404: {said})"
            ) from None
        raise NoAnswer(f"HTTP {status}", said) from None

    def _reply(self, got: Any) -> Reply:
        """The first choice; a body that is no chat completion counts as no answer."""
        choices = getattr(got, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        said = getattr(first, "message", None)
        if said is None:
            raise NoAnswer("bad reply")
        usage = getattr(got, "usage", None)
        read, written = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
        tokens = (read, written) if isinstance(read, int) and isinstance(written, int) else None
        finish = getattr(first, "finish_reason", None)
        content, refusal = getattr(said, "content", None), getattr(said, "refusal", None)
        return Reply(content, finish if isinstance(finish, str) else None, refusal, tokens)

    def clean(self, text: str) -> str:
        """Text from outside, with the key struck out should it be repeated there (`EMPTY` and the like are no secret)."""
        return text.replace(self.key, "[key]") if len(self.key) >= 8 else text


def connect(url: str, key: str, *, timeout: float, retries: int, pace: Pace, sent: Callable[[], None]) -> Endpoint:
    """A client of the endpoint.

    Args:
        url, key: of the endpoint.
        timeout: seconds without a byte after which a request counts as lost.
        retries: of one question, by the client.
        pace: waited for before every request, retries too.
        sent: called before every request.

    Raises:
        InputError: the openai package is not installed.
    """
    try:
        import openai
    except ImportError:
        raise InputError("the chat judge needs the openai package: pip install 'neva_tl[judges]'") from None

    def before(request: Any) -> None:
        pace.wait()
        sent()

    http = openai.DefaultHttpxClient(timeout=timeout, event_hooks={"request": [before]})
    # the client insists on sending some key
    client = openai.OpenAI(api_key=key or "none", base_url=url, timeout=timeout, max_retries=retries, http_client=http)
    return Endpoint(client, key)
