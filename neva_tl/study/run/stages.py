"""Stages of a study before it measures: evidence (collect, select) and scorers.

Their results are cached in the run folder.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl import models, prompts, selection
from neva_tl.activations import ActivationStats, Samples, collect, token_hash
from neva_tl.activations.state import changed_state
from neva_tl.attribution.margin import MarginEffects, margin_effects
from neva_tl.attribution.tokens import value_tokens, without_token
from neva_tl.core import ledger
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.files import first_line
from neva_tl.core.messages import notice, progress_bar, say
from neva_tl.core.method_records import find_method
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import SCHWARTZ
from neva_tl.editing import RelevanceGate, auto_gate
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.judges import load_judge
from neva_tl.evaluation.judges.base import Judge, judge_values, refuse_own_judge
from neva_tl.evaluation.judges.llm import LlmJudge
from neva_tl.methods import Evidence
from neva_tl.models import inference
from neva_tl.prompts import ContrastSet
from neva_tl.study.run.changed_files import set_aside
from neva_tl.study.run.config import Profile, StudyConfig
from neva_tl.study.run.optional import leave_out, optional
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

#: Neurons of each value in the circuit table, best first.
CIRCUIT_NEURONS = 24
#: File of a run folder with the margin effects of its neurons.
MARGINS = "stats/margins.safetensors"
#: Train texts that are searched for the top contexts of these neurons.
CIRCUIT_TEXTS = 64
#: Name of the relevance gate among the optional parts.
GATE = "Relevance gate"


def limit_rows(pairs: ContrastSet, rows_per_value: int, split: str = "train") -> ContrastSet:
    """Limit the pairs of each value in one split, by hash rank.

    Args:
        pairs: The contrast set.
        rows_per_value: Largest number of pairs (unpaired: rows of each pole); 0 keeps all of them.
        split: The split to limit; the others stay complete.
    """
    if not rows_per_value:
        return pairs
    df = pairs.df
    rank = df["pair_id"].where(df["pair_id"].notna(), df["text"]).astype(str).map(_digest)
    # both poles of a pair have one rank, so that no pair is split
    position = rank.groupby([df["value"], df["pole"], df["split"]]).rank(method="first")
    return pairs.part(((df["split"] != split) | (position <= rows_per_value)).to_numpy(), minimum=2)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def steerable(config: StudyConfig, stats: ActivationStats | ContrastSet) -> StudyConfig:
    """Restrict a study to the values that its prompts cover.

    A persona folder, for example, has no prompts for hedonism.

    Args:
        config: The study.
        stats: Statistics on its prompts, or the prompts.

    Raises:
        InputError: The prompts cover none of the study's values.
    """
    covered = tuple(name for name in config.values if name in stats.values)
    if not covered:
        raise InputError(f"the prompts hold no {', '.join(config.values)}: they cover {', '.join(stats.values)}")
    return replace(config, values=covered)


def collected(
    store: RunFolder, model: models.Model, pairs: ContrastSet, config: StudyConfig, progress: bool
) -> ActivationStats:
    """Return statistics with samples, read from the run folder or collected into it.

    Args:
        store: The run folder.
        model: The loaded model.
        pairs: The contrast set.
        config: The study.
        progress: Show a bar on stderr.

    Raises:
        InputError: The stored statistics are from other token ids.
    """
    samples_file, table_name = "stats/samples.npy", "stats/samples_table"
    gate = any(find_method(name).needs_gate_stats for name in config.methods)
    if store.has("stats/stats.json") and store.has(samples_file) and store.has(f"{table_name}.parquet"):
        stored = stored_stats(store)
        # statistics of version 0.1.0 do not contain the hash
        if stored.tokens_hash and stored.tokens_hash != token_hash(model, pairs, chat=config.chat):
            raise InputError(
                f"{store.root / 'stats'} is from other token ids (another chat template, its date or arguments, or another "
                "tokenizer version): choose another folder, or remove this one"
            )
        if stored.gated or not (gate and models.info(model).gated):
            return stored
    state = store.path("stats/state")
    for file, reason in changed_state(state, store.path(samples_file)).items():
        if file.is_file():
            notice(f"{file}: changed since it was written ({reason}): set aside as {set_aside(file)}, made again")
    if (run_ledger := ledger.Ledger.of(store.path(samples_file))) is not None:
        run_ledger.forget(samples_file)  # a killed collection leaves the file half written
    stats = collect(
        model,
        pairs,
        pooling=config.pooling,
        samples=store.path(samples_file),
        split="train",
        chat=config.chat,
        gate=gate,
        checkpoint=state,
        progress=progress,
    )
    assert stats.samples is not None
    samples = store.path(samples_file)
    ledger.record(samples, samples)  # not an atomic write: the collection fills the file row by row
    store.write_table(table_name, stats.samples.table.astype({"pair_id": "string", "form": "string"}), csv=False)
    stats.save(store.path("stats/stats"))
    return stats


def stored_stats(store: RunFolder) -> ActivationStats:
    """Read the statistics with samples from a run folder.

    Args:
        store: The run folder.

    Raises:
        InputError: A file is missing, is damaged, or was changed since it was written.
    """
    stats = ActivationStats.load(store.root / "stats/stats")
    file = store.root / "stats/samples.npy"
    ledger.check(file)
    try:
        h = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise InputError(f"{file} is not a file of samples ({first_line(error)}): collect again") from error
    return replace(stats, samples=Samples(h, store.read_table("stats/samples_table")))


def selected(
    store: RunFolder,
    model: models.Model,
    stats: ActivationStats,
    config: StudyConfig,
    progress: bool,
    *,
    evidence: RunFolder | None = None,
) -> dict[str, NeuronSet]:
    """Return the neurons of each value, read from the run folder or selected into it.

    Args:
        store: The run folder.
        model: The loaded model.
        stats: Statistics with samples.
        config: The study.
        progress: Print a line for each value on stderr.
        evidence: The folder of the margin effects; None keeps them in the run folder.

    Raises:
        WorkError: No neuron was selected for any value.
    """
    neurons = {}
    options = dict(config.selection)
    missing = [name for name in config.values if not store.has(f"neurons/{name}.json")]
    if config.selector == "margin" and missing:
        options["effects"] = margins(evidence or store, model, stats, config, progress)
    for name in progress_bar(config.values, desc="selecting", unit="value", leaf=False):
        file = f"neurons/{name}"
        if store.has(f"{file}.json"):
            neurons[name] = NeuronSet.load(store.root / file)
        else:
            with warnings.catch_warnings():
                # the number of neurons is printed below; it is usually below the study's upper bound
                warnings.filterwarnings("ignore", message=".*fewer than the k")
                neurons[name] = selection.select(
                    stats, name, method=config.selector, k=config.k, model=model, seed=config.seed, **options
                )
            neurons[name].save(store.path(file))
        say(f"  {name}: {len(neurons[name])} neurons in layers {list(neurons[name].layers)}", progress)
    if not any(len(neuron_set) for neuron_set in neurons.values()):
        raise WorkError(
            f"no neuron of {models.info(model).name} was selected for {', '.join(neurons)}: more pairs, or clearer ones, "
            "may show some"
        )
    return neurons


def margins(
    store: RunFolder, model: models.Model, stats: ActivationStats, config: StudyConfig, progress: bool
) -> MarginEffects:
    """Return the margin effects of all neurons on all collected values.

    They are read from the run folder, or measured into it.

    Args:
        store: The run folder.
        model: The loaded model.
        stats: Statistics with samples.
        config: The study.
        progress: Show a bar on stderr.
    """
    if not store.has(MARGINS):
        assert stats.samples is not None
        effects = margin_effects(
            model, stats.samples.table, stats.values, chat=config.chat, seed=config.seed, progress=progress
        )
        effects.save(store.path(MARGINS))
    return MarginEffects.load(store.path(MARGINS))


def stored_margins(store: RunFolder) -> MarginEffects | None:
    """Read the margin effects from a run folder; None where it has none.

    Args:
        store: The run folder.
    """
    return MarginEffects.load(store.path(MARGINS)) if store.has(MARGINS) else None


def evidence_of(
    store: RunFolder,
    model: models.Model,
    stats: ActivationStats,
    neurons: Mapping[str, NeuronSet],
    config: StudyConfig,
    gate: RelevanceGate | None,
) -> Evidence:
    """Return the evidence of a study's edits, without the layers of vector methods.

    Args:
        store: Folder of the margin effects.
        model: The loaded model.
        stats: Statistics with samples.
        neurons: Value -> its neurons.
        config: The study.
        gate: Its relevance gate.
    """
    return Evidence(
        model,
        stats,
        neurons,
        config.token_scope(),
        chat=config.chat is not False and models.info(model).chat,
        seed=config.seed,
        gate=gate,
        margins=stored_margins(store),
        sae=config.sae,
    )


def relevance_gate(
    store: RunFolder, model: models.Model, pairs: ContrastSet, config: StudyConfig
) -> RelevanceGate | None:
    """Return the relevance gate of all methods of a study, stored in the run folder.

    A gate that cannot be fitted (see `editing.auto_gate`) is left out with its reason.

    Args:
        store: The run folder.
        model: The loaded model.
        pairs: The contrast set.
        config: The study.

    Returns:
        The gate; None where the study has none.
    """
    if config.gate != "relevance":
        return None
    if store.has("gate.safetensors"):
        return RelevanceGate.load(store.path("gate.safetensors"))
    gate = None
    with optional(store, GATE):
        gate = auto_gate(model, pairs, gate="relevance", chat=config.chat, seed=config.seed)
        assert gate is not None
        gate.save(store.path("gate.safetensors"))
    return gate


def make_scorer(
    store: RunFolder,
    model: models.Model,
    pairs: ContrastSet,
    config: StudyConfig,
    profile: Profile,
    judge: Judge | None = None,
) -> Scorer:
    """Return the judge of the study with its validation and test prompts.

    Args:
        store: The run folder.
        model: The loaded model.
        pairs: The contrast set.
        config: The study.
        profile: Its budget.
        judge: The judge of texts, where it is already loaded.

    Raises:
        InputError: A split has no prompts.
    """
    spec = config.open_prompts
    opened = prompts.open_prompts(spec)
    counts = {"validation": profile.validation, "test": profile.test}
    by_split = {name: opened[opened["split"] == name].reset_index(drop=True) for name in counts}
    for name, rows in by_split.items():
        if not len(rows):
            raise InputError(f"there are no open prompts in the {name} split of {spec}")
    if config.kind == "model":
        decoding = Decoding(max_new_tokens=profile.max_new_tokens, chat=config.chat)
        return Scorer(model, _logprob_judges(store, model, pairs, config, profile), by_split, decoding, pairs.values)
    text_judge = load_judge(config.judge, pairs.theory) if judge is None else judge
    refuse_own_judge(text_judge, model)
    decoding = Decoding(
        max_new_tokens=profile.max_new_tokens,
        # only sampled texts of the demo model follow the distribution of its world; real models generate greedily
        temperature=1.0 if config.judge == "exact" or profile.samples > 1 else 0.0,
        samples=profile.samples,
        seed=config.seed,
        chat=config.chat,
        # a forward pass of the small demo model costs the same for a few rows and for hundreds
        batch_size=512 if config.judge == "exact" else 64,
    )
    fewer = {name: rows.head(counts[name]) for name, rows in by_split.items()}

    def judge_of(_split: str, values: tuple[str, ...]) -> Judge:
        return text_judge.only(values) if isinstance(text_judge, LlmJudge) else text_judge

    return Scorer(model, judge_of, fewer, decoding, judge_values(text_judge))


def _logprob_judges(
    store: RunFolder, model: models.Model, pairs: ContrastSet, config: StudyConfig, profile: Profile
) -> Callable[[str, tuple[str, ...]], Any]:
    """Return a function from split and values to a log-probability judge.

    All these judges have the unit of the validation items, which is stored in the run folder.
    """
    from neva_tl.evaluation.judges.logprob import LogProbJudge

    forms = profile.forms if set(profile.forms) & set(pairs.df["form"].dropna().unique()) else None
    per_value = {"validation": profile.validation, "test": profile.test}
    if not store.has("cells/unit.json"):
        fitted = LogProbJudge.fit(model, pairs, forms=forms, chat=config.chat)
        store.write_json("cells/unit.json", {"sd": fitted.sd, "affirmation": fitted.neutral_sd})
    unit = store.read_json("cells/unit.json")
    frozen = LogProbJudge.of_unit(pairs, unit["sd"], unit["affirmation"], forms=forms, chat=config.chat)

    def judge(split: str, values: tuple[str, ...]) -> LogProbJudge:
        covered = [name for name in values if name in pairs.values]
        judge_of_split = frozen.only(
            split=split, values=covered, per_value=per_value[split], affirmation=split == "test"
        )
        # conditions can share the keys and values of the prompt where edits do not change it
        return judge_of_split.with_prefix(model) if config.token_scope() == "generated" else judge_of_split

    return judge


def write_evidence(
    store: RunFolder, model: models.Model, pairs: ContrastSet, stats: ActivationStats, neurons: Mapping[str, NeuronSet]
) -> None:
    """Write the results that precede any edit.

    These are tables of neurons, effects (a sample) and edges, and a graph of each value. The graphs show the best neurons and
    the tokens that they promote; `study.analyses.circuits` replaces them by searched circuits.

    Args:
        store: The run folder.
        model: The loaded model.
        pairs: The contrast set.
        stats: Statistics with samples.
        neurons: Value -> its neurons.
    """
    if not store.has("tables/neurons.parquet"):
        frames = [
            neuron_set.df.assign(value=name, method=neuron_set.method, rank=range(1, len(neuron_set) + 1))
            for name, neuron_set in neurons.items()
        ]
        store.write_table("tables/neurons", pd.concat(frames, ignore_index=True))
    if not store.has("tables/effects.parquet"):
        with optional(store, "Effect sizes"):
            frames = [
                _thinned(selection.effect_table(stats, name), neuron_set, name) for name, neuron_set in neurons.items()
            ]
            store.write_table("tables/effects", pd.concat(frames, ignore_index=True))
    if not store.has("tables/circuit.parquet"):
        frames = _circuits(store, model, pairs, neurons)
        edges = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        # these graphs have no task on which an edge could be measured
        unmeasured = [name for name in ("measured",) if name in edges and edges[name].isna().all()]
        store.write_table("tables/circuit", edges.drop(columns=unmeasured))


def _circuits(
    store: RunFolder, model: models.Model, pairs: ContrastSet, neurons: Mapping[str, NeuronSet]
) -> list[pd.DataFrame]:
    """Write the graph of each value, and return their edges.

    Words are one column of evidence: a value without a token of its own in the model's vocabulary has no graph, and no edge
    leads to it, which the reasons in the run folder say.
    """
    from neva_tl.circuits import circuit

    name = models.info(model).name
    theory = pairs.theory
    tokens = value_tokens(model, theory.names, theory=theory, strict=False)
    owners = set(tokens.loc[~tokens["shared"], "value"])
    if missing := without_token(tokens, theory.names, theory):
        leave_out(
            store,
            f"Words of {', '.join(missing)}",
            f"none of them gives a usable token in the tokenizer of {name}, so circuits have no edges to "
            f"{'this value' if len(missing) == 1 else 'these values'}",
        )
    frames = []
    for value, neuron_set in neurons.items():
        if not len(neuron_set):
            continue
        title = f"Circuit of {value}"
        if value not in owners:
            # where values share all their words (a demo world of border rate .5) no token belongs to one value
            why = f"its words have no usable token in the tokenizer of {name}"
            leave_out(store, title, why if value in missing else "another value claims every token of its words too")
            continue
        with optional(store, title):
            corpus = pairs.split("train").for_value(value).examples()[:CIRCUIT_TEXTS]
            graph = circuit(model, neuron_set.head(CIRCUIT_NEURONS), corpus=corpus)
            if not store.has(f"circuits/{value}.json"):  # a searched circuit stays
                store.write_json(f"circuits/{value}.json", graph.to_json())
            frames.append(graph.table())
    return frames


def _thinned(effects: pd.DataFrame, neurons: NeuronSet, value: str, most: int = 4000) -> pd.DataFrame:
    """Return the effects of one value for the volcano plot.

    Args:
        effects: Effects of all neurons.
        neurons: The selected neurons.
        value: The value.
        most: Largest number of rows: all selected neurons, and a seeded sample of the others.
    """
    selected_pairs = set(zip(neurons.df["layer"], neurons.df["neuron"], strict=True))
    marked = effects.assign(
        value=value, selected=[pair in selected_pairs for pair in zip(effects["layer"], effects["neuron"], strict=True)]
    )
    others = marked[~marked["selected"]]
    room = max(most - int(marked["selected"].sum()), 0)
    drawn = others.sample(min(room, len(others)), random_state=np.random.default_rng(0))
    return pd.concat([marked[marked["selected"]], drawn], ignore_index=True)


def manifest(config: StudyConfig, model: models.Model, pairs: ContrastSet, command: list[str]) -> dict[str, Any]:
    """Return the manifest of a run folder, without its wall time.

    Args:
        config: The study.
        model: The loaded model.
        pairs: The contrast set.
        command: The command line.
    """
    from neva_tl.core.versions import versions

    fingerprint = models.fingerprint(model)
    # the question of a judge that is a language model is part of the result
    name = config.resolved(pairs).judge
    question = getattr(load_judge(name, pairs.theory), "question", "") if name.startswith(("chat:", "llm:")) else ""
    world = _world(config)
    other = f"-border{world['border_rate']:g}" if world and not world["frozen"] else ""
    template = inference.encoding_change(model, config.chat)
    other += f"-template{content_key(template)[:8]}" if template else ""
    return {
        "schema": 1,
        "study": f"{config.hash()}-{str(fingerprint['weights_hash'])[:16]}-{pairs.hash[:16]}{other}",
        "command": " ".join([Path(command[0]).name, *command[1:]]) if command else "",
        "config": config.resolved(pairs).to_json(),
        "versions": versions(),
        "model": {"name": models.info(model).name, **fingerprint},
        "prompt_hash": pairs.hash,
        "seed": config.seed,
        "values": list(pairs.theory.names),
        **({"prompts_note": pairs.note} if pairs.note else {}),
        **({} if pairs.theory == SCHWARTZ else {"theory": pairs.theory.to_json()}),
        **({"question": question} if question else {}),
        **({"world": world} if world else {}),
        **({"template": template} if template else {}),
    }


def _world(config: StudyConfig) -> dict[str, Any]:
    """Return the demo world of judge and prompts; empty for other models."""
    if not config.demo:
        return {}
    from neva_tl import demo

    return {"border_rate": demo.BORDER_RATE, "frozen": demo.BORDER_RATE == demo.FROZEN_BORDER_RATE}
