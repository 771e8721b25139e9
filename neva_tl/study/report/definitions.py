"""What the measures mean, in the report's words."""

from __future__ import annotations


def definitions() -> list[tuple[str, str]]:
    """Name and meaning of every measure in the report."""
    return [
        (
            "CSR",
            "Control success ratio: the judge's mean score of a value over the test prompts of a condition. Each "
            "value is judged "
            "separately (0 to 1); expressing nothing counts 0, an undecided text .5, an invalid one 0. For a "
            "log-probability "
            "judge the unit is named above, and levels are margins.",
        ),
        (
            "D",
            "D[i,j] = score of value j when edited towards value i, minus its score unedited, on the same prompts "
            "with the same "
            "random numbers.",
        ),
        ("gain", "D[i,i], averaged over values. Doses are chosen on validation prompts, gains are of test prompts."),
        ("value leakage", "Mean over the other values j of max(0, D[i,j]): what rises that was not asked for."),
        (
            "NLR (ours)",
            "Normalised leakage ratio: sum of leakage over values / sum of gain over values. Because max(0, noise) "
            "is above 0 on "
            "average, it is cross-fitted: which values leak is decided on one half of the prompts and measured on "
            "the other. "
            "Not defined unless the summed gain is above 0 with confidence.",
        ),
        (
            "NGL (ours)",
            "Share of positive leakage that leaves the steered value's higher-order group, over the share expected "
            "if leakage were "
            "even: 0 all within the group, 1 no structure. Not defined below the noise floor.",
        ),
        (
            "invalid",
            "Share of texts that the judge cannot read as language: degenerate, repeated, or outside what the demo "
            "world's "
            "generator could have written. A dose is admissible if its rate is at most the unedited rate + .05.",
        ),
        (
            "perplexity, KL, accuracy",
            "Capability on held-out text that has nothing to do with values: perplexity of the edited model, KL "
            "divergence from the "
            "unedited one in nats per token, and accuracy on neutral questions. Neutral text counts as generated "
            "tokens, so that "
            "edits are in force there.",
        ),
        (
            "effect size g",
            "Hedges' g of a neuron's activation between expressing and opposing prompts (paired where pairs exist). "
            "Tests ask "
            "whether |g| exceeds .2, by cluster; q is the Benjamini-Hochberg false discovery rate.",
        ),
        (
            "NeVA here (ours)",
            "Neurons are screened by effect size and ranked by what they write along the value's direction. `NeVA` "
            "is the "
            "context-aware edit: per token, as much as a probe on those neurons says is missing. `NeVA shift` moves "
            "the same neurons "
            "by a constant.",
        ),
        (
            "CAA",
            "Contrastive activation addition: the mean difference of the residual stream between poles, added at a "
            "layer. "
            "`CAA projected` has the other values' directions taken out.",
        ),
        (
            "random neurons, role prompt",
            "Placebo: neurons drawn from the same layers with the same norm of edit. Role prompt: an instruction "
            "that names the "
            "value, in front of the prompt; it has no dose.",
        ),
        (
            "gate",
            "What decides where an edit acts: none (every token), probe (only where a probe says the value is "
            "missing) or prompt_probe (the same, asked once at the prompt's last token).",
        ),
        (
            "intervals",
            "95 %, bootstrapped over clusters of prompts; they cover prompts, not the choice of neurons or dose. "
            "Intervals of "
            "selected neurons come after selection and are optimistic.",
        ),
    ]
