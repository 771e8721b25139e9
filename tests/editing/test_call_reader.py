"""Which tokens an edit touches, or why it refuses: every way of calling a model, against raw hooks on one text at a time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError, NevaError, WorkError
from neva_tl.editing import SCOPES, Shift, edit, edit_hf, edit_rows
from neva_tl.models import inference
from neva_tl.models.inference.session import sessions_on
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
DOSE = 3.0
TEXTS = [[0, 70, 80, 90, 75], [0, 71, 81], [0, 60, 61, 62]]
EXAMPLES = [Example("Who eats the bread?", "Tom eats it"), Example("Why?", "because he was hungry and cold")]
NEW = 4
DEPENDENT = ("prompt", "generated", "last")


@dataclass(frozen=True)
class Pair:
    """The same weights: as transformers has them, in TransformerLens, and a copy that no edit is ever on."""

    hf: Any
    tl: Any
    oracle: Any

    def editing(self, kind: str, *edits: Any, **options: Any) -> Any:
        """The block of one of the two ways, and the model to call in it."""
        return edit(self.tl, *edits, **options) if kind == "tl" else edit_hf(self.hf, *edits, **options)

    def logits(self, kind: str, ids: Tensor, **options: Any) -> Tensor:
        return self.tl(ids, **options) if kind == "tl" else self.hf(ids, **options).logits

    def generate(self, kind: str, ids: Tensor, *, cache: bool = True, mask: Tensor | None = None) -> list[list[int]]:
        """Greedy new tokens."""
        if kind == "hf":
            mask = torch.ones_like(ids) if mask is None else mask
            out = self.hf.generate(
                ids, attention_mask=mask.long(), max_new_tokens=NEW, do_sample=False, use_cache=cache
            )
        else:
            given = {} if mask is None else {"attention_mask": mask.long()}
            out = self.tl.generate(
                ids, max_new_tokens=NEW, do_sample=False, use_past_kv_cache=cache, verbose=False, stop_at_eos=False,
                return_type="tokens", **given,
            )  # fmt: skip
        return out[:, ids.shape[1] :].tolist()


def load(folder: Path) -> Any:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    hf.generation_config.eos_token_id = None
    return hf


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("reader") / request.param, request.param)
    return Pair(load(folder), models.load(folder), load(folder))


@pytest.fixture(autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """No session, hook or replaced method may be left, whatever a test has raised."""
    yield
    if "pair" in request.fixturenames:
        pair = request.getfixturevalue("pair")
        assert not sessions_on(pair.tl) and not sessions_on(pair.hf)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in pair.hf.modules())
        assert not any("generate" in vars(m) for m in (pair.hf, pair.tl, getattr(pair.tl, "original_model", pair.tl)))


def shift(pair: Pair, make_set: Any, scope: Any = "all") -> Shift:
    return Shift(make_set(pair.tl, AT), dose=DOSE, scope=scope)


@contextmanager
def raw_hooks(hf: Any, touched: list[bool]) -> Iterator[None]:
    """The shift by hand: raw PyTorch hooks, on one text that is run in full."""
    blocks = hf.model.layers if hasattr(hf, "model") else hf.transformer.h
    handles = []
    for layer, neuron in AT:
        module = getattr(blocks[layer].mlp, "down_proj", None) or blocks[layer].mlp.c_proj

        def add(_: Any, args: tuple[Tensor, ...], neuron: int = neuron) -> tuple[Tensor]:
            x = args[0].clone()
            x[0, torch.tensor(touched), neuron] += DOSE
            return (x,)

        handles.append(module.register_forward_pre_hook(add))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def in_scope(scope: str, n_prompt: int, n: int) -> list[bool]:
    """The touched tokens of a text of n tokens."""
    return [
        {"all": True, "prompt": i < n_prompt, "generated": i >= n_prompt, "last": i >= n_prompt - 1}[scope]
        for i in range(n)
    ]


def by_hand(pair: Pair, ids: list[int], scope: str) -> Tensor:
    """Logits of one prompt under raw hooks."""
    with torch.no_grad(), raw_hooks(pair.oracle, in_scope(scope, len(ids), len(ids))):
        return pair.oracle(torch.tensor([ids])).logits[0]


def written_by_hand(pair: Pair, ids: list[int], scope: str) -> list[int]:
    """Greedy tokens of one prompt under raw hooks, without a cache."""
    text = list(ids)
    for _ in range(NEW):
        with torch.no_grad(), raw_hooks(pair.oracle, in_scope(scope, len(ids), len(text))):
            text.append(int(pair.oracle(torch.tensor([text])).logits[0, -1].argmax()))
    return text[len(ids) :]


def padded(side: str) -> tuple[Tensor, Tensor]:
    width = max(map(len, TEXTS))
    ids, mask = torch.zeros(len(TEXTS), width, dtype=torch.long), torch.zeros(len(TEXTS), width, dtype=torch.bool)
    for row, text in enumerate(TEXTS):
        span = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        ids[row, span], mask[row, span] = torch.tensor(text), True
    return ids, mask


# ---------------------------------------------------------------- the user's own calls


@pytest.mark.parametrize("kind", ["tl", "hf"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_padded_batch_equals_single_prompts(pair: Pair, make_set: Any, scope: Any, kind: str) -> None:
    for side in ("right", "left"):
        ids, mask = padded(side)
        position = (mask.long().cumsum(1) - 1).clamp_min(0)
        given = {"attention_mask": mask.long()} | ({"position_ids": position} if kind == "hf" else {})
        with torch.no_grad(), pair.editing(kind, shift(pair, make_set, scope)):
            got = pair.logits(kind, ids, **given)
        for row, text in enumerate(TEXTS):
            torch.testing.assert_close(got[row, mask[row]], by_hand(pair, text, scope), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["tl", "hf"])
@pytest.mark.parametrize("scope", SCOPES)
def test_own_generate_of_a_padded_batch_and_of_two_prompts_in_a_row(
    pair: Pair, make_set: Any, scope: Any, kind: str
) -> None:
    """The second prompt repeats the first and is one token longer: it is a prompt, with and without a cache."""
    want = [written_by_hand(pair, text, scope) for text in TEXTS]
    longer = [*TEXTS[0], 91]
    ids, mask = padded("left")
    for cache in (True, False):
        with torch.no_grad(), pair.editing(kind, shift(pair, make_set, scope)):
            # HookedTransformer's own generate takes no mask: unedited too, a padded batch or a lone pad token differs there
            if kind == "hf" or hasattr(pair.tl, "original_model"):
                assert pair.generate(kind, ids, cache=cache, mask=mask) == want
                assert pair.generate(kind, torch.tensor([[0]]), cache=cache) == [written_by_hand(pair, [0], scope)]
            assert pair.generate(kind, torch.tensor(TEXTS[:1]), cache=cache) == want[:1]
            assert pair.generate(kind, torch.tensor([longer]), cache=cache) == [written_by_hand(pair, longer, scope)]


@pytest.mark.parametrize("kind", ["tl", "hf"])
def test_a_plain_call_is_never_taken_as_a_continuation(pair: Pair, make_set: Any, kind: str) -> None:
    first, second, single = torch.tensor([TEXTS[0]]), torch.tensor([[*TEXTS[0], 91]]), torch.tensor([[70]])
    for scope in DEPENDENT:
        with torch.no_grad(), pair.editing(kind, shift(pair, make_set, scope), record=True) as session:
            pair.logits(kind, first)
            with pytest.raises(InputError, match=r"may be the next prompt or a generated token.*session\.mark"):
                pair.logits(kind, second)
            pair.logits(kind, first)
            session.mark(torch.zeros_like(second, dtype=torch.bool), torch.ones_like(second, dtype=torch.bool))
            got = pair.logits(kind, second)[0]
            torch.testing.assert_close(got, by_hand(pair, second[0].tolist(), scope), atol=1e-4, rtol=1e-4)
            pair.logits(kind, single)
            assert session.touched[-1].tolist() == [[scope != "generated"]], "one token without a cache is a prompt"
    with torch.no_grad(), pair.editing(kind, shift(pair, make_set)):
        pair.logits(kind, first)
        got = pair.logits(kind, second)[0]
    torch.testing.assert_close(got, by_hand(pair, second[0].tolist(), "all"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["tl", "hf"])
def test_padding_without_a_mask_is_refused_where_it_matters(pair: Pair, make_set: Any, kind: str) -> None:
    pad = pair.tl.tokenizer.pad_token_id if kind == "tl" else 5
    before = pair.hf.config.pad_token_id
    pair.hf.config.pad_token_id = 5
    try:
        tails = torch.tensor([[0, 70, 80], [0, 70, pad]])
        heads = torch.tensor([[0, 70, 80], [pad, pad, 70]])
        for ids in (tails, heads):
            with (
                pytest.raises(InputError, match="no attention_mask says"),
                pair.editing(kind, shift(pair, make_set, "last")),
            ):
                pair.logits(kind, ids)
            with torch.no_grad(), pair.editing(kind, shift(pair, make_set, "last")):
                pair.logits(kind, ids, attention_mask=torch.ones_like(ids))
            with torch.no_grad(), pair.editing(kind, shift(pair, make_set)):
                pair.logits(kind, ids)
    finally:
        pair.hf.config.pad_token_id = before


def test_texts_padded_on_the_right_without_a_mask_are_refused(pair: Pair, make_set: Any) -> None:
    """TransformerLens pads a list of strings and passes no mask where the padding is on the right."""
    texts, side = ["Why?", "Who eats the bread?"], pair.tl.tokenizer.padding_side
    alone = pair.tl.to_tokens(texts[0])[0].tolist()
    try:
        pair.tl.tokenizer.padding_side = "right"
        with pytest.raises(InputError, match="attention_mask"), edit(pair.tl, shift(pair, make_set, "last")):
            pair.tl(texts)
        pair.tl.tokenizer.padding_side = "left"
        with torch.no_grad(), edit(pair.tl, shift(pair, make_set, "last")):
            got = pair.tl(texts)
    finally:
        pair.tl.tokenizer.padding_side = side
    torch.testing.assert_close(got[0, -1], by_hand(pair, alone, "last")[-1], atol=1e-4, rtol=1e-4)


def test_several_texts_in_one_row_are_refused(pair: Pair, make_set: Any) -> None:
    ids, position = torch.tensor([[0, 70, 80, 0, 71, 81]]), torch.tensor([[0, 1, 2, 0, 1, 2]])
    with pytest.raises(InputError, match="position ids restart"), edit_hf(pair.hf, shift(pair, make_set, "last")):
        pair.hf(ids, position_ids=position)


def test_a_next_turn_in_generate_is_prompt_and_chunks_are_refused(pair: Pair, make_set: Any) -> None:
    """The prompt's last token alone runs in generate: it is prompt although one token follows a cache."""
    text = TEXTS[0]
    ids = torch.tensor([text])
    for scope in SCOPES:
        with torch.no_grad(), edit_hf(pair.hf, shift(pair, make_set, scope), record=True) as session:
            ones = torch.ones_like(ids[:, :-1], dtype=torch.bool)
            session.mark(torch.zeros_like(ones), ones if scope != "last" else ~ones)  # the prompt does not end here
            past = pair.hf(ids[:, :-1], use_cache=True).past_key_values
            out = pair.hf.generate(
                ids, attention_mask=torch.ones_like(ids), past_key_values=past, max_new_tokens=NEW, do_sample=False
            )
            assert session.touched[1].tolist() == [[scope != "generated"]]
        assert out[0, len(text) :].tolist() == written_by_hand(pair, text, scope)
    for size in (2, 4):  # the last chunk has one token
        with pytest.raises(WorkError, match="prompt in chunks"), edit_hf(pair.hf, shift(pair, make_set, "last")):
            pair.hf.generate(ids, max_new_tokens=2, prefill_chunk_size=size)


def test_a_stream_of_tokens_belongs_to_one_prompt(pair: Pair, make_set: Any) -> None:
    ids = torch.tensor(TEXTS[:1])
    for scope in ("generated", "last"):
        for cache in (True, False):
            with torch.no_grad(), edit(pair.tl, shift(pair, make_set, scope), record=True) as session:
                list(
                    pair.tl.generate_stream(
                        ids,
                        max_new_tokens=3,
                        do_sample=False,
                        use_past_kv_cache=cache,
                        verbose=False,
                        stop_at_eos=False,
                    )
                )
            assert [int(x.sum()) for x in session.touched] == [
                (scope == "last") + (i > 0) * (1 if cache else i) - (cache and i > 0 and scope == "last")
                for i in range(3)
            ]


# ---------------------------------------------------------------- the loops of neva_tl


@pytest.mark.parametrize("scope", SCOPES)
def test_our_loops_find_the_session(pair: Pair, make_set: Any, scope: Any) -> None:
    tl, item = pair.tl, shift(pair, make_set, scope)
    outside = inference.PrefixCache(tl, EXAMPLES)
    prompts = ["Who eats the bread today", "Tom", "Why is it"]
    encoded = inference.encode_one(tl, EXAMPLES)
    prefill = inference.Prefill()

    def measured(session: Any) -> list[Any]:
        given = {"session": session}
        inside = inference.PrefixCache(tl, EXAMPLES, **given)
        return [
            inference.answer_logprobs(tl, EXAMPLES, **given)[0],
            inference.answer_logprobs(tl, EXAMPLES, prefix=outside, **given)[0],
            inference.answer_logprobs(tl, EXAMPLES, prefix=inside, **given)[0],
            inference.answer_greedy(tl, encoded, **given)[0],
            np.concatenate(inference.neutral_logprobs(tl, ["Tom eats his bread"], **given)),
            inference.forward_batch(tl, inference.encode(tl, EXAMPLES), **given).numpy(),  # type: ignore[union-attr]
            inference.generate(tl, prompts, max_new_tokens=8, **given),
            inference.generate(tl, prompts, max_new_tokens=8, cache=False, **given),
            inference.generate(tl, prompts, max_new_tokens=8, prefill=prefill, **given),
        ]

    with edit(tl, item) as session:
        want = measured(session)
    with edit(tl, item):
        got = measured(None)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5) if isinstance(a, np.ndarray) else None
        assert isinstance(a, np.ndarray) or a == b
    np.testing.assert_allclose(got[1], got[0], atol=1e-4)
    np.testing.assert_allclose(got[2], got[0], atol=1e-4)
    assert got[6] == got[7] == got[8]
    assert not np.allclose(got[0], inference.answer_logprobs(tl, EXAMPLES)[0], atol=1e-3)


@pytest.mark.parametrize("scope", DEPENDENT)
def test_nested_blocks_are_both_marked(pair: Pair, make_set: Any, scope: Any) -> None:
    tl = pair.tl
    one, two = shift(pair, make_set, scope), shift(pair, make_set, "generated").with_dose(-1.0)
    with edit(tl, one, two):
        want = inference.answer_logprobs(tl, EXAMPLES)[0]
        texts = inference.generate(tl, ["Why", "Who eats the bread"], max_new_tokens=6, stop_at_eos=False)
    with edit(tl, one) as outer, edit(tl, two) as inner:
        for session in (None, outer, inner):
            np.testing.assert_allclose(inference.answer_logprobs(tl, EXAMPLES, session=session)[0], want, atol=1e-4)
            prefix = inference.PrefixCache(tl, EXAMPLES, session=session)
            got = inference.answer_logprobs(tl, EXAMPLES, session=session, prefix=prefix)[0]
            np.testing.assert_allclose(got, want, atol=1e-4)
        written = inference.generate(tl, ["Why", "Who eats the bread"], max_new_tokens=6, stop_at_eos=False)
    assert written == texts


def test_a_session_after_its_block_is_refused(pair: Pair, make_set: Any) -> None:
    with edit(pair.tl, shift(pair, make_set)) as session:
        inference.answer_logprobs(pair.tl, EXAMPLES)
    with pytest.raises(InputError, match="block of this edit session has ended"):
        inference.answer_logprobs(pair.tl, EXAMPLES, session=session)


def test_rows_of_generated_texts_say_nothing_of_later_passes(pair: Pair, make_set: Any) -> None:
    conditions = [(shift(pair, make_set),), ()]
    with edit_rows(pair.tl, conditions, np.array([0, 1])):
        inference.generate(pair.tl, ["Why", "Who"], max_new_tokens=2, stop_at_eos=False)
        with pytest.raises(WorkError, match="which row belongs to which"):
            inference.answer_logprobs(pair.tl, EXAMPLES)


# ---------------------------------------------------------------- re-entrance, threads, compiled code, backward passes


@pytest.mark.parametrize("kind", ["tl", "hf"])
def test_a_call_from_inside_a_hook_is_refused_and_the_outer_pass_is_right(pair: Pair, make_set: Any, kind: str) -> None:
    ids, errors = torch.tensor(TEXTS[:1]), []
    called = pair.tl.blocks[1] if kind == "tl" else (getattr(pair.hf, "model", None) or pair.hf.transformer)
    block = called if kind == "tl" else (called.layers if hasattr(called, "layers") else called.h)[1]

    def again(*_: Any) -> None:
        try:
            pair.logits(kind, ids[:, :2])
        except InputError as error:
            errors.append(str(error))

    handle = block.register_forward_pre_hook(again)
    try:
        with torch.no_grad(), pair.editing(kind, shift(pair, make_set, "last")):
            got = pair.logits(kind, ids)[0]
    finally:
        handle.remove()
    assert errors and all("inside its own forward pass" in error for error in errors)
    torch.testing.assert_close(got, by_hand(pair, TEXTS[0], "last"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("kind", ["tl", "hf"])
def test_an_interrupted_pass_leaves_the_session_clean(pair: Pair, make_set: Any, kind: str, error: Any) -> None:
    """Also inside `generate`: the next call in the block is neither refused nor edited as a part of the lost one."""
    ids = torch.tensor(TEXTS[:1])
    called = pair.tl.blocks[1] if kind == "tl" else (getattr(pair.hf, "model", None) or pair.hf.transformer)
    block = called if kind == "tl" else (called.layers if hasattr(called, "layers") else called.h)[1]

    def interrupt(*_: Any) -> None:
        raise error

    with torch.no_grad(), pair.editing(kind, shift(pair, make_set, "last")):
        for call in (lambda: pair.logits(kind, ids), lambda: pair.generate(kind, ids)):
            handle = block.register_forward_pre_hook(interrupt)
            with pytest.raises(error):
                call()
            handle.remove()
            torch.testing.assert_close(pair.logits(kind, ids)[0], by_hand(pair, TEXTS[0], "last"), atol=1e-4, rtol=1e-4)


def in_thread(run: Callable[[], Any]) -> Any:
    """The result or the error of a function in another thread."""
    out: list[Any] = []

    def work() -> None:
        try:
            with torch.no_grad():
                out.append(run())
        except NevaError as error:
            out.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return out[0]


@pytest.mark.parametrize("kind", ["tl", "hf"])
def test_other_threads_are_refused_and_do_not_disturb(pair: Pair, make_set: Any, kind: str) -> None:
    ids, item = torch.tensor(TEXTS[:1]), shift(pair, make_set, "last")

    def edited() -> Any:
        with pair.editing(kind, item):
            return pair.generate(kind, ids)

    with torch.no_grad(), pair.editing(kind, item) as session:
        assert "another thread is editing" in str(in_thread(edited))
        assert "edited in another thread" in str(in_thread(lambda: pair.generate(kind, ids)))
        if kind == "tl":
            refused = in_thread(lambda: inference.answer_logprobs(pair.tl, EXAMPLES))
            assert isinstance(refused, InputError)
        assert session.forwards == 0
        assert pair.generate(kind, ids)[0] == written_by_hand(pair, TEXTS[0], "last")
    assert in_thread(edited)[0] == written_by_hand(pair, TEXTS[0], "last")


@pytest.mark.parametrize("what", ["model", "block", "wrapper"])
def test_compiled_models_run_edited(make_set: Any, tmp_path: Path, what: str) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    hf, tl, ids = load(folder), models.load(folder), torch.tensor(TEXTS[:1])
    fresh = Pair(hf, tl, load(folder))
    want, item = by_hand(fresh, TEXTS[0], "last"), shift(fresh, make_set, "last")
    called = hf
    if what == "model":
        hf.compile(backend="eager")
    elif what == "block":
        hf.model.layers[1].compile(backend="eager")
    else:
        called = torch.compile(hf, backend="eager")
    with torch.no_grad():
        clean = called(ids).logits[0]
        for named in (hf, called):
            with edit_hf(named, item) as session:
                torch.testing.assert_close(called(ids).logits[0], want, atol=1e-4, rtol=1e-4)
            assert session.forwards == 1
            torch.testing.assert_close(called(ids).logits[0], clean, atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_is_refused_by_its_name(make_set: Any, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    hf, tl, ids = load(folder), models.load(folder), torch.tensor(TEXTS[:1])
    item = Shift(make_set(tl, AT), dose=DOSE)
    hf.train()
    hf.gradient_checkpointing_enable()
    for reentrant in (True, False):
        hf.gradient_checkpointing_enable({"use_reentrant": reentrant})
        with pytest.raises(InputError, match="gradient_checkpointing_disable"), edit_hf(hf, item):
            hf(ids, labels=ids).loss.backward()
    hf.gradient_checkpointing_disable()
    hf.zero_grad()
    with edit_hf(hf, item):
        hf(ids, labels=ids).loss.backward()
    got = [p.grad.clone() for p in hf.parameters()]
    hf.zero_grad()
    with raw_hooks(hf, [True] * len(TEXTS[0])):
        hf(ids, labels=ids).loss.backward()
    for grad, parameter in zip(got, hf.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad)
    # a checkpoint around one block, by hand
    from torch.utils.checkpoint import checkpoint

    block = hf.model.layers[1]
    original = block.forward
    block.forward = lambda *args, **kwargs: checkpoint(original, *args, use_reentrant=False, **kwargs)
    with pytest.raises(InputError, match="gradient checkpointing"), edit_hf(hf, item):
        hf(ids, labels=ids).loss.backward()


def test_a_block_without_a_forward_pass_says_so(pair: Pair, make_set: Any) -> None:
    for kind in ("tl", "hf"):
        with pytest.warns(RuntimeWarning, match="no forward pass"), pair.editing(kind, shift(pair, make_set)):
            pass
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error", RuntimeWarning)
            with pair.editing(kind, shift(pair, make_set)):
                pair.logits(kind, torch.tensor(TEXTS[:1]))
            with pair.editing(kind):
                pass


def test_a_part_called_by_itself_is_refused_after_a_pass_too(pair: Pair, make_set: Any) -> None:
    ids = torch.tensor(TEXTS[:1])
    with torch.no_grad(), edit(pair.tl, shift(pair, make_set, "last")):
        pair.tl(ids)
        with pytest.raises(WorkError, match="called by itself"):
            pair.tl.blocks[1].mlp(torch.zeros(1, 5, models.info(pair.tl).d_model))


def test_an_edit_below_an_outer_resumed_layer_is_refused(pair: Pair, make_set: Any) -> None:
    low, high = Shift(make_set(pair.tl, [(0, 3)])), Shift(make_set(pair.tl, [(2, 40)]))
    with edit(pair.tl, high, reuse=models.LayerCache(pair.tl)):
        inference.answer_logprobs(pair.tl, EXAMPLES)
        with pytest.raises(InputError, match="does not run there"), edit(pair.tl, low):
            pass
