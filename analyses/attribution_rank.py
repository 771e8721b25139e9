"""Rank correlation of attribution patching with measured ablation, per model.

    python analyses/attribution_rank.py --model demo --value benevolence
    python analyses/attribution_rank.py --model smollm2 --value power --texts 8 --nodes 40

The nodes are the heads and neurons that attribution ranks highest, and the same number drawn evenly from the rest; each is
mean-ablated alone, on train texts of the value's task. The correlation is Spearman's.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from neva_tl.core.errors import NevaError


def main() -> int:
    """Print one line per set of nodes, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--prompts", default="auto")
    parser.add_argument("--value", default="benevolence")
    parser.add_argument("--texts", type=int, default=48, help="texts per pole")
    parser.add_argument("--nodes", type=int, default=100, help="number of ablated nodes, half of them drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        rank(args)
    except NevaError as error:
        print(f"attribution_rank: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def rank(args: argparse.Namespace) -> None:
    """Attribute all nodes once, ablate one node at a time, print the correlations."""
    from tqdm import tqdm

    import neva_tl as nv
    from neva_tl.circuits import Nodes, mean_activations
    from neva_tl.circuits.search.gates import contrast, text_log_odds
    from neva_tl.circuits.search.search import gate_gradient, gate_scores
    from neva_tl.core.statistics import spearman
    from neva_tl.study import StudyConfig
    from neva_tl.study.analyses.circuits import value_tasks

    config = StudyConfig(model=args.model, prompts=args.prompts).resolved()
    model, pairs = nv.load(args.model), config.load_prompts()
    task = value_tasks(model, pairs, args.value, config, "train", args.texts)
    means = mean_activations(model, task)
    every_node = ~Nodes.none(model)
    patching = gate_gradient(model, task, means, torch.ones(len(every_node))).double().numpy()
    integrated = gate_scores(model, task, means, every_node).double().numpy()
    rng = np.random.default_rng(args.seed)
    top = np.argsort(-np.abs(patching))[: args.nodes // 2]
    rest = rng.choice(np.setdiff1d(np.arange(len(every_node)), top), args.nodes - len(top), replace=False)
    target_index = list(task.ids).index(task.value)

    def m(nodes: Nodes) -> float:
        return float(contrast(task, text_log_odds(model, task, means, nodes)[:, target_index]))

    base, lost = m(every_node), {}
    for node in tqdm([*top, *rest], desc="ablate", unit="node", file=sys.stderr):
        mask = every_node.flat().clone()
        mask[int(node)] = False
        lost[int(node)] = base - m(Nodes.from_flat(model, mask))
    for name, nodes in (("all", [*top, *rest]), ("highest", top), ("random", rest)):
        measured = np.array([lost[int(node)] for node in nodes])
        line = [f"{args.model}, {args.value}, {name} ({len(nodes)} nodes):"]
        for title, scores in (("attribution patching", patching), ("integrated", integrated)):
            line.append(f"{title} rho {spearman(scores[np.asarray(nodes)], measured)[0]:.2f}")
        print(line[0], ", ".join(line[1:]))


if __name__ == "__main__":
    sys.exit(main())
