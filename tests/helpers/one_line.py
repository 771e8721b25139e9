"""Neurons selected and edited log-probabilities under whatever TransformerLens line runs this: `one_line.py MODEL` prints JSON.

Run in each environment by test_lines.py; not a test itself.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

FOODS = ("bread", "soup", "two red apples", "a small cake", "warm milk", "the last of the honey", "rice", "a plum")
PEOPLE = ("Tom", "Lily", "the old king", "her little brother", "Ben and Sue", "the farmer")
TEMPLATES = {
    "benevolence": ("gave {} {} because she was kind", "took {} from {} and ran away"),
    "power": ("told everyone that {} was hers, and {} had to obey", "let others decide about {}, and so did {}"),
}
TEXTS = ("The girl saw the bread. She gave it to her friend", "One day the king was very sad because")
K = 16


def rows() -> list[dict[str, Any]]:
    out = []
    for value, templates in TEMPLATES.items():
        for number in range(12):
            food, person = FOODS[number % len(FOODS)], PEOPLE[number % len(PEOPLE)]
            for pole, template in zip("+-", templates, strict=True):
                out.append(
                    {
                        "value": value,
                        "pair_id": f"{value}-{number}",
                        "pole": pole,
                        "text": "Once upon a time a girl " + template.format(food, person) + ".",
                        "cluster": f"{value}-{number}",
                        "split": "train",
                        "source": "lines",
                    }
                )
    return out


def measure(name: str) -> dict[str, Any]:
    """Everything that must not depend on the line."""
    import numpy as np

    import neva_tl as nv
    from neva_tl import models
    from neva_tl.models import inference

    model = nv.load(name)
    stats = nv.collect(model, nv.ContrastSet.from_rows(rows(), "lines"), samples=True)
    examples = [nv.Example("", text) for text in TEXTS]
    out: dict[str, Any] = {"class": models.info(model).tl_class, "fingerprint": models.fingerprint(model)}
    for method in ("effect_size", "neva"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            neurons = nv.select(
                stats, "benevolence", method=method, model=model, k=K, require_q=False, require_split_half=False
            )
        edits = {"shift": nv.Amplify(neurons, dose=2.0), "ablate": nv.Ablate(neurons), "none": None}
        edits["context"] = nv.fit_context(stats, neurons, dose=3.0, scope="all")
        found: dict[str, Any] = {"neurons": neurons.df[["layer", "neuron"]].to_numpy().tolist()}
        found["score"] = np.asarray(neurons.df["score"], dtype=float).tolist()
        for key, item in edits.items():
            with nv.edit(model, *([] if item is None else [item])) as session:
                logits = inference.forward_batch(
                    model, inference.encode(model, examples[:1], chat=False), session=session
                )
                sums, _ = inference.answer_logprobs(model, examples, session=session, chat=False)
            last = logits[0, -1].double().log_softmax(-1)
            found[key] = {"sums": sums.tolist(), "last": last.tolist()}
            with nv.edit(model, *([] if item is None else [item])) as session:
                found[key]["text"] = inference.generate(
                    model, list(TEXTS), max_new_tokens=5, session=session, chat=False
                )
        out[method] = found
    return out


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
