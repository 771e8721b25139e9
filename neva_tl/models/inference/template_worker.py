"""The process that renders chat templates: reads requests and writes answers as lines of JSON, under a memory limit.

Run as a script by `template_renderer`, so that it imports transformers' template code alone, without torch or this package.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any


def _limit(bytes_: int, seconds: int | None = None) -> None:
    """Limit the memory of this process and, with `seconds`, its further processor time (where the system has such limits)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (bytes_ if hard < 0 else min(bytes_, hard), hard))
        if seconds is not None:  # ends a render whose parent was killed
            usage = resource.getrusage(resource.RUSAGE_SELF)
            until = int(usage.ru_utime + usage.ru_stime) + seconds + 1
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (until if hard < 0 else min(until, hard), hard))
    except (ValueError, OSError):
        return


def _clock(date: str) -> type[datetime]:
    """A clock whose time is noon of a day."""
    moment = datetime.fromisoformat(f"{date}T12:00:00")

    class FixedClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return moment.replace(tzinfo=tz)

    return FixedClock


def _render(request: dict[str, Any]) -> str:
    from transformers.utils import chat_template_utils

    module: Any = chat_template_utils
    if request["date"] is not None:
        if not hasattr(module, "datetime"):
            raise ImportError(
                "this version of transformers reads the date elsewhere, so that it cannot be fixed: use transformers 5"
            )
        module.datetime = _clock(request["date"])
    texts, _ = module.render_jinja_template(
        conversations=[request["messages"]],
        chat_template=request["template"],
        add_generation_prompt=True,
        **request["variables"],
    )
    text = str(texts[0])
    if len(text) > request["characters"]:
        raise OverflowError(f"it wrote {len(text)} characters, at most {request['characters']} are taken")
    return text


def main() -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints does not write between the answers
    from transformers.utils import chat_template_utils  # noqa: F401 (imported before the clock of the first request runs)

    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        _limit(request["memory"], request["seconds"])
        try:
            answer = {"text": _render(request)}
        except Exception as error:  # a template is a program of the checkpoint: any error may come out of it
            shown = (str(error).strip().splitlines() or [""])[0][:160]
            answer = {"error": type(error).__name__, "line": shown}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
