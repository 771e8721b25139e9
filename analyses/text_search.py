"""Search for edits that show in the text, on validation prompts: what helped, and the best admissible edit.

    python analyses/text_search.py --model demo --prompts demo --value power --k 100 --k 400 --out runs/texts
    python analyses/text_search.py --model qwen2.5-coder-0.5b --prompts tradition.parquet --value tradition \
        --judge llm:qwen2.5-coder-1.5b --measured benevolence --selection write --selection random --dose 4 --dose 8

Candidates are selections x k x depths x ways x doses. Writes OUT/tables/text_search and text_search_levels (parquet and CSV) and
the best edit to OUT/best (for `neva-tl generate --edit`). Every cell is stored: after an interruption the same command resumes,
and further candidates can be added.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError, NevaError


def main() -> int:
    """Run the search; wrong input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="a model of neva_tl.load")
    parser.add_argument("--prompts", default="demo", help="contrast set, as in --prompts of neva-tl")
    parser.add_argument("--value", required=True, help="value to steer towards")
    parser.add_argument("--judge", default="auto", help="judge of texts; auto: exact on the demo model, else wordlist")
    parser.add_argument("--theory", help="theory of the values; default: the one that the prompts imply")
    parser.add_argument("--measured", action="append", help="value on which leakage is read (repeatable)")
    parser.add_argument("--selection", action="append", help="write, write_projected, effect_size, ... (repeatable)")
    parser.add_argument("--k", action="append", type=int, help="neurons (repeatable); default 300 and 3000")
    parser.add_argument(
        "--depth", action="append", help="FIRST:LAST as shares of the depth (repeatable); default .25:.8"
    )
    parser.add_argument("--way", action="append", help="shift, first, fade, no_repeat, ... (repeatable)")
    parser.add_argument("--dose", action="append", type=float, help="dose in contrasts (repeatable)")
    parser.add_argument("--method", action="append", help="method measured beside (repeatable); default role")
    parser.add_argument("--questions", type=int, default=20, help="open validation prompts")
    parser.add_argument("--tokens", type=int, default=60, help="length of a text in tokens")
    parser.add_argument("--samples", type=int, default=1, help="texts per prompt")
    parser.add_argument("--rows", type=int, default=0, help="training pairs of each value; 0 takes all")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws of the intervals")
    parser.add_argument("--dtype", default="float32", help="number format of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/texts"))
    args = parser.parse_args()
    try:
        run(args)
    except NevaError as error:
        print(f"text_search: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def depth_of(text: str) -> tuple[float, float]:
    """Read a range of layers.

    Args:
        text: `FIRST:LAST`.

    Raises:
        InputError: The text is not two numbers.
    """
    first, colon, last = text.partition(":")
    try:
        return float(first), float(last if colon else "")
    except ValueError as error:
        raise InputError(f"--depth {text} is not FIRST:LAST, such as .25:.8") from error


def run(args: argparse.Namespace) -> None:
    """Search, and print the tables."""
    import pandas as pd

    from neva_tl.study.analyses.text_search import TextSearchConfig, search_texts

    lists: dict[str, Any] = {
        "measured": args.measured,
        "selections": args.selection,
        "k": args.k,
        "depths": [depth_of(text) for text in args.depth or ()],
        "ways": args.way,
        "doses": args.dose,
        "methods": args.method,
    }
    config = TextSearchConfig(
        args.value,
        judge=args.judge,
        n_prompts=args.questions,
        max_new_tokens=args.tokens,
        samples=args.samples,
        rows_per_value=args.rows,
        n_boot=args.draws,
        seed=args.seed,
        dtype=args.dtype,
        theory=args.theory,
        **{name: tuple(levels) for name, levels in lists.items() if levels},
    )
    result = search_texts(args.model, args.prompts, args.out, config, progress=True)
    columns = ["candidate", "neurons", "dose", "gain", "gain_lo", "gain_hi", "wrong", "leakage", "repeated", "invalid"]
    columns += ["perplexity", "admissible", "best"]
    with pd.option_context("display.width", 220, "display.max_columns", 30, "display.max_rows", 500):
        print(f"{result.value}: change of {result.unit} by {result.judge}, validation prompts")
        print("unedited:", ", ".join(f"{name} {x:.3f}" for name, x in result.unedited.items() if x is not None))
        print(result.df.sort_values("gain", ascending=False)[columns].round(3).to_string(index=False))
        print(result.levels.round(3).to_string(index=False))
    if result.best is None:
        print("no candidate is admissible and has a gain: try smaller doses")


if __name__ == "__main__":
    sys.exit(main())
