"""reading(): the calls of a model, read for every edit in force on it.

One `ModelCalls` per model replaces `forward` and `generate` for all edits on it, whatever the order in which they come and go,
and gives the methods back with the last of them. Saving a transformers model is refused meanwhile: its weights are unedited.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.call_reader import CallReader, Generation
from neva_tl.editing.eager import not_compiled, uncompiled
from neva_tl.editing.session import EditSession
from neva_tl.models import EditableModel, PlainModel
from neva_tl.models.facts import MEMO
from neva_tl.models.hf_config import text_config

#: Methods that write or upload a model.
_SAVING = ("save_pretrained", "push_to_hub")
_LOCK = threading.RLock()


@dataclass(frozen=True, eq=False)
class Seat:
    """The place of one edit block or handle among those that read a model's calls.

    Attributes:
        reader: Returns the reader of the calling thread.
        begins: Called before a pass; returns whether the edits act in it.
        ends: Called after a pass that ended without an error.
        check: Raises where the model no longer has the modules that the edits act in.
    """

    reader: Callable[[], CallReader]
    begins: Callable[[], bool] = lambda: True
    ends: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None


@contextmanager
def reading(
    model: EditableModel, session: EditSession, *, points: Sequence[str] = (), outer: Sequence[Any] = ()
) -> Iterator[None]:
    """Mark the roles of all tokens that a model runs inside the block.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        session: The session that receives the marks.
        points: Hook points of the edits.
        outer: Objects that wrap the model, whose saving is refused too.
    """
    reader = reader_of(model, session)
    with seated(model, Seat(lambda: reader, check=module_check(model, points)), outer=outer):
        yield


@contextmanager
def seated(model: EditableModel, seat: Seat, *, outer: Sequence[Any] = ()) -> Iterator[None]:
    """Read the model's calls for a seat inside the block.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        seat: The seat.
        outer: See `reading`.
    """
    called: Any = module_called(model)
    others = [thing for thing in (model, *outer) if thing is not called and not isinstance(thing, PlainModel)]
    with ExitStack() as stack:
        for thing in (called, *others):
            calls = _calls_of(thing, of_hf=thing is called)
            calls.join(seat)
            stack.callback(calls.leave, seat)
        yield


def reader_of(model: EditableModel, session: EditSession) -> CallReader:
    """A reader of the model's calls for a session.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        session: The session.
    """
    return CallReader(session, module_called(model), _pad_id(model))


def module_called(model: EditableModel) -> Any:
    """The module whose calls see mask and cache: the transformers model, or a `HookedTransformer` itself.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
    """
    if isinstance(model, PlainModel):
        return model.hf
    return getattr(model, "original_model", model)


def _pad_id(model: EditableModel) -> int | None:
    """The token id that pads, None where nothing names one."""
    if isinstance(model, PlainModel):
        token = getattr(text_config(model.hf.config), "pad_token_id", None)
    else:
        token = getattr(getattr(model, "tokenizer", None), "pad_token_id", None)
    return token if isinstance(token, int) else None


def module_check(model: EditableModel, points: Sequence[str]) -> Callable[[], None]:
    """A function that raises where a module that an edit acts in was replaced: its hooks went with it, or see half of it.

    Args:
        model: The model.
        points: Hook points of the edits.
    """
    if not isinstance(model, PlainModel):
        return lambda: None
    entries = []
    for path in dict.fromkeys(model.location(point)[0] for point in points):
        parent, _, name = path.rpartition(".")
        children = model.hf.get_submodule(parent)._modules
        entries.append((children, name, children[name], path))

    def check() -> None:
        for children, name, module, path in entries:
            if children.get(name) is not module:
                raise WorkError(
                    f"{path} was replaced after the edit was put on the model (an adapter added or merged?): remove the edit "
                    "and put it on again"
                )

    return check


def _calls_of(thing: Any, *, of_hf: bool) -> ModelCalls:
    """The object that replaces the methods of a model; a new one where nothing is edited."""
    with _LOCK:
        # a weak reference: a strong one from the memo would keep the model alive
        reference = MEMO.get(thing, "calls", lambda: lambda: None)
        calls: ModelCalls | None = reference()
        if calls is None:
            calls = ModelCalls(thing, of_hf=of_hf)
            MEMO.put(thing, "calls", weakref.ref(calls))
        return calls


class ModelCalls:
    """Replaced methods of one model, for all seats at it."""

    def __init__(self, thing: Any, *, of_hf: bool) -> None:
        """Replace nothing yet.

        Args:
            thing: A model, or an object that wraps one.
            of_hf: Whether its forward passes are read (it is the module that is called), or only its `generate`.
        """
        self._thing, self._of_hf = thing, of_hf
        self._seats: tuple[Seat, ...] = ()
        #: By name: our function, and the method that it replaces.
        self._methods: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._before: dict[str, Any] = {}

    def join(self, seat: Seat) -> None:
        """Read calls for a seat too.

        Args:
            seat: The seat.
        """
        with _LOCK:
            if not self._seats:
                self._install()
            self._seats = (*self._seats, seat)  # a pass in another thread goes on with the old tuple

    def leave(self, seat: Seat) -> None:
        """Read calls no longer for a seat.

        Args:
            seat: The seat.
        """
        with _LOCK:
            self._seats = tuple(other for other in self._seats if other is not seat)
            if not self._seats:
                self._uninstall()

    # ---------------------------------------------------------------- replacing methods

    def _install(self) -> None:
        thing = self._thing
        if self._of_hf:
            self._replace("forward", not_compiled(self._running(thing.forward)))
        if self._of_hf or not hasattr(thing, "get_base_model"):  # an adapter's `generate` calls that of its model
            for name in ("generate", "generate_stream"):
                if hasattr(thing, name):
                    self._replace(name, self._generating(getattr(thing, name)))
        for name in _SAVING:
            if isinstance(thing, nn.Module) and hasattr(thing, name):
                self._replace(name, _refusing(getattr(thing, name), name))

    def _replace(self, name: str, function: Callable[..., Any]) -> None:
        # in the instance's dict: a bridge passes other assignments on to the model that it wraps
        attributes = vars(self._thing)
        if name in attributes:
            self._before[name] = attributes[name]
        self._methods[name] = (function, getattr(self._thing, name))
        attributes[name] = function

    def _uninstall(self) -> None:
        attributes = vars(self._thing)
        for name, (function, method) in self._methods.items():
            if attributes.get(name) is function:
                if name in self._before:
                    attributes[name] = self._before[name]
                else:
                    del attributes[name]
            elif name == "forward" and attributes.get("_old_forward") is function:
                attributes["_old_forward"] = method  # accelerate dispatched the model after the edit
            # a method that somebody else has wrapped since: ours passes calls on, since no seat is left
        self._methods.clear()
        self._before.clear()

    # ---------------------------------------------------------------- the replaced methods

    def _running(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            readers: list[CallReader] = []
            seats = [seat for seat in self._seats if seat.begins()]
            try:
                for seat in seats:
                    seat.check()
                    readers.append(seat.reader())
                    readers[-1].begin_pass(args, kwargs)
                with uncompiled():
                    out = forward(*args, **kwargs)
                for seat in seats:
                    seat.ends()
                return out
            finally:
                for reader in readers:
                    reader.end_pass()

        return run

    def _generating(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """`generate` (or a generator of tokens), whose passes all belong to one prompt."""

        @functools.wraps(generate)
        def run(*args: Any, **kwargs: Any) -> Any:
            tokens = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
            of_ids = self._of_hf and isinstance(tokens, Tensor) and tokens.ndim == 2
            length = int(tokens.shape[1]) if of_ids else None  # type: ignore[union-attr]
            calls = [(seat.reader(), Generation(length)) for seat in self._seats]
            with _inside(calls):
                out = generate(*args, **kwargs)
            return _stream(out, calls) if inspect.isgenerator(out) else out

        return run


@contextmanager
def _inside(calls: Sequence[tuple[CallReader, Generation]]) -> Iterator[None]:
    with ExitStack() as stack:
        for reader, generation in calls:
            stack.enter_context(reader.inside(generation))
        yield


def _stream(stream: Iterator[Any], calls: Sequence[tuple[CallReader, Generation]]) -> Iterator[Any]:
    while True:
        with _inside(calls):
            try:
                item = next(stream)
            except StopIteration:
                return
        yield item


def _refusing(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError(
            f"{name} would write this model without the edit on it: nv.bake(model, edit, folder) writes a checkpoint with the "
            "edit; to write the unedited model, call handle.remove() first, or leave the edit_hf block"
        )

    return refuse
