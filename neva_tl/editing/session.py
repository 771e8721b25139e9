"""EditSession: state of the forward passes that run under an edit.

`TokenRoles` knows which tokens of a forward pass are prompt, generated or padding. The session restricts each change to its
scope and gate, and stores the tensors that some edits and gates compute at the prompt's last token, row by row, for the later
tokens of the text.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Change, Edit, PromptContext, Scope
from neva_tl.editing.constant import Constant
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.token_roles import PART_ALONE, TokenRoles
from neva_tl.models.inference.session import PromptState


@dataclass
class EditSession:
    """State of one `with edit(...)` block; implements `models.inference.TokenSession`.

    Attributes:
        edits: The edits in force.
        record: Store the mask of touched tokens of every forward pass in `touched` (one `[b, n]` per pass).
        forwards: Number of forward passes so far.
        active_scopes: Token scopes of the edits that change activations (a prefix cache is exact only when they are
            all `generated`); `all` is among them where an edit or a gate reads the prompt.
        reads_prompts: Whether an edit or a gate computes something at the prompt.
        reads_tokens: Whether an edit reads token ids, which `call_reader` then sets.
        token_ids: Token ids of the running pass, `[b, n]`; None where no edit reads them, or the pass got embeddings.
        condition_of: Condition of each prompt, where `edit_rows` runs several conditions in one batch.
        roles: Roles of the tokens in the running forward pass.
        thread: The thread that opened the block; no other thread may run the model inside it.
        expected: Keys of all changes: position in the plan, and layer.

    Example:
        >>> with nv.edit(model, edit, record=True) as session:
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4, session=session)
        >>> session.forwards, len(session.touched)
        (4, 4)
    """

    edits: tuple[Edit, ...]
    record: bool = False
    touched: list[Bool[Tensor, "b n"]] = field(default_factory=list)
    forwards: int = 0
    active_scopes: frozenset[Scope] = frozenset()
    reads_prompts: bool = False
    reads_tokens: bool = False
    token_ids: Tensor | None = None
    condition_of: Int[np.ndarray, " p"] | None = None
    roles: TokenRoles = field(default_factory=TokenRoles)
    thread: int = field(default_factory=threading.get_ident)
    expected: set[tuple[int, int]] = field(default_factory=set)
    _depth: int = 0
    _ended: bool = False
    _settled: bool = True
    _conditions: Tensor | None = None
    _open: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _fired: set[tuple[int, int]] = field(default_factory=set)
    _ever: set[tuple[int, int]] = field(default_factory=set)
    _sites: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _state: PromptState = field(default_factory=dict)
    _resumed: bool = False

    # ---------------------------------------------------------------- the interface to decoding and scoring (TokenSession)

    __repr__ = brief

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Set the token roles of the next forward pass.

        Args:
            generated: True for generated tokens, False for prompt tokens.
            mask: True for real tokens, False for padding.
        """
        self._check_in_force()
        self.roles.mark(generated, mask)

    def mark_new(self) -> None:
        """Announce a step under the KV cache: one generated token in every row, no padding."""
        self._check_in_force()
        self.roles.mark_new()

    def _check_in_force(self) -> None:
        if threading.get_ident() != self.thread:
            raise InputError(
                "this model is edited in another thread: run it in the thread that opened the edit block, or load one copy "
                "of the model for each thread"
            )
        if self._ended:
            raise InputError("the block of this edit session has ended: the model is unedited; open a new block")

    def set_rows(self, prompts: Sequence[int]) -> None:
        """Set the prompt index of each row of the coming forward passes (needed under `edit_rows`).

        Args:
            prompts: Index of each row's prompt in the caller's list.
        """
        if self.condition_of is not None:
            self._conditions = torch.from_numpy(self.condition_of[np.asarray(prompts, dtype=np.int64)])

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """Drop all other rows of the batch (the decoding loop drops texts that have ended).

        Args:
            index: Rows that remain, in their new order.
        """
        if self._conditions is not None:
            self._conditions = self._conditions[index.to(self._conditions.device)]
        for memory in self._state.values():
            for name, tensor in memory.items():
                memory[name] = tensor[index.to(tensor.device)]

    def prompt_state(self) -> PromptState:
        """Tensors that edits and gates computed at the prompts of the last forward pass, one row per prompt."""
        return {key: dict(memory) for key, memory in self._state.items()}

    def resume_from(self, state: PromptState, index: Int[Tensor, " r"]) -> None:
        """Announce that the next forward pass continues prompts of an earlier pass and contains no prompt token.

        Args:
            state: `prompt_state()` after the pass of those prompts.
            index: Row in `state` of each row's prompt.
        """
        self._state = {
            key: {name: tensor[index.to(tensor.device)] for name, tensor in memory.items()}
            for key, memory in state.items()
        }
        self._resumed = True

    # ---------------------------------------------------------------- called by `model_calls` around every pass

    def enter_pass(self) -> None:
        """Note that a forward pass of the whole model is about to run.

        Raises:
            InputError: Another thread runs it, or a hook calls the model inside its own forward pass.
        """
        self._check_in_force()
        self._depth += 1
        if self._depth > 1:
            raise InputError(
                "the model was called inside its own forward pass (by a hook), where an edit cannot tell one pass from the "
                "other: call it before or after"
            )

    @property
    def in_pass(self) -> bool:
        """Whether a forward pass of the model is running."""
        return self._depth > 0

    def silent_layers(self) -> tuple[int, ...]:
        """Layers with a change that did not run in the running pass, ascending."""
        return tuple(sorted({layer for _, layer in self.expected - self._fired}))

    def leave_pass(self) -> None:
        """Note that a forward pass has ended, also by an error."""
        if threading.get_ident() != self.thread:
            return  # a call that was refused
        self._depth = max(0, self._depth - 1)
        if not self._depth:
            self.roles.unmark()
            self._settle()
            # a hook that fires now is outside a forward pass of the whole model
            self._fired |= self.expected

    def _settle(self) -> None:
        """Count the changes that ran in the latest forward pass, once per pass."""
        if not self._settled:
            self._ever |= self._fired
        self._settled = True

    # ---------------------------------------------------------------- called by the hooks of a `plan.Plan`

    def begin(self, x: Float[Tensor, "b n d"]) -> None:
        """Start a forward pass.

        Args:
            x: Input of the first block.

        Raises:
            WorkError: The marks do not fit the pass (see `TokenRoles.begin`).
            InputError: A backward pass runs the first block again.
        """
        if not self.roles.marked and _in_backward():
            raise InputError(CHECKPOINTED)
        self._settle()
        self._settled = False
        self.forwards += 1
        for state in (self._fired, self._open, self._sites):
            state.clear()
        resumed, self._resumed = self._resumed, False
        self.roles.begin(x, resumed=resumed, prompt_is_past=bool(self._state))
        if self._state and not resumed and self._contains_prompts(x):
            # tensors computed at earlier prompts do not apply to new texts
            self._state.clear()
        if self.record:
            self.touched.append(torch.zeros(x.shape[:2], dtype=torch.bool))

    def _contains_prompts(self, x: Tensor) -> bool:
        step = self.roles.all_generated and x.shape[1] == 1
        return not step and bool((self.roles.prompt_end(x) >= 0).any())

    def first(self, key: tuple[int, int]) -> bool:
        """Whether a change runs for the first time in the running forward pass; registers that it ran.

        Args:
            key: The change's position in the plan, and its layer.
        """
        fired = self._fired
        before = len(fired)
        fired.add(key)
        return len(fired) > before

    def record_site(self, layer: int, site: str, x: Tensor) -> None:
        """Store an activation that a change at another site of the layer reads.

        Args:
            layer: The layer.
            site: Short name of the hook point.
            x: The activation.
        """
        self._sites[layer, site] = x

    def record_gate(
        self, gate: RelevanceGate, layer: int, h: Float[Tensor, "b n k"], opened: Bool[Tensor, "b n"]
    ) -> None:
        """Store the decision of a gate at a layer.

        Args:
            gate: The gate.
            layer: The layer.
            h: The layer's `hook_post`, before any edit there.
            opened: True for tokens that the gate opens.
        """
        if gate.unit == "query":
            # one decision per text, made at its prompt's last token
            end = self.roles.prompt_end(h)
            memory = self._state.setdefault(("gate", id(gate)), {})
            if bool((end >= 0).all()):
                memory[str(layer)] = opened.gather(1, end.clamp(min=0).to(opened.device)[:, None])
            opened = self._recalled(memory, str(layer), h).expand(-1, h.shape[1])
        self._open[id(gate), layer] = opened

    @staticmethod
    def _recalled(memory: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        """A tensor computed at the prompt, for the rows of the running forward pass."""
        stored = memory.get(name)
        if stored is None or len(stored) != x.shape[0]:
            raise WorkError("an edit or a gate that reads the prompt never saw it: run the prompt in the same block")
        return stored

    def _rows_of(self, condition: int | None, x: Tensor) -> Int[Tensor, " r"] | None:
        """Rows of the running forward pass under a condition; None selects every row."""
        if condition is None:
            return None
        if self._conditions is None or len(self._conditions) != x.shape[0]:
            raise WorkError(
                "several conditions in one batch need the loops of neva_tl: nothing says which row belongs to which"
            )
        return (self._conditions == condition).nonzero().squeeze(1).to(x.device)

    def _selected(
        self, change: Change, scope: Scope, gate: RelevanceGate | None, device: torch.device
    ) -> Bool[Tensor, "b n"] | None:
        """Mask of the tokens that a change touches: in scope, and opened by the gate; None selects every token."""
        selected = self.roles.select(scope, device)
        if gate is None:
            return selected
        opened = self._open.get((id(gate), change.layer))
        if opened is None:
            raise WorkError(f"the gate of layer {change.layer} was not asked before the edit of site {change.site}")
        return opened if selected is None else selected & opened.to(selected.device)

    def applied(
        self,
        key: tuple[int, int],
        change: Change,
        scope: Scope,
        x: Tensor,
        width: int,
        gate: RelevanceGate | None = None,
        condition: int | None = None,
        owner: int = 0,
    ) -> Tensor:
        """Apply one change to the tokens of its scope and gate; checks the shape and that the hook fires once per pass.

        Args:
            key: The change's position in the plan, and its layer.
            change: The change.
            scope: Token scope of its edit.
            x: The activation `[b, n, width]`.
            width: Width of the hook point according to the model.
            gate: Gate of its edit.
            condition: Condition whose rows it edits; None edits all rows.
            owner: Index of its edit, under which prompt tensors are stored.

        Returns:
            The new activation, of the same shape.

        Raises:
            WorkError: The hook point has another width than the model says, fired twice, or the edit changed the shape.
        """
        if not self.first(key):
            raise self._fired_again(change)
        if x.ndim != 3 or x.shape[-1] != width:
            raise WorkError(
                f"the activation at {_hook_point(change)} has shape {tuple(x.shape)}, expected [batch, token, {width}]"
            )
        if scope == "prompt" and self.roles.all_generated and not change.needs:
            return x  # a step under the KV cache
        rows = self._rows_of(condition, x)
        selected = self._selected(change, scope, gate, x.device)
        if change.needs:
            # computed on all rows, so that the memory has one entry per text under any condition
            new = self._informed(change, x, selected, self._state.setdefault(owner, {}))
            if rows is not None:
                return x.index_copy(0, rows, new.index_select(0, rows))
            self._record(selected)
            return new
        if rows is not None:
            if not len(rows):
                return x
            inside = None if selected is None else selected.index_select(0, rows)
            return x.index_copy(0, rows, self._changed(change, gate, x.index_select(0, rows), inside))
        self._record(selected)
        return self._changed(change, gate, x, selected)

    def _fired_again(self, change: Change) -> Exception:
        """Why the hook of a change fires although it has fired in this pass, or the pass has ended."""
        if _in_backward():
            return InputError(CHECKPOINTED)
        if self.expected and not self._depth:
            return WorkError(PART_ALONE)
        return WorkError(
            f"the hook at {_hook_point(change)} fired twice in one forward pass: this architecture, or a hook that calls a "
            "block again, cannot be edited safely"
        )

    def _record(self, selected: Tensor | None) -> None:
        if self.record:
            self.touched[-1] |= (self.roles.tokens()[1] if selected is None else selected).cpu()

    def _informed(self, change: Change, x: Tensor, selected: Tensor | None, memory: dict[str, Tensor]) -> Tensor:
        """The activation after a change that reads a `PromptContext`."""
        end = self.roles.prompt_end(x)
        inside = end >= 0
        if selected is not None:
            inside = inside & selected.to(x.device).gather(1, end.clamp(min=0)[:, None]).squeeze(1)
        sites = {site: self._sites[change.layer, site] for site in change.reads}
        before = dict(memory)
        new = change.apply(x, PromptContext(end, inside, memory, sites, self.roles.tokens, self._ids))
        for name, stored in memory.items():
            if stored is not before.get(name) and len(stored) != x.shape[0]:
                raise WorkError(f"an edit at {_hook_point(change)} stored {len(stored)} entries for {x.shape[0]} texts")
        return self._checked(change, x, new, selected)

    def _ids(self) -> Int[Tensor, "b n"]:
        """Token ids of the running pass."""
        ids = self.token_ids
        if ids is None or ids.ndim != 2 or tuple(ids.shape) != self.roles.shape:
            raise InputError(
                "this edit reads token ids: call the model with input_ids, one text per row, not embeddings"
            )
        return ids

    def _changed(self, change: Change, gate: RelevanceGate | None, x: Tensor, selected: Tensor | None) -> Tensor:
        """The activation after a change at the selected tokens."""
        # a closed gate costs no arithmetic on the CPU; on a GPU the test would cost more than the arithmetic
        if selected is not None and gate is not None and x.device.type == "cpu" and not selected.any():
            return x
        if selected is not None and isinstance(change.apply, Constant):
            return change.apply.within(x, selected)
        return self._checked(change, x, change.apply(x), selected)

    @staticmethod
    def _checked(change: Change, x: Tensor, new: Tensor, selected: Tensor | None) -> Tensor:
        if new.shape != x.shape:
            raise WorkError(
                f"an edit at {_hook_point(change)} changed the shape {tuple(x.shape)} to {tuple(new.shape)}"
            )
        return new if selected is None else torch.where(selected[..., None], new, x)

    def finish(self, expected: set[tuple[int, int]]) -> None:
        """Check at the end of the block that every change ran if the model did.

        Args:
            expected: Keys of all changes.

        Raises:
            WorkError: A hook never fired although forward passes were made.

        Warns:
            RuntimeWarning: The edits changed nothing, because no forward pass was made.
        """
        self._settle()
        silent = expected - self._ever
        if self.forwards and silent:
            raise WorkError(f"{len(silent)} edit hook(s) never fired in {self.forwards} forward passes")
        if expected and not self.forwards:
            warnings.warn(
                "no forward pass of the edited model ran in this block, so the edits changed nothing: call this model object "
                "inside the block",
                RuntimeWarning,
                stacklevel=6,
            )

    def close(self) -> None:
        """Note that the block has ended."""
        self._ended = True
        self.roles.unmark()


#: Why an edit refuses to run in a backward pass.
CHECKPOINTED = (
    "gradient checkpointing runs blocks again in the backward pass, where an edit cannot tell which pass they belong to: "
    "call model.gradient_checkpointing_disable() before the block"
)


def _in_backward() -> bool:
    """Whether a backward pass is running (it runs checkpointed blocks again)."""
    return bool(torch._C._current_graph_task_id() != -1)


def _hook_point(change: Change) -> str:
    return f"layer {change.layer}, site {change.site}"
