"""A real HTTP server that answers as an OpenAI-compatible endpoint does, with faults on order.

`plan` maps a text to the faults that its questions meet one after the other; after those, and for every other text, the
answer is right: ten numbers that follow from the text alone (`right`).
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

VALUES = (
    "self-direction", "stimulation", "hedonism", "achievement", "power",
    "security", "conformity", "tradition", "benevolence", "universalism",
)  # fmt: skip


def right(text: str, opposes: bool = False) -> list[float]:
    """The ten numbers of a text, which nothing but the text fixes."""
    digest = hashlib.sha256(f"{opposes}{text}".encode()).digest()
    return [round(byte / 255, 3) for byte in digest[:10]]


#: The key that the tests' judges send, and texts for them to ask about.
KEY = "sk-very-secret-0123456789"
TEXTS = [f"Person number {i} went home and said something about item {i}." for i in range(24)]


def wanted(texts: Sequence[str] = TEXTS) -> np.ndarray:
    """`[n, 10]` of some texts."""
    return np.array([right(text) for text in texts])


def answer(text: str, opposes: bool = False) -> dict[str, Any]:
    """The right answer as an object."""
    found: dict[str, Any] = dict(zip(VALUES, right(text), strict=True))
    return found | ({"opposes": dict(zip(VALUES, right(text, True), strict=True))} if opposes else {})


class FaultyServer:
    """Start it in a `with` block; `url` is its base URL.

    Attributes:
        seen: text of every request that arrived whole, in order; `at`: when (monotonic seconds).
        bodies, keys: their JSON bodies and Authorization headers.
        most: the most requests that were being answered at once.
    """

    def __init__(
        self,
        plan: Mapping[str, Sequence[str]] | None = None,
        *,
        always: str | None = None,
        opposes: bool = False,
        pause: float = 0.0,
        on_request: Callable[[int], None] | None = None,
    ) -> None:
        self.plan = {text: list(faults) for text, faults in (plan or {}).items()}
        self.always, self.opposes, self.pause, self.on_request = always, opposes, pause, on_request
        self.seen: list[str] = []
        self.answered: list[str] = []
        self.at: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most = self._now = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    def handle(self, request: Any) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        text = json.loads(content.rsplit("\n\n", 1)[1])["text"]
        with self.lock:
            self.seen.append(text)
            self.at.append(time.monotonic())
            self.bodies.append(body)
            self.keys.append(request.headers.get("Authorization"))
            number = len(self.seen)
            faults = self.plan.get(text)
            fault = faults.pop(0) if faults else self.always
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if self.on_request is not None:
                self.on_request(number)
            if self.pause:
                time.sleep(self.pause)
            self.answer(request, text, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.lock:
                self._now -= 1

    def answer(self, request: Any, text: str, fault: str | None) -> None:
        full = json.dumps(answer(text, self.opposes))
        kind, _, rest = (fault or "").partition(" ")
        if kind.isdigit():
            headers = {"Retry-After": rest} if rest else {}
            key = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
            said = {"error": {"message": f"fault {kind} for the key {key}", "type": "fault"}}
            self.send(request, int(kind), json.dumps(said), headers)
            return
        if kind == "hang":
            self.over.wait(5)
            self.drop(request)
            return
        if kind == "reset":
            self.drop(request)
            return
        if kind == "html":
            self.send(request, 200, "<html>welcome to the proxy</html>", {"Content-Type": "text/html"})
            return
        if kind == "halfjson":
            self.send(request, 200, '{"id": "x", "choices": [{"index": 0, "mess')
            return
        if kind == "nochoice":
            self.send(request, 200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}))
            return
        finish, refusal, content = "stop", None, full
        if kind == "truncated":
            content = full[: len(full) // 2]
        elif kind == "length":
            finish, content = "length", full[: len(full) // 2]
        elif kind == "refusal":
            content, refusal = None, "I will not judge this."
        elif kind == "sorry":
            content = "I'm sorry, but I can't help with that."
        elif kind == "nonsense":
            content = "The text is about a dog, I think: power 0.9!"
        elif kind == "empty":
            content = ""
        elif kind == "list":
            content = json.dumps(list(right(text)))
        elif kind == "fenced":
            content = f"Here you are:\n```json\n{full}\n```\nAnything else?"
        elif kind == "types":  # text, a truth value, an object, and a number outside [0, 1]
            bad = {"power": "0.5", "security": True, "conformity": {"score": 0.5}, "tradition": 1.5}
            content = json.dumps(answer(text) | bad)
        elif kind == "partial":
            content = json.dumps({k: v for k, v in answer(text).items() if k not in ("power", "hedonism")})
        elif kind == "null":
            content = json.dumps(answer(text) | {"benevolence": None})
        elif kind == "leak":  # the endpoint repeats the key in its answer
            content = f"your key is {request.headers.get('Authorization')}"
        elif kind and kind != "nousage":
            raise ValueError(f"unknown fault {fault!r}")
        message = {"role": "assistant", "content": content, "refusal": refusal}
        reply: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        reply["choices"] = [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}]
        if kind != "nousage":
            reply["usage"] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        self.send(request, 200, json.dumps(reply))
        with self.lock:
            self.answered.append(text)

    def send(self, request: Any, status: int, body: str, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode()
        request.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | dict(headers or {})).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def drop(self, request: Any) -> None:
        """Reset the connection (RST, not FIN)."""
        request.close_connection = True
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
