"""Baselines equal methods written by hand on the plain transformers model: raw hooks, NumPy, and scikit-learn probes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl import models, selection
from neva_tl.activations import collect
from neva_tl.editing import PromptShift, edit
from neva_tl.evaluation import Decoding
from neva_tl.evaluation.conditions.observe import write_texts
from neva_tl.methods import Evidence, austeer, build, sae_features
from neva_tl.methods.rotated import rotations
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet, Example

pytestmark = pytest.mark.core

WORDS = {"power": ("rules", "yields"), "benevolence": ("helps", "hurts"), "security": ("guards", "risks")}
CLUSTERS, LAYERS, SEED = 10, 4, 4
PROMPT, ANSWER = "Who eats the bread of the king?", "Tom eats it with strangers"


@dataclass(frozen=True)
class Seen:
    """What a plain model computed on one text, without its BOS: per layer `[tokens, width]`."""

    resid: np.ndarray
    gate: np.ndarray
    post: np.ndarray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("parity") / "llama", n_layers=LAYERS)


@pytest.fixture(scope="module")
def hf(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def pairs() -> ContrastSet:
    """Texts end on the word that tells the poles apart, so that probes at the last token have something to read."""
    rows = [
        {
            "value": value,
            "pair_id": f"{value}{i}",
            "pole": pole,
            "text": f"In year {i} the old king {verb}",
            "cluster": f"c{i}",
            "split": "train",
            "source": "test",
        }
        for value, verbs in WORDS.items()
        for i in range(CLUSTERS)
        for pole, verb in zip("+-", verbs, strict=True)
    ]
    return ContrastSet.from_rows(rows, "test")


@pytest.fixture(scope="module")
def evidence(folder: Path, pairs: ContrastSet) -> Evidence:
    model = models.load(folder)
    stats = collect(model, pairs, samples=True)
    neurons = selection.select(
        stats, "power", method="effect_size", k=12, lam=0.0, require_q=False, require_split_half=False
    )
    return Evidence(model, stats, {"power": neurons}, scope="all", layers=(2,), seed=SEED)


def block_output(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


@pytest.fixture(scope="module")
def seen(hf: Any, folder: Path, pairs: ContrastSet) -> list[Seen]:
    text = AutoTokenizer.from_pretrained(folder)
    store: dict[tuple[str, int], Tensor] = {}
    handles = []
    for i, block in enumerate(hf.model.layers):

        def resid(m: Any, a: Any, out: Any, i: int = i) -> None:
            store["resid", i] = block_output(out)

        def gate(m: Any, a: Any, out: Tensor, i: int = i) -> None:
            store["gate", i] = out

        def post(m: Any, args: Any, i: int = i) -> None:
            store["post", i] = args[0]

        handles.append(block.register_forward_hook(resid))
        handles.append(block.mlp.act_fn.register_forward_hook(gate))
        handles.append(block.mlp.down_proj.register_forward_pre_hook(post))
    found = []
    for line in pairs.df["text"]:
        with torch.no_grad():
            hf(torch.tensor([text(line)["input_ids"]]))
        part = {
            name: torch.stack([store[name, i].reshape(-1, store[name, i].shape[-1])[1:] for i in range(LAYERS)])
            for name in ("resid", "gate", "post")
        }
        found.append(Seen(**{name: x.double().numpy() for name, x in part.items()}))
    for handle in handles:
        handle.remove()
    return found


def at(pairs: ContrastSet, value: str, pole: str) -> np.ndarray:
    return np.flatnonzero((pairs.df["value"] == value) & (pairs.df["pole"] == pole))


def means(seen: list[Seen], rows: np.ndarray, name: str) -> np.ndarray:
    """`[rows, layers, width]`: mean over each text's tokens."""
    return np.stack([getattr(seen[i], name).mean(axis=1) for i in rows])


@contextmanager
def hooked(hf: Any, change: Callable[[int, Tensor], Tensor], where: str) -> Iterator[None]:
    """Change every block's output (`resid`), or the down-projection's input (`post`)."""
    handles = []
    for i, block in enumerate(hf.model.layers):
        if where == "resid":

            def out(m: Any, a: Any, o: Any, i: int = i) -> Any:
                new = change(i, block_output(o))
                return (new, *o[1:]) if isinstance(o, tuple) else new

            handles.append(block.register_forward_hook(out))
        else:

            def pre(m: Any, args: Any, i: int = i) -> Any:
                return (change(i, args[0]),)

            handles.append(block.mlp.down_proj.register_forward_pre_hook(pre))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def compare(evidence: Evidence, hf: Any, item: Any, change: Callable[[int, Tensor], Tensor], where: str) -> None:
    """Log-probabilities of a prompt and its answer under our edit and under the raw hook."""
    batch = inference.encode(evidence.model, [Example(PROMPT, ANSWER)])
    with edit(evidence.model, item) as session:
        got = inference.forward_batch(evidence.model, batch, session=session)
    with torch.no_grad():
        plain = hf(batch.tokens).logits
        with hooked(hf, change, where):
            want = hf(batch.tokens).logits
    assert got is not None
    moved = (torch.log_softmax(want, -1) - torch.log_softmax(plain, -1)).abs().max()
    assert moved > 1e-2, "the oracle itself must move"
    error = (torch.log_softmax(got, -1) - torch.log_softmax(want, -1)).abs().max()
    assert error < 1e-3 * max(1.0, float(moved)), (float(error), float(moved))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def directions(seen: list[Seen], pairs: ContrastSet, layer: int) -> dict[str, np.ndarray]:
    return {
        v: means(seen, at(pairs, v, "+"), "resid")[:, layer].mean(0)
        - means(seen, at(pairs, v, "-"), "resid")[:, layer].mean(0)
        for v in WORDS
    }


def projected(found: dict[str, np.ndarray]) -> np.ndarray:
    """Power's direction with the others' taken out by least squares, norm restored."""
    own, others = found["power"], np.stack([found[v] for v in WORDS if v != "power"], axis=1)
    return unit(own - others @ np.linalg.lstsq(others, own, rcond=None)[0]) * np.linalg.norm(own)


@pytest.mark.parametrize("method", ["caa_layers", "caa_layers_projected"])
def test_caa_layers(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, method: str) -> None:
    item = build(method, evidence, "power").with_dose(3.0)
    layers = sorted(item.vectors)  # type: ignore[attr-defined]
    assert layers == [1, 2], "a third of four layers is one: two around the chosen layer"

    def change(layer: int, x: Tensor) -> Tensor:
        if layer not in layers:
            return x
        found = directions(seen, pairs, layer)
        vector = projected(found) if method.endswith("projected") else found["power"]
        return x + 3.0 * torch.as_tensor(vector / 2, dtype=x.dtype)

    compare(evidence, hf, item, change, "resid")


def probe(x: np.ndarray, label: np.ndarray, C: float) -> Callable[[np.ndarray], np.ndarray]:
    """Log-odds by a scikit-learn pipeline."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=1000))
    return fitted.fit(x, label).decision_function


def raw(odds: Callable[[np.ndarray], np.ndarray], width: int) -> tuple[np.ndarray, float]:
    """Weight and bias of a linear function, read off its values."""
    bias = float(odds(np.zeros((1, width)))[0])
    return odds(np.eye(width)) - bias, bias


@pytest.mark.parametrize("method", ["caa_probe", "caa_projected_probe"])
@pytest.mark.parametrize("dose", [4.0, -4.0])
def test_caa_probe(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, method: str, dose: float) -> None:
    item = build(method, evidence, "power").with_dose(dose)
    plus, minus = at(pairs, "power", "+"), at(pairs, "power", "-")
    others = np.concatenate([at(pairs, v, "+") for v in WORDS if v != "power"])  # all of them: fewer than 40
    rows = np.concatenate([plus, minus, others])
    resid, label = means(seen, rows, "resid"), np.isin(rows, plus)
    table = {}
    for layer in (1, 2):
        x = resid[:, layer]
        odds = probe(x, label, 0.05)
        weight, bias = raw(odds, x.shape[1])
        found = directions(seen, pairs, layer)
        vector = projected(found) if "projected" in method else found["power"]
        table[layer] = (weight, bias, vector / (weight @ vector), odds(x).min(), odds(x).max(), weight @ vector)
    reach = {layer: row[-1] for layer, row in table.items()}
    kept = [layer for layer in table if reach[layer] >= min(1.0, max(reach.values()))]
    assert [p.layer for p in item.probes] == kept  # type: ignore[attr-defined]

    def change(layer: int, x: Tensor) -> Tensor:
        if layer not in kept:
            return x
        weight, bias, step, low, high, _ = table[layer]
        said = x.double().numpy() @ weight + bias
        lacking = (
            np.maximum(0, dose - np.maximum(said, low)) if dose > 0 else np.minimum(0, dose - np.minimum(said, high))
        )
        return x + torch.as_tensor(lacking[..., None] * step, dtype=x.dtype)

    compare(evidence, hf, item, change, "resid")


@dataclass(frozen=True)
class Conva:
    """ConVA by hand: per layer weight, bias, lowest log-odds of a fitting text."""

    layers: dict[int, tuple[np.ndarray, float, float]]

    def shifts(
        self, dose: float, end: int, touched: Callable[[int], np.ndarray], last_touched: bool
    ) -> Callable[[int, Tensor], Tensor]:
        """The change of a forward pass, with each layer's shift worked out at place `end` of the first row."""
        absent: list[np.ndarray] = []

        def change(layer: int, x: Tensor) -> Tensor:
            if layer == 0:
                absent.clear()
            if layer not in self.layers:
                return x
            w, b, low = self.layers[layer]
            e = x[0, end].double().numpy() + sum(absent, np.zeros(len(w)))
            delta = max(0.0, dose - max(b + w @ e, low)) * w / (w @ w)
            if not last_touched:
                absent.append(delta)
            where = torch.as_tensor(touched(x.shape[1]), dtype=x.dtype)[None, :, None]
            return x + where * torch.as_tensor(delta, dtype=x.dtype)

        return change


@pytest.fixture(scope="module")
def conva(seen: list[Seen], pairs: ContrastSet) -> Conva:
    rows = np.sort(np.concatenate([at(pairs, "power", "+"), at(pairs, "power", "-")]))
    label = (pairs.df["pole"].iloc[rows] == "+").to_numpy()
    clusters = pairs.df["cluster"].iloc[rows].to_numpy()
    fit, test = next(GroupShuffleSplit(1, test_size=0.3, random_state=SEED).split(label, groups=clusters))
    last = np.stack([seen[i].resid[:, -1] for i in rows])
    layers = {}
    for layer in range(LAYERS):
        x = last[:, layer]
        odds = probe(x[fit], label[fit], 1.0)
        if ((odds(x[test]) > 0) == label[test]).mean() > 0.9:
            layers[layer] = (*raw(odds, x.shape[1]), float(odds(x[fit]).min()))
    assert len(layers) >= 2, "the texts must let several layers pass"
    return Conva(layers)


@pytest.mark.parametrize("scope", ["all", "generated", "prompt", "last"])
def test_conva(evidence: Evidence, hf: Any, conva: Conva, scope: Any) -> None:
    item = build("conva", evidence, "power").with_scope(scope).with_dose(5.0)
    assert isinstance(item, PromptShift) and [p.layer for p in item.probes] == list(conva.layers)
    start = inference.encode_one(evidence.model, [Example(PROMPT, ANSWER)])[0].start

    def touched(n: int) -> np.ndarray:
        position = np.arange(n)
        return {
            "all": position >= 0,
            "generated": position >= start,
            "prompt": position < start,
            "last": position >= start - 1,
        }[scope]

    compare(evidence, hf, item, conva.shifts(5.0, start - 1, touched, scope != "generated"), "resid")


@pytest.mark.parametrize("scope", ["all", "generated"])
def test_conva_writes_what_whole_passes_write(evidence: Evidence, hf: Any, conva: Conva, scope: Any) -> None:
    """Greedy, with the key-value cache and side by side with a shorter prompt, against whole passes of plain transformers."""
    item = build("conva", evidence, "power").with_scope(scope).with_dose(8.0)
    prompts = [PROMPT, "Tom"]
    with edit(evidence.model, item) as session:
        got = inference.generate(evidence.model, prompts, max_new_tokens=6, session=session, stop_at_eos=False)
    text = models.tokenizer(evidence.model)
    edited = []
    for place, prompt in enumerate(prompts):
        ids = list(inference.encode_one(evidence.model, [Example(prompt, "")])[0].ids)
        start = len(ids)

        def touched(n: int, start: int = start) -> np.ndarray:
            return np.arange(n) >= (0 if scope == "all" else start)

        change = conva.shifts(8.0, start - 1, touched, scope == "all")
        for _ in range(6):
            with torch.no_grad(), hooked(hf, change, "resid"):
                ids.append(int(hf(torch.tensor([ids])).logits[0, -1].argmax()))
        edited.append(ids[start:])
        assert text.decode(ids[start - 1 :])[len(text.decode([ids[start - 1]])) :] == got[place]
    plain = inference.generate(evidence.model, prompts, max_new_tokens=6, stop_at_eos=False)
    assert plain != got, "the edit must change something"


def test_sae(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, tmp_path: Path) -> None:
    """An autoencoder in the library's format: features, Hedges' g, specificity and the sum of decoder rows by hand."""
    d, m, k = seen[0].resid.shape[-1], 120, 6
    rng = np.random.default_rng(SEED)
    w_enc, w_dec, b_enc, b_dec = (
        rng.normal(size=(m, d)),
        rng.normal(size=(m, d)),
        rng.normal(size=m),
        rng.normal(size=d),
    )
    arrays = {"encoder.weight": w_enc, "encoder.bias": b_enc, "W_dec": w_dec, "b_dec": b_dec}
    folder = tmp_path / "layers.2"
    folder.mkdir()
    save_file({name: x.astype(np.float32) for name, x in arrays.items()}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": d, "k": k, "expansion_factor": 32}))

    z = np.zeros((len(seen), m))
    for i, text in enumerate(seen):
        for x in text.resid[2]:
            a = np.maximum(w_enc @ (x - b_dec) + b_enc, 0)
            a[np.argsort(-a)[k:]] = 0
            z[i] += a / len(text.resid[2])

    def g(value: str) -> np.ndarray:
        plus, minus = z[at(pairs, value, "+")], z[at(pairs, value, "-")]
        df = len(plus) + len(minus) - 2
        sd = np.sqrt((plus.var(0) * len(plus) + minus.var(0) * len(minus)) / df)
        spread = sd > 1e-4 * np.maximum(plus.mean(0), minus.mean(0))  # less is rounding, in ours of float32
        exact = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
        return np.where(spread, (plus.mean(0) - minus.mean(0)) / np.where(spread, sd, 1) * exact, 0)

    own = g("power")
    leak = np.max([np.sign(own) * g(v) for v in WORDS if v != "power"], axis=0)
    score = np.where(own != 0, np.abs(own) - np.maximum(0, leak), 0)
    best = [f for f in np.argsort(-score)[:16] if score[f] > 0]
    assert len(best) > 4
    step = sum((z[at(pairs, "power", "+")].mean(0) - z[at(pairs, "power", "-")].mean(0))[f] * w_dec[f] for f in best)
    evidence = replace(evidence, sae=str(tmp_path))
    assert sae_features(evidence, "power")["feature"].head(16).tolist() == best
    item = build("sae", evidence, "power").with_dose(6.0)
    compare(evidence, hf, item, lambda i, x: x + 6.0 * torch.as_tensor(step, dtype=x.dtype) if i == 2 else x, "resid")


def test_visa(evidence: Evidence, tmp_path: Path) -> None:
    """Two greedy generations by the plain model: the second prompt quotes the first answer."""
    folder = tiny_checkpoint(tmp_path / "chat", chat=True, n_ctx=1024)
    plain, text = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    model = models.load(folder)
    stops = inference.stop_ids(model)

    def answer(content: str) -> str:
        turns = [{"role": "user", "content": content}]
        rendered = text.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = list(text(rendered, add_special_tokens=False)["input_ids"])
        start = len(ids)
        while len(ids) < start + 8 and ids[-1] not in stops:
            with torch.no_grad():
                ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
        new = ids[start:-1] if ids[-1] in stops else ids[start:]
        head = text.decode([ids[start - 1]], skip_special_tokens=True)
        return text.decode([ids[start - 1], *new], skip_special_tokens=True)[len(head) :]

    item = build("visa", replace(evidence, model=model, chat=True), "power")
    definition = evidence.stats.theory.value("power").definition.rstrip(".")
    want = []
    for prompt in (PROMPT, "Tom"):
        want.append(
            answer(
                f"Question: {prompt}\n\nAnswer: {answer(prompt).strip()}\n\nRewrite this answer. The new answer shows that "
                f"power ({definition}) comes before everything else. Keep its meaning, its language and its length where you "
                "can. Write the new answer only."
            )
        )
    decoding = Decoding(max_new_tokens=8)
    got = write_texts(model, item, [PROMPT, "Tom"], decoding)
    assert got == want and got != write_texts(model, None, [PROMPT, "Tom"], decoding)


@pytest.mark.parametrize("gamma", [1.5, 0.05, -1.0])
def test_npti(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, gamma: float) -> None:
    """Chosen, measured and edited at the plain model's own `act(gate_proj(x))`."""
    plus, minus = at(pairs, "power", "+"), at(pairs, "power", "-")
    fires = [np.mean([(seen[i].gate > 0).mean(axis=1) for i in rows], axis=0) for rows in (plus, minus)]
    p = fires[0] - fires[1]
    q95 = np.quantile(np.concatenate([seen[i].gate for i in (*plus, *minus)], axis=1), 0.95, axis=1)
    limit = 64  # a thirtieth of 4 x 48 neurons is less: the smallest cap
    chosen = np.zeros_like(p, dtype=bool)
    for signed in (p, -p):
        order = np.argsort(-signed.ravel(), kind="stable")
        count = max(min(limit, int((signed > 0).sum())), int((signed >= 0.1).sum()))
        chosen.ravel()[order[:count]] = True
    item = build("npti", evidence, "power").with_dose(gamma)
    table = item.neurons.df  # type: ignore[attr-defined]
    assert set(zip(table["layer"], table["neuron"], strict=True)) == set(zip(*np.nonzero(chosen), strict=True))

    def new(layer: int, a: Tensor) -> Tensor:
        x = a.double().numpy().copy()
        own = chosen[layer] & (p[layer] * np.sign(gamma) > 0)
        other = chosen[layer] & ~own
        x[..., own] += abs(gamma) * (np.maximum(q95[layer], 0) / (1 + np.exp(-10 * (abs(p[layer]) - 0.15))))[own]
        # silenced in full from the paper's smallest gamma on
        x[..., other] -= min(1.0, abs(gamma) / 0.1) * np.maximum(x[..., other], 0)
        return torch.as_tensor(x, dtype=a.dtype)

    handles = [
        block.mlp.act_fn.register_forward_hook(lambda m, a, out, i=i: new(i, out))
        for i, block in enumerate(hf.model.layers)
    ]
    batch = inference.encode(evidence.model, [Example(PROMPT, ANSWER)])
    with torch.no_grad():
        want = hf(batch.tokens).logits
        for handle in handles:
            handle.remove()
        plain = hf(batch.tokens).logits
    with edit(evidence.model, item) as session:
        got = inference.forward_batch(evidence.model, batch, session=session)
    assert got is not None and (want - plain).abs().max() > 1e-2
    error = (torch.log_softmax(got, -1) - torch.log_softmax(want, -1)).abs().max()
    assert error < 1e-3 * max(1.0, float((want - plain).abs().max()))


def test_dpn_le(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet) -> None:
    plus, minus = (means(seen, at(pairs, "power", pole), "post") for pole in "+-")
    s = plus.mean(0) - minus.mean(0)
    d = s / np.sqrt((plus.var(0, ddof=1) + minus.var(0, ddof=1)) / 2)  # poles of equal size
    chosen = (np.abs(s) > np.quantile(np.abs(s), 0.995)) & (np.abs(d) > 0.8)
    order = np.argwhere(chosen)[np.argsort(-np.abs(s[chosen]))]
    weight = np.linspace(1, 0.75, len(order))
    assert len(order)
    item = build("dpn_le", evidence, "power").with_dose(6.0)
    assert item.neurons.df[["layer", "neuron"]].to_numpy().tolist() == order.tolist()  # type: ignore[attr-defined]

    def change(layer: int, x: Tensor) -> Tensor:
        out = x.clone()
        for (at_layer, k), w in zip(order, weight, strict=True):
            if at_layer == layer:
                out[..., k] += 6.0 * w * s[layer, k]
        return out

    compare(evidence, hf, item, change, "post")


@pytest.mark.parametrize("dose", [1.0, 0.5])
def test_lape(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, dose: float) -> None:
    rows = {v: at(pairs, v, "+") for v in WORDS}
    p = np.stack([np.mean([(seen[i].post > 0).mean(axis=1) for i in rows[v]], axis=0).ravel() for v in WORDS])
    often = np.percentile(p, 95)
    share = p / np.maximum(p.sum(axis=0), 1e-300)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=0)
    entropy[~(p > often).any(axis=0)] = np.inf
    order = np.argsort(entropy, kind="stable")
    part = 0.01
    while True:  # the published 1 %, doubled until the value has a neuron
        low = order[: max(1, round(part * p.shape[1]))]
        own = [k for k in low if p[list(WORDS).index("power"), k] > often]
        if own:
            break
        part *= 2
    item = build("lape", evidence, "power").with_dose(dose)
    table = item.neurons.df  # type: ignore[attr-defined]
    assert sorted(table["layer"] * 48 + table["neuron"]) == sorted(own)
    level = means(seen, rows["power"], "post").mean(axis=0)

    def change(layer: int, x: Tensor) -> Tensor:
        out = x.clone()
        for at_layer, k in (divmod(int(k), 48) for k in own):
            if at_layer == layer:
                out[..., k] += dose * (level[layer, k] - x[..., k])
        return out

    batch = inference.encode(evidence.model, [Example(PROMPT, ANSWER)])
    with edit(evidence.model, item) as session:
        got = inference.forward_batch(evidence.model, batch, session=session)
    with torch.no_grad(), hooked(hf, change, "post"):
        want = hf(batch.tokens).logits
    with torch.no_grad():
        assert (hf(batch.tokens).logits - want).abs().max() > 1e-2, "the oracle itself must move"
    torch.testing.assert_close(torch.log_softmax(got, -1), torch.log_softmax(want, -1), atol=1e-4, rtol=1e-4)


def momentum(seen: list[Seen], pairs: ContrastSet) -> tuple[np.ndarray, np.ndarray]:
    """AUSteer's momentum by the published loop over dimensions, and the paired mean difference over its spread."""
    plus, minus = (means(seen, at(pairs, "power", pole), "post") for pole in "+-")
    beta = np.zeros(plus.shape[1:])
    for layer, k in np.ndindex(*beta.shape):
        gains = plus[:, layer, k] - minus[:, layer, k]
        larger, smaller = int((gains > 0).sum()), int((gains < 0).sum())
        beta[layer, k] = max(larger, smaller) / len(gains) * (-1 if larger < smaller else 1)
    difference = plus - minus
    return beta, difference.mean(0) / difference.std(0, ddof=1)


@pytest.mark.parametrize("sign", ["towards", "published"])
def test_austeer(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, sign: Any) -> None:
    beta, ratio = momentum(seen, pairs)
    order = sorted(np.ndindex(*beta.shape), key=lambda at: (-abs(beta[at]), -abs(ratio[at])))[:100]
    rows = np.concatenate([at(pairs, "power", pole) for pole in "+-"])
    middle = means(seen, rows, "post").mean(0)
    item = austeer(evidence, "power", sign=sign).with_dose(2.0)
    table = item.neurons.df
    assert table[["layer", "neuron"]].to_numpy().tolist() == [list(at) for at in order]
    np.testing.assert_allclose(table["momentum"], [beta[at] for at in order])
    if sign == "towards":
        assert build("austeer", evidence, "power").with_dose(2.0).neurons.df.equals(table)  # type: ignore[attr-defined]

    def change(layer: int, x: Tensor) -> Tensor:
        out = x.clone()
        for at_layer, k in order:
            if at_layer == layer:
                gamma = beta[layer, k] * (np.sign(middle[layer, k]) if sign == "towards" else 1)
                out[..., k] += 2.0 * gamma * x[..., k]
        return out

    compare(evidence, hf, item, change, "post")


@pytest.mark.parametrize("dose", [4.0, 0.5, -4.0])
def test_cna(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, dose: float) -> None:
    plus, minus = (means(seen, at(pairs, "power", pole), "post").mean(0) for pole in "+-")
    count = 16  # .1 % of 192 neurons is none: the smallest number
    others = np.flatnonzero(pairs.df["value"] != "power")
    high = np.zeros(plus.size)
    for activity in np.abs(means(seen, others, "post").reshape(len(others), -1)):
        high[np.argsort(-activity)[:count]] += 1
    universal = (high > 0.8 * len(others)).reshape(plus.shape)
    assert universal.any(), "the texts must have neurons that are always high"
    difference = np.where(universal, 0, np.abs(plus - minus))
    order = [divmod(int(k), 48) for k in np.argsort(-difference.ravel())[:count]]
    item = build("cna", evidence, "power").with_dose(dose)
    assert item.neurons.df[["layer", "neuron"]].to_numpy().tolist() == [list(at) for at in order]  # type: ignore[attr-defined]
    assert set(item.neurons.df["direction"]) == {1.0, -1.0}  # type: ignore[attr-defined]

    def change(layer: int, x: Tensor) -> Tensor:
        out = x.clone()
        for at_layer, k in order:
            if at_layer == layer:
                grows = (abs(plus[layer, k]) > abs(minus[layer, k])) == (dose > 0)
                out[..., k] *= 1 + abs(dose) if grows else max(0.0, 1 - abs(dose))
        return out

    compare(evidence, hf, item, change, "post")


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_persona_vector(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet, pooling: Any) -> None:
    """Means over the answer whatever the study reads, added from the prompt's last token on."""
    stats = collect(evidence.model, pairs, samples=True, pooling=pooling)
    item = build("persona_vector", replace(evidence, stats=stats, scope="generated"), "power").with_dose(3.0)
    vector = directions(seen, pairs, 2)["power"]
    start = inference.encode_one(evidence.model, [Example(PROMPT, ANSWER)])[0].start

    def change(layer: int, x: Tensor) -> Tensor:
        if layer != 2:
            return x
        where = (torch.arange(x.shape[1]) >= start - 1)[None, :, None]
        return x + 3.0 * where * torch.as_tensor(vector, dtype=x.dtype)

    compare(evidence, hf, item, change, "resid")


def test_role_few_shot(tmp_path: Path, pairs: ContrastSet) -> None:
    """Role, examples by hash and prompt, assembled by hand; activations are not edited."""
    model = models.load(tiny_checkpoint(tmp_path / "long", n_ctx=2048))
    stats = collect(model, pairs, samples=True)
    item = build("role_few_shot", Evidence(model, stats, {}), "power")
    texts = pairs.df.query("value == 'power' and pole == '+'")["text"]
    ranked = sorted(texts, key=lambda text: hashlib.sha256(f"few-shot {text}".encode()).hexdigest())
    definition = stats.theory.value("power").definition.rstrip(".")
    parts = [
        f"Answer as someone who puts power above everything else. ({definition}.)",
        "Examples of such answers:",
        *ranked[:4],
        "Now answer in the same way:",
        PROMPT,
    ]
    assert item.rewrite(PROMPT) == "\n\n".join(parts) and not item.changes(model)


def test_rotated(evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet) -> None:
    """The largest paired effects among rotated coordinates, and a shift along these alone."""
    bases = rotations(LAYERS, 48, SEED)
    for basis in bases:
        np.testing.assert_allclose(basis @ basis.T, np.eye(48), atol=1e-10)
    assert not np.allclose(bases[0], bases[1])
    plus, minus = (means(seen, at(pairs, "power", pole), "post") for pole in "+-")
    turned = np.stack([(plus - minus)[:, i] @ bases[i] for i in range(LAYERS)], axis=1)
    size = np.abs(turned.mean(0) / turned.std(0, ddof=1))
    best = np.argsort(-size.ravel(), kind="stable")[:12]
    item = build("rotated", evidence, "power").with_dose(4.0)
    step = np.zeros((LAYERS, 48))
    for k in best:
        layer, k = divmod(int(k), 48)
        step[layer] += bases[layer][:, k] * turned.mean(0)[layer, k]
    assert sorted(item.vectors) == [i for i in range(LAYERS) if step[i].any()]  # type: ignore[attr-defined]
    compare(evidence, hf, item, lambda i, x: x + 4.0 * torch.as_tensor(step[i], dtype=x.dtype), "post")


def test_rotated_coordinates_are_ranked_by_what_they_write(
    evidence: Evidence, hf: Any, seen: list[Seen], pairs: ContrastSet
) -> None:
    """Behind the selector `neva`: effect times write, a coordinate's write being `Q^T W_out` along the layer above."""
    options: dict[str, Any] = {"lam": 0.0, "lam_write": 0.0, "require_q": False, "require_split_half": False}
    neurons = selection.select(evidence.stats, "power", method="neva", k=9, model=evidence.model, **options)
    item = build("rotated", replace(evidence, neurons={"power": neurons}), "power")
    bases = rotations(LAYERS, 48, SEED)
    plus, minus = (means(seen, at(pairs, "power", pole), "post") for pole in "+-")
    turned = np.stack([(plus - minus)[:, i] @ bases[i] for i in range(LAYERS)], axis=1)
    effect, delta = np.abs(turned.mean(0) / turned.std(0, ddof=1)), turned.mean(0)
    write = np.zeros_like(delta)
    for layer in range(LAYERS):
        found = directions(seen, pairs, min(layer + 1, LAYERS - 1))
        u = unit(projected(found))
        w_out = hf.model.layers[layer].mlp.down_proj.weight.detach().double().numpy()
        write[layer] = delta[layer] * ((w_out @ bases[layer]).T @ u)
    score = np.where(write > 0, effect * write, -np.inf)
    step = np.zeros((LAYERS, 48))
    for k in np.argsort(-score.ravel(), kind="stable")[:9]:
        layer, k = divmod(int(k), 48)
        step[layer] += bases[layer][:, k] * delta[layer, k]
    assert sorted(item.vectors) == [i for i in range(LAYERS) if step[i].any()]  # type: ignore[attr-defined]
    for layer, vector in item.vectors.items():  # type: ignore[attr-defined]
        np.testing.assert_allclose(vector, step[layer], atol=1e-4 * np.abs(step).max(), rtol=1e-3)
