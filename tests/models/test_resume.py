"""Passes that start at a layer: the numbers of whole passes, without running what lies below; whole ones wherever in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, AddVector, Amplify, Edit, edit
from neva_tl.models import LayerCache, inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

#: Of unlike lengths, so that their batch is padded; two answers share a prompt.
EXAMPLES = [
    Example("the old king counts", "his golden coins"),
    Example("the old king counts", "every lazy dog in the village"),
    Example("she climbs", "the tower"),
    Example("because danger makes her heart beat faster", "nobody keeps more than they need"),
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four random layers."""
    return models.load(tiny_checkpoint(tmp_path_factory.mktemp("resume") / request.param, request.param, n_layers=4))


@pytest.fixture
def fresh(tmp_path: Path) -> Any:
    """One that no other test has seen."""
    return models.load(tiny_checkpoint(tmp_path / "llama", n_layers=3))


def neurons(model: Any, layer: int, count: int = 12) -> NeuronSet:
    facts = models.info(model)
    means = {"mean_plus": 1.5, "mean_minus": 0.5, "sd": 0.4, "score": 1.0}
    df = pd.DataFrame({"layer": layer, "neuron": range(0, 2 * count, 2), **means})
    return NeuronSet("power", "test", df, facts.n_layers, facts.d_mlp, fingerprint=models.fingerprint(model))


def conditions(model: Any, layer: int, **options: Any) -> list[tuple[Edit, ...]]:
    """Edits whose lowest layer is this one: of neurons, of the residual stream, of more layers than one."""
    top = models.info(model).n_layers - 1
    vector = np.linspace(-1, 1, models.info(model).d_model)
    found: list[tuple[Edit, ...]] = [
        (Ablate(neurons(model, layer), mode="zero", effects="all", **options),),
        (AddVector({layer: vector}, dose=0.5, **options),),
        (Ablate(neurons(model, top), mode="mean", **options), Amplify(neurons(model, layer), dose=2.0, **options)),
    ]
    return found


Measure = Callable[[Any], np.ndarray]


def compare(model: Any, measure: Measure, layers: Sequence[int], **options: Any) -> LayerCache:
    """Every condition of some layers in turn, whole and reused; the edits must do something."""
    cache = LayerCache(model)
    with edit(model) as session:
        unedited = measure(session)
    for layer in layers:
        for edits in conditions(model, layer, **options):
            with edit(model, *edits) as session:
                whole = measure(session)
            for _ in range(2):
                with edit(model, *edits, reuse=cache) as session:
                    np.testing.assert_allclose(measure(session), whole, atol=1e-5, rtol=0, err_msg=f"layer {layer}")
            assert np.abs(whole - unedited).max() > 1e-2
    assert no_trace(model)
    return cache


def no_trace(model: Any) -> bool:
    return not models.has_hooks(model) and not any("forward" in vars(block) for block in model.blocks)


def test_answers_are_scored_as_by_whole_passes(model: Any) -> None:
    cache = compare(model, lambda s: inference.answer_logprobs(model, EXAMPLES, session=s)[0], range(4))
    # one batch: run whole on layer 1 alone (on layer 0 there is nothing below, and the cache is not asked)
    assert (cache.n_whole, cache.n_resumed) == (1, 3 * 3 * 2 - 1)


def test_neutral_text_in_several_batches(model: Any) -> None:
    texts = [f"{e.prompt} {e.answer}" for e in EXAMPLES]

    def measure(session: Any) -> np.ndarray:
        return np.concatenate(inference.neutral_logprobs(model, texts, session=session, token_budget=40))

    cache = compare(model, measure, (1, 3), scope="generated")
    assert cache.n_whole > 1 and cache.n_resumed > 4 * cache.n_whole


def test_prompts_run_under_the_edit_and_shared_by_their_answers(model: Any) -> None:
    """The keys and values that a skipped block did not make are those that it made before."""

    def measure(session: Any) -> np.ndarray:
        prefix = inference.PrefixCache(model, EXAMPLES, session=session)
        return inference.answer_logprobs(model, EXAMPLES, session=session, prefix=prefix)[0]

    cache = compare(model, measure, (1, 2, 3))
    assert (cache.n_whole, cache.n_resumed) == (2, 2 * (3 * 3 * 2 - 1))


def test_unedited_prompts_behind_edits_of_the_answers(model: Any) -> None:
    prefix = inference.PrefixCache(model, EXAMPLES)

    def measure(session: Any) -> np.ndarray:
        return inference.answer_logprobs(model, EXAMPLES, session=session, prefix=prefix)[0]

    cache = compare(model, measure, (1, 3), scope="generated")
    assert cache.n_whole == 1 and cache.n_resumed > 0


def test_demo_model(demo: Any) -> None:
    asked = [Example("mara says that", "she helps her friend"), Example("one day", "omar wants to win the big race")]
    top = models.info(demo).n_layers - 1
    compare(demo, lambda s: inference.answer_logprobs(demo, asked, session=s)[0], (1, top))


def test_generation_under_a_cache_gives_the_same_texts(model: Any) -> None:
    edits, cache = conditions(model, 2)[0], LayerCache(model)
    asked = [example.prompt for example in EXAMPLES]
    with edit(model, *edits) as session:
        whole = inference.generate(model, asked, max_new_tokens=6, session=session, stop_at_eos=False)
    for _ in range(2):
        with edit(model, *edits, reuse=cache) as session:
            texts = inference.generate(model, asked, max_new_tokens=6, session=session, stop_at_eos=False)
        assert texts == whole
    assert cache.n_resumed == 1  # the prompts; steps behind them leave a whole cache, so they are run whole


def test_blocks_below_do_not_run(model: Any) -> None:
    edits, cache = conditions(model, 2)[0], LayerCache(model)
    batch = inference.encode(model, EXAMPLES)
    ran: list[int] = []
    handles = [
        block.mlp.register_forward_hook(lambda module, args, out, number=number: ran.append(number))
        for number, block in enumerate(model.blocks)
    ]
    try:
        for expected in ([0, 1, 2, 3], [2, 3]):
            ran.clear()
            with edit(model, *edits, reuse=cache) as session:
                inference.forward_batch(model, batch, session=session)
            # (the trial of the first time runs some more)
            assert ran[-len(expected) :] == expected and (len(ran) == len(expected) or expected[0] == 0)
    finally:
        for handle in handles:
            handle.remove()


def test_a_lower_layer_after_a_higher_one_is_run_whole(model: Any) -> None:
    cache = compare(model, lambda s: inference.answer_logprobs(model, EXAMPLES, session=s)[0], (3, 1))
    assert cache.n_whole == 2


def test_memory_is_one_record_a_batch_and_no_more_than_allowed(model: Any) -> None:
    batch, facts = inference.encode(model, EXAMPLES), models.info(model)

    def run(cache: LayerCache, layer: int) -> None:
        with edit(model, *conditions(model, layer)[0], reuse=cache) as session:
            inference.forward_batch(model, batch, session=session)

    cache, small = LayerCache(model), LayerCache(model, max_bytes=100)
    for layer in (1, 2, 3):
        run(cache, layer)
        run(small, layer)
        assert cache.nbytes == batch.tokens.numel() * facts.d_model * 4
    assert small.nbytes == 0 and small.n_resumed == 0 and small.n_whole == 3


def test_nothing_is_left_after_an_error(model: Any) -> None:
    cache = LayerCache(model)
    batch = inference.encode(model, EXAMPLES)
    edits = conditions(model, 2)[0]
    with edit(model, *edits, reuse=cache) as session:
        inference.forward_batch(model, batch, session=session)

    def broken(x: torch.Tensor, hook: Any = None) -> None:
        raise ArithmeticError("in the middle")

    def fail() -> None:
        with edit(model, *edits, reuse=cache) as session:
            handle = models.add_hook(model, models.hook_name(model, 3, "post"), broken)
            try:
                inference.forward_batch(model, batch, session=session)
            finally:
                handle.remove()

    with pytest.raises(ArithmeticError):
        fail()
    assert no_trace(model)
    whole = models.forward(model, batch.tokens, batch.mask)
    resumed = cache.n_resumed
    assert torch.equal(whole, models.forward(model, batch.tokens, batch.mask)) and cache.n_resumed == resumed


def test_a_model_with_other_hooks_is_run_whole(model: Any) -> None:
    cache = LayerCache(model)
    point = models.hook_name(model, 0, "post")
    handle = models.add_hook(model, point, lambda x, hook=None: 2 * x)
    try:
        for _ in range(2):
            with edit(model, *conditions(model, 2)[0]) as session:
                whole = inference.answer_logprobs(model, EXAMPLES, session=session)[0]
            with edit(model, *conditions(model, 2)[0], reuse=cache) as session:
                np.testing.assert_array_equal(inference.answer_logprobs(model, EXAMPLES, session=session)[0], whole)
    finally:
        handle.remove()
    assert cache.n_resumed == cache.n_whole == 0


def test_an_edit_below_put_on_inside_is_never_lost_in_silence(model: Any) -> None:
    cache = LayerCache(model)
    batch = inference.encode(model, EXAMPLES)
    for _ in range(2):
        with edit(model, *conditions(model, 2)[0], reuse=cache) as session:
            inference.forward_batch(model, batch, session=session)
    with (
        pytest.raises(InputError, match="does not run there"),
        edit(model, *conditions(model, 2)[0], reuse=cache),
        edit(model, *conditions(model, 1)[0]) as session,
    ):
        inference.forward_batch(model, batch, session=session)
    assert no_trace(model)


def test_an_architecture_that_hands_on_more_than_its_stream_is_run_whole(fresh: Any) -> None:
    """The last block takes something that the first one left for it: the trial finds out, and the numbers stay right."""
    left: list[torch.Tensor] = []
    fresh.blocks[0].mlp.register_forward_hook(lambda module, args, out: left.append(out))
    fresh.blocks[2].register_forward_hook(lambda module, args, out: out + left.pop())
    cache = compare(fresh, lambda s: inference.answer_logprobs(fresh, EXAMPLES, session=s)[0], (1, 2))
    assert cache.n_resumed == cache.n_whole == 0 and not left


def test_a_cache_of_another_model_is_refused(model: Any, fresh: Any) -> None:
    with (
        pytest.raises(InputError, match="another model"),
        edit(model, *conditions(model, 1)[0], reuse=LayerCache(fresh)),
    ):
        pass
    assert no_trace(model)


def counts(cache: LayerCache) -> tuple[int, int]:
    return cache.n_whole, cache.n_resumed


def test_an_inner_block_gives_the_outer_cache_back(model: Any) -> None:
    outer, inner, batch = LayerCache(model), LayerCache(model), inference.encode(model, EXAMPLES)
    full = models.forward(model, batch.tokens, batch.mask)

    def run() -> None:
        torch.testing.assert_close(models.forward(model, batch.tokens, batch.mask), full, atol=1e-5, rtol=0)

    with models.resuming(model, outer, 2):
        run()
        with models.resuming(model, inner, 3):
            run()
            run()
            assert (counts(outer), counts(inner)) == ((1, 0), (1, 1))
        run()
        assert (counts(outer), counts(inner)) == ((1, 1), (1, 1))
        with pytest.raises(ArithmeticError), models.resuming(model, inner, 3):
            raise ArithmeticError("in the middle")
        with pytest.raises(InputError, match="another model"), models.resuming(model, LayerCache(object()), 3):
            pass
        run()
        assert (counts(outer), counts(inner)) == ((1, 2), (1, 1))
    run()
    assert (counts(outer), counts(inner)) == ((1, 2), (1, 1)) and no_trace(model)


def test_an_inner_block_for_another_model_leaves_the_outer_one_in_force(model: Any, fresh: Any) -> None:
    outer, inner = LayerCache(model), LayerCache(fresh)
    batch, other = inference.encode(model, EXAMPLES), inference.encode(fresh, EXAMPLES)
    with models.resuming(model, outer, 2):
        models.forward(model, batch.tokens, batch.mask)
        with models.resuming(fresh, inner, 1):
            models.forward(model, batch.tokens, batch.mask)
            for _ in range(2):
                models.forward(fresh, other.tokens, other.mask)
            assert (counts(outer), counts(inner)) == ((1, 1), (1, 1))
        models.forward(fresh, other.tokens, other.mask)
        models.forward(model, batch.tokens, batch.mask)
    assert (counts(outer), counts(inner)) == ((1, 2), (1, 1))


def test_an_inner_block_whose_trial_fails_leaves_the_outer_one_in_force(model: Any, fresh: Any) -> None:
    outputs: list[torch.Tensor] = []
    fresh.blocks[0].mlp.register_forward_hook(lambda module, args, out: outputs.append(out))
    fresh.blocks[2].register_forward_hook(lambda module, args, out: out + outputs.pop())
    outer, inner = LayerCache(model), LayerCache(fresh)
    batch, other = inference.encode(model, EXAMPLES), inference.encode(fresh, EXAMPLES)
    with models.resuming(model, outer, 2):
        models.forward(model, batch.tokens, batch.mask)
        with models.resuming(fresh, inner, 1):
            models.forward(fresh, other.tokens, other.mask)
            models.forward(model, batch.tokens, batch.mask)
            assert (counts(outer), counts(inner)) == ((1, 1), (0, 0))
        models.forward(model, batch.tokens, batch.mask)
    assert counts(outer) == (1, 2) and no_trace(model)


def test_nested_edits_on_two_models_use_their_own_caches(model: Any, fresh: Any) -> None:
    """The second `edit` block must not cost the first one its cache."""
    outer, inner = LayerCache(model), LayerCache(fresh)
    batch, other = inference.encode(model, EXAMPLES), inference.encode(fresh, EXAMPLES)
    with edit(model, *conditions(model, 2)[0], reuse=outer) as session:
        for _ in range(2):
            with edit(fresh, *conditions(fresh, 1)[0], reuse=inner) as other_session:
                inference.forward_batch(fresh, other, session=other_session)
            inference.forward_batch(model, batch, session=session)
    assert (counts(outer), counts(inner)) == ((1, 1), (1, 1))
