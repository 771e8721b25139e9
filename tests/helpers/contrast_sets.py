"""Small contrast sets."""

from __future__ import annotations

from neva_tl.prompts import ContrastSet


def small_set(paired: bool = True, values=("power", "benevolence"), topics: int = 10) -> ContrastSet:
    """Short contrast texts over several topics; answers marked."""
    rows = []
    for v in values:
        for t in range(topics):
            for pole, answer in (
                ("+", f"Yes, {v} item {t} is good and I like it"),
                ("-", f"No, item {t} is not for me"),
            ):
                prompt = f"What about thing {t}?"
                text = f"{prompt} {answer}"
                row = {"value": v, "pole": pole, "text": text, "cluster": f"{v}-{t}", "form": "question_1st"}
                row |= {"answer_start": len(prompt) + 1, "answer_end": len(text)}
                rows.append(row | ({"pair_id": f"{v}-{t}"} if paired else {}))
    return ContrastSet.from_rows(rows, "small")
