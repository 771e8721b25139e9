"""RewriteAnswer: the model rewrites its own answer under an instruction; nothing is edited inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit
from neva_tl.models import EditableModel

#: The rewriter's prompt (ours).
REQUEST = (
    "Question: {prompt}\n\nAnswer: {answer}\n\nRewrite this answer. {instruction} Keep its meaning, its language and its "
    "length where you can. Write the new answer only."
)


@dataclass(frozen=True, eq=False)
class RewriteAnswer(Edit):
    """Let the model answer, then let it rewrite its answer under an instruction. It has no dose.

    Only the functions that generate texts for a judge (`evaluation.write_texts`, `text_responses`, `observe`) know the second
    step; everything else refuses the edit.

    Attributes:
        instruction: A sentence on the new answer.
        request: The second prompt, with the fields `{prompt}`, `{answer}` and `{instruction}`.

    Example:
        >>> from neva_tl.editing import RewriteAnswer
        >>> RewriteAnswer("Be kind.", "{answer} {instruction}").second_prompt("Should I help?", " No. ")
        'No. Be kind.'
    """

    unit: ClassVar[DoseUnit] = "none"
    instruction: str
    request: str = REQUEST

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{answer}" not in self.request or "{instruction}" not in self.request:
            raise InputError("the request of RewriteAnswer needs the fields {answer} and {instruction}")

    def what(self) -> str:
        """See `Edit.what`."""
        return "lets the model rewrite its own answer under an instruction; activations stay as they are"

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """Refuse a use that would have no effect.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: Always: the edit acts on a finished answer, not in a forward pass.
        """
        del model
        raise InputError(
            "this edit rewrites a finished answer, so it has no effect on log-probabilities or on a single generation: use a "
            "judge that reads texts, or nv.evaluation.text_responses(model, edit, prompts, judge)"
        )

    def second_prompt(self, prompt: str, answer: str) -> str:
        """The prompt of the rewriting step.

        Args:
            prompt: The user's prompt.
            answer: The model's first answer.
        """
        fields = {"{prompt}": prompt.strip(), "{answer}": answer.strip(), "{instruction}": self.instruction}
        text = ""
        rest = self.request
        while rest:  # one pass from left to right: braces inside an answer are text
            at, name = min(((rest.find(name), name) for name in fields if name in rest), default=(len(rest), ""))
            text, rest = text + rest[:at] + fields.get(name, ""), rest[at + len(name) :]
        return text


def split_rewriting(edits: Sequence[Edit]) -> tuple[tuple[Edit, ...], tuple[RewriteAnswer, ...]]:
    """Separate the edits of the forward passes from those that rewrite answers.

    Args:
        edits: The edits.

    Returns:
        Both, in order.
    """
    rewriters = tuple(item for item in edits if isinstance(item, RewriteAnswer))
    return tuple(item for item in edits if not isinstance(item, RewriteAnswer)), rewriters
