"""The judges of texts, measured: one table of how good each is, on what, and how fast.

    python analyses/judge_quality.py [--data ../shared/data] [--out runs/judges] [--judge SPEC ...]

Trains three classifiers on ValueEval's training texts where OUT does not hold them yet (thresholds by its validation texts),
then measures the word list, the classifiers and every further --judge on ValueEval's test texts and on the held-out
persona statements. Writes to OUT/tables: judges (the table), labels (per value and category), macro, agreement (kappa of
every two judges on ValueEval's test texts, per value), confusion and fall (scores along the circle), each as parquet and
CSV; and OUT/judges.json with all cards. Judges that ask a model (logprob, survey) read no texts and are not here.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.cli.options import say
from neva_tl.core.errors import NevaError

KINDS = ("tfidf", "minilm", "both")
#: F1 of the shared task (harmonic mean of macro precision and macro recall, 20 categories, main test set) as published for
#: Touché / SemEval 2023 task 4: every category everywhere, the organisers' BERT, the best team.
PUBLISHED = {"published: 1-baseline": 0.26, "published: BERT": 0.42, "published: best": 0.56}


def main() -> int:
    """Run the analysis; one clear line where the data is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds valueeval/ and persona/")
    parser.add_argument("--out", type=Path, default=Path("runs/judges"), help="run folder")
    parser.add_argument("--judge", action="append", default=[], help="a further judge, as in neva-tl (repeatable)")
    parser.add_argument("--n-boot", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        table = analyse(args.data, args.out, args.judge, n_boot=args.n_boot, seed=args.seed)
    except NevaError as error:
        print(f"judge_quality: {error}", file=sys.stderr)
        return error.exit_code
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(table.round(3).to_string(index=False, na_rep="–"))
    return 0


def analyse(data: Path, out: Path, further: list[str], *, n_boot: int, seed: int) -> pd.DataFrame:
    """Train what is missing, measure everything, write the tables."""
    from neva_tl.evaluation.judge_quality.quality import agreement, confusion, judged, quality
    from neva_tl.evaluation.judges import load_judge
    from neva_tl.evaluation.labels.labelled import LabelledTexts
    from neva_tl.study.run.run_folder import RunFolder, versions

    valueeval = LabelledTexts.load(f"valueeval:{data / 'valueeval'}")
    persona = LabelledTexts.load(f"persona:{data / 'persona'}").split("test")
    store = RunFolder.open(out, {"study": "judge quality"})
    # first, so that a killed analysis finds its folder again
    store.write_json(
        "manifest.json", {"study": "judge quality", "seed": seed, "n_boot": n_boot, "versions": versions()}
    )
    specs = ["wordlist", *(f"classifier:{trained(kind, valueeval, store, seed)}" for kind in KINDS), *further]
    test = valueeval.split("test")
    cards: dict[str, Any] = {}
    rows, labels, macros, decisions, confusions, falls = [], [], [], {}, [], []
    for spec in specs:
        say(f"measuring {spec}")
        judge = load_judge(spec)
        said = judged(judge, test)
        on = {
            "valueeval": quality(judge, test, said=said, n_boot=n_boot, seed=seed),
            "persona": quality(judge, persona, n_boot=n_boot, seed=seed),
        }
        name = judge.name
        cards[name] = {source: card.to_json() for source, card in on.items()}
        labels += [card.df.assign(judge=name, source=source) for source, card in on.items()]
        macros += [card.macro.assign(judge=name, source=source) for source, card in on.items()]
        decisions[name] = said.decisions
        found = confusion(said.scores, test.to_values().labels, seed=seed)
        confusions.append(found.df.assign(judge=name))
        falls.append(found.by_distance.assign(judge=name, rho=found.rho, p=found.p))
        rows.append(row(name, on, found))
    kappas = []
    for a, b in itertools.combinations(decisions, 2):
        agreed = agreement(decisions[a], decisions[b], test.clusters, n_boot=n_boot, seed=seed)
        mean = {"label": "mean", **agreed.mean.to_json()}
        kappas.append(pd.concat([agreed.df, pd.DataFrame([mean])]).assign(judge=a, other=b))
    kappa = pd.concat(kappas, ignore_index=True)
    for entry in rows:
        own = (kappa["judge"] == entry["judge"]) | (kappa["other"] == entry["judge"])
        entry["mean_kappa"] = float(kappa.loc[own & (kappa["label"] == "mean"), "est"].mean())
    table = pd.DataFrame([*rows, *({"judge": name, "task_f1": f1} for name, f1 in PUBLISHED.items())])
    for name, df in {
        "judges": table,
        "labels": pd.concat(labels),
        "macro": pd.concat(macros),
        "agreement": kappa,
        "confusion": pd.concat(confusions),
        "fall": pd.concat(falls),
    }.items():
        store.write_table(f"tables/{name}", df.reset_index(drop=True))
    store.write_json("judges.json", {"schema": 1, "judges": table.to_dict("records"), "cards": cards})
    store.write_json(
        "manifest.json", {"study": "judge quality", "seed": seed, "n_boot": n_boot, "versions": versions()}
    )
    return table


def trained(kind: str, labelled: Any, store: Any, seed: int) -> Path:
    """The folder of a classifier, trained now where it is not there."""
    from neva_tl.evaluation.judges.classifier import train

    folder: Path = store.root / f"classifier-{kind}"
    if not (folder / "classifier.json").exists():
        start = time.perf_counter()
        train(labelled, kind, seed=seed).save(folder)
        say(f"classifier {kind} trained in {time.perf_counter() - start:.0f} s -> {folder}")
    return folder


def row(name: str, on: dict[str, Any], found: Any) -> dict[str, Any]:
    """One line of the table: 20 categories of ValueEval's test texts, the ten values, persona, the circle, speed."""
    shared, persona = on["valueeval"], on["persona"]
    task = shared.macro[(shared.macro["level"] == "category") & (shared.macro["measure"] == "task_f1")].iloc[0]
    return {
        "judge": name,
        "task_f1": task["est"],
        "task_f1_lo": task["lo"],
        "task_f1_hi": task["hi"],
        "macro_f1": shared.measure("macro_f1", "category"),
        "own_categories": shared.own_categories,
        "auroc": shared.measure("auroc", "category"),
        "macro_f1_values": shared.measure("macro_f1"),
        "ece_values": float(np.nanmean(shared.df.loc[shared.df["level"] == "value", "ece"])),
        "persona_accuracy": persona.measure("accuracy"),
        "persona_auroc": persona.measure("auroc"),
        "circle_rho": found.rho,
        "texts_per_second": shared.texts_per_second,
    }


if __name__ == "__main__":
    sys.exit(main())
