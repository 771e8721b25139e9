"""Values that the shell completes after an option (`neva-tl --install-completion`).

The names are constants, since importing the registries takes seconds; a test compares them with the registries. A file name is
completed by the shell itself.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

MODELS = ("demo", "demo:", "smollm2", "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
PROMPTS = ("auto", "demo", "schwartz", "moral-foundations", "persona:", "valueeval:", "valuebench:", "pairs:")
THEORIES = ("schwartz", "schwartz20", "moral-foundations")
METHODS = (
    *("neva", "neva_shift", "caa", "caa_projected", "caa_layers", "caa_layers_projected", "caa_probe"),
    *("caa_projected_probe", "conva", "persona_vector", "sae", "dpn_le", "npti", "lape", "austeer", "cna", "role"),
    *("role_few_shot", "visa", "random", "rotated", "label_shuffled"),
)
SELECTORS = (
    *("effect_size", "neva", "probe", "causal", "margin", "random", "label_shuffled", "activation_probability", "lape"),
    *("mean_shift", "write", "regression"),
)
JUDGES = ("auto", "logprob", "exact", "wordlist", "classifier:", "hf:", "chat:", "llm:")


def names(*choices: str) -> Callable[[str], list[str]]:
    """Return a completion of fixed names.

    Args:
        choices: The names.
    """

    def complete(incomplete: str) -> list[str]:
        return [name for name in choices if name.startswith(incomplete)]

    return complete


def value_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a value: those of `--theory`, of built-in `--prompts` of that name, or Schwartz's ten.

    Args:
        ctx: The options so far.
        incomplete: Start of the name.
    """
    from neva_tl.core.errors import NevaError
    from neva_tl.core.theories import SCHWARTZ, find_theory

    theory = SCHWARTZ
    for option in ("theory", "prompts"):
        spec = ctx.params.get(option)
        if spec in THEORIES or (spec and option == "theory"):
            try:
                theory = find_theory(spec)
            except NevaError:  # an unfinished or wrong name completes nothing
                return []
            break
    return [name for name in theory.names if name.startswith(incomplete)]


model, prompts, theory, judge = names(*MODELS), names(*PROMPTS), names(*THEORIES), names(*JUDGES)
method, selector = names("auto", *METHODS), names("auto", *SELECTORS)
profile, gate, dtype = (
    names("quick", "full"),
    names("auto", "relevance", "none"),
    names("float32", "bfloat16", "float16", "auto"),
)
matmul = names("float32", "bf16")
scope = names("auto", "all", "prompt", "generated", "last")
export_format = names("torch", "gguf")
