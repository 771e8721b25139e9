"""Definitions of the measures in the report."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

#: Word in a sentence or over a column -> name of its definition. A sentence links the first place of each word.
TERMS = {
    "95 % interval": "intervals",
    "accuracy": "perplexity, KL, accuracy",
    "CAA": "CAA",
    "CSR": "CSR",
    "circuits": "circuit, F",
    "cost": "perplexity, KL, accuracy",
    "dose": "dose, target gain",
    "gain": "gain",
    "gate": "gate",
    "invalid": "invalid",
    "intervals": "intervals",
    "judge": "judge",
    "KL": "perplexity, KL, accuracy",
    "leakage": "value leakage",
    "NGL": "NGL (ours)",
    "NLR": "NLR (ours)",
    "NeVA": "NeVA here (ours)",
    "NeVA shift": "NeVA here (ours)",
    "neurons": "value neuron",
    "perplexity": "perplexity, KL, accuracy",
    "positive control": "positive control",
    "random neurons": "random neurons, role prompt",
    "reached": "dose, target gain",
    "role prompt": "random neurons, role prompt",
    "target gain": "dose, target gain",
    "wrong way": "wrong way",
}
#: Head of a column -> name of its definition, where the word is too short for sentences.
COLUMNS = {"F": "circuit, F", "g": "effect size g", "p": "effect size g", "q": "effect size g"}
_TERMS = re.compile("|".join(rf"\b{re.escape(term)}\b" for term in sorted(TERMS, key=len, reverse=True)))


def anchor(name: str) -> str:
    """Return the id of a definition on the page.

    Args:
        name: A name of `definitions`.
    """
    return "def-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def mark_terms(text: str) -> Markup:
    """Escape a text and link the first place of each defined word to its definition, which also shows on hover and focus.

    Args:
        text: A sentence of the report.

    Example:
        >>> from neva_tl.study.report.definitions import mark_terms
        >>> print(mark_terms("gain < 1"))
        <a class="term" href="#def-gain">gain</a> &lt; 1
    """
    linked: set[str] = set()

    def link(match: re.Match[str]) -> str:
        target = TERMS[match[0]]
        if target in linked:
            return match[0]
        linked.add(target)
        return f'<a class="term" href="#{anchor(target)}">{match[0]}</a>'

    return Markup(_TERMS.sub(link, str(escape(text))))


def term_of(label: str) -> str:
    """Return the id of the definition of a column's head; "" where it has none.

    Args:
        label: Head of a column.
    """
    word = label.split(",")[0].strip()
    name = TERMS.get(word) or COLUMNS.get(word)
    return anchor(name) if name else ""


def definitions() -> list[tuple[str, str]]:
    """Return the name and the definition of every measure in the report."""
    return [
        (
            "value neuron",
            "A neuron of the MLP layers (one coordinate of hook_post) whose activation differs between texts that express a "
            "value and texts that oppose it, selected on training prompts.",
        ),
        (
            "judge",
            "The function that scores how strongly a text, or the model itself, expresses a value. Each value is scored "
            "separately. The name of this run's judge is above; its score is a measurement with errors of its own.",
        ),
        (
            "dose, target gain",
            "The dose is the strength of an edit, in the method's own unit. It is searched on validation prompts so that "
            "every method gains as much (the target gain); `reached` counts the values for which a dose did. Numbers of this "
            "page are of test prompts, at those doses.",
        ),
        (
            "CSR",
            "Control success ratio: the judge's mean score of a value over the test prompts of a condition. Each value is "
            "judged separately (0 to 1); a text that does not express the value counts 0, an undecided one .5, an invalid "
            "one 0. For a log-probability judge levels are margins, in the unit named above.",
        ),
        (
            "D",
            "D[i,j] = score of value j when edited towards value i, minus its score unedited, on the same prompts with "
            "the same random numbers.",
        ),
        (
            "gain",
            "D[i,i], averaged over values. Doses are calibrated on validation prompts, gains are of test prompts.",
        ),
        (
            "wrong way",
            "Share of the test items of the steered value whose score under the edit is below the unedited one; an equal score "
            "counts half, so that an edit without effect has .5. Mean over values, interval by topic (after Tan et al. 2024; "
            "handling of ties ours).",
        ),
        (
            "positive control",
            "Gain of the role prompt on the same test items by the same judge. A value whose interval is not above 0 is not "
            "measurable here. The exact judge of the demo model knows the truth of its world and needs no control.",
        ),
        (
            "value leakage",
            "Rise of the values that were not targets: the mean over the other values j of the positive part of D[i,j]. "
            "Because max(0, noise) is above 0 on average, tables and results use the cross-fitted positive part: one half of "
            "the prompts decides which values rise, the other half measures by how much, so that a leakage of 0 scatters "
            "around 0. `Plain leakage` is the mean of max(0, D[i,j]) itself; the search for a dose and its figures use it.",
        ),
        (
            "NLR (ours)",
            "Normalised leakage ratio: sum of leakage (cross-fitted) over values / sum of gain over values. Not defined where "
            "the interval of the summed gain reaches 0, or where the steered value alone was measured.",
        ),
        (
            "NGL (ours)",
            "Share of positive leakage outside the steered value's higher-order group, over the share expected if leakage "
            "were even: 0 all within the group, 1 no structure. Not defined below the noise floor.",
        ),
        (
            "invalid",
            "Share of texts that the judge cannot read as language: degenerate, repeated, or impossible for the demo "
            "world's generator. A dose is admissible if its rate is at most the unedited rate + .05.",
        ),
        (
            "perplexity, KL, accuracy",
            "Capability on held-out text unrelated to values: perplexity of the edited model, KL divergence from the "
            "unedited one in nats per token, and accuracy on neutral questions. Neutral text counts as generated tokens, so "
            "that edits act on it.",
        ),
        (
            "effect size g",
            "Hedges' g of a neuron's activation between expressing and opposing prompts (paired where pairs exist). Tests "
            "of |g| > .2 are by cluster; q is the Benjamini-Hochberg false discovery rate.",
        ),
        (
            "NeVA here (ours)",
            "Neurons are screened by effect size and ranked by their output along the value's direction. `NeVA` is the "
            "context-aware edit: at each token it adds the deficit that a probe on those neurons estimates. `NeVA shift` "
            "moves the same neurons by a constant.",
        ),
        (
            "CAA",
            "Contrastive activation addition: the mean difference of the residual stream between poles, added at a layer. "
            "`CAA projected` has the other values' directions projected out.",
        ),
        (
            "random neurons, role prompt",
            "Placebo: neurons drawn from the same layers with the same norm of edit. It takes the doses of another method, so "
            "that no target gain is searched for it: a dash under `reached`. Role prompt: an instruction before the "
            "prompt that names the value; it has no dose.",
        ),
        (
            "circuit, F",
            "The heads and neurons through which a value's words are produced. F is the share of the model's effect that remains "
            "when everything outside the circuit is fixed at its mean: 1 is all of it, 0 none.",
        ),
        (
            "gate",
            "Decides where an edit acts: none (every token), probe (only where a probe estimates that the value is "
            "missing) or prompt_probe (the same probe, once, at the prompt's last token).",
        ),
        (
            "intervals",
            "95 %, percentiles of a bootstrap over clusters of prompts. The draws of statistics that resampling biases (leakage, "
            "NLR, NGL, rho of the circle) are shifted so that their median is the estimate, so that no interval excludes its "
            "estimate. Intervals cover prompts, not the selection of neurons or doses. "
            "Intervals of selected neurons are computed after selection and are optimistic.",
        ),
    ]
