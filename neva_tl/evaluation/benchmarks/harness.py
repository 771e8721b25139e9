"""lm_eval_model(): an edited model for the tasks of lm-evaluation-harness."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.files import first_line
from neva_tl.core.kinds import Count
from neva_tl.editing import Edit, as_edits
from neva_tl.editing.edits.rewriting import RewriteAnswer
from neva_tl.evaluation.benchmarks.score import Span
from neva_tl.models import sources


@check_arguments
def lm_eval_model(
    model: Any,
    edits: Edit | Sequence[Edit] | None = None,
    *,
    tokenizer: Any = None,
    span: Span = "text",
    batch_size: Count = 8,
    **options: Any,
) -> Any:
    """Return a model object of lm-evaluation-harness whose every request runs edited.

    `lm_eval.simple_evaluate(model=...)` takes it, so that any task of the harness runs edited and, with `edits=None`,
    unedited by the same code. Tokens, context length and chat template are the harness's own (`HFLM`). The hooks exist during
    a request only. Do not share `use_cache` between edits: the harness's cache does not know them.

    Args:
        model: A transformers causal LM, or a TransformerLens model of TransformerLens 4, whose transformers model is run.
        edits: The edits; None is the unedited model.
        tokenizer: Its tokenizer; default: the checkpoint's. A copy is used.
        span: Tokens that count as generated where log-probabilities are requested, see `benchmarks.score_benchmark`: `text`
            (all tokens but the first, which opens the text) or `answer` (the continuation). Scope `all` does not depend on
            it. Tasks that generate text have prompt and generated tokens as in `generate`.
        batch_size: Texts of a forward pass.
        **options: Further arguments of `lm_eval.models.huggingface.HFLM` (`max_length`, `add_bos_token`, ...).

    Returns:
        An `lm_eval.api.model.LM`.

    Raises:
        InputError: The package lm-eval is missing, the model has no transformers model or tokenizer, or an edit works through
            the prompt or rewrites answers.

    Example:
        >>> from importlib.util import find_spec
        >>> if find_spec("lm_eval"):  # pip install "neva_tl[lm-eval]"
        ...     edited = nv.evaluation.lm_eval_model(model, edit)
        ...     # lm_eval.simple_evaluate(model=edited, tasks=["hellaswag"], limit=100)
    """
    items = as_edits(edits)
    for item in items:
        if type(item).rewrite is not Edit.rewrite:
            raise InputError(
                f"{type(item).__name__} works through the prompt, which the harness makes: pass its text to lm_eval "
                "(simple_evaluate(..., system_instruction=...))"
            )
        if isinstance(item, RewriteAnswer):
            raise InputError(
                "RewriteAnswer changes finished answers, which the harness does not show: pass another edit"
            )
    hf_model, editable = _both(model)
    if tokenizer is None:
        tokenizer = models.tokenizer(model) if models.is_model(model) else _tokenizer_of(hf_model)
    try:
        # the extra is not a dependency
        from neva_tl.evaluation.benchmarks.harness_model import EditedLM
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise InputError('lm_eval_model needs the package lm-eval: pip install "neva_tl[lm-eval]"') from error
    # the harness gives a tokenizer a padding token
    return EditedLM(
        hf_model, editable, items, span=span, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size, **options
    )


def _both(model: Any) -> tuple[Any, Any]:
    """The transformers model that runs, and the model that edits are put on."""
    if not models.is_model(model):
        return models.plain(model).hf, model
    hf_model = getattr(model, "original_model", None)
    if hf_model is None:
        raise InputError(
            f"a {type(model).__name__} contains no transformers model for the harness: load the checkpoint with "
            "AutoModelForCausalLM.from_pretrained and pass that"
        )
    return hf_model, model


def _tokenizer_of(hf_model: Any) -> Any:
    try:
        return sources.read_tokenizer(hf_model.config.name_or_path)
    except (OSError, ValueError) as error:
        raise InputError(f"the model names no tokenizer ({first_line(error)}): pass tokenizer=...") from error
