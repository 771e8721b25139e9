"""The chat judge killed in the middle: no answer that was kept is asked for again, none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.faulty_server import TEXTS, FaultyServer, wanted
from neva_tl.core.cache import JsonCache
from neva_tl.evaluation.judges.chat import ChatJudge

pytestmark = pytest.mark.usefixtures("chat_environment")

#: Imports once, then forks a process for every line it reads: url, cache, concurrency, texts, answers until it dies.
ASK = """
import json, os, signal, sys
import openai.resources.chat.completions
from neva_tl.evaluation.judges.chat import ChatJudge

def work(url, path, concurrency, texts, die):
    judge = ChatJudge("m", url, key_env=None, cache=path, concurrency=concurrency, max_retries=0, timeout=10)
    put, done = judge._kept.put, []
    def put_and_die(key, value):
        put(key, value)
        done.append(key)
        if len(done) == die:
            os.kill(os.getpid(), signal.SIGKILL)
    judge._kept.put = put_and_die
    judge.score(texts)

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            work(*json.loads(line))
            os._exit(0)
        finally:
            os._exit(1)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forker():
    """A process that runs judges in children of its own."""
    with subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        yield one
        one.stdin.close()


def start(forker, server: FaultyServer, path: Path, concurrency: int, die: int = 0) -> int:
    """Start a child; its process id."""
    forker.stdin.write(json.dumps([server.url, str(path), concurrency, TEXTS, die]) + "\n")
    forker.stdin.flush()
    return int(forker.stdout.readline())


def status(forker) -> int:
    """How the child ended."""
    return int(forker.stdout.readline())


def check(server: FaultyServer, path: Path) -> None:
    """The cache now answers everything, rightly, without the server."""
    before = len(server.seen)
    chat = ChatJudge("m", server.url, key_env=None, cache=path)
    np.testing.assert_array_equal(chat.score(TEXTS), wanted())
    assert len(server.seen) == before and chat.report().cached == len(TEXTS)


def test_killed_between_questions_each_is_asked_exactly_once(tmp_path, forker):
    """One question at a time, SIGKILL right after the ninth answer: the two runs ask 9 + 15 questions."""
    with FaultyServer() as server:
        start(forker, server, tmp_path / "c", 1, die=9)
        assert status(forker) == -signal.SIGKILL
        assert server.seen == TEXTS[:9]
        start(forker, server, tmp_path / "c", 1)
        assert status(forker) == 0
        assert server.seen == TEXTS
        check(server, tmp_path / "c")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_killed_from_outside_only_questions_in_flight_are_asked_twice(tmp_path, forker, concurrency):
    """SIGKILL while the server holds its tenth request: at most as many questions as were in flight come again."""
    child: list[int] = []
    started = threading.Event()

    def kill(number: int) -> None:
        if number == 10:
            started.wait(30)
            os.kill(child[0], signal.SIGKILL)
            time.sleep(0.1)

    with FaultyServer(on_request=kill, pause=0.01) as server:
        child.append(start(forker, server, tmp_path / "c", concurrency))
        started.set()
        assert status(forker) == -signal.SIGKILL
        time.sleep(0.3)
        kept = len(JsonCache(tmp_path / "c"))
        first = list(server.seen)
        # all that arrived, less what was kept, was in flight; with one question at a time it is the tenth
        assert len(first) >= 10 and 1 <= len(first) - kept <= concurrency
        assert len(set(first)) == len(first)
        server.on_request = None
        start(forker, server, tmp_path / "c", concurrency)
        assert status(forker) == 0
        twice = [text for text, n in Counter(server.seen).items() if n == 2]
        # asked twice are exactly as many as had arrived without being kept, and nothing is asked thrice or never
        assert len(twice) == len(first) - kept and set(twice) <= set(first)
        assert max(Counter(server.seen).values()) == 2 and set(server.seen) == set(TEXTS)
        check(server, tmp_path / "c")
