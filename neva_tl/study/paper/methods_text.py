"""A paragraph on methods, filled in from a run's manifest."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from neva_tl.core.formatting import interval, short
from neva_tl.core.method_records import METHODS
from neva_tl.plots.style import method_label
from neva_tl.study.paper.latex import escape, listed
from neva_tl.study.paper.references import DATA, MODELS, OF_METHODS, keys
from neva_tl.study.paper.sources import Sources

#: Token scope -> where an edit acts.
SCOPES = {
    "last": "at the last token of each step",
    "generated": "at generated tokens",
    "prompt": "at the prompt's tokens",
    "all": "at all tokens",
}
#: What the judge reads -> how a value is scored.
SCORES = {
    "model": "Values were scored by the model's own log-probabilities: the difference between the mean per-token log-probability "
    "of held-out answers that express a value and of those that oppose it, in standard deviations over unedited validation items",
    "text": "Texts were scored by the judge {judge}, each value separately",
    "asked": "Texts were scored by the judge {judge}, a language model that is asked about each text and value separately",
}


def paragraph(sources: Sources) -> str:
    """Write what was done: model, prompts, selection, edits, doses, judge, splits, statistics, versions.

    Args:
        sources: The run.

    Returns:
        LaTeX of one paragraph, which cites the keys of `references.bib`.
    """
    sentences = [
        _setting(sources),
        _splits(sources),
        _selection(sources),
        _methods(sources),
        _doses(sources),
        _judge(sources),
        _measures(sources),
        _statistics(sources),
        _versions(sources),
    ]
    text = " ".join(sentence for sentence in sentences if sentence)
    return f"\\paragraph{{Methods.}} {text}\n"


def _setting(sources: Sources) -> str:
    config, model = sources.config, sources.manifest.get("model", {})
    name = "the demo model" if config.demo else escape(model.get("name") or config.model)
    sizes = [
        f"{model[key]:,} {words}"
        for key, words in (("n_layers", "layers"), ("d_mlp", "MLP neurons each"))
        if isinstance(model.get(key), int)
    ]
    described = ", ".join(filter(None, [escape(model.get("architecture") or ""), " of ".join(sizes)]))
    count = len(sources.values)
    values = f"the {count} values" if count > 1 else "the value"
    return (
        f"We steered {name}{_cite(sources, *MODELS)}{f' ({described})' if described else ''}, run in {escape(config.dtype)}, "
        f"towards {values} {listed([escape(value) for value in sources.values])}{_cite(sources, 'schwartz')} with "
        f"neva\\_tl~\\cite{{neva_tl}} on TransformerLens~\\cite{{transformerlens}}, an independent implementation of the idea of "
        "NeVA~\\cite{neva}."
    )


def _cite(sources: Sources, *allowed: str) -> str:
    """Cite those of some keys that are in the run's references; "" where none is."""
    cited = [key for key in keys(sources) if key in allowed]
    return f"~\\cite{{{','.join(cited)}}}" if cited else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(n: int, noun: str) -> str:
    return f"one {noun}" if n == 1 else f"{n:,} {noun}s"


def _splits(sources: Sources) -> str:
    prompts = sources.config.prompts
    name = prompts if "/" not in prompts and "\\" not in prompts else PurePath(prompts.replace("\\", "/")).name
    digest = str(sources.manifest.get("prompt_hash", ""))[:12]
    return (
        f"Contrastive prompts are the set {escape(name)}{_cite(sources, *DATA)}{f' (hash {escape(digest)})' if digest else ''}, "
        "split by a hash of the "
        "topic: neurons were selected on training prompts, doses on validation prompts, and all reported figures are of test "
        "prompts."
    )


def _selection(sources: Sources) -> str:
    config = sources.config
    options = [f"{escape(name)} = {escape(option)}" for name, option in config.selection.items()]
    given = f" ({', '.join(options)})" if options else ""
    limit = "" if config.k is None else f", at most {config.k:,} per value"
    neurons = sources.tables.get("neurons")
    sizes: list[int] = [] if neurons is None else sorted(int(n) for n in neurons.groupby("value").size())
    selected = ""
    if sizes:
        selected = (
            f", which selected {sizes[0]:,}" + (f" to {sizes[-1]:,}" if sizes[0] != sizes[-1] else "") + " per value"
        )
    return (
        f"Neurons are coordinates of the MLPs' activations, chosen by the selector {escape(config.selector)}{given}{limit}"
        f"{selected}."
    )


def _methods(sources: Sources) -> str:
    names = []
    for method in sources.methods:
        cited = OF_METHODS.get(method, ())
        names.append(escape(method_label(method)) + (f"~\\cite{{{','.join(cited)}}}" if cited else ""))
    gate = " All edits of activations act behind the same relevance gate." if sources.config.gate == "relevance" else ""
    return f"Compared were {listed(names)}; edits act {SCOPES[sources.config.scope]}.{gate}"


def _doses(sources: Sources) -> str:
    targets = listed([short(target) for target in sources.profile.targets])
    borrowed = [
        _sentence(f"{escape(method_label(method))} took the doses of {escape(method_label(record.dose_of))}")
        for method in sources.methods
        if (record := METHODS.get(method)) and record.dose_of
    ]
    own = [
        escape(method_label(method))
        for method in sources.methods
        if (record := METHODS.get(method)) and record.dose == "none"
    ]
    note = f" {'; '.join(borrowed)}." if borrowed else ""
    note += f" {_sentence(listed(own))} has no dose and is shown at its own gain." if len(own) == 1 else ""
    note += f" {_sentence(listed(own))} have no dose and are shown at their own gain." if len(own) > 1 else ""
    steps = _count(sources.profile.refine, "evaluation")
    return (
        f"Each method's dose was searched per value for a gain of {targets} on validation prompts, with the same budget for all, "
        f"at most {steps} to bracket a gain; a dose is admissible if its rate of invalid texts is at most the unedited rate + "
        f".05.{note}"
    )


def _judge(sources: Sources) -> str:
    kind, profile = sources.config.kind, sources.profile
    judge = escape(sources.results.get("judge", sources.config.judge))
    if sources.config.judge == "exact":
        judge = "that knows the truth of the demo world"
    unit = escape(sources.results.get("unit", ""))
    items = "items of each value" if kind == "model" else "open prompts that name no value"
    texts = f" ({_count(profile.samples, 'text')} of at most {profile.max_new_tokens} tokens per prompt)"
    scores = SCORES[kind].format(judge=judge) + _cite(sources, *_of_judge(sources))
    return (
        f"{scores} (unit: {unit}), on {profile.validation} validation and {_tested(sources)} test {items}"
        f"{'' if kind == 'model' else texts}.{_control(sources)}"
    )


def _of_judge(sources: Sources) -> tuple[str, ...]:
    """Keys of the data that the judge is calibrated on."""
    return tuple(key for key in DATA if f"={key}:" in sources.config.judge)


def _tested(sources: Sources) -> int:
    """Number of test items of the main method, as measured; else as budgeted."""
    measured = sources.results["methods"][sources.main].get("gain") or {}
    return int(measured.get("n") or sources.profile.test)


def _control(sources: Sources) -> str:
    controls: dict[str, Any] = sources.results.get("controls") or {}
    mean = controls.get("all") or {}
    if mean.get("est") is None:
        return ""
    absent = [escape(name) for name in controls.get("not_measurable") or ()]
    gain = escape(interval(mean["est"], mean.get("lo"), mean.get("hi")))
    end = f"; not measurable: {listed(absent)}." if absent else "."
    return f" As a positive control, a prompt that names the value gains {gain}{end}"


def _measures(sources: Sources) -> str:
    leakage = sources.tables.get("leakage")
    others = leakage is not None and leakage["measured"].nunique() > 1
    text = "Gain is the change of the steered value's score."
    if others:
        text += (
            " Leakage is the mean rise of the other values, cross-fitted: one half of the prompts decides which values rise, the "
            "other measures by how much; NLR is summed leakage over summed gain, null unless the interval of the gain is above 0."
        )
    return f"{text} Perplexity and KL are of {sources.profile.neutral} neutral texts" + (
        f", accuracy of {sources.profile.questions} questions." if sources.profile.questions else "."
    )


def _statistics(sources: Sources) -> str:
    wrong = " The share of items pushed the wrong way follows~\\cite{wrongway}." if _has_wrong_way(sources) else ""
    return (
        f"Intervals are 95~\\% bootstrap intervals by topic ({sources.profile.n_boot:,} draws) and cover prompts, not selection "
        f"or the search for doses.{wrong} Seed {sources.config.seed}; one run."
    )


def _has_wrong_way(sources: Sources) -> bool:
    return any("wrong_way" in table.columns for table in sources.tables.values())


def _versions(sources: Sources) -> str:
    versions = sources.manifest.get("versions") or {}
    shown = [
        f"{escape(name)} {escape(versions[name])}"
        for name in ("neva_tl", "transformer-lens", "transformers", "torch", "python")
        if versions.get(name)
    ]
    weights = str(sources.manifest.get("model", {}).get("weights_hash", ""))[:12]
    end = f" Weights: sha256 {escape(weights)}\\ldots{{}}." if weights else ""
    return (f"Software: {', '.join(shown)}." if shown else "") + end
