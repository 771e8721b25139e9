"""Logit lens of a run: the unedited model and each value's calibrated edit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, prompts
from neva_tl.attribution import lens_tokens, logit_lens
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.editing import Edit, edit
from neva_tl.methods import Evidence, build
from neva_tl.models import inference
from neva_tl.plots.showable import showable
from neva_tl.prompts.example import Example
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.optional import leave_out
from neva_tl.study.run.origin import run_model, run_prompts
from neva_tl.study.run.preflight import read_manifest
from neva_tl.study.run.run_folder import RunFolder

#: Tokens that the unedited model generates after each prompt, where edits act on generated tokens only.
ANSWER_TOKENS = 24
#: Largest number of open test prompts: every layer is read at this number times the answer's tokens.
MOST_PROMPTS = 40
#: Likeliest tokens stored per layer.
TOP = 5


def lens_table(
    out: str | Path,
    options: Mapping[str, Any],
    *,
    method: str = "neva",
    model: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Return the logit lens of a run folder, read from it or computed into it.

    The lens reads open test prompts. Each value's edit has the dose that the run calibrated for its largest target gain (where
    that is out of reach: the admissible dose that gained most). Where edits act on generated tokens only, the unedited model's
    greedy continuation is the answer, and the lens reads its tokens; else it reads the prompt's last token.

    Args:
        out: Run folder that has the doses of `method`.
        options: The manifest's `config`.
        method: A method with doses calibrated by the run.
        model: Name or folder of the run's model, where it moved since; None takes the recorded one.
        progress: Show a bar on stderr.

    Returns:
        Table `lens`: the columns of `attribution.logit_lens`, with the dose. The likeliest tokens of the first prompt go to
        `lens_tokens`: steered, prompt, condition, layer, rank, token, text, probability.

    Raises:
        InputError: The folder belongs to another study, or has no dose of the method.
    """
    loaded = run_prompts(RunFolder(Path(out)), StudyConfig.from_manifest(options).resolved())
    config = StudyConfig.from_manifest(options).resolved(loaded)
    profile = config.spending()
    pairs = stages.limit_rows(loaded, profile.rows_per_value)
    language_model = run_model(RunFolder(Path(out)), config, read_manifest(out), model)
    store = RunFolder.open(out, stages.manifest(config, language_model, pairs, ["analyses/logit_lens.py"]))
    if store.has("tables/lens.parquet") and store.has("tables/lens_tokens.parquet"):
        return showable(store.read_table("tables/lens"), "logit_lens")
    doses = _doses(store, config, method)
    stats = stages.collected(store, language_model, pairs, config, progress)
    neurons = stages.selected(store, language_model, stats, stages.steerable(config, stats), progress)
    chat = config.chat is not False and models.info(language_model).chat
    gate = stages.relevance_gate(store, language_model, pairs, config)
    evidence = Evidence(language_model, stats, neurons, config.token_scope(), chat=chat, seed=config.seed, gate=gate)
    edits = {name: build(method, evidence, name).with_dose(dose) for name, dose in doses.items() if name in neurons}
    return _write(store, language_model, config, edits, stats.theory, progress)


def _doses(store: RunFolder, config: StudyConfig, method: str) -> dict[str, float]:
    target = str(config.spending().targets[-1])
    doses = {}
    for value in config.values:
        if store.has(f"cells/dose/{method}/{value}.json"):
            record = store.read_json(f"cells/dose/{method}/{value}.json")
            dose = record["doses"].get(target)
            dose = record["best"] if dose is None else dose
            if dose is not None:
                doses[value] = float(dose)
    if not doses:
        raise InputError(f"{store.root} has no dose of {method}: finish the run first (neva-tl run --out {store.root})")
    return doses


def _write(
    store: RunFolder,
    model: models.Model,
    config: StudyConfig,
    edits: Mapping[str, Edit],
    theory: ValueTheory,
    progress: bool,
) -> pd.DataFrame:
    texts = (
        prompts.open_prompts(config.open_prompts, "test")["text"]
        .head(min(config.spending().test, MOST_PROMPTS))
        .tolist()
    )
    answers = [""] * len(texts)
    if config.token_scope() == "generated":
        answers = inference.generate(model, texts, max_new_tokens=ANSWER_TOKENS, seed=config.seed, chat=config.chat)
    # generated texts bring their own white space
    examples = [Example(text, answer, separator="") for text, answer in zip(texts, answers, strict=True)]
    lens_examples = [item for item in examples if item.answer.strip() or config.token_scope() != "generated"]
    if not lens_examples:
        raise InputError("the unedited model generated no text after any open prompt: there are no tokens to read")
    options: dict[str, Any] = {"at": "answer" if config.token_scope() == "generated" else "last", "chat": config.chat}
    entered = {value: partial(edit, model, item) for value, item in edits.items()}
    tokens = []
    for value, enter in entered.items():
        top = lens_tokens(model, lens_examples[0], k=TOP, edited=enter, chat=config.chat)
        tokens.append(top.assign(steered=value, prompt=(lens_examples[0].lead + lens_examples[0].answer).strip()))
    table = logit_lens(model, lens_examples, theory=theory, edited=entered, progress=progress, **options)
    absent = [name for name in theory.names if name not in set(table["value"])]
    if absent:
        why = f"they have no token of their own in the tokenizer of {models.info(model).name}"
        leave_out(store, f"Logit lens of {', '.join(absent)}", why)
    table["dose"] = table["steered"].map({value: item.dose for value, item in edits.items()}).astype(float)
    store.write_table("tables/lens_tokens", pd.concat(tokens, ignore_index=True))
    store.write_table("tables/lens", table)
    return showable(table, "logit_lens")
