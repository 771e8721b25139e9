"""Tables of a made-up study, true to the contract's columns, for tests of figures and of the report.

The numbers are drawn from a planted world: leakage falls off with distance on the circle, methods differ in it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from neva_tl.core.values import VALUES, circular_distance

LEAK = {"neva": 0.25, "neva_shift": 0.5, "caa": 0.9, "caa_projected": 0.45, "random": 0.0, "role": 0.8}
GATE = {"neva": "probe", "caa_projected": "probe"}
HOSTILE = (
    '</script><script>alert("x")</script> <img src=x onerror=alert(1)> & "quotes" \u202eright to left\u202c 🙂 שלום '
    + "verylongtoken" * 12
)


def conditions() -> list[tuple[str, str, float]]:
    """method, gate, target gain: dosed methods at two gains, role prompt at its own."""
    rows = [(m, GATE.get(m, "none"), t) for m in LEAK if m != "role" for t in (0.2, 0.4)]
    return [*rows, ("role", "none", float("nan"))]


def leakage(seed: int = 0) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for method, gate, target in conditions():
        reached = 0.3 if np.isnan(target) else (0.02 if method == "random" else target)
        for steered in VALUES:
            for measured in VALUES:
                near = np.cos(np.radians(circular_distance(steered, measured)))
                d = reached if steered == measured else LEAK[method] * reached * 0.6 * near
                d += 0.03 * rng.standard_normal()
                rows.append((method, gate, target, steered, measured, d, d - 0.06, d + 0.06, 60))
    return pd.DataFrame(rows, columns=["method", "gate", "target_gain", "steered", "measured", "d", "lo", "hi", "n"])


def methods(seed: int = 1) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for method, gate, target in conditions():
        gain = 0.3 if np.isnan(target) else (0.02 if method == "random" else target + 0.03 * rng.standard_normal())
        nlr = np.nan if method == "random" else 0.05 + 0.35 * LEAK[method] + 0.02 * rng.standard_normal()
        reached = None if np.isnan(target) else f"{0 if method == 'random' else rng.integers(7, 11)}/10"
        rows.append(
            {
                "method": method, "gate": gate, "target_gain": target, "reached": reached,
                "csr": 0.15 + gain, "csr_lo": 0.1 + gain, "csr_hi": 0.2 + gain, "csr_base": 0.15,
                "gain": gain, "gain_lo": gain - 0.04, "gain_hi": gain + 0.04,
                "nlr": nlr, "nlr_lo": nlr - 0.05, "nlr_hi": nlr + (3.0 if method == "role" else 0.06),
                "ngl": nlr * 3, "ngl_lo": nlr * 3 - 0.2, "ngl_hi": nlr * 3 + 0.25,
                "invalid": 0.01 + 0.05 * abs(rng.standard_normal()), "ppl_base": 6.1,
                "ppl": 6.1 + 2 * gain * LEAK[method],
                "kl": 0.1 * gain, "acc_base": 0.97, "acc": 0.97 - 0.05 * gain, "dose": 1.0 + 4 * gain,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def dose(seed: int = 2) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    grids = {"neva": [0.5, 0.9, 0.99, 0.999], "random": [0.5, 1, 2, 4, 8], "role": []}
    for method in LEAK:
        for steered in VALUES:
            top = 0.02 if method == "random" else 0.5 + 0.1 * rng.random()
            grid = list(grids.get(method, [0.25, 0.5, 1, 2, 4, 8]))
            if grid and method != "neva":
                grid.append(float(rng.uniform(1, 4)))  # the bracketing search: a dose of the value's own
            for x in grid:
                strength = np.log(x / (1 - x)) / 7 if method == "neva" else x / 6
                gain = top * (1 - np.exp(-2.5 * strength)) + 0.01 * rng.standard_normal()
                invalid = max(0.0, 0.01 + 0.2 * (strength - 0.7) + 0.01 * rng.standard_normal())
                leak = max(0.0, LEAK[method] * gain * 0.4 + 0.01 * rng.standard_normal())
                gate = GATE.get(method, "none")
                rows.append(
                    (method, gate, steered, x, gain, leak, invalid, invalid <= 0.06, 6.1 + strength, "validation")
                )
    names = ["method", "gate", "steered", "dose", "gain", "leakage", "invalid", "admissible", "ppl", "split"]
    return pd.DataFrame(rows, columns=names)


def values(seed: int = 3) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for method, gate, target in conditions():
        for steered in VALUES:
            gain = (0.3 if np.isnan(target) else target) + 0.04 * rng.standard_normal()
            status = "own gain" if np.isnan(target) else "reached" if rng.random() < 0.8 else "unreached"
            rows.append(
                (method, gate, target, steered, 1 + rng.random(), status, gain, gain - 0.05, gain + 0.05,
                 abs(LEAK[method] * gain * 0.3), 0.01, 0.15, 0.15 + gain)
            )  # fmt: skip
    names = ["method", "gate", "target_gain", "steered", "dose", "status", "gain", "gain_lo", "gain_hi", "leakage",
             "invalid", "csr_base", "csr"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def neurons(layers: int = 6, d_mlp: int = 512, k: int = 40, seed: int = 4) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for steered in VALUES:
        flat = rng.choice(layers * d_mlp, size=k, replace=False)
        g = np.sort(0.3 + rng.gamma(2, 0.4, k))[::-1] * rng.choice([1, 1, 1, -1], k)
        for rank, (place, effect) in enumerate(zip(flat, g, strict=True)):
            layer = int(place // d_mlp)
            p = float(10 ** (-4 * abs(effect)))
            rows.append(
                (steered, "neva", layer, int(place % d_mlp), rank, effect, effect - 0.2, effect + 0.2, p, min(1, 3 * p),
                 bool(rng.random() < 0.9), 0.3 * rng.standard_normal(), rng.standard_normal(), abs(effect),
                 0.2 + effect, 0.2)
            )  # fmt: skip
    names = ["value", "method", "layer", "neuron", "rank", "g", "lo", "hi", "p", "q", "split_half", "leak", "write",
             "score", "mean_plus", "mean_minus"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def effects(
    selected: pd.DataFrame, per_value: int = 1200, layers: int = 6, d_mlp: int = 512, seed: int = 5
) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    for steered in VALUES:
        g = 0.25 * rng.standard_normal(per_value)
        p = np.maximum(np.exp(-12 * np.abs(g)) * rng.uniform(0.2, 1, per_value), 0)
        parts.append(
            pd.DataFrame(
                {
                    "value": steered,
                    "layer": rng.integers(0, layers, per_value),
                    "neuron": rng.integers(0, d_mlp, per_value),
                    "g": g,
                    "p": p,
                    "q": np.minimum(1, 5 * p),
                    "selected": False,
                }
            )
        )
        mine = selected[selected["value"] == steered][["value", "layer", "neuron", "g", "p", "q"]].copy()
        mine.loc[mine["g"].abs() > 2.2, "p"] = 0.0
        parts.append(mine.assign(selected=True))
    return pd.concat(parts, ignore_index=True)


def layers(n_layers: int = 6, seed: int = 6) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    shape = np.exp(-((np.arange(n_layers) - 0.6 * n_layers) ** 2) / 3)
    for steered in VALUES:
        for layer in range(n_layers):
            for operation, sign in (("zero", -1), ("mean", -0.8), ("amplify", 1)):
                for group, size, cost in (("selected", 1.0, 0.02), ("all", 1.2, 0.4), ("random", 0.05, 0.02)):
                    d = sign * size * 0.3 * shape[layer] + 0.03 * rng.standard_normal()
                    loss = cost * shape[layer] + 0.01 * rng.standard_normal()
                    rows.append((steered, layer, operation, group, 8, d, d - 0.05, d + 0.05, loss))
    return pd.DataFrame(
        rows, columns=["value", "layer", "operation", "group", "n_neurons", "d_csr", "lo", "hi", "d_loss"]
    )


def circuit(selected: pd.DataFrame, seed: int = 7) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    words = {v: [f" {v[:4]}{suffix}" for suffix in ("er", "ing", "ful", "ly")] for v in VALUES}
    words["power"][0] = "</script><b>"
    for steered in VALUES:
        for row in selected[selected["value"] == steered].head(8).itertuples():
            for other in {steered, *rng.choice(VALUES, 2)}:
                for token in words[other]:
                    strength = (1.0 if other == steered else 0.3) * rng.standard_normal() + 0.5 * (other == steered)
                    rows.append((steered, row.layer, row.neuron, token, other, strength))
    return pd.DataFrame(rows, columns=["value", "layer", "neuron", "token", "token_value", "attribution"])


def lens(n_layers: int = 6, seed: int = 9) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for steered in (None, *VALUES):
        for layer in range(n_layers + 1):
            for value in VALUES:
                near = 0.0 if steered is None else np.cos(np.radians(circular_distance(steered, value)))
                odds = -12 + 1.1 * layer + 0.4 * max(layer - 3, 0) * near + 0.1 * rng.standard_normal()
                condition = "unedited" if steered is None else "edited"
                rows.append((steered, 4.0, condition, layer, value, odds, odds - 0.4, odds + 0.4, 40))
    names = ["steered", "dose", "condition", "layer", "value", "log_odds", "lo", "hi", "n"]
    return pd.DataFrame(rows, columns=names)


def lens_tokens(n_layers: int = 6, k: int = 5, seed: int = 10) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    texts = [" the", " kind", " $x$", "</script>", "\n", "\u202e", "不", " averyveryverylongtoken", "<b>", " 42"]
    for steered in ("power", "benevolence"):
        for condition in ("unedited", "edited"):
            for layer in range(n_layers + 1):
                p = np.sort(rng.dirichlet(np.ones(k)))[::-1]
                chosen = rng.choice(len(texts), size=k, replace=False)
                rows += [
                    (condition, layer, rank + 1, int(chosen[rank]), texts[chosen[rank]], p[rank], steered, HOSTILE)
                    for rank in range(k)
                ]
    names = ["condition", "layer", "rank", "token", "text", "probability", "steered", "prompt"]
    return pd.DataFrame(rows, columns=names)


def circuits(seed: int = 11) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for place, value in enumerate(VALUES):
        speed = 15 + 6 * place
        for size in (1, 2, 5, 10, 20, 40, 60, 100, 200, 400):
            f = 1.02 * (1 - np.exp(-size / speed)) + 0.02 * rng.standard_normal()
            rows.append(
                (value, size, f, f - 0.08, f + 0.08, f + 0.03, 1 - np.exp(-size / (2 * speed)), size / 1500, size / 500,
                 size // 4, size - size // 4)
            )  # fmt: skip
    names = ["value", "size", "f", "lo", "hi", "f_train", "completeness", "random_mean", "random_max", "n_heads",
             "n_neurons"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def sensitivity(seed: int = 12) -> pd.DataFrame:
    """Two factors, two methods; one level has no neurons and so no numbers."""
    rng, rows = np.random.default_rng(seed), []
    levels = [
        ("k", "as run"),
        ("k", "13"),
        ("k", "52"),
        ("part", "as run"),
        ("part", "no FDR"),
        ("part", "correlational only"),
    ]
    for method in ("neva", "neva_shift"):
        for factor, level in levels:
            gain, leak = 0.2 + 0.05 * rng.standard_normal(2)
            row = {"factor": factor, "level": level, "own": level == "as run", "method": method}
            if (method, level) != ("neva", "correlational only"):
                row |= {
                    "gain": gain,
                    "gain_lo": gain - 0.05,
                    "gain_hi": gain + 0.05,
                    "leakage": leak,
                    "kl": 0.01 * gain,
                }
                row |= {"leakage_lo": leak - 0.02, "leakage_hi": leak + 0.02}
            rows.append(row)
    return pd.DataFrame(rows)


def sparsity_curve(seed: int = 13) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for method in ("neva", "neva_shift"):
        for value in ("power", "benevolence"):
            for k in (6, 12, 25, 50, 100, 200):
                gain = 0.25 * (1 - np.exp(-k / 20)) + 0.01 * rng.standard_normal()
                rows.append((method, value, k, gain, k == 50))
    return pd.DataFrame(rows, columns=["method", "value", "k", "gain", "chosen"])


def two_values_kinds(seed: int = 14) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for kind in ("compatible", "opposed"):
        for method in ("neva", "neva_shift", "caa"):
            for share in (1.0, 0.5):
                row = {"kind": kind, "method": method, "dose_share": share, "invalid": 0.1 * rng.random()}
                for name in ("gain", "min_gain", "leakage"):
                    x = 0.2 * rng.random()
                    row |= {name: x, f"{name}_lo": x - 0.04, f"{name}_hi": x + 0.04}
                rows.append(row)
    return pd.DataFrame(rows)


def gain_curves(seed: int = 15) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for gate, names in (("none", ("neva_shift", "caa")), ("probe", ("neva", "caa_probe"))):
        for method in names:
            for point, gain in enumerate((0.0, 0.2, 0.4)):
                row = {"gate": gate, "method": method, "point": point, "gain": gain + 0.02 * rng.random() * (point > 0)}
                row |= {"leakage": 0.1 * gain, "kl": gain**2, "loss": gain**2}
                for name in ("gain", "leakage"):
                    row |= {f"{name}_lo": row[name] - 0.03, f"{name}_hi": row[name] + 0.03}
                rows.append(row)
    return pd.DataFrame(rows)


def generations(seed: int = 8) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    prompts = ["Mara says that", "The best thing to do on a free day is", "Tom thinks <b>we</b> should"]
    for prompt_index, prompt in enumerate(prompts):
        cases = [("unedited", None, np.nan)]
        cases += [(m, s, t) for m in ("neva", "caa", "random") for s in ("benevolence", "power") for t in (0.2, 0.4)]
        for method, steered, target in cases:
            text = f" we should speak of {steered or 'the weather'} ({method})" if prompt_index else HOSTILE
            scores = {f"score_{v}": 0.9 if v == steered else 0.1 * rng.random() for v in VALUES}
            rows.append(
                {"method": method, "steered": steered, "target_gain": target, "prompt": prompt, "text": text,
                 "valid": bool(prompt_index), **scores}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _m(est: float, lo: float | None = None, hi: float | None = None, n: int = 60) -> dict[str, float | int | None]:
    def finite(x: float | None) -> float | None:
        return None if x is None or not np.isfinite(x) else float(x)

    return {"est": finite(est), "lo": finite(lo), "hi": finite(hi), "n": n}


def results(table: pd.DataFrame) -> dict:
    out: dict = {
        "schema": 1,
        "model": {"name": "demo", "architecture": "llama", "n_layers": 6, "d_model": 192, "d_mlp": 512, "chat": False},
        "values": list(VALUES), "judge": "exact posterior", "unit": "P(text expresses the value)", "methods": {},
        "manifest": "manifest.json",
    }  # fmt: skip
    headline = table[table["target_gain"].isna() | (table["target_gain"] == 0.4)]
    for row in headline.to_dict("records"):
        out["methods"][row["method"]] = {
            "gate": row["gate"], "target_gain": None if np.isnan(row["target_gain"]) else row["target_gain"],
            "reached": row["reached"],
            **{name: _m(row[name], row[f"{name}_lo"], row[f"{name}_hi"]) for name in ("csr", "gain", "nlr", "ngl")},
            "invalid": _m(row["invalid"]), "fluency": {},
            "capability": {
                "perplexity": {"base": _m(row["ppl_base"]), "edited": _m(row["ppl"])},
                "neutral_accuracy": {"base": _m(row["acc_base"]), "edited": _m(row["acc"])},
            },
            "per_value": {},
        }  # fmt: skip
    return out


def write_run(run: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """A whole run folder: tables, generations, results.json, manifest.json."""
    (run / "tables").mkdir(parents=True)
    chosen = neurons()
    tables = {
        "leakage": leakage(), "methods": methods(), "dose": dose(), "values": values(), "neurons": chosen,
        "effects": effects(chosen), "layers": layers(), "circuit": circuit(chosen),
        "lens": lens(), "lens_tokens": lens_tokens(), "circuits": circuits(),
        "sensitivity": sensitivity(), "sparsity_curve": sparsity_curve(), "two_values_kinds": two_values_kinds(),
        "gain_curves": gain_curves(),
    }  # fmt: skip
    for name, table in tables.items():
        if name not in leave_out:
            table.to_parquet(run / "tables" / f"{name}.parquet")
    if "generations" not in leave_out:
        generations().to_parquet(run / "generations.parquet")
        generations().to_parquet(run / "tables" / "generations.parquet")
    (run / "results.json").write_text(json.dumps(results(tables["methods"])))
    (run / "manifest.json").write_text(
        json.dumps(
            {
                "command": "neva-tl run --model demo --out <run>",
                "versions": {"neva_tl": "0.1.0", "torch": "2.13.0"},
                "model": {"weights_hash": "0" * 64},
                "prompt_hash": "1" * 64,
                "seed": 0,
                "wall_seconds": 71.3,
                "placebo": None,
            }
        )
    )
    return run
