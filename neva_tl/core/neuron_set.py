"""Neuron sets: the result of selection and the input of editing and circuits.

A neuron is `(layer, index)` at a site. Site `post` is one coordinate of the MLP output projection's input
(`blocks.L.mlp.hook_post`; `act(gate) * up` on a gated MLP); site `gate` is `act(gate)` alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from safetensors.numpy import save

from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.figures import figure
from neva_tl.core.files import DAMAGED, atomic_write, existing_pair, file_pair, first_line, read_json, read_tensors
from neva_tl.core.theories import ValueName, ValueTheory, check_name, recorded_theory

Site = Literal["post", "gate"]

#: Columns that a notebook shows when the table has them.
SHOWN = (
    "layer", "neuron", "g", "lo", "hi", "q", "split_half", "leak", "write", "weight", "effect", "score",
    "mean_plus", "mean_minus", "sd",
)  # fmt: skip
#: Columns of every neuron table; selection methods add their own statistics.
REQUIRED = ("layer", "neuron", "mean_plus", "mean_minus", "sd", "score")
#: Largest mean or spread: edits compute in float32.
LARGEST = float(np.finfo(np.float32).max)


def _without_rounded(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint without the hashes that follow from the others: cache keys are the same with and without them."""
    return {name: fact for name, fact in fingerprint.items() if name != "rounded"}


@dataclass(frozen=True, eq=False)
class NeuronSet(metaclass=CheckedArguments):
    """The neurons that carry one value, ranked, with the numbers that editing needs.

    Attributes:
        value: Name of the value.
        method: Registry name of the selector.
        df: One row per neuron, best first. Columns `layer`, `neuron` (ints), `mean_plus`, `mean_minus` (mean activation on
            the two poles, in activation units), `sd` (pooled within-pole standard deviation), `score` (the method's ranking
            criterion), and the method's own statistics (`g`, `lo`, `hi`, `p`, `q`, `split_half`, `leak`, `write`, ...).
        n_layers: Layers of the model; the constructor checks indices against it.
        d_mlp: Neurons per layer, for the same check.
        site: `post` or `gate`.
        fingerprint: The model's fingerprint (see `models.fingerprint`); checked before an edit.
        settings: The selector's arguments and counts (pairs used, neurons that passed each step), and the theory
            where the name of the value does not imply it.

    Example:
        >>> neurons.value, neurons.method
        ('benevolence', 'neva')
        >>> len(neurons.head(5))
        5
        >>> {"layer", "neuron", "mean_plus", "mean_minus", "sd", "score"} <= set(neurons.df.columns)
        True
    """

    value: ValueName
    method: str
    df: pd.DataFrame
    n_layers: int
    d_mlp: int
    site: Site = "post"
    fingerprint: Mapping[str, Any] = field(default_factory=dict, metadata={"content": _without_rounded})
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.value)
        self._check_types()
        missing = [name for name in REQUIRED if name not in self.df.columns]
        if missing:
            raise InputError(f"neuron table for {self.value} lacks the columns {', '.join(missing)}")
        if not self.df.columns.is_unique:
            raise InputError(f"neuron table for {self.value} has two columns of one name")
        if len(self.df):
            self._check_rows()

    def _check_types(self) -> None:
        if not isinstance(self.df, pd.DataFrame):
            raise InputError(f"a neuron set needs its table as a DataFrame, not {type(self.df).__name__}")
        if not isinstance(self.method, str):
            raise InputError(f"the method of a neuron set is a name, not {self.method!r}")
        if self.site not in get_args(Site):
            raise InputError(f"unknown site {self.site!r} of a neuron set: choose from {', '.join(get_args(Site))}")
        for name in ("n_layers", "d_mlp"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 < number < 2**31:
                raise InputError(f"{name} of a neuron set is {number!r}: a whole number above 0 is expected")
        for name in ("fingerprint", "settings"):
            if not isinstance(getattr(self, name), Mapping):
                kind = type(getattr(self, name)).__name__
                raise InputError(f"the {name} of a neuron set is a mapping of names, not {kind}")

    def _check_rows(self) -> None:
        for name in REQUIRED:
            kinds, expected = ("iu", "whole numbers") if name in ("layer", "neuron") else ("iuf", "numbers")
            if self.df[name].dtype.kind not in kinds:
                raise InputError(
                    f"column {name} of the neuron set for {self.value} holds {self.df[name].dtype}: {expected} are expected"
                )
        layers, index = self.df["layer"].to_numpy(), self.df["neuron"].to_numpy()
        if layers.min() < 0 or layers.max() >= self.n_layers:
            wrong = layers.max() if layers.min() >= 0 else layers.min()
            raise InputError(f"neuron set for {self.value} names layer {wrong}: the model has {self.n_layers}")
        if index.min() < 0 or index.max() >= self.d_mlp:
            wrong = index.max() if index.min() >= 0 else index.min()
            raise InputError(f"neuron set for {self.value} names neuron {wrong}: d_mlp is {self.d_mlp}")
        if self.df.duplicated(["layer", "neuron"]).any():
            raise InputError(f"neuron set for {self.value} names a neuron twice")
        numbers = self.df[["mean_plus", "mean_minus", "sd"]].to_numpy(dtype=float)
        if not np.isfinite(numbers).all():
            raise InputError(f"neuron set for {self.value} holds a mean or spread that is not finite")
        if np.abs(numbers).max() > LARGEST:
            raise InputError(
                f"neuron set for {self.value} holds a mean or spread above {LARGEST:.1e}, float32's largest"
            )
        if numbers[:, 2].min() < 0:
            raise InputError(f"neuron set for {self.value} holds a negative spread (sd {numbers[:, 2].min():g})")

    def __len__(self) -> int:
        return len(self.df)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with at least one neuron of the set, ascending."""
        return tuple(sorted(int(layer) for layer in self.df["layer"].unique()))

    @check_arguments
    def at(self, layer: int) -> pd.DataFrame:
        """Return the rows of one layer, in the set's order.

        Args:
            layer: Index of the layer.

        Example:
            >>> layer = neurons.layers[-1]
            >>> set(neurons.at(layer)["layer"]) == {layer}
            True
        """
        return self.df[self.df["layer"] == layer]

    @check_arguments
    def head(self, k: int) -> NeuronSet:
        """Return the best k neurons as a new set.

        Args:
            k: Number of neurons; a larger one returns all.

        Example:
            >>> len(neurons.head(10))
            10
        """
        return self.with_df(self.df.head(k))

    @check_arguments
    def with_df(self, df: pd.DataFrame) -> NeuronSet:
        """Return the same set with another table (filtered, re-ranked).

        Args:
            df: Table with the columns that `NeuronSet` requires.

        Example:
            >>> late = neurons.with_df(neurons.df.query("layer == 3"))
            >>> late.layers
            (3,)
        """
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

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write `PATH.json` (metadata, settings, non-numeric columns) and `PATH.safetensors` (numeric columns).

        Both writes are atomic; the JSON comes last and contains the tensors' hash, so that `load` detects a set that mixes
        an old file with a new one.

        Args:
            path: Path without suffix (a dot belongs to the name: `llama-3.1`); its folder is created when missing.

        Returns:
            The path of the JSON file.

        Example:
            >>> file = neurons.save("benevolence")  # benevolence.json and benevolence.safetensors
            >>> nv.NeuronSet.load(file).df.equals(neurons.df)
            True
        """
        json_file, tensor_file = file_pair(path)
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
        about = json.dumps(meta, indent=1)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(tensor_file) as file:
            file.write_bytes(content)
        with atomic_write(json_file) as file:
            file.write_text(about)
        return json_file

    @classmethod
    @check_arguments
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a set written by `save`.

        Args:
            path: Path of either file, or without suffix.

        Raises:
            InputError: A file is missing, is not a neuron set, or belongs to another set.

        Example:
            >>> nv.NeuronSet.load(neurons.save("benevolence")).value
            'benevolence'
        """
        json_file, tensor_file = existing_pair(path, "a neuron set is")
        kind = "a neuron set written by neva_tl"
        meta = read_json(json_file, kind)
        content = tensor_file.read_bytes()
        try:
            if hashlib.sha256(content).hexdigest() != meta["tensors"]:
                raise InputError(f"{tensor_file} does not belong to {json_file}: save the neuron set again")
            columns = {**read_tensors(content, tensor_file, kind), **meta["text"]}
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
        except InputError as error:
            raise error if str(json_file) in str(error) else InputError(f"{json_file}: {error}") from error
        except DAMAGED as error:
            raise InputError(f"{json_file} is not {kind} ({first_line(error)})") from error

    @property
    def theory(self) -> ValueTheory:
        """Theory of the value, as the statistics had it."""
        return recorded_theory(self.settings, [self.value])

    @property
    def power(self) -> str:
        """The smallest effect that the selection's test detects, as a sentence; empty without a test (placebos)."""
        design = self.settings.get("power")
        if not design:
            return ""
        try:
            g = design["detectable_g"]
            each, alone = (f"{g[name]:.2f}" if g[name] is not None else "any" for name in ("all", "alone"))
            return (
                f"with {design['n']} {design['unit']}, effects above g = {each} are found with {design['power']:.0%} "
                f"power when all {design['neurons']:,} neurons are tested ({alone} for one alone)"
            ).replace("% power", " % power")
        except (KeyError, TypeError, ValueError, IndexError):  # settings of another tool
            return ""

    def __repr__(self) -> str:
        head = f"NeuronSet({self.value}, method={self.method}, {len(self)} neurons in layers {list(self.layers)}"
        return f"{head}; {self.power})" if self.power else f"{head})"

    def _repr_html_(self) -> str:
        columns = [name for name in SHOWN if name in self.df.columns]
        facts = {"neurons": len(self), "selector": self.method, "site": self.site, "layers": _span(self.layers)}
        return card(f"Neurons of {self.value}", facts, self.df[columns], note=self.power)

    def show(self) -> Any:
        """Draw the layer profile of the set as a matplotlib figure.

        Raises:
            InputError: The set is empty.
        """
        return figure("layer_profile")(self.df.assign(value=self.value, method=self.method), n_layers=self.n_layers)


def _span(layers: tuple[int, ...]) -> str:
    return "none" if not layers else str(layers[0]) if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
