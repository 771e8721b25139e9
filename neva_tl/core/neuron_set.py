"""Neuron sets: what selection makes and editing, circuits and files use.

A neuron is `(layer, index)` at a site. Site `post` is one coordinate of the MLP output projection's input
(`blocks.L.mlp.hook_post`; `act(gate) * up` on a gated MLP); site `gate` is `act(gate)` alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import whole_file
from neva_tl.core.values import value

Site = Literal["post", "gate"]

#: Columns that a notebook shows, where the table has them.
SHOWN = (
    "layer", "neuron", "g", "lo", "hi", "q", "split_half", "leak", "write", "weight", "effect", "score",
    "mean_plus", "mean_minus", "sd",
)  # fmt: skip
#: Columns every neuron table has; selection methods add their own statistics beside them.
REQUIRED = ("layer", "neuron", "mean_plus", "mean_minus", "sd", "score")


@dataclass(frozen=True, eq=False)
class NeuronSet:
    """The neurons that carry one value, ranked, with the numbers that editing needs.

    Attributes:
        value: one of Schwartz's ten.
        method: the selector's registry name.
        site: `post` or `gate`.
        df: one row per neuron, best first. Columns `layer`, `neuron` (ints), `mean_plus`, `mean_minus` (mean activation on
            the two poles, in activation units), `sd` (pooled within-pole standard deviation), `score` (what the method
            ranks by), and what the method adds (`g`, `lo`, `hi`, `p`, `q`, `split_half`, `leak`, `write`, ...).
        n_layers, d_mlp: the model's sizes, so that indices can be checked.
        fingerprint: the model's fingerprint (see `models.fingerprint`); checked before an edit.
        settings: the selector's arguments and what it counted (pairs used, neurons that passed each step).
    """

    value: str
    method: str
    df: pd.DataFrame
    n_layers: int
    d_mlp: int
    site: Site = "post"
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        value(self.value)
        missing = [name for name in REQUIRED if name not in self.df.columns]
        if missing:
            raise InputError(f"neuron table for {self.value} lacks the columns {', '.join(missing)}")
        layers, index = self.df["layer"].to_numpy(), self.df["neuron"].to_numpy()
        if len(layers) and (layers.min() < 0 or layers.max() >= self.n_layers):
            raise InputError(f"neuron set for {self.value} names layer {layers.max()}: the model has {self.n_layers}")
        if len(index) and (index.min() < 0 or index.max() >= self.d_mlp):
            raise InputError(f"neuron set for {self.value} names neuron {index.max()}: d_mlp is {self.d_mlp}")
        if self.df.duplicated(["layer", "neuron"]).any():
            raise InputError(f"neuron set for {self.value} names a neuron twice")
        numbers = self.df[["mean_plus", "mean_minus", "sd"]].to_numpy(dtype=float)
        if not np.isfinite(numbers).all():
            raise InputError(f"neuron set for {self.value} holds a mean or spread that is not finite")

    def __len__(self) -> int:
        return len(self.df)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that hold at least one neuron of the set, ascending."""
        return tuple(sorted(int(layer) for layer in self.df["layer"].unique()))

    def at(self, layer: int) -> pd.DataFrame:
        """Rows of one layer, in the set's order."""
        return self.df[self.df["layer"] == layer]

    def head(self, k: int) -> NeuronSet:
        """The best k neurons as a set of their own."""
        return self.with_df(self.df.head(k))

    def with_df(self, df: pd.DataFrame) -> NeuronSet:
        """The same set with another table (filtered, re-ranked)."""
        return NeuronSet(
            value=self.value,
            method=self.method,
            df=df.reset_index(drop=True),
            n_layers=self.n_layers,
            d_mlp=self.d_mlp,
            site=self.site,
            fingerprint=self.fingerprint,
            settings=self.settings,
        )

    def save(self, path: str | Path) -> Path:
        """Write `PATH.json` (identity, settings, non-numeric columns) and `PATH.safetensors` (numeric columns).

        Both are written to a temporary name and renamed, the JSON last, with the tensors' hash in it: a killed save leaves
        neither half a set nor one that mixes an old file with a new one.
        """
        path = Path(path).with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: np.ascontiguousarray(column.to_numpy())
            for name, column in self.df.items()
            if column.dtype.kind in "iufb"
        }
        text = {str(name): column.tolist() for name, column in self.df.items() if name not in tensors}
        content = save({str(k): v for k, v in tensors.items()})
        meta = {
            "schema": 1,
            "kind": "neuron_set",
            "value": self.value,
            "method": self.method,
            "site": self.site,
            "n_layers": self.n_layers,
            "d_mlp": self.d_mlp,
            "columns": [str(name) for name in self.df.columns],
            "text": text,
            "tensors": hashlib.sha256(content).hexdigest(),
            "fingerprint": dict(self.fingerprint),
            "settings": dict(self.settings),
        }
        tensor_file, json_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
        with whole_file(tensor_file) as file:
            file.write_bytes(content)
        with whole_file(json_file) as file:
            file.write_text(json.dumps(meta, indent=1))
        return json_file

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a set written by `save`.

        Raises:
            InputError: a file is missing or is not a neuron set.
        """
        path = Path(path).with_suffix("")
        json_file, tensor_file = path.with_suffix(".json"), path.with_suffix(".safetensors")
        for file in (json_file, tensor_file):
            if not file.exists():
                raise InputError(f"{file} does not exist: a neuron set is a .json and a .safetensors side by side")
        try:
            meta = json.loads(json_file.read_text())
            content = tensor_file.read_bytes()
            if hashlib.sha256(content).hexdigest() != meta["tensors"]:
                raise InputError(f"{tensor_file} does not belong to {json_file}: save the neuron set again")
            columns = {**load(content), **meta["text"]}
            df = pd.DataFrame({name: columns[name] for name in meta["columns"]})
            return cls(
                value=meta["value"],
                method=meta["method"],
                df=df,
                n_layers=meta["n_layers"],
                d_mlp=meta["d_mlp"],
                site=meta["site"],
                fingerprint=meta["fingerprint"],
                settings=meta["settings"],
            )
        except (KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
            raise InputError(f"{json_file} is not a neuron set written by neva_tl ({error})") from error

    @property
    def power(self) -> str:
        """What the selection's test could have found, as a sentence; empty where it was not a test's (placebos)."""
        found = self.settings.get("power")
        if not found:
            return ""
        g = found["detectable_g"]
        each, alone = (f"{g[name]:.2f}" if g[name] is not None else "any" for name in ("all", "alone"))
        return (
            f"with {found['n']} {found['unit']}, effects above g = {each} are found with {found['power']:.0%} power "
            f"when all {found['neurons']:,} neurons are tested ({alone} for one alone)"
        ).replace("% power", " % power")

    def __repr__(self) -> str:
        head = f"NeuronSet({self.value}, method={self.method}, {len(self)} neurons in layers {list(self.layers)}"
        return f"{head}; {self.power})" if self.power else f"{head})"

    def _repr_html_(self) -> str:
        known = [name for name in SHOWN if name in self.df.columns]
        facts = {"neurons": len(self), "selector": self.method, "site": self.site, "layers": _span(self.layers)}
        return card(f"Neurons of {self.value}", facts, self.df[known], note=self.power)

    def show(self) -> Any:
        """The layer profile of the set as a matplotlib figure.

        Raises:
            InputError: the set is empty.
        """
        from neva_tl.plots import layer_profile

        return layer_profile(self.df.assign(value=self.value, method=self.method), n_layers=self.n_layers)


def _span(layers: tuple[int, ...]) -> str:
    return "none" if not layers else str(layers[0]) if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
