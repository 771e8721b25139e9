"""Measurements of the trained demo model, and its model card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neva_tl.core.messages import progress_bar
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.demo.entropy import text_logp
from neva_tl.demo.frozen import recipe_hash, world_hash
from neva_tl.demo.lexicon import SPLITS
from neva_tl.demo.posterior import posteriors
from neva_tl.demo.sets import neutral_questions, open_prompts
from neva_tl.demo.tokens import BOS, EOS, PAD, token_ids
from neva_tl.demo.world import corpus

#: Seed of held-out texts, far from the seeds of training.
HELD_OUT_SEED = 10**9


def load(folder: Path) -> Any:
    """Load a saved model in float32, in evaluation mode.

    Args:
        folder: Folder of a demo model.
    """
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()


def _ids(text: str) -> list[int]:
    return [BOS, *(token_ids()[word] for word in text.split())]


@torch.no_grad()
def text_losses(model: Any, texts: Sequence[str], batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Compute the loss of complete texts, including <eos>.

    Args:
        model: A demo model.
        texts: Texts.
        batch: Texts per forward pass.

    Returns:
        Summed loss [n] in nats, and numbers of tokens [n].
    """
    rows = [[*_ids(text), EOS] for text in texts]
    order = np.argsort([len(row) for row in rows], kind="stable")
    sums, counts = np.zeros(len(rows)), np.array([len(row) - 1 for row in rows])
    for start in range(0, len(rows), batch):
        picked = order[start : start + batch]
        width = max(len(rows[i]) for i in picked)
        tokens = torch.full((len(picked), width), PAD)
        mask = torch.zeros_like(tokens)
        for r, i in enumerate(picked):
            tokens[r, : len(rows[i])] = torch.tensor(rows[i])
            mask[r, : len(rows[i])] = 1
        logp = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].log_softmax(-1)
        nll = -logp.gather(-1, tokens[:, 1:, None])[..., 0] * mask[:, 1:]
        sums[picked] = nll.sum(1).double().numpy()
    return sums, counts


@torch.no_grad()
def sample(
    model: Any, prompts: Sequence[str], *, max_new_tokens: int = 24, temperature: float = 1.0, seed: int = 0
) -> list[str]:
    """Sample continuations of prompts, cut at <eos>, batching prompts of equal length.

    Args:
        model: A demo model.
        prompts: Prompts.
        max_new_tokens: Number of generated tokens.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed of the random generator.
    """
    names = {i: token for token, i in token_ids().items()}
    generator = torch.Generator().manual_seed(seed)
    rows = [_ids(prompt) for prompt in prompts]
    out = [""] * len(rows)
    for length in sorted({len(row) for row in rows}):
        picked = [i for i, row in enumerate(rows) if len(row) == length]
        tokens = torch.tensor([rows[i] for i in picked])
        for _ in range(max_new_tokens):
            logits = model(input_ids=tokens, use_cache=False).logits[:, -1]
            if temperature == 0:
                following = logits.argmax(-1, keepdim=True)
            else:
                following = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            tokens = torch.cat([tokens, following], dim=1)
        for i, row in zip(picked, tokens[:, length:].tolist(), strict=True):
            cut = row.index(EOS) if EOS in row else len(row)
            out[i] = " ".join(names[t] for t in row[:cut])
    return out


@torch.no_grad()
def question_accuracy(model: Any, n: int = 500, split: str = "test", seed: int = 0) -> dict[str, float]:
    """Compute the share of neutral questions whose right option is the likeliest of four, over all and by kind.

    Args:
        model: A demo model.
        n: Number of questions.
        split: Name of a split.
        seed: Seed of the questions.
    """
    questions = neutral_questions(split, n, seed)
    right = np.zeros(n, dtype=bool)
    columns = (questions[c].tolist() for c in ("prompt", "options", "answer"))
    for r, (prompt, options, answer) in enumerate(zip(*columns, strict=True)):
        logits = model(input_ids=torch.tensor([_ids(prompt)]), use_cache=False).logits[0, -1]
        scores = [float(logits[token_ids()[option]]) for option in options]
        right[r] = int(np.argmax(scores)) == answer
    kinds = questions["kind"].to_numpy()
    return {"all": float(right.mean())} | {str(k): float(right[kinds == k].mean()) for k in sorted(set(kinds))}


def unedited(model: Any, samples: int = 8, temperature: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Measure the unedited CSR of each value and the invalid rate on the open test prompts.

    Args:
        model: A demo model.
        samples: Continuations per prompt.
        temperature: See `sample`.
        seed: See `sample`.
    """
    prompts = list(open_prompts("test")["text"]) * samples
    texts = sample(model, prompts, temperature=temperature, seed=seed)
    express, _, valid = posteriors(texts, prompts)
    express[~valid] = 0.0
    return {
        "csr": dict(zip(SCHWARTZ.names, express.mean(0).round(4).tolist(), strict=True)),
        "invalid": float(1 - valid.mean()),
        "n": len(texts),
        "examples": [f"{p} **{t}**" for p, t in zip(prompts[:6], texts[:6], strict=True)],
    }


def measure(folder: Path, *, n_texts: int = 2000, progress: bool = True) -> dict[str, Any]:
    """Measure every number of the model card.

    Args:
        folder: Folder of a demo model.
        n_texts: Held-out texts per split.
        progress: Whether to show a progress bar on stderr.
    """
    model = load(folder)
    bar = progress_bar(total=len(SPLITS) + 3, desc="measuring the demo model", progress=progress)
    losses: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        texts = list(corpus(HELD_OUT_SEED, n_texts, split))
        # noisy texts beyond the entropy's sum (none so far) would have probability 0: both sides drop them
        scored = [(text, logp) for text in texts if (logp := text_logp(text.words, split)) > -math.inf]
        sums, counts = text_losses(model, [text.text for text, _ in scored])
        entropy = -sum(logp for _, logp in scored) / counts.sum()
        losses[split] = {"loss": float(sums.sum() / counts.sum()), "entropy": float(entropy), "texts": len(scored)}
        bar.update()
    out: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(f.stat().st_size for f in folder.iterdir()),
        "world_hash": world_hash(),
        "recipe_hash": recipe_hash(),
        "losses": losses,
    }
    out["accuracy"] = question_accuracy(model)
    bar.update()
    out["unedited"] = unedited(model)
    bar.update()
    out["unedited_greedy"] = unedited(model, samples=1, temperature=0.0)
    bar.update()
    bar.close()
    return out


def write_card(folder: Path, numbers: dict[str, Any]) -> None:
    """Write the model card README.md.

    Args:
        folder: Folder of a demo model.
        numbers: Numbers of `measure` and `train`.
    """
    recipe, losses, csr = numbers["recipe"], numbers["losses"], numbers["unedited"]["csr"]
    accuracy = numbers["accuracy"]
    origin = f"the weights of {numbers['start']} ({numbers['start_sha256'][:16]})" if "start" in numbers else "nothing"
    drilled = (
        " In the first part of training some texts are drills (facts repeated in random order: share of texts by share of steps "
        f"{recipe['drills']}): practice in lookups that the stories provide too rarely."
        if recipe["drills"]
        else ""
    )
    lines = [
        "---",
        "license: mit",
        "language: en",
        "---",
        "# demo: a small language model of a small world of values",
        "",
        "Written by `neva_tl.demo.training`; every number below was measured by that run. Model and data are ours, MIT licence.",
        "",
        f"- LlamaForCausalLM, gated MLP, {recipe['n_layers']} layers, d_model {recipe['d_model']}, d_mlp {recipe['d_mlp']}, "
        f"{recipe['n_heads']} heads, context {recipe['n_ctx']}; {numbers['parameters']:,} parameters, fp16, one token a word.",
        f"- Trained from {origin} with plain next-word loss (AdamW, cosine, seed {numbers['seed']}): {numbers['steps']:,} "
        f"steps, {numbers['train_tokens']:,} tokens generated during training, {numbers['train_seconds']:.0f} s on "
        f"{numbers['threads']} threads. Nothing in the loss shapes neurons.{drilled}",
        f"- World {numbers['world_hash'][:16]} (border rate {numbers['border_rate']:g}: the share of a value's clauses that "
        f"takes words from each of its two borders), recipe {numbers['recipe_hash'][:16]} (sha256; those of the shipped model "
        "are recorded in `frozen.json`).",
        "",
        "## Held-out loss and the generator's entropy",
        "Nats per token over fresh texts (end of text included), and -log P of the same texts under the generator, summed over",
        "latents, frames and noise: the loss of a perfect model that knows the split. People, places, frames and dilemmas of the",
        "validation and test splits are unseen in training (its people and places occur there in neutral stories only), so their",
        "loss cannot approach the entropy of a generator that knows which ones to use.",
        "",
        "| split | loss | entropy | texts |",
        "| --- | --- | --- | --- |",
        *(f"| {s} | {x['loss']:.3f} | {x['entropy']:.3f} | {x['texts']} |" for s, x in losses.items()),
        "",
        "## Neutral knowledge",
        "500 test questions, the likeliest of four options:",
        "",
        "| " + " | ".join(accuracy) + " |",
        "| " + " | ".join("---" for _ in accuracy) + " |",
        "| " + " | ".join(f"{100 * a:.1f} %" for a in accuracy.values()) + " |",
        "",
        "## Unedited on the open test prompts",
        f"{numbers['unedited']['n']} continuations of 24 tokens at temperature 1, judged with their prompts by the posterior. "
        f"Invalid: {100 * numbers['unedited']['invalid']:.1f} % (greedy: {100 * numbers['unedited_greedy']['invalid']:.1f} %). "
        "CSR (mean posterior) of each value:",
        "",
        "| value | temperature 1 | greedy |",
        "| --- | --- | --- |",
        *(f"| {v} | {csr[v]:.3f} | {numbers['unedited_greedy']['csr'][v]:.3f} |" for v in SCHWARTZ.names),
        "",
        "Examples (continuation in bold):",
        "",
        *(f"- {text}" for text in numbers["unedited"]["examples"]),
        "",
        "## Use",
        "`nv.load('demo')` (a model other than the shipped one: `nv.load('demo:FOLDER')`), or any Hugging Face loader on this",
        "folder. It knows a thousand words and only this world: lower case, spaces around marks. It gives no evidence about",
        "values in people or in larger models; its purpose is to test methods.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
