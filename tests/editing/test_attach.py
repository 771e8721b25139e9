"""attach(): a handle's edit in every way of running a transformers model, against raw PyTorch hooks on a copy of it."""

from __future__ import annotations

import copy
import gc
import pickle  # noqa: TID251  (that it is refused, and that edits survive it)
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer, pipeline

import neva_tl as nv
from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing import (
    AddVector,
    LayerProbe,
    PromptShift,
    RelevanceGate,
    RolePrompt,
    Scale,
    Shift,
    attach,
    attached,
    edit_hf,
    paced,
)
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
DOSE = 3.0
IDS = torch.tensor([[0, 70, 80, 90, 75], [0, 71, 81, 62, 61]])
#: Left-padded prompts.
PADDED = torch.tensor([[0, 70, 80, 90, 75], [9, 9, 0, 71, 81]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
NEW = 5


@dataclass(frozen=True)
class Pair:
    """The same weights: a model for handles, its TransformerLens twin, and a copy for raw hooks."""

    hf: Any
    tl: Any
    oracle: Any
    folder: Path


def load(folder: Path) -> Any:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    hf.generation_config.eos_token_id = None
    hf.generation_config.pad_token_id = 9
    return hf


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("attach") / request.param, request.param, chat=True)
    return Pair(load(folder), models.load(folder), load(folder), folder)


def state(hf: Any) -> list[Any]:
    """All that a handle may touch: hooks of every module, in order, methods of the model object, and its class.

    transformers itself adds attributes to a model and its class when they first generate.
    """
    hooks = [
        list(table.items())
        for module in hf.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks, module._forward_hooks_with_kwargs)
    ]
    methods = {name: id(vars(hf)[name]) for name in sorted(vars(hf)) if callable(vars(hf)[name])}
    return [hooks, methods, [name for name in vars(hf) if "neva" in name], type(hf)]


@pytest.fixture(autouse=True)
def model_is_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    if "pair" not in request.fixturenames:
        yield
        return
    hf = request.getfixturevalue("pair").hf
    before = state(hf)
    yield
    after, handles = state(hf), attached(hf)
    for handle in handles:  # one failure shall not fail the next tests
        handle.remove()
    assert after == before
    assert handles == ()


def shift(pair: Pair, make_set: Any, scope: Any = "last", dose: float = DOSE) -> Shift:
    return Shift(make_set(pair.tl, AT), dose=dose, scope=scope)


def outputs(hf: Any) -> list[Any]:
    """The module of each layer whose input are the neurons."""
    blocks = hf.model.layers if hasattr(hf, "model") else hf.transformer.h
    return [getattr(block.mlp, "down_proj", None) or block.mlp.c_proj for block in blocks]


@contextmanager
def raw(hf: Any, change: Callable[[Tensor], Tensor], at: list[tuple[int, int]] = AT) -> Iterator[None]:
    """Raw hooks on some neurons, at all tokens of a pass from position `hf.raw_from` on."""
    handles = []
    for layer, neuron in at:

        def run(_: Any, args: tuple[Tensor, ...], neuron: int = neuron) -> tuple[Tensor]:
            x = args[0].clone()
            x[..., neuron] = change(x[..., neuron])
            return (x,)

        handles.append(outputs(hf)[layer].register_forward_pre_hook(run))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def add(x: Tensor) -> Tensor:
    return x + DOSE


def last_only(x: Tensor) -> Tensor:
    """The shift of scope `last` in passes of `generate` with a cache: the last token of each pass."""
    return torch.cat([x[:, :-1], x[:, -1:] + DOSE], 1)


GREEDY = {"max_new_tokens": NEW, "do_sample": False}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 2.0, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "static cache, beams": {"cache_implementation": "static", "num_beams": 2},
}


# ---------------------------------------------------------------- ways of running a model


@pytest.mark.parametrize("way", WAYS)
def test_generate_equals_raw_hooks(pair: Pair, make_set: Any, way: str) -> None:
    """Left-padded prompts, an edit that depends on which tokens are prompt and which are padding."""
    options = {"attention_mask": MASK, **GREEDY, **WAYS[way]}
    torch.manual_seed(0)
    with raw(pair.oracle, last_only):
        want = pair.oracle.generate(PADDED, **options)
    handle = attach(pair.hf, shift(pair, make_set))
    torch.manual_seed(0)
    assert torch.equal(pair.hf.generate(PADDED, **options), want)
    handle.remove()
    torch.manual_seed(0)
    assert not torch.equal(pair.hf.generate(PADDED, **options), want)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_read_from_the_mask_of_a_static_cache(pair: Pair, make_set: Any, attention: str) -> None:
    item = shift(pair, make_set, "prompt")
    pair.hf.set_attn_implementation(attention)
    with edit_hf(pair.hf, item, record=True) as session:
        pair.hf.generate(PADDED, attention_mask=MASK, cache_implementation="static", **GREEDY)
    pair.hf.set_attn_implementation("sdpa")
    assert session.touched[0].equal(MASK.bool())
    assert not any(touched.any() for touched in session.touched[1:])


def test_a_chats_next_turn_with_the_cache_of_the_turn_before(pair: Pair, make_set: Any) -> None:
    from transformers import DynamicCache

    def chat(hf: Any) -> list[Tensor]:
        past, ids, out = DynamicCache(config=hf.config), IDS[:1], []
        for turn in ([72, 73], [74, 76]):
            ids = torch.cat([ids, torch.tensor([turn])], 1)
            ids = hf.generate(ids, past_key_values=past, **GREEDY)
            out.append(ids)
        return out

    with raw(pair.oracle, last_only):
        want = chat(pair.oracle)
    with attach(pair.hf, shift(pair, make_set)):
        found = chat(pair.hf)
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert not torch.equal(chat(pair.hf)[-1], want[-1])


def test_pipelines_run_edited(pair: Pair, make_set: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair.folder)
    tokenizer.pad_token = tokenizer.eos_token
    chat = [{"role": "user", "content": "Who eats the bread?"}]

    def write(hf: Any) -> Any:
        return pipeline("text-generation", model=hf, tokenizer=tokenizer)(chat, return_tensors=True, **GREEDY)

    strong = 20 * DOSE  # so that the greedy text of both tiny models changes
    with raw(pair.oracle, lambda x: x + strong):
        want = write(pair.oracle)
    handle = attach(pair.hf, shift(pair, make_set, "all", dose=strong))
    assert write(pair.hf) == want
    handle.remove()
    assert write(pair.hf) != want


@pytest.mark.parametrize("when", ["before", "afterwards"])
@pytest.mark.parametrize("what", ["model", "block", "wrapper"])
def test_compiled_before_and_afterwards(make_set: Any, tmp_path: Path, what: str, when: str) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    hf, oracle, tl = load(folder), load(folder), models.load(folder)
    pair = Pair(hf, tl, oracle, folder)
    clean = hf(IDS).logits
    with raw(oracle, add):
        want = oracle(IDS).logits
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def compiled() -> Any:
        if what == "model":
            hf.compile(backend=backend)
        elif what == "block":
            hf.model.layers[1].compile(backend=backend)
        return torch.compile(hf, backend=backend) if what == "wrapper" else hf

    with torch.no_grad():
        if when == "before":
            called = compiled()
            torch.testing.assert_close(called(IDS).logits, clean)
            assert graphs
        handle = attach(hf, shift(pair, make_set, "all"))
        if when == "afterwards":
            called = compiled()
        torch.testing.assert_close(called(IDS).logits, want)
        assert bool(graphs) == (when == "before")  # it runs uncompiled under the handle
        torch.testing.assert_close(called.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY), by_hand(oracle))
        handle.remove()
        torch.testing.assert_close(called(IDS).logits, clean)
        assert graphs


def by_hand(oracle: Any) -> Tensor:
    with raw(oracle, add):
        out: Tensor = oracle.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
    return out


@pytest.mark.parametrize("how", ["dispatch", "offload"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_accelerate_dispatched_models(make_set: Any, tmp_path: Path, family: Any, how: str) -> None:
    """Also where the weights are on no device between passes, and where the model is dispatched after the edit."""
    from accelerate import cpu_offload, dispatch_model
    from accelerate.hooks import remove_hook_from_submodules

    folder = tiny_checkpoint(tmp_path / family, family)
    oracle, tl = load(folder), models.load(folder)

    def dispatched(hf: Any) -> Any:
        if how == "offload":
            return cpu_offload(hf, execution_device="cpu")
        return dispatch_model(hf, device_map={"": "cpu"}, force_hooks=True)

    hf = dispatched(load(folder))
    assert (next(hf.parameters()).device.type == "meta") == (how == "offload")
    before = state(hf)
    handle = attach(hf, shift(Pair(hf, tl, oracle, folder), make_set, "all"))
    assert torch.equal(hf.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY), by_hand(oracle))
    handle.remove()
    assert state(hf) == before
    later = load(folder)
    clean = later(IDS).logits
    handle = attach(later, shift(Pair(later, tl, oracle, folder), make_set, "all"))
    dispatched(later)
    assert torch.equal(later.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY), by_hand(oracle))
    handle.remove()
    remove_hook_from_submodules(later)
    assert "forward" not in vars(later) or later.forward == type(later).forward.__get__(later)
    torch.testing.assert_close(later(IDS).logits, clean)


def test_peft_models(make_set: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: PEFT models are not tested")
    folder = tiny_checkpoint(tmp_path / "llama")

    def adapted() -> Any:
        torch.manual_seed(1)
        config = peft.LoraConfig(target_modules=["down_proj", "q_proj"], init_lora_weights=False, r=2)
        return peft.get_peft_model(load(folder), config).eval()

    model, oracle = adapted(), adapted()
    before, clean = state(model), model(IDS).logits
    inner = state(model.get_base_model())
    mask = torch.ones_like(IDS)
    vector = np.random.default_rng(0).normal(size=32)
    with raw_vector(oracle.get_base_model(), vector):
        want, texts = oracle(IDS).logits, oracle.generate(input_ids=IDS, attention_mask=mask, **GREEDY)
    assert not torch.allclose(want, clean, atol=1e-2)
    handle = attach(model, AddVector({1: vector}))
    torch.testing.assert_close(model(IDS).logits, want)
    torch.testing.assert_close(model.get_base_model()(IDS).logits, want)
    assert torch.equal(model.generate(input_ids=IDS, attention_mask=mask, **GREEDY), texts)
    for thing in (model, model.get_base_model()):
        with pytest.raises(InputError, match=r"save_pretrained would write.*nv\.bake"):
            thing.save_pretrained(tmp_path / "out")
    handle.remove()
    assert state(model) == before and state(model.get_base_model()) == inner
    torch.testing.assert_close(model(IDS).logits, clean)
    model.save_pretrained(tmp_path / "adapter")
    # neurons of the model without the adapter are neurons of another model
    tl = models.load(folder)
    with pytest.raises(InputError, match="other adapters"):
        attach(model, Shift(make_set(tl, AT)))
    # an adapter that comes or goes under a handle
    plain = load(folder)
    handle = attach(plain, Shift(make_set(tl, AT), scope="all"))
    wrapped = peft.get_peft_model(plain, peft.LoraConfig(target_modules=["down_proj"]))
    with pytest.raises(WorkError, match=r"down_proj was replaced.*adapter"):
        wrapped(IDS)
    handle.remove()


@contextmanager
def raw_vector(hf: Any, vector: np.ndarray) -> Iterator[None]:
    step = torch.tensor(vector, dtype=torch.float32)
    handle = hf.model.layers[1].register_forward_hook(
        lambda _m, _a, out: out + step if isinstance(out, Tensor) else (out[0] + step, *out[1:])
    )
    try:
        yield
    finally:
        handle.remove()


# ---------------------------------------------------------------- the handle


def test_dose_off_on_and_remove(pair: Pair, make_set: Any) -> None:
    clean = pair.hf(IDS).logits
    handle = attach(pair.hf, shift(pair, make_set, "all", 1.0))
    for dose in (2.0, -1.5, 0.0):
        handle.dose = dose
        assert handle.dose == handle.edit.dose == dose
        with raw(pair.oracle, lambda x, dose=dose: x + dose):
            torch.testing.assert_close(pair.hf(IDS).logits, pair.oracle(IDS).logits)
    handle.dose = 2
    with pytest.raises(InputError, match="finite"):
        handle.dose = float("nan")
    with pytest.raises(InputError, match="dose"):
        handle.dose = "much"
    edited = pair.hf(IDS).logits
    handle.off()
    assert torch.equal(pair.hf(IDS).logits, clean)
    assert repr(handle).endswith("dose 2, off)")
    handle.on()
    assert torch.equal(pair.hf(IDS).logits, edited)
    handle.remove()
    handle.remove()
    assert torch.equal(pair.hf(IDS).logits, clean)
    for act in (handle.on, handle.off, lambda: setattr(handle, "dose", 1.0), handle.__enter__):
        with pytest.raises(InputError, match="was removed"):
            act()


def test_a_block_ends_also_on_an_error(pair: Pair, make_set: Any) -> None:
    clean = pair.hf(IDS).logits
    with pytest.raises(KeyError), attach(pair.hf, shift(pair, make_set)) as handle:
        raise KeyError
    assert not handle.attached and torch.equal(pair.hf(IDS).logits, clean)


def test_handles_and_other_hooks_keep_their_order(pair: Pair, make_set: Any) -> None:
    """Scale, then shift; a user's hook between them; a new dose, and removal in the order of attachment."""
    user: list[Tensor] = []
    first = attach(pair.hf, Scale(make_set(pair.tl, AT), dose=2.0, effects="all"))
    mine = outputs(pair.hf)[1].register_forward_pre_hook(lambda _, args: user.append(args[0][..., 7].clone()))
    second = attach(pair.hf, shift(pair, make_set, "all"))
    assert attached(pair.hf) == (first, second)
    before, scaled = state(pair.hf), []
    for factor in (2.0, 5.0):
        first.dose = factor
        assert state(pair.hf) == before
        with raw(pair.oracle, lambda x, factor=factor: factor * x + DOSE):
            torch.testing.assert_close(pair.hf(IDS).logits, pair.oracle(IDS).logits)
        scaled.append(user[-1])
    with raw(pair.oracle, lambda x: 2 * x + DOSE, AT[:1]):  # the user's hook sees the scaled neuron, and no shift
        watch = outputs(pair.oracle)[1].register_forward_pre_hook(lambda _, args: user.append(args[0][..., 7]))
        pair.oracle(IDS)
        watch.remove()
    torch.testing.assert_close(scaled[0], 2 * user[-1])
    first.remove()
    with raw(pair.oracle, last_only):
        want = pair.oracle.generate(PADDED, attention_mask=MASK, **GREEDY)
    third = attach(pair.hf, shift(pair, make_set))
    second.remove()  # the outer of the two goes first: the reader of calls stays
    assert torch.equal(pair.hf.generate(PADDED, attention_mask=MASK, **GREEDY), want)
    assert mine.id in outputs(pair.hf)[1]._forward_pre_hooks
    third.remove()
    mine.remove()


def test_a_handle_and_a_block_compose(pair: Pair, make_set: Any) -> None:
    with raw(pair.oracle, last_only), raw(pair.oracle, last_only):
        want = pair.oracle.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
    handle = attach(pair.hf, shift(pair, make_set))
    with edit_hf(pair.hf, shift(pair, make_set)):
        assert torch.equal(pair.hf.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY), want)
    with edit_hf(pair.hf, shift(pair, make_set)):
        handle.remove()
        with raw(pair.oracle, last_only):
            want = pair.oracle.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
        assert torch.equal(pair.hf.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY), want)


def test_edits_that_read_the_prompt_with_beams_and_paces(pair: Pair, make_set: Any) -> None:
    """Prompt tensors per row, tokens and gates: as in an `edit_hf` block, whose tests have oracles of their own."""
    info, rng = models.info(pair.tl), np.random.default_rng(1)
    weight = rng.normal(size=info.d_model)
    probe = LayerProbe(1, np.arange(info.d_model), weight, -0.5, weight / (weight @ weight))
    n = info.n_layers
    gate = RelevanceGate(
        tuple(range(n)), rng.normal(size=(n, info.d_mlp)).astype(np.float32), *(np.zeros(n) for _ in range(3)),
        unit="query",
    )  # fmt: skip
    items = (
        PromptShift((probe,), dose=6.0),
        shift(pair, make_set).with_gate(gate),
        paced(shift(pair, make_set), half_life=2.0, no_repeat=2),
    )
    for item in items:
        for way in ("greedy", "beams"):
            options = {"attention_mask": MASK, **GREEDY, **WAYS[way]}
            with edit_hf(pair.hf, item):
                want = pair.hf.generate(PADDED, **options)
            with attach(pair.hf, item.with_dose(0.5)) as handle:
                pair.hf.generate(PADDED, **options)
                handle.dose = item.dose
                assert torch.equal(pair.hf.generate(PADDED, **options), want), (item, way)


def test_the_dose_changes_in_the_middle_of_a_text(pair: Pair, make_set: Any) -> None:
    """From the next pass on, from another thread."""
    handle = attach(pair.hf, shift(pair, make_set, "all", 0.0))
    streamer: Any = TextIteratorStreamer(AutoTokenizer.from_pretrained(pair.folder))
    added: list[float] = []

    def watch(_: Any, args: tuple[Tensor, ...]) -> None:
        """Of the second edited layer, in the middle of a pass."""
        added.append(float(args[0][0, -1, 7]) - clean[-1])
        if len(added) == 2:
            handle.dose = 2.0

    clean: list[float] = []
    module = outputs(pair.hf)[1]
    plain = module.register_forward_pre_hook(lambda _, args: clean.append(float(args[0][0, -1, 7])), prepend=True)
    hook = module.register_forward_pre_hook(watch)
    options = {"inputs": IDS[:1], "streamer": streamer, **GREEDY, "max_new_tokens": 4}
    thread = threading.Thread(target=pair.hf.generate, kwargs=options, daemon=True)
    thread.start()
    assert "".join(streamer)
    thread.join()
    for item in (hook, plain, handle):
        item.remove()
    # set during the second pass, which ends at the dose that it began with
    np.testing.assert_allclose(added, [0.0, 0.0, 2.0, 2.0], atol=1e-4)


def test_threads_do_not_disturb_each_other(pair: Pair, make_set: Any) -> None:
    """Two threads in turns, one pass each: the tensors of one prompt are not those of the other."""
    info = models.info(pair.tl)
    weight = np.random.default_rng(2).normal(size=info.d_model)
    item = PromptShift((LayerProbe(1, np.arange(info.d_model), weight, -0.5, weight / (weight @ weight)),), dose=60.0)
    handle = attach(pair.hf, item)
    rows = [IDS[:1], IDS[1:]]
    want = [pair.hf.generate(row, **GREEDY) for row in rows]
    barrier, found = threading.Barrier(2, timeout=60), [None, None]
    hook = pair.hf.register_forward_hook(lambda *_: (barrier.wait(), None)[1])

    def write(i: int) -> None:
        found[i] = pair.hf.generate(rows[i], **GREEDY)

    threads = [threading.Thread(target=write, args=(i,), daemon=True) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hook.remove()
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))  # type: ignore[arg-type]
    assert not torch.equal(want[0], pair.hf.generate(rows[0], **GREEDY))


def test_a_lost_handle_removes_nothing_and_can_be_got_back(pair: Pair, make_set: Any) -> None:
    clean = pair.hf(IDS).logits
    attach(pair.hf, shift(pair, make_set))
    gc.collect()
    assert not torch.equal(pair.hf(IDS).logits, clean)
    (handle,) = attached(pair.hf)
    handle.remove()
    assert torch.equal(pair.hf(IDS).logits, clean)


def test_an_edited_model_is_freed(make_set: Any, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "llama")
    hf = load(folder)
    handle = attach(hf, Shift(make_set(models.load(folder), AT), scope="last"))
    hf.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
    alive = weakref.ref(hf)
    del hf, handle
    gc.collect()
    assert alive() is None


def test_removal_inside_a_pass_is_refused(pair: Pair, make_set: Any) -> None:
    handle = attach(pair.hf, shift(pair, make_set))
    hook = outputs(pair.hf)[0].register_forward_pre_hook(lambda *_: handle.remove())
    with pytest.raises(InputError, match="forward pass of the model is running"):
        pair.hf(IDS)
    hook.remove()
    handle.remove()


# ---------------------------------------------------------------- saving, copying, what is attached


def test_saving_is_refused_until_the_handle_is_removed(pair: Pair, make_set: Any, tmp_path: Path) -> None:
    item, weights = shift(pair, make_set), {name: x.clone() for name, x in pair.hf.state_dict().items()}
    handle = attach(pair.hf, item)
    for save in (pair.hf.save_pretrained, pair.hf.push_to_hub):
        with pytest.raises(InputError, match=r"without the edit.*nv\.bake\(.*handle\.remove\(\)") as error:
            save(str(tmp_path / "out"))
        assert "\n" not in str(error.value)
    handle.off()
    with pytest.raises(InputError, match=r"nv\.bake"):
        pair.hf.save_pretrained(tmp_path / "out")
    with edit_hf(pair.hf, item):
        handle.remove()
        with pytest.raises(InputError, match="edit_hf block"):
            pair.hf.save_pretrained(tmp_path / "out")
        assert all(torch.equal(x, weights[name]) for name, x in pair.hf.state_dict().items())  # unedited, as documented
        pair.hf(IDS)
    assert not (tmp_path / "out").exists()
    pair.hf.save_pretrained(tmp_path / "out")
    assert torch.equal(load(tmp_path / "out")(IDS).logits, pair.oracle(IDS).logits)


def test_a_model_with_a_handle_and_a_handle_cannot_be_copied(pair: Pair, make_set: Any, tmp_path: Path) -> None:
    handle = attach(pair.hf, shift(pair, make_set))
    for act in (copy.deepcopy, copy.copy, pickle.dumps):
        if act is not copy.copy:
            with pytest.raises(InputError, match=r"handle\.remove\(\)"):
                act(pair.hf)
        with pytest.raises(InputError, match=r"handle\.edit"):
            act(handle)
    handle.remove()
    assert torch.equal(copy.deepcopy(pair.hf)(IDS).logits, pair.oracle(IDS).logits)


def test_folders_and_loaded_edits_are_checked(pair: Pair, make_set: Any, tmp_path: Path) -> None:
    item = AddVector({1: np.random.default_rng(0).normal(size=models.info(pair.tl).d_model)}, dose=2.0)
    folder = nv.save_edit(item, tmp_path / "edit", model=pair.tl)
    with attach(pair.hf, item):
        want = pair.hf(IDS).logits
    for source in (folder, str(folder), nv.load_edit(folder), nv.save_edit(item, tmp_path / "without facts")):
        with attach(pair.hf, source, allow_mismatch=source == folder) as handle:  # its own model needs no permission
            assert torch.equal(pair.hf(IDS).logits, want) and handle.dose == 2.0
    family: Any = "llama" if hasattr(pair.hf, "model") else "gpt2"
    other = load(tiny_checkpoint(tmp_path / "other", family, seed=1))
    before = state(other)
    for source in (folder, nv.load_edit(folder)):
        with pytest.raises(InputError, match="other weights"):
            attach(other, source)
        with pytest.warns(UserWarning, match="other weights"):
            handle = attach(other, source, allow_mismatch=True)
        handle.remove()
    with pytest.raises(InputError, match="is for a saved edit"):
        attach(other, item, allow_mismatch=True)
    with pytest.raises(InputError, match="does not hold an edit"):
        attach(pair.hf, tmp_path)
    with pytest.raises(InputError, match="other weights"):
        attach(other, shift(pair, make_set))
    with pytest.raises(InputError, match="rewrite the prompt"):
        attach(other, RolePrompt("Be kind."))
    with pytest.raises(InputError, match="TransformerLens model"):
        attach(pair.tl, item)
    with pytest.raises(InputError, match="edit_or_path"):
        attach(pair.hf, 3)  # type: ignore[arg-type]
    assert state(other) == before


def test_a_pass_that_goes_past_the_edited_module_is_an_error(pair: Pair, make_set: Any) -> None:
    handle = attach(pair.hf, shift(pair, make_set, "all"))
    module = outputs(pair.hf)[1]
    parent = next(m for m in pair.hf.modules() if module in m.children())
    original = parent.forward
    parent.forward = lambda x: x  # as a kernel that reads the weights itself
    try:
        with pytest.raises(WorkError, match="layer 1 did not run"):
            pair.hf(IDS)
    finally:
        del parent.forward
    assert parent.forward == original
    handle.remove()
