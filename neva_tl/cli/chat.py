"""`neva-tl chat`: talk to a steered model, with the edit switched, scaled or exchanged between turns."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import AllowMismatch, Debug, Dtype, Matmul, Quiet, Seed, Verbose, finite, path_of
from neva_tl.core.errors import InputError
from neva_tl.core.messages import notice, say

HELP = (
    "/off, /on  switch the edit    /dose 2  another dose    /value NAME  another edit    /reset  forget the conversation"
    "    /quit"
)


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(chat)


def chat(
    edit: Annotated[
        list[Path],
        typer.Option(
            "--edit",
            parser=path_of,
            metavar="PATH",
            help="folder that `neva-tl steer --out` wrote (repeatable: /value switches)",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", autocompletion=completion.model, help="the model, where it moved since")
    ] = None,
    allow_mismatch: AllowMismatch = False,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="longest answer, in tokens")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, callback=finite, help="0 is greedy")] = 0.0,
    dtype: Dtype = "auto",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Talk to a steered model; /off, /dose 2 and /value NAME act on the next answer."""
    from neva_tl.editing.saved import load_edit
    from neva_tl.study.steering.saved_model import model_of_edit

    saved = [load_edit(path) for path in edit]
    loaded = model_of_edit(
        edit[0], saved[0], model, None if dtype == "auto" else dtype, matmul, allow_mismatch=allow_mismatch
    )
    with warnings.catch_warnings(record=True) as caught:  # shown before the conversation, not after it
        warnings.simplefilter("always")
        saved = [
            one.for_model(loaded, path, allow_mismatch=allow_mismatch) for path, one in zip(edit, saved, strict=True)
        ]
    for warning in caught:
        notice(f"warning: {warning.message}")
    edits = {str(one.about.get("value") or path.name): one.edit for path, one in zip(edit, saved, strict=True)}
    talk = _Talk(loaded, edits, tokens, temperature, seed)
    say(f"{saved[0].model.get('name', 'model')}, steered towards {talk.value}\n{HELP}")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip() == "/quit":
            return
        try:
            talk.turn(line.strip())
        except InputError as error:  # a mistake does not end the conversation
            notice(f"neva-tl chat: {error}")


@dataclass
class _Talk:
    """A conversation.

    Attributes:
        model: The loaded model.
        edits: Value -> its edit.
        tokens: Longest answer.
        temperature: 0 is greedy.
        seed: Seed of the random numbers.
        on: Whether the edit is in force.
        value: Name of the edit in use.
        history: Turns so far as messages.
    """

    model: Any
    edits: dict[str, Any]
    tokens: int
    temperature: float
    seed: int
    on: bool = True
    value: str = ""
    history: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.value = self.value or next(iter(self.edits))

    def turn(self, line: str) -> None:
        """Act on one line of the user: a command, or a message that the model answers.

        Args:
            line: The line.

        Raises:
            InputError: A command is unknown or lacks its argument.
        """
        if line.startswith("/"):
            notice(self._command(line[1:].split()))
        elif line:
            self._answer(line)

    def _command(self, words: list[str]) -> str:
        name, arguments = (words[0], words[1:]) if words else ("", [])
        if name in ("on", "off"):
            self.on = name == "on"
        elif name == "dose" and len(arguments) == 1:
            self.edits[self.value] = self.edits[self.value].with_dose(_number(arguments[0]))
        elif name == "value" and len(arguments) == 1:
            if arguments[0] not in self.edits:
                raise InputError(f"no edit for {arguments[0]!r}: there is {', '.join(self.edits)}")
            self.value, self.on = arguments[0], True
        elif name == "reset":
            self.history.clear()
        else:
            raise InputError(f"unknown command; {HELP}")
        state = f"steered towards {self.value} at dose {self.edits[self.value].dose:g}" if self.on else "unedited"
        return f"[{state}, {len(self.history) // 2} turns]"

    def _answer(self, line: str) -> None:
        import neva_tl as nv
        from neva_tl import models
        from neva_tl.editing import rewrite

        templated = models.info(self.model).chat
        edits = [self.edits[self.value]] if self.on else []
        text = rewrite(edits, line)
        prompt: Any = [*self.history, {"role": "user", "content": text}] if templated else text
        with nv.edit(self.model, *edits) as session:
            (answer,) = nv.generate(
                self.model,
                [prompt],
                max_new_tokens=self.tokens,
                temperature=self.temperature,
                seed=self.seed + len(self.history),
                session=session,
                stream=lambda piece: print(piece, end="", flush=True),
            )
        print()
        if templated and answer.strip():
            self.history += [{"role": "user", "content": line}, {"role": "assistant", "content": answer}]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"a dose is a number, not {text!r}") from None
