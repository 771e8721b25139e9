"""Training of the demo model: plain next-word loss, nothing that shapes neurons."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.core.files import check_output_folder
from neva_tl.core.messages import progress_bar
from neva_tl.demo.folder import start_folder
from neva_tl.demo.frozen import recipe_hash
from neva_tl.demo.lexicon import BORDER_RATE
from neva_tl.demo.neutral import make_drill
from neva_tl.demo.recipe import CONTINUED, RECIPE, Recipe
from neva_tl.demo.tokens import BOS, EOS, PAD, SPECIAL, save_tokenizer, token_ids
from neva_tl.demo.world import corpus, vocabulary


def sized_as(recipe: Recipe, config: Any) -> Recipe:
    """Return a recipe with the sizes of an existing model.

    Args:
        recipe: Recipe whose optimisation is kept.
        config: Hugging Face config of the model.
    """
    return replace(
        recipe,
        d_model=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        d_mlp=config.intermediate_size,
        n_ctx=config.max_position_embeddings,
    )


def build_model(recipe: Recipe = RECIPE, seed: int = 0) -> Any:
    """Build a freshly initialised LlamaForCausalLM in float32.

    Args:
        recipe: Sizes of the model.
        seed: Seed of the weights; the global random generator keeps its state.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(vocabulary()),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_heads,
        max_position_embeddings=recipe.n_ctx,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        attention_bias=False,
        mlp_bias=False,
        attention_dropout=0.0,
        initializer_range=recipe.init,
        architectures=["LlamaForCausalLM"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def drill_share(step: int, steps: int, recipe: Recipe) -> float:
    """Return the share of drills among the texts of a step's batch.

    Args:
        step: Index of the step.
        steps: Number of steps.
        recipe: Training recipe.
    """
    return next((share for until, share in recipe.drills if step < until * steps), 0.0)


def packed(seed: int, steps: int, recipe: Recipe) -> Iterator[Int[Tensor, "batch n_ctx"]]:
    """Yield a batch per step: <bos> text <eos> <bos> text <eos> ... divided into contexts, across which texts continue.

    Args:
        seed: Seed of the texts.
        steps: Number of steps.
        recipe: Training recipe.
    """
    ids = token_ids()
    rng = np.random.default_rng([seed, 17])
    texts = corpus(seed, sys.maxsize, "train")
    size = recipe.batch * recipe.n_ctx
    remaining: list[int] = []
    for step in range(steps):
        share = drill_share(step, steps, recipe)
        while len(remaining) < size:
            words = make_drill(rng) if rng.random() < share else next(texts).words
            remaining += [BOS, *(ids[w] for w in words), EOS]
        yield torch.tensor(remaining[:size]).reshape(recipe.batch, recipe.n_ctx)
        remaining = remaining[size:]


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Compute the learning rate of a step: linear warm-up, then cosine decay to `lr_last`.

    Args:
        step: Index of the step.
        steps: Number of steps.
        recipe: Training recipe.
    """
    warmup = min(recipe.warmup, max(1, steps // 10))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    x = (step - warmup) / max(1, steps - warmup)
    return recipe.lr_last + 0.5 * (recipe.lr - recipe.lr_last) * (1 + math.cos(math.pi * x))


def fit(
    model: Any,
    *,
    steps: int,
    seed: int,
    recipe: Recipe = RECIPE,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a model in place.

    Args:
        model: A LlamaForCausalLM.
        steps: Optimisation steps.
        seed: Seed of the texts.
        recipe: Training recipe.
        progress: Whether to show a progress bar on stderr.
        on_step: Function called with (step, loss) after each step.

    Returns:
        The loss of every step, in nats per token.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    scales = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": scales, "weight_decay": 0.0}],
        lr=recipe.lr,
        betas=(0.9, recipe.beta2),
    )
    losses = []
    model.train()
    batches = packed(seed, steps, recipe)
    bar = progress_bar(range(steps), desc="training the demo model", progress=progress)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, recipe)
        tokens = next(batches)
        logits = model(input_ids=tokens, use_cache=False).logits
        # <bos> follows <eos> only because texts are packed: it is not a word of any text, so the loss omits it
        target = tokens[:, 1:].masked_fill(tokens[:, 1:] == BOS, -100)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), target.flatten(), ignore_index=-100)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, losses[-1])
        if step % 20 == 0:
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}")
    model.eval()
    return losses


def save(model: Any, out: Path, recipe: Recipe = RECIPE) -> None:
    """Write the model as a Hugging Face folder: fp16 safetensors, config, tokenizer.

    Args:
        model: A LlamaForCausalLM.
        out: Folder to write to.
        recipe: Recipe with the model's context length.
    """
    import copy

    half = copy.deepcopy(model).to(torch.float16)
    half.config.dtype = "float16"
    half.save_pretrained(out, safe_serialization=True)
    save_tokenizer(out, recipe.n_ctx)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read, unusable in a shared installation


def train(
    out: str | Path,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
    recipe: Recipe | None = None,
    card: bool = True,
    on_step: Callable[[int, float], None] | None = None,
    *,
    start: str | Path | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Train a demo model on the process's world and write it with its card.

    Args:
        out: Folder to write, created when missing; it must not contain another model.
        steps: Optimisation steps; None takes the recipe's.
        seed: Seed of the texts, and of the weights without `start`.
        progress: Whether to show progress bars on stderr.
        recipe: Training recipe; None is `RECIPE`, or with `start` `CONTINUED` in the sizes of the initial model.
        card: Whether to measure the model and write README.md.
        on_step: See `fit`.
        start: Initial weights: `shipped`, or the folder of a demo model of any world; None initialises new weights.
        threads: Processor threads; None takes the recipe's.

    Returns:
        The card's numbers (with the world's border rate, the training time in seconds and the last losses), also written
        as `card.json`.

    Raises:
        InputError: `out` is a file, cannot be written or is not empty, `start` is not a demo model, or a number is out of
            range.
    """
    folder = Path(out)
    check_output_folder(folder)
    if (folder / "model.safetensors").exists():
        raise InputError(f"{folder} already holds a model: choose another folder, or delete it")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: choose another folder for the model, or delete it")
    for name, number in (("steps", steps), ("threads", threads)):
        if number is not None and number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    most = max(os.cpu_count() or 1, (recipe or RECIPE).threads)
    if threads is not None and threads > most:
        raise InputError(f"threads must be at most {most}, the number of cores, not {threads}")
    origin: dict[str, Any] = {}
    if start is None:
        recipe = RECIPE if recipe is None else recipe
        model = build_model(recipe, seed)
    else:
        from neva_tl.demo.card import load

        source = start_folder(start)
        model = load(source)
        recipe = sized_as(CONTINUED if recipe is None else recipe, model.config)
        # name and hash identify the model: a card must not contain a path
        origin = {"start": "shipped" if str(start) == "shipped" else source.resolve().name}
        origin["start_sha256"] = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    steps = recipe.steps if steps is None else steps
    threads = recipe.threads if threads is None else threads
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        started = time.perf_counter()
        losses = fit(model, steps=steps, seed=seed, recipe=recipe, progress=progress, on_step=on_step)
        seconds = time.perf_counter() - started
        save(model, folder, recipe)
        numbers: dict[str, Any] = {
            "seed": seed,
            "border_rate": BORDER_RATE,
            **origin,
            "steps": steps,
            "threads": threads,
            "train_seconds": round(seconds, 1),
            "train_tokens": steps * recipe.batch * recipe.n_ctx,
            "last_training_loss": float(np.mean(losses[-100:])),
            "recipe": asdict(recipe),
        }
        if card:
            from neva_tl.demo.card import measure, write_card

            torch.set_num_threads(1)  # measuring takes many small steps, in which a second thread mostly waits
            numbers |= measure(folder, progress=progress) | {"recipe_hash": recipe_hash(recipe)}
            write_card(folder, numbers)
        (folder / "card.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    finally:
        torch.set_num_threads(before)
    return numbers
