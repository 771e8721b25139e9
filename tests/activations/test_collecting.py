"""collect() against two-pass float64 statistics of raw PyTorch hooks on the plain transformers model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl import models
from neva_tl.activations import N_FOLDS, POLES, ActivationStats, collect, fold_of
from neva_tl.activations.batch_runner import check_finite
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core

VALUES = ("power", "benevolence")
#: Ragged on purpose; every text is of another length.
ENDINGS = (
    "bread",
    "a long walk through the old village before dawn",
    "the river",
    "more than anybody could count, though nobody asked for it and nobody thanked them",
    "gold",
    "nothing at all that day",
)


def pairs(topics: int = 6, split: str = "train") -> ContrastSet:
    """Two values, `topics` pairs each, a prompt and an answer in every text."""
    rows = []
    for value in VALUES:
        verbs = ("takes", "returns") if value == "power" else ("shares", "keeps")
        for topic in range(topics):
            for pole, verb in zip(POLES, verbs, strict=True):
                prompt = f"What does the neighbour of number {topic} do?"
                text = f"{prompt} The neighbour {verb} {ENDINGS[topic % len(ENDINGS)]} ({value})."
                rows.append(
                    {
                        "value": value,
                        "pair_id": f"{value}-{topic}",
                        "pole": pole,
                        "text": text,
                        "answer_start": len(prompt) + 1,
                        "answer_end": len(text),
                        "cluster": f"topic {topic}",
                        "split": split,
                        "source": "test",
                    }
                )
    return ContrastSet.from_rows(rows, "test")


@dataclass(frozen=True)
class Raw:
    """Pooled quantities of single prompts, `[n, l, k]` (resid `[n, l, d]`), float64."""

    post: np.ndarray
    positive: np.ndarray
    gate: np.ndarray | None
    resid: np.ndarray


def blocks_of(hf: Any) -> Any:
    return hf.model.layers if hasattr(hf, "model") else hf.transformer.h


def raw_pooled(folder: Path, prompts: Sequence[tuple[str, str]], last: bool = False) -> Raw:
    """Raw forward hooks, one text at a time: no padding, no batching, no TransformerLens."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = AutoTokenizer.from_pretrained(folder)
    seen: dict[str, list[torch.Tensor]] = {"post": [], "gate": [], "resid": []}

    def first(x: Any) -> Any:
        return x[0] if isinstance(x, tuple) else x

    for block in blocks_of(hf):
        gated = hasattr(block.mlp, "down_proj")
        down = block.mlp.down_proj if gated else block.mlp.c_proj
        down.register_forward_pre_hook(lambda m, a: seen["post"].append(a[0][0]))
        if gated:
            act = block.mlp.act_fn
            block.mlp.gate_proj.register_forward_hook(lambda m, a, out, act=act: seen["gate"].append(act(out)[0]))
        block.register_forward_hook(lambda m, a, out: seen["resid"].append(first(out)[0]))
    rows: dict[str, list[np.ndarray]] = {"post": [], "positive": [], "gate": [], "resid": []}
    for prompt, answer in prompts:
        whole = f"{prompt} {answer}" if prompt else answer
        out = text(whole, add_special_tokens=False, return_offsets_mapping=True)
        head = len(prompt) + 1 if prompt else 0
        keep = [i for i, (_, end) in enumerate(out["offset_mapping"]) if end > head]
        keep = keep[-1:] if last else keep
        ids = torch.tensor([[text.bos_token_id, *out["input_ids"]]])
        for part in seen.values():
            part.clear()
        with torch.no_grad():
            hf(ids)
        at = [i + 1 for i in keep]
        h = np.stack([x.numpy().astype(np.float64) for x in seen["post"]])[:, at]
        rows["post"].append(h.mean(axis=1))
        rows["positive"].append((h > 0).mean(axis=1))
        if seen["gate"]:
            rows["gate"].append(np.stack([x.numpy().astype(np.float64) for x in seen["gate"]])[:, at].mean(axis=1))
        rows["resid"].append(np.stack([x.numpy().astype(np.float64) for x in seen["resid"]])[:, at].mean(axis=1))
    return Raw(
        np.stack(rows["post"]),
        np.stack(rows["positive"]),
        np.stack(rows["gate"]) if rows["gate"] else None,
        np.stack(rows["resid"]),
    )


def split_text(data: ContrastSet) -> list[tuple[str, str]]:
    return [(t[: int(s)].strip(), t[int(s) :]) for t, s in zip(data.df["text"], data.df["answer_start"], strict=True)]


def two_pass(x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    mean = x.mean(axis=0)
    return len(x), mean, ((x - mean) ** 2).sum(axis=0)


def close(got: np.ndarray, want: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=atol * max(1.0, float(np.abs(want).max())))


def check_against_raw(stats: ActivationStats, raw: Raw, data: ContrastSet) -> None:
    df = data.df
    for v, value in enumerate(stats.values):
        for p, pole in enumerate(POLES):
            rows = np.flatnonzero((df["value"] == value) & (df["pole"] == pole))
            n, mean, m2 = two_pass(raw.post[rows])
            got_n, got_mean, got_m2 = stats.moments(value, pole)
            assert got_n == n
            close(got_mean, mean)
            close(got_m2, m2)
            weight = stats.n[v, p] / n
            close(np.tensordot(weight, stats.positive[v, p], 1), raw.positive[rows].mean(axis=0))
            close(stats.resid[v, p], raw.resid[rows].mean(axis=0))
            if raw.gate is not None:
                _, mean, m2 = two_pass(raw.gate[rows])
                _, got_mean, got_m2 = stats.moments(value, pole, site="gate")
                close(got_mean, mean)
                close(got_m2, m2)
            folds = np.array([fold_of(c) for c in df["cluster"].iloc[rows]])
            for fold in range(N_FOLDS):
                mine = rows[folds == fold]
                assert stats.n[v, p, fold] == len(mine)
                if len(mine):
                    _, mean, m2 = two_pass(raw.post[mine])
                    close(stats.mean[v, p, fold], mean)
                    close(stats.m2[v, p, fold], m2)
        plus = df.index[(df["value"] == value) & (df["pole"] == "+")]
        partner = {pair: i for i, pair in df["pair_id"][(df["value"] == value) & (df["pole"] == "-")].items()}
        minus = [partner[pair] for pair in df["pair_id"].iloc[plus]]
        n, mean, m2 = two_pass(raw.post[plus] - raw.post[minus])
        got_n, got_mean, got_m2 = stats.pair_moments(value)
        assert got_n == n
        close(got_mean, mean)
        close(got_m2, m2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Any:
    return models.load(folder)


@pytest.fixture(scope="module")
def tiny_stats(tiny: Any) -> ActivationStats:
    return collect(tiny, pairs(), samples=True)


def count_hooks(model: Any) -> int:
    return sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_moments_equal_raw_hooks_on_random_models(tmp_path: Path, family: Any) -> None:
    folder = tiny_checkpoint(tmp_path / family, family)
    data = pairs()
    stats = collect(models.load(folder), data, token_budget=100)
    assert stats.gated == (family == "llama")
    check_against_raw(stats, raw_pooled(folder, split_text(data)), data)


def test_moments_equal_raw_hooks_on_a_trained_model(stories3m: Any, shared_dir: Path) -> None:
    data = pairs(topics=4)
    raw = raw_pooled(shared_dir / "models" / "stories3M", split_text(data))
    check_against_raw(collect(stories3m, data), raw, data)


def test_last_token_pooling(tiny: Any, folder: Path) -> None:
    data = pairs(topics=3)
    check_against_raw(collect(tiny, data, pooling="last"), raw_pooled(folder, split_text(data), last=True), data)


def test_without_an_answer_span_all_tokens_but_bos_count(tiny: Any, folder: Path) -> None:
    df = pairs(topics=3).df.assign(answer_start=None, answer_end=None)
    data = ContrastSet(df, "whole")
    check_against_raw(collect(tiny, data), raw_pooled(folder, [("", t) for t in df["text"]]), data)


@pytest.mark.parametrize("budget", [1, 60, 100_000])
@pytest.mark.parametrize("shared", [False, True])
def test_batching_changes_nothing(tiny: Any, tiny_stats: ActivationStats, budget: int, shared: bool) -> None:
    other = collect(tiny, pairs(), token_budget=budget, share_prefixes=shared)
    for name in ("mean", "m2", "positive", "diff_mean", "diff_m2", "resid", "gate_mean", "gate_m2", "gate_positive"):
        want = getattr(tiny_stats, name)
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(getattr(other, name), want, rtol=1e-5, atol=1e-6 * scale, err_msg=name)
    assert (other.n == tiny_stats.n).all() and (other.diff_n == tiny_stats.diff_n).all()


def test_merge_equals_collecting_together(tiny: Any) -> None:
    data = pairs()
    topics = data.df["cluster"].isin(["topic 0", "topic 3", "topic 4"])
    a, b = (collect(tiny, ContrastSet(data.df[rows], "half")) for rows in (topics, ~topics))
    whole, merged = collect(tiny, data), a.merge(b)
    for name in ("mean", "m2", "positive", "diff_mean", "diff_m2", "resid", "gate_mean", "gate_m2", "gate_positive"):
        close(getattr(merged, name), getattr(whole, name))
    assert (merged.n == whole.n).all() and (merged.diff_n == whole.diff_n).all()
    assert merged.prompt_hash == b.merge(a).prompt_hash != a.prompt_hash


def test_merge_refuses_what_does_not_belong_together(tiny: Any, tmp_path: Path, tiny_stats: ActivationStats) -> None:
    other = models.load(tiny_checkpoint(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="cannot be merged"):
        tiny_stats.merge(collect(other, pairs()))
    with pytest.raises(InputError, match="cannot be merged"):
        tiny_stats.merge(collect(tiny, pairs(), pooling="last"))
    with pytest.raises(InputError, match="cannot be merged"):
        tiny_stats.merge(collect(tiny, pairs().for_value("power")))
    with pytest.raises(InputError, match="gate"):
        tiny_stats.merge(collect(tiny, pairs(), gate=False))


def test_token_ids_identify_statistics(tiny: Any, tiny_stats: ActivationStats, tmp_path: Path) -> None:
    """Equal where the same tokens ran, whatever the batches; other texts or answer spans are others; kept in files."""
    again = collect(tiny, pairs(), token_budget=64)
    assert again.tokens_hash == tiny_stats.tokens_hash != "" and again.encoding == tiny_stats.encoding
    moved = pairs().df.copy()
    moved["answer_start"] = moved["answer_start"] + 1
    assert collect(tiny, ContrastSet(moved, "moved")).tokens_hash != tiny_stats.tokens_hash
    loaded = ActivationStats.load(tiny_stats.save(tmp_path / "stats"))
    assert (loaded.tokens_hash, loaded.encoding) == (tiny_stats.tokens_hash, tiny_stats.encoding)
    merged = tiny_stats.merge(collect(tiny, pairs().for_value(*tiny_stats.values)))
    assert merged.encoding == tiny_stats.encoding and merged.tokens_hash not in ("", tiny_stats.tokens_hash)


def test_statistics_of_0_1_load_and_merge_as_plain_text(tiny_stats: ActivationStats, tmp_path: Path) -> None:
    saved = tiny_stats.save(tmp_path / "stats")
    meta = json.loads(saved.read_text())
    for name in ("tokens_hash", "encoding"):
        del meta[name]
    saved.write_text(json.dumps(meta))
    old = ActivationStats.load(saved)
    assert (old.tokens_hash, dict(old.encoding)) == ("", {})
    assert old.merge(tiny_stats).tokens_hash == tiny_stats.merge(old).tokens_hash == ""
    with pytest.raises(InputError, match="chat settings"):
        old.merge(replace(tiny_stats, encoding={"chat": True, "probe": "x"}))


def test_other_chat_settings_never_merge(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m", chat=True, n_ctx=256)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = (
        "Today: {{ strftime_now('%d %b %Y') }} {% if brief %}Be brief. {% endif %}" + tokenizer.chat_template
    )
    tokenizer.save_pretrained(folder)
    model = models.load(folder)
    first = collect(model, pairs())
    plain = collect(model, pairs(), chat=False)
    inference.set_template(model, date="2025-01-31")
    later = collect(model, pairs())
    inference.set_template(model, brief=True)
    brief = collect(model, pairs())
    assert len({stats.tokens_hash for stats in (first, plain, later, brief)}) == 4
    for other in (plain, later, brief):
        assert other.fingerprint == first.fingerprint and other.prompt_hash == first.prompt_hash
        with pytest.raises(InputError, match="chat settings"):
            first.merge(other)
    inference.set_template(model)
    assert first.merge(collect(model, pairs())).encoding == first.encoding


def test_save_and_load(tiny_stats: ActivationStats, tmp_path: Path) -> None:
    saved = tiny_stats.save(tmp_path / "deep" / "stats")
    again = ActivationStats.load(saved)
    for name in ("n", "mean", "m2", "positive", "diff_n", "diff_mean", "diff_m2", "resid", "gate_mean", "gate_m2"):
        got, want = getattr(again, name), getattr(tiny_stats, name)
        assert got.dtype == want.dtype and (got == want).all(), name
    assert again.values == tiny_stats.values and again.fingerprint == tiny_stats.fingerprint
    assert (again.prompt_hash, again.pooling, again.info) == (tiny_stats.prompt_hash, "mean", tiny_stats.info)
    assert again.samples is None
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["stats.json", "stats.safetensors"]


def test_load_refuses_other_files(tmp_path: Path, tiny_stats: ActivationStats) -> None:
    with pytest.raises(InputError, match="does not exist"):
        ActivationStats.load(tmp_path / "none")
    saved = tiny_stats.save(tmp_path / "stats")
    for content, match in (('{"kind": "neuron_set"}', "does not contain"), ("{", "not JSON")):
        saved.write_text(content)
        with pytest.raises(InputError, match=match):
            ActivationStats.load(saved)


def test_from_samples_equals_collect(tiny_stats: ActivationStats) -> None:
    assert tiny_stats.samples is not None
    again = ActivationStats.from_samples(tiny_stats.samples.h, tiny_stats.samples.table)
    for name in ("mean", "m2", "diff_mean", "diff_m2"):
        close(getattr(again, name), getattr(tiny_stats, name), atol=1e-6)
    assert again.values == tiny_stats.values and (again.n == tiny_stats.n).all()


def test_samples_in_memory_and_in_a_file(tiny: Any, tiny_stats: ActivationStats, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples" / "h.npy"
    on_disk = collect(tiny, pairs(), samples=path)
    assert on_disk.samples is not None and tiny_stats.samples is not None
    assert isinstance(on_disk.samples.h, np.memmap)
    read = np.load(path)
    assert read.dtype == np.float32 and (read == tiny_stats.samples.h).all()
    raw = raw_pooled(folder, split_text(pairs()))
    close(read, raw.post)
    assert on_disk.samples.table["text"].tolist() == pairs().df["text"].tolist()


def test_only_the_asked_split_is_used(tiny: Any) -> None:
    train, test = pairs(3).df, pairs(3, split="test").df
    test = test.assign(pair_id=test["pair_id"] + "t", cluster=test["cluster"] + "t", text="Now. " + test["text"])
    test = test.assign(answer_start=test["answer_start"] + 5, answer_end=test["answer_end"] + 5)
    both = ContrastSet(pd.concat([train, test]), "both")
    assert collect(tiny, both).moments("power", "+")[0] == 3
    assert collect(tiny, both, split=None).moments("power", "+")[0] == 6
    close(collect(tiny, both).mean, collect(tiny, pairs(3)).mean)


# ---------------------------------------------------------------- refusals


def test_nan_weights_name_layer_and_prompt(tmp_path: Path) -> None:
    model = models.load(tiny_checkpoint(tmp_path / "nan"))
    before = count_hooks(model)
    with torch.no_grad():
        models.w_in(model, 1)[:, 5] = float("nan")
        # W_in may be a transposed view or a parameter of its own; either way the model must see it
    with pytest.raises(InputError, match=r"not finite at layer 1 on prompt 'What does the neighbour of number \d do"):
        collect(model, pairs())
    assert count_hooks(model) == before


def test_too_long_text(tiny: Any) -> None:
    df = pairs(3).df
    long = df["text"].iloc[0] + " and more" * 200
    df.loc[0, "text"], df.loc[0, "answer_end"] = long, len(long)
    before = count_hooks(tiny)
    with pytest.raises(InputError, match="context"):
        collect(tiny, ContrastSet(df, "long"))
    assert count_hooks(tiny) == before


def test_missing_pole_and_empty_split(tiny: Any) -> None:
    df = pairs(3).df
    with pytest.raises(InputError, match="power has no - prompts"):
        ContrastSet(df[(df["value"] != "power") | (df["pole"] == "+")].assign(pair_id=None), "one pole")
    unpaired = df.assign(pair_id=None)
    move = (unpaired["value"] == "power") & (unpaired["pole"] == "-")
    unpaired.loc[move, "split"] = "test"
    unpaired.loc[move, "cluster"] = "elsewhere"
    with pytest.raises(InputError, match="power"):
        collect(tiny, ContrastSet(unpaired, "one pole in train"))
    with pytest.raises(InputError, match="validation split has no prompts"):
        collect(tiny, pairs(3), split="validation")
    with pytest.raises(InputError, match="unknown split"):
        collect(tiny, pairs(3), split="dev")


def test_unknown_pooling_and_value(tiny: Any, tiny_stats: ActivationStats, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="was not collected"):
        tiny_stats.moments("hedonism", "+")
    with pytest.raises(InputError, match="unknown"):
        tiny_stats.moments("greed", "+")
    # beartype (tests only) refuses a wrong pooling before collect does: look behind it
    plain = getattr(collect, "__wrapped__", collect)
    with pytest.raises(Exception, match="first"):
        plain(tiny, pairs(3), pooling="first")


def test_no_hook_stays_on(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva_tl.models import inference

    before = count_hooks(tiny)
    collect(tiny, pairs(3))
    assert count_hooks(tiny) == before

    def broken(*args: Any, **kwargs: Any) -> None:
        assert count_hooks(tiny) > before, "hooks should be on while the model runs"
        raise RuntimeError("out of memory")

    monkeypatch.setattr(inference, "forward_batch", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        collect(tiny, pairs(3))
    assert count_hooks(tiny) == before


def test_values_whose_sum_overflows_are_finite_all_the_same() -> None:
    table, large = pd.DataFrame({"text": ["one", "two"]}), torch.full((2, 3), 3e38)
    check_finite([{"post": large}], table, np.arange(2))
    with pytest.raises(InputError, match="post activations are not finite at layer 0 on prompt 'two'"):
        check_finite([{"post": torch.tensor([[3e38, 3e38], [3e38, torch.inf]])}], table, np.arange(2))
