"""Scores against plain transformers, item by item and unbatched, on models of two shapes and three habits of BOS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, RolePrompt, edit
from neva_tl.evaluation.benchmarks import Benchmark, Item, score_all, score_benchmark
from neva_tl.evaluation.benchmarks.metrics import METRICS
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint

#: Options of unlike length, so that the three rules disagree; some share their prompt, in one item the prompts differ.
CHOICES = (
    ("The king counts", ("his coins", "every golden coin that the old king ever had", "a river")),
    ("Question: who shares bread?\nAnswer:", ("children", "nobody in the village", "danger", "zzqx")),
    ("At night she climbs", ("the tower", "bread")),
    ("A fox", ("helps", "é ü 漢")),
    ("Strangers cross the", ("river while the king sleeps", "coins")),
    ("Nobody", ("keeps more than they need", "knows", "é", "the quick brown fox")),
    ("The heart", ("beats", "beats faster because she climbs", "漢漢")),
)
SENTENCES = (
    ("The fox helps the dog.", "The fox help the dog."),
    ("Who shares bread?", "Bread shares who?"),
    ("She climbs at night.", "She climbs at at night."),
)
CONTEXTS = (
    ("the quick brown fox helps a lazy", "dog"),
    ("every child shares bread with", "strangers"),
    ("she", "climbs"),
)
TEXTS = ("the quick brown fox", "Nobody in the village keeps more than they need. " * 5, "é漢 ok")


def choices() -> Benchmark:
    items = [
        Item(str(i), str(i), (prompt,) * len(options), tuple(f" {x}" for x in options), i % len(options))
        for i, (prompt, options) in enumerate(CHOICES)
    ]
    items.append(
        Item("w", "w", ("Tom thanked Ann because Tom", "Tom thanked Ann because Ann"), (" had helped.",) * 2, 1)
    )
    return Benchmark("choices", "choice", tuple(items))


def letters() -> Benchmark:
    items = [Item(str(i), str(i), (p,) * 4, (" b", " c", " d", " w"), i % 4) for i, (p, _) in enumerate(CHOICES)]
    return Benchmark("letters", "letter", tuple(items))


def sentences() -> Benchmark:
    return Benchmark("pairs", "pair", tuple(Item(str(i), "p", ("", ""), pair) for i, pair in enumerate(SENTENCES)))


def words() -> Benchmark:
    return Benchmark("words", "last_word", tuple(Item(c, c, (c,), (f" {w}",)) for c, w in CONTEXTS))


def plain() -> Benchmark:
    return Benchmark("texts", "text", tuple(Item(str(i), str(i), ("",), (x,)) for i, x in enumerate(TEXTS)))


@dataclass
class Plain:
    """The oracle: transformers alone, one text at a time."""

    folder: Path
    bos: bool

    def __post_init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.hf = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def split(self, prompt: str, candidate: str) -> tuple[list[int], int]:
        """Ids of prompt and candidate; the prompt's tokens are those of the prompt alone."""

        def ids(text: str) -> list[int]:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

        front = [self.tokenizer.bos_token_id] if self.bos or not prompt else []
        before, whole = ids(prompt), ids(prompt + candidate)
        assert whole[: len(before)] == before
        return front + whole, len(front) + len(before)

    def logprobs(self, ids: list[int], push: tuple[int, torch.Tensor, int] | None = None) -> torch.Tensor:
        """Log-probabilities before every token but the first; `push` adds a vector behind a block from a token on."""
        handle = None
        if push is not None:
            layer, vector, first = push
            blocks = self.hf.model.layers if hasattr(self.hf, "model") else self.hf.transformer.h

            def hook(module: Any, inputs: Any, output: Any) -> Any:
                hidden = (output[0] if isinstance(output, tuple) else output).clone()
                hidden[:, first:] += vector
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            handle = blocks[layer].register_forward_hook(hook)
        with torch.no_grad():
            logits = self.hf(torch.tensor([ids])).logits[0, :-1]
        if handle is not None:
            handle.remove()
        return torch.log_softmax(logits.double(), -1)

    def score(self, prompt: str, candidate: str, push: Any = None) -> tuple[float, int, bool]:
        """Sum over the candidate's tokens, their number, and whether all are the argmax."""
        ids, start = self.split(prompt, candidate)
        where = None if push is None else (push[0], push[1], push[2](ids, start))
        found = self.logprobs(ids, where)[start - 1 :]
        tokens = torch.tensor(ids[start:])
        total = found.gather(1, tokens[:, None]).sum()
        return float(total), len(tokens), bool((found.argmax(-1) == tokens).all())


@pytest.fixture(scope="module", params=["llama", "gpt2", "no_bos"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Plain]:
    """A model of ours and the oracle on the same folder; `no_bos` is a Llama whose tokenizer adds none."""
    import neva_tl as nv

    folder = tmp_path_factory.mktemp("tiny") / request.param
    tiny_checkpoint(folder, "gpt2" if request.param == "gpt2" else "llama")
    if request.param == "no_bos":
        file = folder / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    model = nv.load(folder)
    assert inference.prepends_bos(model) == (request.param != "no_bos")
    return model, Plain(folder, request.param != "no_bos")


def by_hand(oracle: Plain, benchmark: Benchmark, push: Any = None) -> list[dict[str, float]]:
    """Right and wrong by the rules' own words."""
    out = []
    for item in benchmark.items:
        found = [oracle.score(p, c, push) for p, c in zip(item.prompts, item.continuations, strict=True)]
        sums = [total for total, _, _ in found]
        chars = [total / len(c.lstrip()) for (total, _, _), c in zip(found, item.continuations, strict=True)]
        tokens = [total / n for total, n, _ in found]
        row = {
            "acc": float(np.argmax(sums) == item.gold),
            "margin": sums[item.gold] - max(s for i, s in enumerate(sums) if i != item.gold),
        }
        if benchmark.kind == "choice":
            row |= {
                "acc_norm": float(np.argmax(chars) == item.gold),
                "acc_token": float(np.argmax(tokens) == item.gold),
            }
        out.append(row)
    return out


@pytest.mark.parametrize("make", [choices, letters, sentences])
def test_choices_equal_plain_transformers(pair: tuple[Any, Plain], make: Any) -> None:
    model, oracle = pair
    benchmark = make()
    for budget in (2048, 40):  # one batch, and many
        table = score_benchmark(model, benchmark, token_budget=budget).table
        for row, expected in zip(table.to_dict("records"), by_hand(oracle, benchmark), strict=True):
            assert row["margin"] == pytest.approx(expected["margin"], abs=2e-4)
            assert {k: row[k] for k in expected if k != "margin"} == {
                k: v for k, v in expected.items() if k != "margin"
            }
        assert not table["cut"].any()


def test_the_rules_differ_on_these_items(pair: tuple[Any, Plain]) -> None:
    """Else the test above would not tell one rule from another: the options that each rule chooses are not the same."""
    chosen: dict[str, list[int]] = {"acc": [], "acc_norm": [], "acc_token": []}
    for item in choices().items:
        found = [pair[1].score(p, c) for p, c in zip(item.prompts, item.continuations, strict=True)]
        chosen["acc"].append(int(np.argmax([total for total, _, _ in found])))
        lengths = [len(c.lstrip()) for c in item.continuations]
        chosen["acc_norm"].append(int(np.argmax([x[0] / n for x, n in zip(found, lengths, strict=True)])))
        chosen["acc_token"].append(int(np.argmax([total / n for total, n, _ in found])))
    assert len({tuple(places) for places in chosen.values()}) == 3


def test_the_leading_space_belongs_to_the_answer(pair: tuple[Any, Plain]) -> None:
    model, oracle = pair
    # no merge begins with a space before z: the space is a token of its own, and it counts
    (item,) = inference.encode_continuations(model, [("a fox", " zq")])
    text = models.tokenizer(model)
    assert text.decode(item.ids[item.start :]) == " zq" and len(item.ids) - item.start == 3
    assert (list(item.ids), item.start) == oracle.split("a fox", " zq")


def test_last_words_equal_plain_transformers(pair: tuple[Any, Plain]) -> None:
    model, oracle = pair
    # a word the model itself would write, beside those it would not
    ids, _ = oracle.split("the old king", " x")
    greedy = oracle.tokenizer.decode([int(oracle.logprobs([*ids[:-2], 0])[-1].argmax())])
    items = words().items + ((Item("g", "g", ("the old king",), (greedy,)),) if greedy.strip() else ())
    scores = score_benchmark(model, Benchmark("words", "last_word", items), token_budget=40)
    expected = [oracle.score(item.prompts[0], item.continuations[0]) for item in items]
    assert scores.table["loss"].to_numpy() == pytest.approx([-total for total, _, _ in expected], abs=2e-4)
    assert scores.table["acc"].tolist() == [float(right) for _, _, right in expected]
    df = scores.df.set_index("metric")
    assert df.loc["perplexity", "est"] == pytest.approx(np.exp(-np.mean([t for t, _, _ in expected])), rel=1e-3)


def test_perplexity_per_token_and_byte_with_windows(pair: tuple[Any, Plain]) -> None:
    model, oracle = pair
    scores = score_benchmark(model, plain())
    total, n = 0.0, 0
    for text in TEXTS:
        ids, start = oracle.split("", text)
        assert start == 1
        for first in range(
            0, len(ids) - 1, 128
        ):  # a window sees one token, then scores the rest of the context's length
            begin = max(0, first - 1) if first else 0
            stop = min(len(ids), begin + 128) if first else min(len(ids), 128)
            done = first if first else 1
            found = oracle.logprobs(ids[begin:stop])[done - begin - 1 :]
            for row, token in zip(found, ids[done:stop], strict=True):
                total, n = total + float(row[token]), n + 1
            if stop == len(ids):
                break
            assert stop == 128, "two windows are enough for these texts"
    assert scores.table["tokens"].sum() == n == sum(len(oracle.split("", text)[0]) - 1 for text in TEXTS)
    df = scores.df.set_index("metric")["est"]
    assert df["perplexity"] == pytest.approx(np.exp(-total / n), rel=1e-4)
    assert df["byte_perplexity"] == pytest.approx(np.exp(-total / sum(len(t.encode()) for t in TEXTS)), rel=1e-4)


@pytest.mark.parametrize("span", ["text", "answer"])
@pytest.mark.parametrize("make", [choices, letters, sentences])
def test_under_an_edit_of_generated_tokens(pair: tuple[Any, Plain], span: Any, make: Any) -> None:
    """The whole text but a separator counts as generated, or the candidate alone: a hook of transformers agrees."""
    model, oracle = pair
    vector = np.random.default_rng(3).normal(0, 1, 32).astype(np.float32)
    change = AddVector({1: vector}, scope="generated", dose=1.5)
    benchmark = make()

    def first(ids: list[int], start: int) -> int:
        return start if span == "answer" else int(ids[0] == oracle.tokenizer.bos_token_id)

    table = score_benchmark(model, benchmark, change, span=span, token_budget=60).table
    expected = by_hand(oracle, benchmark, (1, 1.5 * torch.from_numpy(vector), first))
    assert table["margin"].to_numpy() == pytest.approx([row["margin"] for row in expected], abs=5e-4)
    plain_margin = score_benchmark(model, benchmark).table["margin"]
    if make is letters and span == "answer":  # what predicts the letter is not touched: the reason for span="text"
        assert table["margin"].to_numpy() == pytest.approx(plain_margin.to_numpy(), abs=1e-5)
    else:
        assert np.abs(table["margin"] - plain_margin).max() > 0.01


@pytest.mark.parametrize("scope", ["all", "prompt", "generated", "last"])
def test_shared_prompts_change_nothing(pair: tuple[Any, Plain], scope: Any) -> None:
    """A prefix cache made under the session gives what whole texts give."""
    model, _ = pair
    change = AddVector({1: np.random.default_rng(5).normal(0, 1, 32).astype(np.float32)}, scope=scope)
    encoded = inference.encode_continuations(
        model, [(p, c) for item in choices().items for p, c in zip(item.prompts, item.continuations, strict=True)]
    )
    with edit(model, change) as session:
        whole, _ = inference.encoded_logprobs(model, encoded, session=session)
        cache = inference.PrefixCache(model, encoded, session=session)
        assert cache.exact_for(model, session) and cache.n_prefixes == 9
        shared, _ = inference.encoded_logprobs(model, encoded, session=session, prefix=cache)
    assert shared == pytest.approx(whole, abs=2e-4)
    assert not cache.exact_for(model, None)


def test_role_prompt_goes_before_prompt_and_sentence(pair: tuple[Any, Plain]) -> None:
    model, oracle = pair
    role = RolePrompt("The king is angry.", joiner=" ")
    by_prompt = Benchmark(
        "r",
        "choice",
        tuple(
            Item(x.id, x.cluster, tuple(f"The king is angry. {p}" for p in x.prompts), x.continuations, x.gold)
            for x in choices().items
        ),
    )
    got = score_benchmark(model, choices(), role).table["margin"].to_numpy()
    assert got == pytest.approx([row["margin"] for row in by_hand(oracle, by_prompt)], abs=2e-4)
    behind = Benchmark(
        "s",
        "pair",
        tuple(
            Item(x.id, "p", ("The king is angry.",) * 2, tuple(f" {c}" for c in x.continuations))
            for x in sentences().items
        ),
    )
    got = score_benchmark(model, sentences(), role).table["margin"].to_numpy()
    assert got == pytest.approx([row["margin"] for row in by_hand(oracle, behind)], abs=2e-4)


def test_a_long_prompt_is_cut_at_the_left(pair: tuple[Any, Plain]) -> None:
    model, oracle = pair
    prompt = "zq " * 80 + "the quick brown"
    benchmark = Benchmark("long", "choice", (Item("1", "1", (prompt,) * 2, (" fox", " dogs"), 0), choices().items[0]))
    table = score_benchmark(model, benchmark).table
    assert table["cut"].tolist() == [True, False]
    sums = []
    for word in (" fox", " dogs"):
        ids, start = oracle.split(prompt, word)
        extra = len(ids) - 128
        found = oracle.logprobs(ids[extra:])[start - extra - 1 :]
        sums.append(float(found.gather(1, torch.tensor(ids[start:])[:, None]).sum()))
    assert table["margin"][0] == pytest.approx(sums[0] - sums[1], abs=2e-4)
    with pytest.raises(InputError, match="context"):
        score_benchmark(model, Benchmark("x", "choice", (Item("1", "1", ("a", "a"), (" zq" * 80, " b")),)))


def test_a_tie_is_no_right_answer(pair: tuple[Any, Plain]) -> None:
    model, _ = pair
    same = Benchmark("same", "pair", (Item("1", "1", ("", ""), ("The fox.", "The fox.")),))
    assert score_benchmark(model, same).table["acc"].tolist() == [0.0]


def test_results_show_themselves(pair: tuple[Any, Plain]) -> None:
    model, _ = pair
    found = score_all(model, [choices(), sentences(), plain()])
    assert list(found) == ["choices", "pairs", "texts"]
    for scores in found.values():
        assert list(scores.df["metric"]) == [metric.name for metric in METRICS[scores.kind]]
        assert scores.name in scores._repr_html_() and scores.show().axes
    assert found["pairs"].by_cluster()["n"].tolist() == [3]
