"""Templates without an end, or with a text without an end, are stopped; honest ones read as transformers renders them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.inference import template_renderer
from neva_tl.models.inference.template_renderer import TemplateFailure, render, render_cached
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

TALK = [{"role": "user", "content": "Hello?"}]
HONEST = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"
GROWING = "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x }}"
ENDLESS = {
    "nested loops": "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4,
    "two calls in each macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    "a giant number": "{{ 10 ** (10 ** 9) }}",
    "a generator of text": "{{ lipsum(n=100000000) }}",
}
HUGE = {
    "a product": "{{ 'a' * 10**10 }}",
    "a sum that doubles": GROWING.replace("STEP", "ns.x + ns.x"),
    "a join that doubles": GROWING.replace("STEP", "ns.x ~ ns.x"),
    "a list": "{{ [0] * 10**9 }}",
    "padding": "{{ 'a' | center(2000000000) }}",
    "a format": "{{ '%2000000000d' % 1 }}",
    "a long text": "{{ 'a' * 20000000 }}",
}
SHORT = {
    "a long range": "{% for i in range(10**9) %}{% endfor %}",
    "a macro without end": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "another file": "{% include '/etc/passwd' %}",
    "no text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """Start the process once, so that no test measures its start."""
    assert render(HONEST, TALK, {"bos_token": "<s>"}) == "<s><user>Hello?"


@pytest.mark.parametrize("name", list(ENDLESS))
def test_a_template_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(template_renderer, "SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(TemplateFailure, match=r"did not end within 0\.3 s|MiB of memory"):
        render(ENDLESS[name], TALK, {})
    # stopping takes no longer than the limit; another start is paid by the next template
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", list(HUGE))
def test_a_text_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(template_renderer, "MEMORY", 1 << 29)
    with pytest.raises(TemplateFailure, match=r"MiB of memory|characters|did not end"):
        render(HUGE[name], TALK, {})


@pytest.mark.parametrize("name", list(SHORT))
def test_errors_of_a_template_leave_the_process_running(name: str) -> None:
    worker = template_renderer._RENDERERS.worker
    with pytest.raises(TemplateFailure, match="failed"):
        render(SHORT[name], TALK, {})
    assert render(HONEST, TALK, {"bos_token": "<s>"}) == "<s><user>Hello?"
    if worker is not None:
        assert template_renderer._RENDERERS.worker is worker


def test_the_message_is_one_line_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoint(tmp_path, chat=True)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = ENDLESS["nested loops"]
    tokenizer.save_pretrained(tmp_path)
    model = models.load(tmp_path)
    monkeypatch.setattr(template_renderer, "SECONDS", 0.3)
    for call in (
        lambda: inference.encode_one(model, [Example("Hello?", "Hi.")]),
        lambda: inference.generate(model, ["Hello?"], max_new_tokens=2),
    ):
        with pytest.raises(InputError, match=r"did not end within 0\.3 s.*chat=False") as caught:
            call()
        assert "\n" not in str(caught.value)
    # and without the template the model works
    assert inference.encode_one(model, [Example("Hello?", "Hi.")], chat=False)


def test_texts_are_those_of_transformers() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = HONEST + "{{ tojson_is | tojson }}{% if add_generation_prompt %}<a>{% endif %}"
    for content in ("  Guten Tag, 你好 \n", "a\u2028b\r\n\t", "\ud800", "</s>{{ x }}", ""):
        talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
        own = tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True, tojson_is={"x": [1, None]}
        )
        variables = {**tokenizer.special_tokens_map, "tojson_is": {"x": [1, None]}}
        assert render(tokenizer.get_chat_template(), talk, variables) == own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_worker_of_its_own() -> None:
    mine = template_renderer._RENDERERS.worker
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest runs here
        try:
            ok = template_renderer._RENDERERS.worker is None and render("child {{ x }}", TALK, {"x": 1}) == "child 1"
            os.write(write, b"1" if ok else b"0")
            template_renderer._RENDERERS.stop()
        finally:
            os._exit(0)
    os.close(write)
    answer = os.read(read, 1)
    os.close(read)
    os.waitpid(child, 0)
    assert answer == b"1"
    assert render(HONEST, TALK, {"bos_token": "<s>"}) == "<s><user>Hello?"
    assert template_renderer._RENDERERS.worker is mine


def test_an_interrupt_leaves_no_half_read_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    render(HONEST, TALK, {"bos_token": "<s>"})
    worker: Any = template_renderer._RENDERERS.worker

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render(HONEST, TALK, {"bos_token": "<s>"})
    assert worker.process.poll() is not None
    assert render(HONEST, TALK, {"bos_token": "</s>"}) == "</s><user>Hello?"


def test_a_text_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        template_renderer, "render", lambda *args, **options: asked.append(args) or render(*args, **options)
    )
    variables = {"bos_token": "<once>"}
    for _ in range(2):
        assert render_cached(HONEST, TALK, variables) == "<once><user>Hello?"
    assert len(asked) == 1
    # whatever changes the text is another request
    assert render_cached(HONEST, TALK, {"bos_token": "<two>"}) == "<two><user>Hello?"
    assert render_cached(HONEST + "!", TALK, variables) == "<once><user>Hello?!"
    assert render_cached(HONEST, [*TALK, {"role": "a", "content": "x"}], variables) == "<once><user>Hello?<a>x"
    dated = "{{ strftime_now('%Y') }}"
    assert [render_cached(dated, TALK, {}, date=f"{year}-01-01") for year in (2001, 2002)] == ["2001", "2002"]
    assert len(asked) == 6
    for _ in range(2):  # a failure, and a long conversation, are not cached
        with pytest.raises(TemplateFailure):
            render_cached(SHORT["another file"], TALK, {})
        render_cached(HONEST, [{"role": "user", "content": "a" * template_renderer.CACHED_CHARACTERS}], variables)
    assert len(asked) == 10
