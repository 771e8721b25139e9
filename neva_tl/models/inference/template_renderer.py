"""Render chat templates in a process of their own, under limits of time, memory and length.

A template is a program that comes with a checkpoint. Jinja's sandbox keeps it from files and modules, but not from nested
loops, giant numbers or strings that double in each step, and most of these are single calls of C code that nothing inside
the process can interrupt. A second process can be killed. It starts with the first template, once per process (about a
second), and answers in a fraction of a millisecond afterwards. Texts are cached.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from neva_tl.core.errors import WorkError

#: Longest time for one conversation in seconds; templates take about a millisecond.
SECONDS = 10.0
#: Longest time until the process is ready, in seconds (about 1 on an idle machine).
START_SECONDS = 300.0
#: Memory of the process, transformers' code included (about 300 MB), where the system can limit it.
MEMORY = 1 << 30
#: Longest text of one conversation.
CHARACTERS = 10_000_000
#: Rendered texts in the cache, and the longest conversation (in JSON) whose text is cached.
CACHED, CACHED_CHARACTERS = 8192, 20_000


class TemplateFailure(Exception):
    """A template did not give a text; the message says why."""


class _Renderer:
    """A running worker process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # the script's folder stays off its path (-P): its modules would hide others of the same name
        script = str(Path(__file__).with_name("template_worker.py"))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = os.environ | threads | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                encoding="utf-8",
            )
        except OSError as error:
            raise WorkError(f"cannot start the process that renders chat templates: {error}") from error
        if self._read(START_SECONDS) != "ready\n":
            self.stop()
            raise WorkError(
                f"the process that renders chat templates does not start ({sys.executable}): use chat=False, or repair the "
                "installation of transformers"
            )

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """Return the answer; None if the process was killed after `seconds`, {} if it ended by itself."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            return {}
        line = self._read(seconds)
        if line is None:
            return None
        return json.loads(line) if line.endswith("\n") else {}

    def _read(self, seconds: float) -> str | None:
        """One line; None if the process was killed because it took too long."""
        assert self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        return None if late.is_set() and not line.endswith("\n") else line

    def alive(self) -> bool:
        return self.pid == os.getpid() and self.process.poll() is None

    def stop(self) -> None:
        if self.pid != os.getpid():  # a copy in a forked process: the worker belongs to the parent
            return
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not sent is lost with the process
                    continue
        self.process.wait()


class _Renderers:
    """The worker of this process; a forked process gets one of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: _Renderer | None = None

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        with self.lock:
            if self.worker is None or not self.worker.alive():
                self.worker = _Renderer()
            answer: dict[str, Any] | None = None
            finished = False
            try:
                answer = self.worker.ask(request, seconds)
                finished = bool(answer)
                return answer
            finally:
                if not finished:  # killed, ended, or interrupted in the middle of an answer
                    self.worker.stop()
                    self.worker = None

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def forked(self) -> None:
        """In a forked process: forget the parent's worker, and a lock that another thread may have held."""
        self.lock, self.worker = threading.Lock(), None


_RENDERERS = _Renderers()
atexit.register(_RENDERERS.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RENDERERS.forked)


@lru_cache(maxsize=CACHED)
def _text(template: str, request: str) -> str:
    """The text of a request in JSON. Failures are not cached."""
    messages, variables, date = json.loads(request)
    return render(template, messages, variables, date=date)


def render_cached(
    template: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any], *, date: str | None = None
) -> str:
    """Return a conversation in a template, rendered once for equal arguments.

    A study encodes the same prompts for every condition, and requests to the other process were a quarter of a small one's
    time. Failures are not cached.

    Args:
        template: See `render`.
        messages: See `render`.
        variables: See `render`.
        date: See `render`.

    Raises:
        TemplateFailure: See `render`.
        WorkError: See `render`.
    """
    request = json.dumps([list(messages), dict(variables), date])
    if len(request) > CACHED_CHARACTERS:
        return render(template, messages, variables, date=date)
    return _text(template, request)


def render(
    template: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any], *, date: str | None = None
) -> str:
    """Return a conversation in a template, up to the assistant's answer, as transformers renders it.

    Args:
        template: Source of the template.
        messages: The conversation.
        variables: Further variables of the template; plain data.
        date: The date that the template reads as today's, YYYY-MM-DD; None leaves the clock.

    Raises:
        TemplateFailure: The template raised an error, or exceeded a limit.
        WorkError: The process that renders templates does not start.
    """
    request = {
        "template": template,
        "messages": list(messages),
        "variables": dict(variables),
        "date": date,
        "memory": MEMORY,
        "seconds": max(1, round(SECONDS)),
        "characters": CHARACTERS,
    }
    answer = _RENDERERS.ask(request, SECONDS)
    if answer is None:
        raise TemplateFailure(f"did not end within {SECONDS:g} s")
    if not answer:
        raise TemplateFailure(f"ended its process (more than {MEMORY >> 20} MiB of memory, or too deep a recursion)")
    if answer.get("error") == "MemoryError":
        raise TemplateFailure(f"needs more than {MEMORY >> 20} MiB of memory")
    if "error" in answer:
        raise TemplateFailure(f"failed ({answer['error']}: {answer['line']})")
    return str(answer["text"])
