"""Every public function with good arguments, and a pool of objects that a user may pass by mistake.

`wrong_arguments.py` as a script runs the whole sweep without the run-time type checker of the tests, as users have it, and
prints the failures as JSON.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import neva_tl as nv
from helpers.contrast_sets import small_set
from neva_tl import models
from neva_tl.core.errors import NevaError
from neva_tl.evaluation import ExactJudge, WordListJudge
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint


class ReachedError(Exception):
    """The model was run: the arguments passed all checks."""


@dataclass(frozen=True)
class Target:
    """A public call.

    Attributes:
        call: The function, or a method of an object.
        good: Arguments with which it works, by name.
        fixed: Names of arguments that take any object by design.
    """

    call: Callable[..., Any]
    good: Mapping[str, Any]
    fixed: tuple[str, ...] = ()


class Objects:
    """A tiny model and one object of each kind around it; the model raises `ReachedError` when it is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = nv.load(tiny_checkpoint(folder / "llama"))
        self.pairs = small_set(topics=14)
        self.stats = nv.collect(self.model, self.pairs, samples=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.neurons = nv.select(
                self.stats, "power", method="effect_size", k=4, require_q=False, require_split_half=False
            )
        assert len(self.neurons)
        self.edit = nv.Amplify(self.neurons, dose=1.0)
        self.example = nv.Example("one two", "three")
        self.gate = nv.fit_relevance(self.model, self.pairs.split("train").examples(), ["a b c", "d e f"])
        self.evidence = nv.methods.Evidence(self.model, self.stats, {"power": self.neurons})
        self.graph = nv.circuit(self.model, self.neurons, values=["power"], words={"power": ["king"]})
        self.judge = WordListJudge()
        models.check_mlp(self.model)
        self.model.embed.register_forward_pre_hook(_refuse)


def _refuse(*_: object) -> None:
    raise ReachedError


def pool(objects: Objects) -> dict[str, Any]:
    """Objects that a user may pass by mistake or in good faith."""
    return {
        "None": None,
        "text": "four",
        "digit": "4",
        "empty text": "",
        "bytes": b"x",
        "True": True,
        "zero": 0,
        "negative": -3,
        "huge": 10**30,
        "float": 0.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "complex": 1j,
        "empty list": [],
        "texts": ["a", "b"],
        "list of None": [None],
        "list of lists": [[1, "a"], [None]],
        "tuple": (1, 2),
        "dict": {"power": 3},
        "set": {1, 2},
        "range": range(2),
        "array": np.arange(3.0),
        "scalar": np.float32(2),
        "tensor": torch.ones(2),
        "path": Path("nowhere/at/all.csv"),
        "table": pd.DataFrame({"text": ["a"], "value": ["power"]}),
        "empty table": pd.DataFrame(),
        "series": pd.Series([1, 2]),
        "class": ExactJudge,
        "function": len,
        "object": object(),
        "model": objects.model,
        "tokenizer": models.tokenizer(objects.model),
        "pairs": objects.pairs,
        "stats": objects.stats,
        "neurons": objects.neurons,
        "edit": objects.edit,
        "edits": [objects.edit, objects.edit],
        "judge": objects.judge,
        "gate": objects.gate,
        "example": objects.example,
    }


def targets(o: Objects) -> dict[str, Target]:
    """Public calls with arguments that work (on a tiny model, until it runs)."""
    out = str(o.folder / "out")
    texts = ["one two three", "two three four"]
    scores = np.linspace(0, 1, 12)
    clusters = np.repeat(["a", "b", "c"], 4)
    sample = (5, np.zeros(3), np.ones(3))
    effect = nv.statistics.paired_g(sample)
    rng = np.random.default_rng(0)
    questions = pd.DataFrame({"prompt": ["q"], "options": [["a", "b"]], "answer": [0]})
    decoding = nv.evaluation.Decoding(max_new_tokens=1)
    tokens = nv.attribution.value_tokens(o.model, ["power"], {"power": ["king"]})
    vector = nv.AddVector({0: np.ones(32)})
    square = np.arange(16.0).reshape(4, 4)
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any]] | tuple[Callable[..., Any], dict[str, Any], str]] = {
        "load": (nv.load, {"name": o.model, "device": None, "dtype": "float32", "n_ctx": None, "device_map": None}),
        "fingerprint": (nv.fingerprint, {"model": o.model}),
        "Example": (nv.Example, {"prompt": "a", "answer": "b"}),
        "Example.of": (nv.Example.of, {"prompt": "a", "answer": "b"}),
        "ContrastSet": (nv.ContrastSet, {"df": o.pairs.df, "name": "x", "note": "", "minimum": 2}),
        "from_rows": (nv.ContrastSet.from_rows, {"rows": o.pairs.df.to_dict("records"), "name": "x", "note": ""}),
        "ContrastSet.split": (o.pairs.split, {"name": "train"}),
        "ContrastSet.cap": (o.pairs.cap, {"per_value": 4}),
        "ContrastSet.part": (o.pairs.part, {"keep": np.ones(len(o.pairs), bool), "name": None, "minimum": None}),
        "ContrastSet.save": (o.pairs.save, {"path": out + ".csv"}),
        "prompts.load": (nv.prompts.load, {"spec": o.pairs, "per_value": None}),
        "prompts.words": (nv.prompts.words, {"value": "power", "half": None, "spec": "schwartz"}),
        "open_prompts": (nv.prompts.open_prompts, {"spec": "schwartz", "split": None}),
        "open_questions": (nv.prompts.open_questions, {"split": None}),
        "load_questions": (nv.prompts.load_questions, {"spec": "schwartz"}),
        "prompts.neutral_texts": (nv.prompts.neutral_texts, {"split": None}),
        "gate_texts": (nv.prompts.gate_texts, {"spec": o.pairs}),
        "collect": (
            nv.collect,
            {
                "model": o.model, "pairs": o.pairs, "pooling": "mean", "gate": True, "samples": False, "split": "train",
                "chat": None, "stop_at_layer": None, "token_budget": None, "share_prefixes": None, "checkpoint": None,
                "save_every": 5.0, "progress": False,
            },
        ),
        "stats.index": (o.stats.index, {"value": "power"}),
        "stats.moments": (o.stats.moments, {"value": "power", "pole": "+", "fold": None, "site": "post"}),
        "stats.pair_moments": (o.stats.pair_moments, {"value": "power", "fold": None}),
        "stats.delta": (o.stats.delta, {"value": "power", "site": "post"}),
        "stats.sd": (o.stats.sd, {"value": "power", "site": "post"}),
        "stats.direction": (o.stats.direction, {"value": "power"}),
        "stats.merge": (o.stats.merge, {"other": o.stats}),
        "stats.load": (nv.ActivationStats.load, {"path": out}),
        "select": (
            nv.select,
            {
                "stats": o.stats, "value": "power", "method": "effect_size", "k": 4, "model": None, "alpha": 0.05,
                "delta": 0.2, "lam": 1.0, "require_split_half": False, "require_q": False, "layers": None, "site": "post",
                "seed": 0,
            },
        ),
        "effect_table": (
            nv.effect_table,
            {"stats": o.stats, "value": "power", "site": "post", "delta": 0.2, "lam": 1.0, "layers": None, "level": 0.95},
        ),
        "stability": (
            nv.selection.stability,
            {"stats": o.stats, "value": "power", "k": 4, "method": "effect_size", "draws": 2, "model": None, "lam": 1.0,
             "layers": None, "seed": 0},
        ),
        "nested_bootstrap": (
            nv.selection.nested_bootstrap,
            {"stats": o.stats, "value": "power", "k": 4, "method": "effect_size", "draws": 10, "model": None, "lam": 1.0,
             "layers": None, "seed": 0, "level": 0.95},
        ),
        "label_shuffled": (
            nv.selection.label_shuffled,
            {"stats": o.stats, "value": "power", "like": o.neurons, "model": None, "seed": 0},
        ),
        "random_like": (
            nv.selection.random_like,
            {"neurons": o.neurons, "stats": o.stats, "model": o.model, "seed": 0, "signs": "random"},
        ),
        "write_table": (
            nv.selection.write_table,
            {"stats": o.stats, "value": "power", "model": o.model, "offset": None, "other": "mean", "project": True},
        ),
        "NeuronSet": (
            nv.NeuronSet,
            {"value": "power", "method": "m", "df": o.neurons.df, "n_layers": 3, "d_mlp": 48, "site": "post"},
        ),
        "neurons.at": (o.neurons.at, {"layer": 1}),
        "neurons.head": (o.neurons.head, {"k": 1}),
        "neurons.with_df": (o.neurons.with_df, {"df": o.neurons.df}),
        "neurons.save": (o.neurons.save, {"path": out}),
        "NeuronSet.load": (nv.NeuronSet.load, {"path": out}),
        "edit": (_block(nv.edit), {"model": o.model, "edits": o.edit, "record": False, "reuse": None}),
        "edit_hf": (_block(nv.edit_hf), {"model": o.model.original_model, "edits": vector, "record": False}),
        "export_edit": (nv.export_edit, {"edit": vector, "path": out, "model": o.model, "format": "torch"}),
        "touched_tokens": (
            nv.touched_tokens, {"model": o.model, "edits": o.edit, "prompt": "a", "answer": "b", "chat": None}
        ),
        "fit_context": (
            nv.fit_context,
            {"stats": o.stats, "neurons": o.neurons, "direction": "mean_difference", "C": 0.05, "others": 4, "dose": 2.0,
             "scope": "all", "least_reach": 0.0, "seed": 0},
        ),
        "fit_relevance": (
            nv.fit_relevance,
            {"model": o.model, "relevant": [o.example], "neutral": texts, "pooling": "last", "layers": None,
             "threshold": 0.5, "C": 0.05, "most": 10, "chat": None, "seed": 0},
        ),
        "auto_gate": (
            nv.auto_gate, {"model": o.model, "pairs": o.pairs, "gate": "relevance", "chat": None, "seed": 0}
        ),
        "stats.with_texts": (o.stats.with_texts, {"pairs": o.pairs}),
        "gate.at": (o.gate.at, {"threshold": 0.4}),
        "gate.save": (o.gate.save, {"path": out + ".safetensors"}),
        "RelevanceGate.load": (type(o.gate).load, {"path": out}),
        "calibrate": (
            nv.calibrate,
            {"edit": o.edit, "metric": _metric, "targets": 0.2, "grid": [0.5, 1.0], "base_invalid": 0.0, "slack": 0.05,
             "refine": 1, "suppress": False},
            "metric",
        ),
        "compose": (nv.editing.compose, {"edits": [o.edit], "shared": "sum"}),
        "paced": (nv.editing.paced, {"edit": o.edit, "half_life": 20.0, "no_repeat": 3}),
        "with_dose": (o.edit.with_dose, {"dose": 1.0}),
        "with_scope": (o.edit.with_scope, {"scope": "all"}),
        "with_gate": (o.edit.with_gate, {"gate": None}),
        "rewrite": (nv.editing.rewrite, {"edits": o.edit, "prompt": "x"}),
        "RolePrompt": (nv.RolePrompt, {"instruction": "be kind", "joiner": " "}),
        "AddVector": (
            nv.AddVector,
            {"vectors": {0: np.ones(32)}, "name": "v", "site": "resid_post", "dose": 1.0, "scope": "all", "gate": None},
        ),
        "ContextAware": (nv.ContextAware, {"neurons": o.neurons, "probes": (), "dose": 1.0}),
        "generate": (
            nv.generate,
            {"model": o.model, "prompts": texts, "max_new_tokens": 1, "temperature": 0.0, "seed": 0, "numbers": None,
             "session": None, "chat": None, "batch_size": None, "stop_at_eos": True, "cache": True, "prefill": None,
             "progress": False},
        ),
        "answer_logprobs": (
            nv.answer_logprobs,
            {"model": o.model, "examples": [o.example], "session": None, "chat": None, "token_budget": 64, "prefix": None,
             "progress": False},
        ),
        "neutral_logprobs": (
            inference.neutral_logprobs,
            {"model": o.model, "texts": texts, "session": None, "token_budget": 64, "progress": False},
        ),
        "encode": (
            inference.encode, {"model": o.model, "examples": [o.example], "chat": None, "padding_side": "right"}
        ),
        "encode_continuations": (
            inference.encode_continuations, {"model": o.model, "pairs": [("a", "b")], "windows": False}
        ),
        "leakage": (
            nv.leakage,
            {"model": o.model, "edits": {"power": o.edit}, "prompts": texts, "judge": o.judge, "method": "edit",
             "base": None, "decoding": decoding, "cache": None, "seed": 0, "n_boot": 2, "level": 0.95,
             "n_permutations": 2, "progress": False},
        ),
        "capability": (
            nv.capability, {"model": o.model, "edits": None, "texts": texts, "questions": questions, "chat": None}
        ),
        "dose_response": (
            nv.dose_response,
            {"model": o.model, "edit": o.edit, "prompts": texts, "judge": o.judge, "value": None, "doses": [1.0],
             "texts": None, "base": None, "decoding": decoding, "n_boot": 2, "seed": 0, "progress": False},
        ),
        "dose_metric": (
            nv.evaluation.dose_metric,
            {"model": o.model, "prompts": texts, "judge": o.judge, "value": "power", "base": None, "decoding": decoding},
        ),
        "observe": (
            nv.evaluation.observe,
            {"model": o.model, "edits": None, "prompts": texts, "judge": o.judge, "decoding": decoding, "cache": None,
             "reuse": None, "progress": False},
        ),
        "text_responses": (
            nv.evaluation.text_responses,
            {"model": o.model, "edits": None, "prompts": texts, "judge": o.judge, "decoding": decoding, "cache": None},
        ),
        "score_texts": (nv.evaluation.score_texts, {"judge": o.judge, "texts": texts, "prompts": None}),
        "multiple_choice": (
            nv.evaluation.multiple_choice,
            {"model": o.model, "edits": None, "questions": questions, "chat": None, "token_budget": 64},
        ),
        "reference": (nv.evaluation.reference, {"model": o.model, "texts": texts, "token_budget": 64}),
        "kl_metric": (nv.evaluation.kl_metric, {"model": o.model, "texts": texts}),
        "load_judge": (nv.evaluation.load_judge, {"spec": "wordlist"}),
        "csr": (nv.evaluation.csr, {"scores": scores, "clusters": clusters, "seed": 0, "n_boot": 5, "level": 0.95}),
        "Decoding": (
            nv.evaluation.Decoding,
            {"max_new_tokens": 4, "temperature": 0.0, "samples": 1, "seed": 0, "chat": None, "batch_size": None},
        ),
        "fluency": (
            nv.evaluation.fluency, {"generations": texts, "model": None, "prompts": None, "chat": None}
        ),
        "value_profile": (
            nv.evaluation.value_profile,
            {"model": o.model, "judge": o.judge, "edits": None, "prompts": texts, "decoding": decoding, "before": None,
             "n_boot": 5, "seed": 0},
        ),
        "circuit": (
            nv.circuit,
            {"model": o.model, "neurons": o.neurons, "task": None, "nodes": None, "size": 60, "test": None,
             "values": ["power"], "words": {"power": ["king"]}, "top_tokens": 2, "n_inputs": 2, "edge_texts": 2,
             "measure": False, "corpus": None, "examples": None, "chat": None, "seed": 0, "progress": False},
        ),
        "graph.nodes": (o.graph.nodes, {"kind": "neuron"}),
        "graph.prune": (o.graph.prune, {"share": 0.9}),
        "graph.save": (o.graph.save, {"path": out + ".json"}),
        "CircuitGraph.load": (nv.CircuitGraph.load, {"path": out}),
        "value_task": (
            nv.circuits.value_task,
            {"model": o.model, "pairs": o.pairs, "value": "power", "split": "train", "per_pole": 4,
             "values": ["power", "benevolence"], "words": {"power": ["king"], "benevolence": ["girl"]}, "at": "answer",
             "chat": None, "lead": ""},
        ),
        "top_contexts": (
            nv.circuits.top_contexts,
            {"model": o.model, "neurons": [(0, 1)], "corpus": texts, "k": 1, "before": 2, "after": 2, "signs": None,
             "chat": None, "progress": False},
        ),
        "ablation_effects": (
            nv.circuits.ablation_effects,
            {"model": o.model, "neurons": o.neurons, "examples": [o.example], "tokens": tokens, "chat": None,
             "token_budget": 64},
        ),
        "value_tokens": (
            nv.attribution.value_tokens, {"model": o.model, "values": ["power"], "words": {"power": ["king"]}}
        ),
        "default_words": (nv.attribution.default_words, {"model": o.model, "values": ["power"]}),
        "direct_logits": (
            nv.attribution.direct_logits,
            {"model": o.model, "neurons": o.neurons, "tokens": [1, 2], "scale": 1.0, "centred": True},
        ),
        "readout": (nv.attribution.readout, {"model": o.model, "tokens": [1], "scale": 1.0, "centred": True}),
        "frozen_scale": (nv.attribution.frozen_scale, {"model": o.model, "examples": [o.example], "chat": None}),
        "gradient_effects": (
            nv.attribution.gradient_effects,
            {"model": o.model, "neurons": o.neurons, "examples": [o.example], "tokens": [1], "chat": None,
             "token_budget": 64},
        ),
        "logit_attribution": (
            nv.attribution.logit_attribution,
            {"model": o.model, "examples": [o.example], "positive": [1], "negative": [2], "at": "last", "chat": None},
        ),
        "pre_activation": (
            nv.attribution.pre_activation,
            {"model": o.model, "examples": [o.example], "layer": 0, "neuron": 1, "site": "pre", "at": "last",
             "chat": None},
        ),
        "logit_lens": (
            nv.attribution.logit_lens,
            {"model": o.model, "examples": [o.example], "values": ["power"], "words": {"power": ["king"]},
             "edited": None, "at": "last", "chat": None, "token_budget": 64, "progress": False},
        ),
        "lens_tokens": (
            nv.attribution.lens_tokens, {"model": o.model, "text": "a b", "k": 2, "edited": None, "chat": None}
        ),
        "margin_effects": (
            nv.attribution.margin_effects,
            {"model": o.model, "table": o.pairs.df, "values": ["power"], "texts": 2, "chat": None, "seed": 0,
             "token_budget": 64, "progress": False},
        ),
        "Evidence": (
            nv.methods.Evidence,
            {"model": o.model, "stats": o.stats, "neurons": {"power": o.neurons}, "scope": "all", "layers": None,
             "chat": False, "seed": 0, "gate": None, "sae": None},
        ),
        "methods.build": (nv.methods.build, {"method": "neva_shift", "evidence": o.evidence, "value": "power"}),
        "methods.neva_shift": (nv.methods.neva_shift, {"evidence": o.evidence, "value": "power"}),
        "methods.dose_unit": (nv.methods.dose_unit, {"method": "neva"}),
        "methods.gate_name": (nv.methods.gate_name, {"method": "neva", "relevance": True}),
        "build_edit": (
            nv.study.build_edit,
            {"model": o.model, "stats": o.stats, "value": "power", "method": "neva_shift", "dose": None, "scope": "all",
             "gate": None, "k": 4, "seed": 0, "sae": None},
        ),
        "Study": (
            nv.Study,
            {"model": "demo", "prompts": "demo", "judge": "exact", "profile": "quick", "values": ("power",),
             "methods": ("neva",), "selector": "neva", "k": None, "selection": {}, "scope": "last", "gate": "none",
             "seed": 0, "dtype": "float32", "chat": None, "overrides": {}, "sae": None},
        ),
        "values.value": (nv.values.value, {"name": "power"}),
        "values.circular_distance": (nv.values.circular_distance, {"a": "power", "b": "security"}),
        "moments": (nv.statistics.moments, {"x": np.ones((3, 2))}),
        "merge_moments": (nv.statistics.merge_moments, {"parts": [sample, sample]}),
        "hedges_g": (nv.statistics.hedges_g, {"plus": sample, "minus": sample}),
        "paired_g": (nv.statistics.paired_g, {"diff": sample}),
        "welch": (nv.statistics.welch, {"plus": sample, "minus": sample}),
        "interval": (nv.statistics.interval, {"effect": effect, "level": 0.95, "method": "large-sample"}),
        "least_t": (nv.statistics.least_t, {"effect": effect, "alpha": 0.05, "delta": 0.2}),
        "minimum_effect_p": (nv.statistics.minimum_effect_p, {"effect": effect, "delta": 0.2}),
        "mean_interval": (nv.statistics.mean_interval, {"values": scores, "level": 0.95}),
        "benjamini_hochberg": (nv.statistics.benjamini_hochberg, {"p": scores}),
        "step_up_p": (nv.statistics.step_up_p, {"p": scores, "alpha": 0.05, "family": 12}),
        "sign_flip_max_t": (
            nv.statistics.sign_flip_max_t,
            {"effects": rng.normal(size=(6, 2)), "shift": 0.0, "flips": 100, "rng": rng, "signs": None},
        ),
        "cluster_means": (nv.statistics.cluster_means, {"x": scores, "clusters": clusters}),
        "cluster_bootstrap": (
            nv.statistics.cluster_bootstrap,
            {"values": scores, "clusters": clusters, "n": 9, "rng": rng, "level": 0.95, "method": "percentile"},
        ),
        "mantel": (
            nv.statistics.mantel,
            {"a": square, "b": square, "permutations": 5, "rng": rng, "alternative": "two-sided", "orders": None},
        ),
        "spearman": (nv.statistics.spearman, {"a": scores, "b": scores}),
        "power_of_t": (
            nv.statistics.power_of_t, {"g": 0.5, "n": 10, "alpha": 0.05, "delta": 0.0, "paired": True}
        ),
        "pairs_needed": (
            nv.statistics.pairs_needed, {"g": 0.5, "power": 0.8, "alpha": 0.05, "delta": 0.0, "paired": True}
        ),
        "detectable_g": (
            nv.statistics.detectable_g, {"n": 9, "power": 0.8, "alpha": 0.05, "delta": 0.0, "paired": True}
        ),
        "pool_effects": (nv.statistics.pool_effects, {"effects": np.ones((2, 3)), "variances": np.ones((2, 3))}),
        "effect_variance": (nv.statistics.effect_variance, {"effect": effect}),
        "mean_change": (nv.statistics.mean_change, {"diff": sample, "plus": sample, "minus": sample}),
        "overlap": (nv.statistics.overlap, {"a": {1}, "b": {1, 2}, "total": 9}),
    }  # fmt: skip
    for kind in (nv.Ablate, nv.Amplify, nv.Clamp, nv.Scale, nv.Shift):
        good = {"neurons": o.neurons, "dose": 1.0, "scope": "all", "gate": None, "effects": "all"}
        good |= {nv.Ablate: {"mode": "zero", "seed": 0}, nv.Clamp: {"quantile": 0.75}}.get(kind, {})
        calls[kind.__name__] = (kind, good)
    return {
        name: Target(entry[0], entry[1], (entry[2],) if len(entry) == 3 else ())  # type: ignore[misc]
        for name, entry in calls.items()
    }


def _metric(edit: nv.editing.Edit) -> nv.editing.DosePoint:
    return nv.editing.DosePoint(edit.dose)


def _block(manager: Callable[..., Any]) -> Callable[..., None]:
    def run(model: Any, edits: Any, **options: Any) -> None:
        with manager(model, edits, **options):
            raise ReachedError

    return run


def trials(objects: Objects) -> Iterator[tuple[str, str, str, Callable[[], Any]]]:
    """Yield function, parameter, object, and the call that passes the object for the parameter."""
    things = pool(objects)
    for name, target in targets(objects).items():
        for parameter in target.good:
            if parameter in target.fixed:
                continue
            for label, thing in things.items():
                yield (
                    name,
                    parameter,
                    label,
                    lambda target=target, parameter=parameter, thing=thing: target.call(
                        **{**target.good, parameter: thing}
                    ),
                )


def failures(objects: Objects) -> list[str]:
    """Run all trials; return those that end in something else than a result, `ReachedError` or one line of our own."""
    out = []
    for name, parameter, label, call in trials(objects):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                call()
            except ReachedError:
                continue
            except NevaError as error:
                if len(str(error).splitlines()) == 1 and len(str(error)) < 600:
                    continue
                out.append(f"{name}({parameter}={label}): not one line: {str(error)[:200]!r}")
            except BaseException as error:
                out.append(f"{name}({parameter}={label}): {type(error).__name__}: {str(error).strip()[:160]!r}")
    return out


def refused(objects: Objects) -> dict[str, str]:
    """Return the calls that refuse their good arguments, with the message."""
    out = {}
    for name, target in targets(objects).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                target.call(**target.good)
            except ReachedError:
                continue
            except NevaError as error:
                out[name] = str(error)
    return out


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        parts = Objects(Path(temporary))
        report = {"refused": refused(parts), "failures": failures(parts), "functions": len(targets(parts))}
        print(json.dumps(report))
