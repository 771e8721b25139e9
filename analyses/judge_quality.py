"""Quality and speed of all judges of texts, in one table.

    python analyses/judge_quality.py [--data ../shared/data] [--out runs/judges] [--judge SPEC ...]
        [--kind KIND ...] [--texts N] [--statements N]

Trains classifiers on ValueEval's training texts unless OUT has them (thresholds by its validation texts), then measures the
word list, the classifiers and every further --judge on ValueEval's test texts and on the held-out persona statements. For
judges that are language models: --texts and --statements measure every judge on a fixed sample of these.
Writes to OUT/tables: judges (the table), labels (per value and category), macro, agreement (kappa of every two judges on
ValueEval's test texts, per value), confusion and fall (scores along the circle), each as parquet and CSV; and OUT/judges.json
with all cards. Judges that ask a model (logprob, survey) score no texts and are not included.
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

from neva_tl.core.errors import NevaError
from neva_tl.core.messages import say

KINDS = ("tfidf", "minilm", "both")
#: Published F1 of the shared task Touché / SemEval 2023 task 4 (harmonic mean of macro precision and macro recall, 20
#: categories, main test set): all categories for every text, the organisers' BERT, the best team.
PUBLISHED = {"published: 1-baseline": 0.26, "published: BERT": 0.42, "published: best": 0.56}


def main() -> int:
    """Run the analysis; missing data is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with valueeval/ and persona/")
    parser.add_argument("--out", type=Path, default=Path("runs/judges"), help="run folder")
    parser.add_argument("--judge", action="append", default=[], help="a further judge, as in neva-tl (repeatable)")
    parser.add_argument(
        "--kind",
        action="append",
        choices=(*KINDS, "none"),
        help="classifiers to train (repeatable); default: all three",
    )
    parser.add_argument("--texts", type=int, help="number of ValueEval test texts; default: all")
    parser.add_argument("--statements", type=int, help="number of persona statements per value and label; default: all")
    parser.add_argument("--n-boot", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        kinds = tuple(kind for kind in args.kind or KINDS if kind != "none")
        sizes = (args.texts, args.statements)
        table = analyse(args.data, args.out, args.judge, kinds, sizes, n_boot=args.n_boot, seed=args.seed)
    except NevaError as error:
        print(f"judge_quality: {error}", file=sys.stderr)
        return error.exit_code
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(table.round(3).to_string(index=False, na_rep="–"))
    return 0


def analyse(
    data: Path,
    out: Path,
    further: list[str],
    kinds: tuple[str, ...] = KINDS,
    sizes: tuple[int | None, int | None] = (None, None),
    *,
    n_boot: int,
    seed: int,
) -> pd.DataFrame:
    """Train missing classifiers, measure all judges, write the tables.

    Args:
        data: folder with valueeval/ and persona/.
        out: run folder.
        further: specifications of further judges.
        kinds: kinds of classifiers.
        sizes: number of ValueEval texts, and of persona statements per value and label; None for all.
        n_boot: bootstrap draws.
        seed: seed of training and bootstrap.

    Returns:
        The table `judges`.
    """
    from neva_tl.core.versions import versions
    from neva_tl.evaluation.judge_quality.quality import agreement, confusion, judged, quality
    from neva_tl.evaluation.judges import load_judge
    from neva_tl.evaluation.labels.labelled import LabelledTexts
    from neva_tl.study.run.run_folder import RunFolder

    valueeval = LabelledTexts.load(f"valueeval:{data / 'valueeval'}")
    persona = LabelledTexts.load(f"persona:{data / 'persona'}").split("test")
    if sizes[1] is not None:
        persona = persona.balanced(sizes[1])
    store = RunFolder.open(out, {"study": "judge quality"})
    # written first, so that an interrupted analysis can reuse its folder
    store.write_json(
        "manifest.json",
        {"study": "judge quality", "seed": seed, "n_boot": n_boot, "sizes": list(sizes), "versions": versions()},
    )
    specs = ["wordlist", *(f"classifier:{trained(kind, valueeval, store, seed)}" for kind in kinds), *further]
    test = valueeval.split("test")
    test = test if sizes[0] is None else test.head(sizes[0])
    cards: dict[str, Any] = {}
    decisions: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    labels, macros, confusions, falls = [], [], [], []
    for spec in specs:
        say(f"measuring {spec}")
        judge = load_judge(spec)
        judgements = judged(judge, test)
        cards_of = {
            "valueeval": quality(judge, test, said=judgements, n_boot=n_boot, seed=seed),
            "persona": quality(judge, persona, n_boot=n_boot, seed=seed),
        }
        name = judge.name
        cards[name] = {source: card.to_json() for source, card in cards_of.items()}
        labels += [card.df.assign(judge=name, source=source) for source, card in cards_of.items()]
        macros += [card.macro.assign(judge=name, source=source) for source, card in cards_of.items()]
        decisions[name] = judgements.decisions
        circle = confusion(judgements.scores, test.to_values().labels, seed=seed)
        confusions.append(circle.df.assign(judge=name))
        falls.append(circle.by_distance.assign(judge=name, rho=circle.rho, p=circle.p))
        rows.append(row(name, cards_of, circle))
    kappas = []
    for a, b in itertools.combinations(decisions, 2):
        agreed = agreement(decisions[a], decisions[b], test.clusters, n_boot=n_boot, seed=seed)
        mean = {"label": "mean", **agreed.mean.to_json()}
        kappas.append(pd.concat([agreed.df, pd.DataFrame([mean])]).assign(judge=a, other=b))
    kappa = pd.concat(kappas, ignore_index=True)
    for entry in rows:
        of_judge = (kappa["judge"] == entry["judge"]) | (kappa["other"] == entry["judge"])
        entry["mean_kappa"] = float(kappa.loc[of_judge & (kappa["label"] == "mean"), "est"].mean())
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
        "manifest.json",
        {"study": "judge quality", "seed": seed, "n_boot": n_boot, "sizes": list(sizes), "versions": versions()},
    )
    return table


def trained(kind: str, labelled: Any, store: Any, seed: int) -> Path:
    """Return the folder of a classifier, which is trained if missing."""
    from neva_tl.evaluation.judges.classifier import train

    folder: Path = store.root / f"classifier-{kind}"
    if not (folder / "classifier.json").exists():
        start = time.perf_counter()
        train(labelled, kind, seed=seed).save(folder)
        say(f"classifier {kind} trained in {time.perf_counter() - start:.0f} s -> {folder}")
    return folder


def row(name: str, cards: dict[str, Any], circle: Any) -> dict[str, Any]:
    """Return a judge's row of the table.

    Args:
        name: name of the judge.
        cards: quality on `valueeval` and on `persona`.
        circle: confusion along the circle.

    Returns:
        Measures of ValueEval's 20 categories and ten values, of persona and of the circle, and the speed.
    """
    shared, persona = cards["valueeval"], cards["persona"]
    task = shared.macro[(shared.macro["level"] == "category") & (shared.macro["measure"] == "task_f1")].iloc[0]
    ranking = persona.macro[(persona.macro["level"] == "value") & (persona.macro["measure"] == "auroc")].iloc[0]
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
        "persona_auroc_lo": ranking["lo"],
        "persona_auroc_hi": ranking["hi"],
        "circle_rho": circle.rho,
        "texts_per_second": shared.texts_per_second,
        "pairs_per_second": shared.pairs_per_second,
    }


if __name__ == "__main__":
    sys.exit(main())
