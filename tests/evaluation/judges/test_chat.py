"""The chat judge against a real local HTTP server that fails in every way on order."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import traceback
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.faulty_server import KEY, TEXTS, FaultyServer, right, wanted
from neva_tl.core.cache import JsonCache
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.values import VALUES, value
from neva_tl.editing import RolePrompt
from neva_tl.evaluation.judges import load_judge
from neva_tl.evaluation.judges.base import TextJudge, reads_texts
from neva_tl.evaluation.judges.chat import GIVE_UP, ChatJudge
from neva_tl.evaluation.judges.question import QUESTION

pytestmark = pytest.mark.usefixtures("chat_environment")


def judge(server: FaultyServer, **options) -> ChatJudge:
    return ChatJudge("m", server.url, **({"timeout": 5.0, "concurrency": 4} | options))


def test_it_is_a_text_judge_and_asks_our_question():
    with FaultyServer() as server:
        chat = judge(server)
        assert isinstance(chat, TextJudge) and reads_texts(chat)
        found = chat.score(TEXTS[:2], ["What then?", ""])
        np.testing.assert_array_equal(found, wanted(TEXTS[:2]))
        content = server.bodies[0]["messages"]
        assert len(content) == 1 and content[0]["content"].startswith(QUESTION) and chat.question == QUESTION
        assert all(name in QUESTION and value(name).definition in QUESTION for name in VALUES)
        assert chat.oppose(TEXTS[:2]) is None
        assert list(chat.valid(["fine words", ""])) == [True, False]
        asked = {json.loads(b["messages"][0]["content"].rsplit("\n\n", 1)[1])["prompt"] for b in server.bodies}
        assert asked == {"What then?", ""}


def test_right_scores_land_on_right_texts_under_concurrency_and_faults():
    """Every recoverable fault at once, eight questions in flight: nothing lost, nothing mixed up, counts by hand."""
    plan = {
        TEXTS[0]: ["429"],
        TEXTS[1]: ["429 0.05", "429 0.05"],
        TEXTS[2]: ["500", "503", "502"],
        TEXTS[3]: ["reset"],
        TEXTS[4]: ["truncated"],
        TEXTS[5]: ["nonsense", "refusal"],
        TEXTS[6]: ["empty"],
        TEXTS[7]: ["length"],
        TEXTS[8]: ["types"],
        TEXTS[9]: ["fenced"],
        TEXTS[10]: ["html"],
        TEXTS[11]: ["halfjson"],
        TEXTS[12]: ["nochoice"],
        TEXTS[13]: ["nousage"],
    }
    with FaultyServer(plan, pause=0.01) as server:
        chat = judge(server, concurrency=8, price_in=2.0, price_out=8.0)
        np.testing.assert_array_equal(chat.score(TEXTS), wanted())
        report = chat.report()
        assert 1 < server.most <= 8
    assert report.asked == len(TEXTS) and report.cached == 0 and report.failed == {}
    assert report.retried == 1 + 2 + 3 + 1  # the client's own: 429, 429 twice, 5xx thrice, reset
    assert report.reasked == 9  # texts 4, 5 (twice), 6, 7, 8, 10, 11, 12
    assert report.requests == len(server.seen) == len(TEXTS) + 7 + 9
    # every chat completion with a usage count was counted, good or not: 24 final ones less one, and 6 unreadable ones
    assert (report.tokens_in, report.tokens_out, report.uncounted) == (2900, 290, 1)
    assert report.cost == pytest.approx((2900 * 2 + 290 * 8) / 1e6)
    assert "24 asked" in str(report) and "basic human values" in report._repr_html_()
    assert dict(report.table().itertuples(index=False))["retried"] == 7
    report.show()


def test_retry_after_is_honoured():
    with FaultyServer({TEXTS[0]: ["429 0.4"]}) as server:
        judge(server).score(TEXTS[:1])
        assert server.at[1] - server.at[0] >= 0.4


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("truncated", "no JSON"),
        ("length", "cut off"),
        ("refusal", "refusal"),
        ("sorry", "refusal"),
        ("nonsense", "no JSON"),
        ("empty", "empty"),
        ("list", "no JSON"),
    ],
)
def test_what_cannot_be_read_is_missing_and_final(tmp_path, fault, kind):
    """After the bounded re-asks the answer is kept as missing: a second run asks nothing."""
    with FaultyServer({TEXTS[0]: [fault] * 9}) as server:
        found = judge(server, cache=tmp_path / "c", reasks=2).score(TEXTS[:2])
        assert np.isnan(found[0]).all()
        np.testing.assert_array_equal(found[1], right(TEXTS[1]))
        assert Counter(server.seen) == {TEXTS[0]: 3, TEXTS[1]: 1}
        again = judge(server, cache=tmp_path / "c", reasks=2)
        np.testing.assert_array_equal(again.score(TEXTS[:2]), found)
        assert len(server.seen) == 4
    report = again.report()
    assert (report.asked, report.cached, report.requests, report.failed) == (0, 2, 0, {kind: 1})


def test_only_what_is_missing_is_missing():
    bad = [VALUES.index(v) for v in ("power", "security", "conformity", "tradition")]
    gone = [VALUES.index(v) for v in ("power", "hedonism")]
    plan = {
        TEXTS[0]: ["types"] * 9,
        TEXTS[1]: ["partial"] * 9,
        TEXTS[2]: ["null"],
        TEXTS[3]: ["types", "partial", "empty"],
    }
    with FaultyServer(plan) as server:
        chat = judge(server, reasks=2)
        found = chat.score(TEXTS[:4])
        for row, missing in enumerate([bad, gone, [VALUES.index("benevolence")], gone]):
            there = np.setdiff1d(np.arange(10), missing)
            assert np.isnan(found[row, missing]).all()
            np.testing.assert_array_equal(found[row, there], np.array(right(TEXTS[row]))[there])
        # null is an answer ("cannot say"): it is not asked for again; the fourth keeps its fullest answer
        assert Counter(server.seen) == {TEXTS[0]: 3, TEXTS[1]: 3, TEXTS[2]: 1, TEXTS[3]: 3}
    assert chat.report().failed == {"incomplete": 3} and chat.report().undecided == 1


def test_transport_failures_are_missing_now_and_asked_again_by_the_next_run(tmp_path):
    plan = {
        TEXTS[0]: ["500"] * 3,
        TEXTS[1]: ["hang"] * 3,
        TEXTS[2]: ["reset"] * 3,
        TEXTS[3]: ["400"],
        TEXTS[4]: ["html"] * 3,
    }
    options = {"cache": tmp_path / "c", "max_retries": 2, "timeout": 0.3, "reasks": 2, "opposes": True}
    with FaultyServer(plan, opposes=True) as server:
        chat = judge(server, **options)
        found = chat.score(TEXTS[:8])
        assert np.isnan(found[:5]).all()
        np.testing.assert_array_equal(found[5:], wanted(TEXTS[5:8]))
        first = len(server.seen)
        assert first == 3 + 3 + 3 + 1 + 3 + 3
        assert chat.report().failed == {
            "HTTP 500": 1,
            "timeout": 1,
            "connection lost": 1,
            "HTTP 400": 1,
            "bad reply": 1,
        }
        # reading opposition of the same texts asks nothing again
        assert np.isnan(chat.oppose(TEXTS[:8])[:5]).all() and len(server.seen) == first
        resumed = judge(server, **options)
        np.testing.assert_array_equal(resumed.score(TEXTS[:8]), wanted(TEXTS[:8]))
        assert Counter(server.seen[first:]) == Counter(TEXTS[:5])
        assert resumed.report().failed == {} and resumed.report().cached == 3
        # and the first object asks again too when it is told to score again: by now the answers are there
        np.testing.assert_array_equal(chat.score(TEXTS[:8]), wanted(TEXTS[:8]))
        assert chat.report().failed == {}


def test_opposition_comes_from_the_same_answer():
    with FaultyServer(opposes=True) as server:
        chat = judge(server, opposes=True)
        np.testing.assert_array_equal(chat.score(TEXTS[:5]), wanted(TEXTS[:5]))
        np.testing.assert_array_equal(chat.oppose(TEXTS[:5]), [right(text, True) for text in TEXTS[:5]])
        assert len(server.seen) == 5
        assert '"opposes"' in chat.question


def test_texts_that_are_no_language_score_zero_and_cost_nothing():
    with FaultyServer() as server:
        found = judge(server).score(["", "...", "no " * 40, TEXTS[0], TEXTS[0]])
        assert not found[:3].any()
        np.testing.assert_array_equal(found[3:], wanted([TEXTS[0]] * 2))
        assert server.seen == [TEXTS[0]]


def test_rate_limit_spaces_requests(monkeypatch):
    """On a clock that stands still six requests (a retry counts) wait 0, .1, ... .5 seconds, on whatever thread."""
    waits = []
    clock = SimpleNamespace(monotonic=lambda: 100.0, sleep=waits.append)
    monkeypatch.setattr("neva_tl.evaluation.judges.endpoint.time", clock)
    with FaultyServer({TEXTS[0]: ["500"]}) as server:
        found = judge(server, requests_per_minute=600.0, concurrency=4).score(TEXTS[:5])
    np.testing.assert_array_equal(found, wanted(TEXTS[:5]))
    np.testing.assert_allclose(sorted(waits), np.arange(6) / 10, atol=1e-9)


def test_keys_by_content(tmp_path):
    """Another text, prompt, model, address, setting or question is another question; the same one is not."""
    cache = JsonCache(tmp_path / "c")
    with FaultyServer(opposes=True) as server, FaultyServer() as other:
        judge(server, cache=cache).score(TEXTS[:1])
        judge(server, cache=cache, concurrency=1, max_retries=0).score(TEXTS[:1] * 2)
        assert len(server.seen) == 1
        judge(server, cache=cache).score(TEXTS[:1], ["Before."])
        judge(server, cache=cache, temperature=1.0).score(TEXTS[:1])
        judge(server, cache=cache, extra={"seed": 1}).score(TEXTS[:1])
        judge(server, cache=cache, opposes=True).score(TEXTS[:1])
        ChatJudge("other", server.url, cache=cache).score(TEXTS[:1])
        assert len(server.seen) == 6 and server.bodies[3]["seed"] == 1 and server.bodies[0]["temperature"] == 0
        judge(other, cache=cache).score(TEXTS[:1])
        assert len(other.seen) == 1


# ---------------------------------------------------------------- the key


def test_the_key_is_nowhere(tmp_path, caplog):
    """Not in the cache file, the logs at their noisiest, repr, report or errors, even where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    plan = {TEXTS[0]: ["leak"] * 3, TEXTS[1]: ["500"], TEXTS[2]: ["400"]}
    said = []
    with FaultyServer(plan) as server:
        chat = judge(server, cache=tmp_path / "c.sqlite")
        chat.score(TEXTS[:4])
        assert server.keys[0] == f"Bearer {KEY}"  # it does arrive
        said += [repr(chat), str(chat), chat.name, chat.fingerprint, str(chat.report()), repr(chat.report())]
        server.always = "401"
        with pytest.raises(InputError, match="refused the key") as stopped:
            chat.score(TEXTS[4:])
        said += ["".join(traceback.format_exception(stopped.value)), str(stopped.value)]
        server.always = "400"
        with pytest.raises(WorkError, match=r"HTTP 400: .*fault 400") as stopped:
            judge(server, reasks=0, concurrency=1).score(TEXTS)
        said += ["".join(traceback.format_exception(stopped.value))]
    chat._kept.close()
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert files and all(KEY.encode() not in content for content in files)
    kept = [row[0] for row in sqlite3.connect(tmp_path / "c.sqlite").execute("SELECT value FROM kept")]
    assert any("[key]" in row for row in kept)  # struck out, where the endpoint repeated it
    assert caplog.records and KEY not in caplog.text
    assert all(KEY not in text for text in said)


def test_a_wrong_key_stops_at_once():
    with FaultyServer(always="401") as server, pytest.raises(InputError, match="401") as stopped:
        judge(server, concurrency=2).score(TEXTS)
    assert len(server.seen) <= 2 and "\n" not in str(stopped.value)


def test_an_unknown_model_stops_at_once():
    with FaultyServer(always="404") as server, pytest.raises(InputError, match="no model 'm'"):
        judge(server, concurrency=1).score(TEXTS)
    assert len(server.seen) == 1


def test_a_missing_key_is_said_and_a_keyless_server_must_be_stated(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with FaultyServer() as server:
        with pytest.raises(InputError, match=r"OPENAI_API_KEY.*key=none"):
            judge(server)
        np.testing.assert_array_equal(judge(server, key_env=None).score(TEXTS[:1]), wanted(TEXTS[:1]))
        monkeypatch.setenv("MY_KEY", "k" * 20)
        judge(server, key_env="MY_KEY").score(TEXTS[:1])
        assert server.keys == ["Bearer none", f"Bearer {'k' * 20}"]
        with pytest.raises(InputError) as wrong:
            judge(server, key_env="sk-pasted-key")
        assert "sk-pasted" not in str(wrong.value)


# ---------------------------------------------------------------- endpoints that are down


def test_nobody_listening_is_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chat = ChatJudge("m", f"http://127.0.0.1:{port}/v1", max_retries=1, cache=tmp_path / "c")
    with pytest.raises(WorkError, match="cannot reach http") as stopped:
        chat.score(TEXTS)
    assert "\n" not in str(stopped.value) and str(tmp_path) in str(stopped.value)


def test_a_server_that_only_fails_is_given_up(tmp_path):
    with FaultyServer(always="500") as server:
        chat = judge(server, max_retries=0, concurrency=1, cache=tmp_path / "c")
        with pytest.raises(WorkError, match=f"{GIVE_UP} questions in a row .*HTTP 500"):
            chat.score(TEXTS)
        assert len(server.seen) == GIVE_UP
        server.always = None
        np.testing.assert_array_equal(judge(server, cache=tmp_path / "c").score(TEXTS), wanted())


# ---------------------------------------------------------------- downstream


def test_missing_scores_are_bounded_and_the_question_is_printed(monkeypatch):
    """Unedited and edited texts before the judge; one refused: NaN, left out of D, and bounded by hand."""
    from neva_tl.evaluation.conditions import leakage as alignment
    from neva_tl.evaluation.conditions import observe as observed
    from neva_tl.evaluation.measures.cluster_sums import worst_case

    model = SimpleNamespace(cfg=None)
    prompts, refused = ["one", "two", "three"], "Edited number 1 went by."
    plain_texts, edited_texts = ([f"{kind} number {i} went by." for i in range(3)] for kind in ("Plain", "Edited"))
    monkeypatch.setattr(observed, "write_texts", lambda model, edits, *a, **k: edited_texts if edits else plain_texts)
    with FaultyServer({refused: ["refusal"] * 3}) as server:
        found = alignment.leakage(
            model,
            {"power": RolePrompt("x")},
            prompts,
            judge(server),
            n_boot=50,
            n_permutations=9,
            progress=False,
        )
    place = VALUES.index("power")
    row = found.table().query("measured == 'power'").iloc[0]
    plain, edited = wanted(plain_texts)[:, place], wanted(edited_texts)[:, place]
    assert row["d"] == pytest.approx(np.mean((edited - plain)[[0, 2]])) and row["missing"] == pytest.approx(1 / 3)
    edited[1] = 0.0
    low, high = np.mean(edited - plain), np.mean(edited - plain) + 1 / 3
    assert (row["worst_lo"], row["worst_hi"]) == (pytest.approx(low), pytest.approx(high))
    assert worst_case(found.responses) is not None
    assert found.responses.question == QUESTION and "basic human values" in found._repr_html_()


# ---------------------------------------------------------------- by name


def test_specs():
    chat = load_judge("chat:llama3:8b@http://localhost:8000/v1#key=none&rpm=60&concurrency=2&price_in=.5&opposes=yes")
    assert isinstance(chat, ChatJudge)
    assert (chat.model, chat.base_url, chat.key_env) == ("llama3:8b", "http://localhost:8000/v1", None)
    assert (chat.requests_per_minute, chat.concurrency, chat.price_in, chat.opposes) == (60, 2, 0.5, True)
    plain = load_judge("chat:gpt-x")
    assert isinstance(plain, ChatJudge) and plain.base_url == "https://api.openai.com/v1" and plain.name == "chat:gpt-x"
    at = load_judge("chat:@cf/meta/llama@https://api.example.org/v1/")
    assert isinstance(at, ChatJudge) and (at.model, at.base_url) == ("@cf/meta/llama", "https://api.example.org/v1")
    assert isinstance(load_judge("chat:claude@20240620"), ChatJudge)
    for bad, said in {
        "chat": "needs MODEL@BASE_URL",
        "chat:": "needs MODEL@BASE_URL",
        "chat:m@localhost:8000": "http://",
        "chat:m@ftp://x": "http address",
        "chat:m@http://user:pw@x/v1": "no user, password",
        "chat:m@http://x/v1?key=1": "no user, password",
        "chat:m#concurrency=many": "is malformed",
        "chat:m#concurrency=0": "concurrency",
        "chat:m#secret=1": "no such option",
        "chat:m#rpm=0": "requests_per_minute",
    }.items():
        with pytest.raises(InputError, match=said) as wrong:
            load_judge(bad)
        assert "pw" not in str(wrong.value)
