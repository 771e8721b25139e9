"""Made-up circuits as the package writes them: heads, inputs, neurons, tokens, values, hostile text among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from neva_tl.circuits import CircuitGraph
from neva_tl.core.values import VALUES

HOSTILE = [
    "</script><script>window.__pwned=1</script>",
    '<img src=x onerror="window.__pwned=1">',
    "\"quotes' & &amp; `${window.__pwned=1}`",
    "\u202eright to left\u202c שלום",
    "🙂👩‍👩‍👧",
    "long" * 60,
    "line\u2028separator\u2029",
    "control\x07\x00\x1b[31m",
    "{{7*7}}<!--<script>",
]
WORDS = {
    "self-direction": [" choose", " free", " own"],
    "stimulation": [" new", " thrill"],
    "hedonism": [" enjoy", " fun"],
    "achievement": [" win", " best"],
    "power": [" rule", " boss"],
    "security": [" safe", " lock"],
    "conformity": [" obey", " polite"],
    "tradition": [" custom", " pray"],
    "benevolence": [" help", " kind", " care"],
    "universalism": [" fair", " peace"],
}
PROMPT = ["<s>", "Mara", " says", " that", " we", " should", " help", " them", ",", " though", " it", "."]


def graph(
    value: str = "benevolence", *, hostile: bool = True, heads: int = 8, neurons: int = 25, seed: int = 0
) -> CircuitGraph:
    """A circuit of one value; with `heads=0` a minimal one, without heads and inputs."""
    rng = np.random.default_rng([seed, VALUES.index(value)])
    out: Any = nx.DiGraph()
    for name in VALUES:
        out.add_node(f"value:{name}", kind="value", value=name)
    words = [(name, word) for name, found in WORDS.items() for word in found]
    if hostile:
        words += [(value, HOSTILE[0]), (value, HOSTILE[1]), ("power", HOSTILE[3])]
    for number, (name, word) in enumerate(words):
        out.add_node(
            f"token:{number}", kind="token", token=number, text=word, word=word.strip(), multi=False, value=name
        )
        out.add_edge(f"token:{number}", f"value:{name}", kind="belongs")
    names = sorted({(int(rng.integers(1, 6)), int(rng.integers(0, 512))) for _ in range(neurons)})
    for place, (layer, index) in enumerate(names):
        chosen = place % 3 != 2
        written = [[w, float(x)] for (_, w), x in zip(words[:6], sorted(rng.gamma(1, 0.5, 6))[::-1], strict=False)]
        if hostile:
            written += [[text, -0.01] for text in HOSTILE]
        tokens = [*PROMPT, *(HOSTILE if hostile else [])]
        contexts = []
        for scale in (2.0, 1.2, 0.7):
            acts = scale * rng.standard_normal(len(tokens)) ** 3
            contexts.append({"tokens": tokens, "activations": acts.round(4).tolist(), "at": int(np.abs(acts).argmax())})
        extra: dict[str, Any] = {}
        if chosen:
            g = float(rng.normal(1.5, 0.4))
            extra = {"g": g, "lo": g - 0.2, "hi": g + 0.2, "p": 1e-5, "q": 3e-4, "score": g, "write": 0.1 * g,
                     "mean_plus": 0.4, "mean_minus": -0.1, "share": float(rng.normal(0.04, 0.03))}  # fmt: skip
        out.add_node(
            f"neuron:L{layer}.{index}", kind="neuron", layer=layer, neuron=index, value=value if chosen else "",
            values=value if chosen else "", selected=chosen, writes=json.dumps(written, ensure_ascii=False),
            contexts=json.dumps(contexts, ensure_ascii=False), **extra,
        )  # fmt: skip
        for number, (name, _) in enumerate(words):
            if rng.random() < 0.3 or name == value:
                effect = float(rng.normal(0.6 if name == value else 0, 0.4))
                out.add_edge(f"neuron:L{layer}.{index}", f"token:{number}", kind="attributed", attributed=effect)
        for name in VALUES:
            effect = float(rng.normal(0.5 if name == value else 0, 0.2))
            measured = -1.3 * effect + 0.02
            out.add_edge(
                f"neuron:L{layer}.{index}", f"value:{name}", kind="value", attributed=effect, measured=measured,
                lo=measured - 0.1, hi=measured + 0.1,
            )  # fmt: skip
    made = [(place // 2, int(rng.integers(0, 6))) for place in range(heads)]
    for layer, head in dict.fromkeys(made):
        node = f"head:L{layer}.H{head}"
        out.add_node(node, kind="head", layer=layer, head=head, share=float(rng.normal(0.05, 0.03)))
        out.add_edge(node, f"value:{value}", kind="value", attributed=float(rng.normal(0.3, 0.2)))
    upstream = [n for n, d in out.nodes(data=True) if d["kind"] in ("head", "neuron")]
    if heads:
        texts = [*PROMPT, HOSTILE[0], HOSTILE[5]] if hostile else PROMPT
        for text in texts:
            out.add_node(f"input:{text}", kind="input", text=text, count=int(rng.integers(1, 40)))
            for node in upstream:
                if node.startswith("head") and rng.random() < 0.5:
                    out.add_edge(f"input:{text}", node, kind="reads", attributed=float(rng.normal(0, 0.3)))
                elif node.startswith("neuron") and rng.random() < 0.15:
                    out.add_edge(f"input:{text}", node, kind="feeds", attributed=float(rng.normal(0, 0.2)))
        for source in upstream:
            for target in upstream:
                a, b = out.nodes[source], out.nodes[target]
                below = a["layer"] < b["layer"] or (a["layer"] == b["layer"] and a["kind"] == "head")
                if b["kind"] == "neuron" and below and source != target and rng.random() < 0.6:
                    direct = float(rng.normal(0, 0.3))
                    edge = {"kind": "feeds", "attributed": direct, "total": 1.2 * direct + 0.01}
                    if abs(direct) > 0.4:
                        edge |= {"measured": -1.1 * direct, "lo": -1.1 * direct - 0.05, "hi": -1.1 * direct + 0.05}
                    out.add_edge(source, target, **edge)
    f = 0.7 + 0.02 * VALUES.index(value)
    meta: dict[str, Any] = {
        "model": HOSTILE[0] if hostile else "demo", "values": [value], "scale": 3.21,
        "norm": "final norm frozen at its mean scale",
        "top_tokens": 8, "n_examples": 48, "attributed": "direct path, mean- to mean+, centred over the vocabulary",
        "measured": "change of the value's log-odds when the source alone is ablated to its mean",
        "task": f"log-odds of {value}'s tokens", "size": len(upstream),
        "faithfulness": {"f": f, "f_lo": f - 0.06, "f_hi": f + 0.05, "completeness": 0.88, "random_mean": 0.03,
                         "random_max": 0.11,
                         "n_random": 20, "split": "test", "texts": 96, "m_model": 2.1, "m_nothing": 0.1},
        "curve": [{"size": n, "f": f * n / (n + 8), "random": 0.002 * n} for n in (1, 2, 4, 8, 16, 32, 64, 128)],
    }  # fmt: skip
    if not heads:
        meta = {k: v for k, v in meta.items() if k not in ("task", "size", "faithfulness", "curve")}
    return CircuitGraph(out, meta)


def write_circuits(run: Path, values: tuple[str, ...] = VALUES, *, hostile: bool = True) -> Path:
    """`RUN/circuits/{value}.json` and `RUN/circuits/views.json`."""
    folder = run / "circuits"
    folder.mkdir(parents=True, exist_ok=True)
    views = []
    for value in values:
        made = graph(value, hostile=hostile)
        made.save(folder / f"{value}.json")
        tokens = [*PROMPT, *(HOSTILE if hostile else [])]
        rng = np.random.default_rng(VALUES.index(value))
        n, heads = len(tokens), made.nodes("head")[:4]
        names = [node.split(":")[1] for node in made.nodes("neuron")[:5]]
        patterns = np.tril(rng.random((len(heads), n, n)) ** 4) + 1e-3 * np.eye(n)
        patterns /= patterns.sum(-1, keepdims=True)
        views.append(
            {"value": value, "tokens": tokens, "neurons": names,
             "activations": rng.normal(size=(n, len(names))).round(3).tolist(),
             "heads": [head.split(":")[1] for head in heads], "patterns": patterns.round(4).tolist()}
        )  # fmt: skip
    (folder / "views.json").write_text(json.dumps({"schema": 1, "views": views}))
    return folder
