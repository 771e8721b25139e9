"""Results of `collect`: moments of every MLP neuron, with methods to read, merge, save and load them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from neva_tl.activations.accumulate import POLES, Accumulator, CellIndex, fold_of, merge_arrays, merge_folds
from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, atomic_write, existing_pair, file_pair, first_line, read_json
from neva_tl.core.theories import (
    IMPLIED,
    TheorySpec,
    ValueName,
    ValueTheory,
    recorded_theory,
    resolve_theory,
    theory_record,
)
from neva_tl.models import fingerprint_difference
from neva_tl.models.sources import is_demo
from neva_tl.prompts import ContrastSet

#: Selection of neurons: flat numbers or a slice of them; None selects all.
Neurons = slice | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Samples:
    """Pooled activations of single prompts, as probes, sign flips and shuffles need them.

    Attributes:
        h: `[n_rows, n_layers, d_mlp]`, float32; an array or a memory-mapped `.npy` file.
        table: One row per prompt: `value`, `pole`, `pair_id`, `cluster`, `split`, `fold`, in the order of `h`.
    """

    h: np.ndarray
    table: pd.DataFrame

    def _repr_html_(self) -> str:
        n, layers, width = self.h.shape
        count = self.table.groupby(["value", "pole"]).size().unstack("pole", fill_value=0).reset_index()
        return card("Samples", {"prompts": n, "layers": layers, "neurons of a layer": width}, count)

    def show(self) -> Any:
        """Draw the contrast in each layer with matplotlib (see `ActivationStats.profile`)."""
        return ActivationStats.from_samples(np.asarray(self.h), self.table, keep=False).show()


@dataclass(frozen=True, eq=False)
class ActivationStats(metaclass=CheckedArguments):
    """Moments of pooled `hook_post`, per value, pole, fold, layer and neuron.

    Gated models also have the moments of the gate alone.

    Shapes: v values, p poles (0 is +, 1 is -), f folds, l layers, k neurons of a layer (d_mlp), d d_model.

    Attributes:
        values: The v values, in the order of their theory.
        n: `[v, p, f]` number of prompts.
        mean: `[v, p, f, l, k]` mean of the pooled activation.
        m2: `[v, p, f, l, k]` sum of its squared deviations.
        positive: `[v, p, f, l, k]` mean share of answer tokens on which the activation is above 0.
        diff_n: `[v, f]` number of pairs.
        diff_mean: `[v, f, l, k]` mean of the within-pair difference (+ minus -).
        diff_m2: `[v, f, l, k]` sum of its squared deviations.
        resid: `[v, p, l, d]` mean of `resid_post` pooled over the same tokens.
        gate_mean: `mean` of `act(gate)` alone; None if the MLP has no gate.
        gate_m2: `m2` of `act(gate)` alone.
        gate_positive: `positive` of `act(gate)` alone.
        info: Facts of the model (`models.info`).
        fingerprint: Fingerprint of the model.
        prompt_hash: Hash of the contrast set.
        pooling: Reduction over answer tokens (`mean`, `last`, ...).
        samples: Pooled activations of single prompts, if requested.
        tokens_hash: sha256 of the token ids that ran and of the answers' positions; "" in statistics of version 0.1.0.
        encoding: Encoding of the texts (`encoding_record`: chat template, its date, ...); empty in statistics of 0.1.0.
        prompts_note: Rows that the reader of the prompts left out, and why (`ContrastSet.note`); empty for none.
        theory: Theory of the values; by default the one that their names imply.
        texts: Rows of the contrast set that were collected, as `Samples.table` has them; None in statistics read from a file
            (see `with_texts`). Selectors that run the texts again read them.
        model_reference: Weak reference to the model; it is not stored.

    The arrays are read-only; use `dataclasses.replace` for statistics with other arrays.
    """

    values: tuple[str, ...]
    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    positive: np.ndarray
    diff_n: np.ndarray
    diff_mean: np.ndarray
    diff_m2: np.ndarray
    resid: np.ndarray
    gate_mean: np.ndarray | None = None
    gate_m2: np.ndarray | None = None
    gate_positive: np.ndarray | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    prompt_hash: str = ""
    pooling: str = "mean"
    samples: Samples | None = None
    tokens_hash: str = ""
    encoding: Mapping[str, Any] = field(default_factory=dict)
    prompts_note: str = ""
    theory: ValueTheory = IMPLIED
    texts: pd.DataFrame | None = field(default=None, repr=False)
    model_reference: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "theory", resolve_theory(self.theory, self.values))
        # read-only views, because selection caches measurements of these arrays
        for name, array in self._arrays().items():
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __getstate__(self) -> dict[str, Any]:
        # a weak reference cannot go to another process
        return {**self.__dict__, "model_reference": None}

    @property
    def model(self) -> Any:
        """The model that was collected on, while something else holds it; None in other cases, as after loading."""
        return None if self.model_reference is None else self.model_reference()

    @property
    def demo(self) -> bool:
        """Whether they are of a demo model, for which `auto` has decisions of its own."""
        return is_demo(str(self.info.get("name", "")))

    @property
    def training_texts(self) -> pd.DataFrame | None:
        """The rows that were collected, with their texts; None where the statistics do not contain them."""
        if self.samples is not None and "text" in self.samples.table:
            return self.samples.table
        return self.texts

    @check_arguments
    def with_texts(self, pairs: ContrastSet) -> ActivationStats:
        """Return the same statistics with their texts, for selectors that run these again.

        Args:
            pairs: The contrast set that they were collected on, with all its splits or only that one.

        Raises:
            InputError: The statistics are of other prompts.

        Example:
            >>> stats = nv.ActivationStats.load("stats").with_texts(nv.prompts.load("mine.csv"))
        """
        splits = pairs.df["split"].unique()
        for subset in (pairs, *(pairs.split(str(name)) for name in splits)):
            if subset.hash == self.prompt_hash:
                folds = [fold_of(cluster) for cluster in subset.df["cluster"]]
                return replace(self, texts=subset.df.assign(fold=folds))
        raise InputError(f"these statistics were not collected on {pairs.name}: name the prompts that they are of")

    @property
    def n_layers(self) -> int:
        """Number of collected layers: all, or the first ones."""
        return int(self.mean.shape[-2])

    @property
    def model_layers(self) -> int:
        """Number of layers of the model."""
        return int(self.info.get("n_layers", self.n_layers))

    @property
    def d_mlp(self) -> int:
        """Number of neurons of a layer."""
        return int(self.mean.shape[-1])

    @check_arguments
    def index(self, value: ValueName) -> int:
        """Return the index of a value.

        Args:
            value: Name of the value.

        Raises:
            InputError: The value is not one of the theory's, or was not collected.
        """
        name = self.theory.value(value).name
        if name not in self.values:
            raise InputError(f"{name} was not collected: these statistics cover {', '.join(self.values)}")
        return self.values.index(name)

    @check_arguments
    def moments(
        self,
        value: ValueName,
        pole: str,
        fold: int | Sequence[int] | None = None,
        site: str = "post",
        at: Neurons = None,
    ) -> tuple[int, Float[np.ndarray, "*neurons"], Float[np.ndarray, "*neurons"]]:
        """Return `(n, mean, M2)` of one pole (float64).

        Args:
            value: Name of the value.
            pole: `+` or `-`.
            fold: A fold, or several; None takes all.
            site: `post` or `gate`.
            at: Flat numbers (layer * d_mlp + neuron) of some neurons, or a slice of them; None takes all.

        Returns:
            The count, and mean and M2 of shape `[l, k]`, or of the shape of `at`.
        """
        if pole not in POLES:
            raise InputError(f"a pole is '+' or '-', not {pole!r}")
        v, p = self.index(value), POLES.index(pole)
        mean, m2 = self._site(site)
        return merge_folds(self.n[v, p], _of_neurons(mean[v, p], at), _of_neurons(m2[v, p], at), fold)

    @check_arguments
    def pair_moments(
        self, value: ValueName, fold: int | Sequence[int] | None = None, at: Neurons = None
    ) -> tuple[int, Float[np.ndarray, "*neurons"], Float[np.ndarray, "*neurons"]]:
        """Return `(n, mean, M2)` of within-pair differences, + minus - (float64).

        Args:
            value: Name of the value.
            fold: A fold, or several; None takes all.
            at: Neurons (see `moments`).
        """
        v = self.index(value)
        return merge_folds(self.diff_n[v], _of_neurons(self.diff_mean[v], at), _of_neurons(self.diff_m2[v], at), fold)

    @check_arguments
    def delta(self, value: ValueName, site: str = "post", at: Neurons = None) -> Float[np.ndarray, "*neurons"]:
        """Return `mean(+) - mean(-)` per neuron, the unit of an amplification.

        Args:
            value: Name of the value.
            site: `post` or `gate`.
            at: Neurons (see `moments`).
        """
        return self.moments(value, "+", site=site, at=at)[1] - self.moments(value, "-", site=site, at=at)[1]

    @check_arguments
    def sd(self, value: ValueName, site: str = "post", at: Neurons = None) -> Float[np.ndarray, "*neurons"]:
        """Return the pooled within-pole standard deviation per neuron (n - 1 in each pole).

        Args:
            value: Name of the value.
            site: `post` or `gate`.
            at: Neurons (see `moments`).
        """
        n_plus, _, m2_plus = self.moments(value, "+", site=site, at=at)
        n_minus, _, m2_minus = self.moments(value, "-", site=site, at=at)
        return np.sqrt((m2_plus + m2_minus) / max(n_plus + n_minus - 2, 1))

    @check_arguments
    def direction(self, value: ValueName) -> Float[np.ndarray, "l d"]:
        """Return the mean-difference direction of each layer, `mean(resid_post | +) - mean(resid_post | -)`.

        Args:
            value: Name of the value.
        """
        plus, minus = self.resid[self.index(value)].astype(np.float64)
        return plus - minus

    def _site(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        if site == "post":
            return self.mean, self.m2
        if site == "gate" and self.gate_mean is not None and self.gate_m2 is not None:
            return self.gate_mean, self.gate_m2
        raise InputError(f"no statistics for site {site!r}: this model has post" + (", gate" if self.gated else ""))

    def _arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name; those of the gate only if they were collected."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}

    @property
    def gated(self) -> bool:
        """Whether the moments of the gate alone were collected."""
        return self.gate_mean is not None

    def profile(self) -> pd.DataFrame:
        """Return the distance between the poles per value and layer, before any selection.

        Returns:
            A table of value, layer, d50, d99, d_max (percentiles over the layer's neurons of |mean(+) - mean(-)| / pooled
            sd), and the neuron of d_max; constant neurons count as 0.
        """
        rows = []
        for name in self.values:
            # layer by layer, since float64 copies of all layers would take more memory than the statistics
            for layer in range(self.n_layers):
                at = slice(layer * self.d_mlp, (layer + 1) * self.d_mlp)
                sd = self.sd(name, at=at)
                d = np.divide(np.abs(self.delta(name, at=at)), sd, out=np.zeros_like(sd), where=sd > 0)
                middle, high = np.percentile(d, [50, 99])
                best = int(d.argmax())
                rows.append((name, layer, float(middle), float(high), float(d[best]), best))
        return pd.DataFrame(rows, columns=["value", "layer", "d50", "d99", "d_max", "neuron"])

    def _repr_html_(self) -> str:
        profile = self.profile()
        best = profile.loc[profile.groupby("value")["d_max"].idxmax()].set_index("value")
        count = pd.DataFrame(self.n.sum(axis=2), columns=["texts +", "texts −"], index=list(self.values))
        table = count.assign(pairs=self.diff_n.sum(axis=1)).join(best[["layer", "neuron", "d_max"]])
        facts = {"layers": self.n_layers, "neurons of a layer": self.d_mlp, "pooling": self.pooling}
        facts |= {"gate": "collected" if self.gated else "not collected"}
        facts |= {"samples": "stored" if self.samples is not None else "not stored"}
        title = f"Activation statistics of {self.info.get('name', 'a model')}"
        note = "layer, neuron, d_max: largest distance between the poles, in pooled standard deviations"
        return card(title, facts, table.rename_axis("value").reset_index(), note=note)

    def show(self) -> Any:
        """Draw the contrast in each layer with matplotlib (see `profile`)."""
        from neva_tl.plots import contrast_profile

        return contrast_profile(self.profile(), title=f"Contrast per layer, {self.info.get('name', 'model')}")

    @check_arguments
    def merge(self, other: ActivationStats) -> ActivationStats:
        """Merge with the statistics of another collection (of another process, machine or file of prompts).

        Args:
            other: The other statistics.

        Raises:
            InputError: The two differ in model, pooling, values, layers, or in whether they have the gate.
        """
        if (self.values, self.pooling) != (other.values, other.pooling):
            raise InputError("statistics of different models, values or poolings cannot be merged")
        if difference := fingerprint_difference(self.fingerprint, other.fingerprint):
            raise InputError(f"statistics of different models, values or poolings cannot be merged ({difference})")
        if not _same_encoding(self.encoding, other.encoding):
            raise InputError(
                "statistics of different chat settings (template, its date or arguments, `chat`) cannot be merged: "
                "collect both with the same settings"
            )
        if self.gated != other.gated:
            raise InputError("statistics with and without the gate cannot be merged: collect both with the same `gate`")
        if self.n_layers != other.n_layers:
            raise InputError(
                f"statistics of {self.n_layers} and of {other.n_layers} layers cannot be merged: "
                "collect both with the same `stop_at_layer`"
            )
        merged: dict[str, Any] = dict(merge_arrays(self._arrays(), other._arrays()))
        return type(self)(
            self.values,
            **merged,
            info=self.info,
            fingerprint=self.fingerprint,
            pooling=self.pooling,
            prompt_hash=_joint_hash(self.prompt_hash, other.prompt_hash),
            tokens_hash=_joint_hash(self.tokens_hash, other.tokens_hash)
            if self.tokens_hash and other.tokens_hash
            else "",
            encoding=self.encoding or other.encoding,
            prompts_note=" ".join(dict.fromkeys(note for note in (self.prompts_note, other.prompts_note) if note)),
            theory=self.theory,
            texts=_both(self.texts, other.texts),
            model_reference=self.model_reference or other.model_reference,
        )

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write `PATH.json` and `PATH.safetensors`, without the samples.

        For samples in a file, pass `samples=PATH` to `collect`.

        Args:
            path: The path, with or without `.json` or `.safetensors`; other dots belong to the name (`llama-3.1`).

        Returns:
            The path of the JSON file.
        """
        json_file, tensor_file = file_pair(path)
        meta = {
            "schema": 1,
            "kind": "activation_stats",
            "values": list(self.values),
            "info": dict(self.info),
            "fingerprint": dict(self.fingerprint),
            "prompt_hash": self.prompt_hash,
            "pooling": self.pooling,
            "tokens_hash": self.tokens_hash,
            "encoding": dict(self.encoding),
            **({"prompts_note": self.prompts_note} if self.prompts_note else {}),
            **theory_record(self.theory, self.values),
        }
        about = json.dumps(meta, indent=1)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(tensor_file) as file:
            save_file({name: np.ascontiguousarray(a) for name, a in self._arrays().items()}, file)
        with atomic_write(json_file) as file:
            file.write_text(about)
        return json_file

    @classmethod
    @check_arguments
    def load(cls, path: str | Path) -> ActivationStats:
        """Read statistics written by `save`.

        Args:
            path: The path, with or without `.json` or `.safetensors`.

        Raises:
            InputError: A file is missing, is damaged, or has other contents.
        """
        json_file, tensor_file = existing_pair(path, "statistics are")
        meta = read_json(json_file, "a file of activation statistics: collect again")
        if meta.get("kind") != "activation_stats":
            raise InputError(f"{json_file} does not contain activation statistics")
        _check_meta(meta, json_file)
        try:
            arrays = load_file(str(tensor_file))
        except (OSError, *DAMAGED) as error:
            raise InputError(f"{tensor_file} is not a safetensors file ({first_line(error)}): collect again") from error
        _check_arrays(arrays, len(meta["values"]), tensor_file)
        keep = {name: meta[name] for name in ("info", "fingerprint", "prompt_hash", "pooling")}
        # files of version 0.1.0 do not contain these
        keep |= {name: meta[name] for name in ("tokens_hash", "encoding") if name in meta}
        keep |= {"prompts_note": str(meta["prompts_note"])} if "prompts_note" in meta else {}
        return cls(values=tuple(meta["values"]), **arrays, **keep, theory=recorded_theory(meta, meta["values"]))

    @classmethod
    @check_arguments
    def from_samples(
        cls,
        h: Float[np.ndarray, "n l k"],
        table: pd.DataFrame,
        *,
        resid: Float[np.ndarray, "n l d"] | None = None,
        positive: Float[np.ndarray, "n l k"] | None = None,
        keep: bool = True,
        theory: TheorySpec | None = None,
        **meta: Any,
    ) -> ActivationStats:
        """Compute statistics from existing pooled activations (planted data, shuffled labels).

        Args:
            h: Pooled activations of n prompts.
            table: Columns `value`, `pole`, `pair_id`, `cluster` of the rows, and `fold` (default: the hash of the cluster).
            resid: Pooled `resid_post`; default: zeros of width 1.
            positive: Share of tokens above 0; default: 1 where the pooled activation is above 0, else 0.
            keep: Store `h` as `.samples`.
            theory: Theory of the values; None takes the one that their names imply.
            **meta: Fields `info`, `fingerprint`, `prompt_hash`, `pooling`, `tokens_hash`, `encoding`.
        """
        table = table.reset_index(drop=True)
        if "fold" not in table:
            table = table.assign(fold=[fold_of(c) for c in table["cluster"]])
        resolved = resolve_theory(theory, table["value"])
        values = resolved.in_order(table["value"])
        layers, width = h.shape[1:]
        d_model = 1 if resid is None else resid.shape[2]
        acc = Accumulator.empty(values, [torch.device("cpu")] * layers, width, d_model, gated=False)
        update = CellIndex.of(table, values).update(np.arange(len(table)))
        for layer in range(layers):
            post = torch.from_numpy(np.array(h[:, layer], dtype=np.float32))
            share = (
                (post > 0).float() if positive is None else torch.from_numpy(np.array(positive[:, layer], np.float32))
            )
            stream = (
                torch.zeros(len(h), 1) if resid is None else torch.from_numpy(np.array(resid[:, layer], np.float32))
            )
            acc.add_layer(layer, update, {"post": post, "positive": share, "resid": stream})
        acc.count(update)
        return finish(acc, samples=Samples(h, table) if keep else None, theory=resolved, **meta)


def _joint_hash(*hashes: str) -> str:
    """Hash of several collections together, whatever their order."""
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _both(first: pd.DataFrame | None, second: pd.DataFrame | None) -> pd.DataFrame | None:
    """Rows of two collections; None where one does not contain them."""
    return None if first is None or second is None else pd.concat([first, second], ignore_index=True)


def _same_encoding(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether texts became tokens alike; an unknown encoding (version 0.1.0) goes with plain text alone."""
    if first and second:
        return dict(first) == dict(second)
    return not (first or second or {}).get("chat", False)


def _of_neurons(array: np.ndarray, at: Neurons) -> np.ndarray:
    """Return `[f, l, k]` unchanged, or the columns `[f, ...]` of some neurons (a view if `at` is a slice)."""
    return array if at is None else array.reshape(len(array), -1)[:, at]


def finish(accumulated: Accumulator, **rest: Any) -> ActivationStats:
    """Return the statistics of an accumulator.

    Args:
        accumulated: The moments; emptied.
        **rest: Other fields of `ActivationStats` (`info`, `samples`, ...).
    """
    arrays: dict[str, Any] = accumulated.arrays()
    return ActivationStats(values=accumulated.values, **arrays, **rest)


def _check_meta(meta: Mapping[str, Any], file: Path) -> None:
    """Refuse metadata of other types than `ActivationStats.save` writes."""
    optional = {"tokens_hash": str, "encoding": dict}  # missing in files of version 0.1.0
    kinds = {"values": list, "info": dict, "fingerprint": dict, "prompt_hash": str, "pooling": str, **optional}
    for name, kind in kinds.items():
        if name in optional and name not in meta:
            continue
        if not isinstance(meta.get(name), kind):
            content = type(meta[name]).__name__ if name in meta else "missing"
            raise InputError(f"{file}: {name} is {content}, expected {kind.__name__}: collect again")
    if not meta["values"]:
        raise InputError(f"{file}: it has no values: collect again")
    try:
        ordered = list(recorded_theory(meta, meta["values"]).in_order(meta["values"]))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if ordered != meta["values"]:
        raise InputError(f"{file}: its values repeat or are not in the order of their theory: collect again")
    layers = meta["info"].get("n_layers", 1)
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InputError(f"{file}: n_layers is {layers!r}, expected a whole number above 0: collect again")


def _check_arrays(arrays: Mapping[str, np.ndarray], n_values: int, file: Path) -> None:
    """Refuse arrays whose names, shapes or number formats are not those of `ActivationStats.save`."""
    cells, pairs = ("mean", "m2", "positive"), ("diff_mean", "diff_m2")
    gate = tuple(f"gate_{name}" for name in cells)
    expected = {"n", "diff_n", "resid", *cells, *pairs} | (set(gate) if set(gate) & set(arrays) else set())
    if set(arrays) != expected:
        names = ", ".join(sorted(set(arrays) ^ expected))
        raise InputError(f"{file} lacks arrays of activation statistics, or has others ({names}): collect again")
    folds, layers, width = (*arrays["mean"].shape[-3:], 0, 0, 0)[:3]
    shapes: dict[str, tuple[int, ...]] = {"n": (n_values, 2, folds), "diff_n": (n_values, folds)}
    shapes |= dict.fromkeys((*cells, *(name for name in gate if name in arrays)), (n_values, 2, folds, layers, width))
    shapes |= dict.fromkeys(pairs, (n_values, folds, layers, width))
    shapes["resid"] = (n_values, 2, layers, *arrays["resid"].shape[3:4])
    for name, shape in shapes.items():
        if arrays[name].shape != shape or len(shape) < 2 or not all(shape):
            raise InputError(f"{file}: {name} has the shape {arrays[name].shape}, expected {shape}: collect again")
        kinds = "iu" if name in ("n", "diff_n") else "f"
        if arrays[name].dtype.kind not in kinds:
            raise InputError(f"{file}: {name} holds {arrays[name].dtype}: collect again")
    if arrays["n"].min() < 0 or arrays["diff_n"].min() < 0:
        raise InputError(f"{file}: a number of prompts is negative: collect again")
