"""A local HTTP server that answers Yes/No questions by a function of the question, with log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from helpers.faulty_server import FaultyServer


class YesNoServer(FaultyServer):
    """`answer_of` maps the messages of a request to the log-probabilities of first tokens; the likeliest is the answer.

    Attributes:
        listed: Whether the log-probabilities are sent.
    """

    def __init__(
        self, answer_of: Callable[[list[dict[str, str]]], Mapping[str, float]], *, listed: bool = True
    ) -> None:
        super().__init__()
        self.answer_of, self.listed = answer_of, listed

    def handle(self, request: Any) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            first = self.answer_of(body["messages"])
        content = max(first, key=lambda token: first[token])
        top = [{"token": token, "logprob": x, "bytes": None} for token, x in first.items()]
        logprobs = {"content": [{"token": content, "logprob": first[content], "bytes": None, "top_logprobs": top}]}
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "stop",
            "logprobs": logprobs if self.listed else None,
        }
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        self.send(request, 200, json.dumps(reply))
