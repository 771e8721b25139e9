"""attach(): an edit on a transformers model until its handle removes it.

The same plan, reader and rules as `edit_hf`. A handle's hooks stay where they are while its dose changes, so that handles and
other hooks keep their order; each forward pass runs at the dose that was set when it began.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit
from neva_tl.editing.call_reader import CallReader
from neva_tl.editing.hf import plain_inside, refuse_prompt_edit
from neva_tl.editing.model_calls import Seat, module_check, reader_of, seated
from neva_tl.editing.plan import Plan, plan_of
from neva_tl.editing.saved import SavedEdit, load_edit
from neva_tl.editing.session import EditSession
from neva_tl.models.facts import MEMO
from neva_tl.models.hf_config import text_config
from neva_tl.models.hooks import temporary_hooks


@check_arguments
def attach(hf_model: Any, edit_or_path: Edit | SavedEdit | str | Path, *, allow_mismatch: bool = False) -> EditHandle:
    """Put an edit on a transformers model until `handle.remove()`, or for the length of a `with` block.

    The model's own calls, `generate`, pipelines and chats then run edited, also through PEFT and accelerate; a compiled model
    runs uncompiled meanwhile. Handles compose in the order in which they were attached. The model keeps the edit alive: a
    handle that is garbage-collected removes nothing (`neva_tl.editing.attached` finds it). Every thread may call the model;
    attach and remove while no other thread does. `state_dict()` holds the unedited weights, `save_pretrained` and
    `push_to_hub` are refused, and the model cannot be copied or pickled.

    Args:
        hf_model: A transformers causal LM, a PEFT model around one, or either compiled.
        edit_or_path: An edit, a loaded edit, or the folder of one. The fingerprint of a saved edit is compared with the
            model's, without the tokenizer.
        allow_mismatch: Accept a saved edit of another model, as `nv.load_edit` does.

    Raises:
        InputError: Not a plain causal language model, an edit of another model, a folder without an edit, a hook point without
            a module in this model, an edit that works through the prompt, or `allow_mismatch` with an edit that was not saved.

    Warns:
        UserWarning: The saved edit is of another model, and `allow_mismatch` is true.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> hf_model = AutoModelForCausalLM.from_pretrained(nv.demo.path(), dtype="float32")
        >>> handle = nv.attach(hf_model, nv.save_edit(edit, "kindness", model=model))
        >>> handle.dose = 4.0
        >>> ids = nv.models.tokenizer(model)("mara says that", return_tensors="pt")["input_ids"]
        >>> hf_model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] - ids.shape[1]
        4
        >>> handle.remove()
    """
    model, outer = plain_inside(hf_model)
    if isinstance(edit_or_path, Edit):
        if allow_mismatch:
            raise InputError("allow_mismatch is for a saved edit: pass its folder, or what nv.load_edit returns")
        edit = edit_or_path
    else:
        is_loaded = isinstance(edit_or_path, SavedEdit)
        saved = edit_or_path if isinstance(edit_or_path, SavedEdit) else load_edit(edit_or_path)
        folder = "this object" if is_loaded else str(edit_or_path)
        edit = saved.for_model(model, folder, allow_mismatch=allow_mismatch).edit
    return EditHandle(model, edit, outer)


@dataclass(eq=False)
class _Turn:
    """What one thread runs: its session and reader, and the plan of its latest pass (None while the handle is off)."""

    session: EditSession
    reader: CallReader
    plan: Plan | None = None


class EditHandle:
    """An edit on a transformers model; `attach` makes it.

    Attributes:
        edit: The edit at its present dose.
        attached: Whether it is on the model; False after `remove`.
        active: Whether it acts; False after `off`.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> hf_model = AutoModelForCausalLM.from_pretrained(nv.demo.path(), dtype="float32")
        >>> with nv.attach(hf_model, edit) as handle:
        ...     handle.off()
        ...     handle
        EditHandle(Shift on LlamaForCausalLM, dose 2, off)
        >>> handle
        EditHandle(Shift on LlamaForCausalLM, dose 2, removed)
    """

    def __init__(self, model: models.PlainModel, edit: Edit, outer: tuple[Any, ...] = ()) -> None:
        """Put the edit on the model.

        Args:
            model: The model.
            edit: The edit.
            outer: PEFT models around it.
        """
        refuse_prompt_edit(edit)
        self.edit = edit
        self.attached = self.active = True
        self._model, self._plan = model, plan_of(model, [(edit, None)])
        self._turns = threading.local()
        points = [models.hook_name(model, layer, site) for layer, site in self._plan.points]
        with ExitStack() as stack:
            stack.enter_context(temporary_hooks(model, [(name, self._hook(i)) for i, name in enumerate(points)]))
            if points:
                seat = Seat(lambda: self._turn().reader, self._begins, self._ends, module_check(model, points))
                stack.enter_context(seated(model, seat, outer=outer))
            self._stack = stack.pop_all()
        _listed(model.hf).append(weakref.ref(self))

    # ---------------------------------------------------------------- for the user

    @property
    def dose(self) -> float:
        """Strength of the edit; a new one applies from the next forward pass on, also in a text that is being generated."""
        return self.edit.dose

    @dose.setter
    @check_arguments
    def dose(self, dose: float) -> None:
        self._check_attached()
        edit = self.edit.with_dose(dose)
        plan = plan_of(self._model, [(edit, None)])
        if plan.points != self._plan.points:
            raise InputError(
                f"{type(edit).__name__} changes other layers at dose {dose:g}: remove the handle, and attach it at that dose"
            )
        self.edit, self._plan = edit, plan

    def off(self) -> None:
        """Let the model run unedited from the next forward pass on, until `on`."""
        self._check_attached()
        self.active = False

    def on(self) -> None:
        """Let the edit act again from the next forward pass on."""
        self._check_attached()
        self.active = True

    def remove(self) -> None:
        """Take the edit off the model, which is then as it was; later calls do nothing.

        Raises:
            InputError: A hook calls it inside a forward pass of the model.
        """
        if not self.attached:
            return
        if self._turn().session.in_pass:
            raise InputError("a forward pass of the model is running: remove the handle after it, or call handle.off()")
        self.attached = self.active = False
        self._stack.close()
        handles = _listed(self._model.hf)
        handles[:] = [reference for reference in handles if reference() not in (None, self)]
        self._turn().session.close()

    @property
    def session(self) -> EditSession:
        """The session of the calling thread, whose `mark` states the roles of tokens where a call leaves them open."""
        return self._turn().session

    def __enter__(self) -> EditHandle:
        self._check_attached()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "removed" if not self.attached else "on" if self.active else "off"
        return f"EditHandle({type(self.edit).__name__} on {type(self._model.hf).__name__}, dose {self.dose:g}, {state})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a handle belongs to one model in memory and cannot be copied or pickled: copy, pickle or save handle.edit, and "
            "attach that"
        )

    # ---------------------------------------------------------------- for the hooks and the reader of calls

    def _check_attached(self) -> None:
        if not self.attached:
            raise InputError(
                "this handle was removed from its model: attach the edit again (nv.attach(model, handle.edit))"
            )

    def _turn(self) -> _Turn:
        """What the calling thread runs."""
        turn: _Turn | None = getattr(self._turns, "turn", None)
        if turn is None:
            session = EditSession(edits=(self.edit,))
            self._plan.prepare(session)
            turn = self._turns.turn = _Turn(session, reader_of(self._model, session))
        return turn

    def _begins(self) -> bool:
        turn = self._turn()
        if not turn.session.in_pass:
            turn.plan = self._plan if self.active else None
        return turn.plan is not None

    def _ends(self) -> None:
        """Refuse a pass that went past the edited modules (a fused kernel, for example), which ran unedited.

        Layers that the model leaves out by its own settings (early exit, layers dropped in training) are no error.
        """
        hf: Any = self._model.hf
        n_layers = getattr(text_config(hf.config), "num_hidden_layers", None)
        silent = self._turn().session.silent_layers()
        if not hf.training and any(n_layers is None or layer < n_layers for layer in silent):
            raise WorkError(
                f"the edit of layer {silent[0]} did not run in this forward pass, which went past the layer's modules (a fused "
                "kernel?): load the model without it, or run it as a TransformerLens model (neva_tl.load, neva_tl.edit)"
            )

    def _hook(self, number: int) -> Callable[..., Tensor | None]:
        def run(x: Tensor, **_: Any) -> Tensor | None:
            turn = self._turn()
            return None if turn.plan is None else turn.plan.hooks[number][2](turn.session, x)

        return run


def attached(hf_model: Any) -> tuple[EditHandle, ...]:
    """The handles on a transformers model, in the order in which they act.

    Args:
        hf_model: See `attach`.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> hf_model = AutoModelForCausalLM.from_pretrained(nv.demo.path(), dtype="float32")
        >>> with nv.attach(hf_model, edit):
        ...     nv.editing.attached(hf_model)
        (EditHandle(Shift on LlamaForCausalLM, dose 2, on),)
        >>> nv.editing.attached(hf_model)
        ()
    """
    model, _ = plain_inside(hf_model)
    return tuple(handle for reference in _listed(model.hf) if (handle := reference()) is not None)


def _listed(hf: Any) -> list[weakref.ref[EditHandle]]:
    """Weak references to the handles on a model: its hooks keep them alive, and the memo shall not."""
    handles: list[weakref.ref[EditHandle]] = MEMO.get(hf, "handles", list)
    return handles
