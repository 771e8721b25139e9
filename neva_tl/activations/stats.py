"""What `collect` returns: moments of every MLP neuron, and how they are read, merged and kept in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from neva_tl.activations.accumulate import POLES, Accumulator, CellIndex, fold_of, merge_arrays, merge_folds
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.values import in_circle_order
from neva_tl.core.values import value as lookup

#: Which neurons: flat numbers or a slice of them; None is all.
Neurons = slice | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Samples:
    """Pooled activations of single prompts: what probes, sign flips and shuffles need.

    Attributes:
        h: `[n_rows, n_layers, d_mlp]`, float32; an array or a memory-mapped `.npy` file.
        table: one row per prompt: `value`, `pole`, `pair_id`, `cluster`, `split`, `fold`, in the order of `h`.
    """

    h: np.ndarray
    table: pd.DataFrame

    def _repr_html_(self) -> str:
        n, layers, width = self.h.shape
        count = self.table.groupby(["value", "pole"]).size().unstack("pole", fill_value=0).reset_index()
        return card("Samples", {"prompts": n, "layers": layers, "neurons of a layer": width}, count)

    def show(self) -> Any:
        """The contrast in each layer as a matplotlib figure (see `ActivationStats.profile`)."""
        return ActivationStats.from_samples(np.asarray(self.h), self.table, keep=False).show()


@dataclass(frozen=True, eq=False)
class ActivationStats:
    """Moments of pooled `hook_post` (and the gate alone, on gated models) per value, pole, fold, layer and neuron.

    Shapes: v values, p poles (0 is +, 1 is -), f folds, l layers, k neurons of a layer (d_mlp), d d_model.

    Attributes:
        values: the v values, in circle order.
        n: `[v, p, f]` prompts counted.
        mean, m2: `[v, p, f, l, k]` mean and sum of squared deviations of the pooled activation.
        positive: `[v, p, f, l, k]` mean share of answer tokens on which the activation is above 0.
        diff_n: `[v, f]` pairs counted; diff_mean, diff_m2: `[v, f, l, k]` moments of plus minus minus within pairs.
        resid: `[v, p, l, d]` mean of `resid_post` pooled over the same tokens.
        gate_mean, gate_m2, gate_positive: as above for `act(gate)` alone; None where the MLP has no gate.
        info, fingerprint: of the model; prompt_hash: of the contrast set; pooling: `mean` or `last`.
        samples: pooled activations of single prompts, when asked for.
        tokens_hash: sha256 of the token ids that ran, with the positions of the answers; "" in statistics of version 0.1.0.
        encoding: how texts became token ids (`encoding_record`: chat template, its date, ...); empty likewise.

    The arrays are read-only: `dataclasses.replace` makes statistics with others.
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

    def __post_init__(self) -> None:
        # read-only views: selection remembers what it measured on these arrays
        for name, array in self._arrays().items():
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def n_layers(self) -> int:
        """Layers that were collected: all, or the first ones."""
        return int(self.mean.shape[-2])

    @property
    def model_layers(self) -> int:
        """Layers of the model."""
        return int(self.info.get("n_layers", self.n_layers))

    @property
    def d_mlp(self) -> int:
        """Neurons of a layer."""
        return int(self.mean.shape[-1])

    def index(self, value: str) -> int:
        """Row of a value.

        Raises:
            InputError: the value is unknown to the theory, or was not collected.
        """
        lookup(value)
        if value not in self.values:
            raise InputError(f"{value} was not collected: these statistics hold {', '.join(self.values)}")
        return self.values.index(value)

    def moments(
        self, value: str, pole: str, fold: int | Sequence[int] | None = None, site: str = "post", at: Neurons = None
    ) -> tuple[int, Float[np.ndarray, "*neurons"], Float[np.ndarray, "*neurons"]]:
        """`(n, mean, M2)` of one pole, over all folds or the given ones (float64).

        Shapes are `[l, k]`, or those of `at`: flat numbers (layer * d_mlp + neuron) of the neurons asked for, or a
        slice of them.
        """
        v, p = self.index(value), POLES.index(pole)
        mean, m2 = self._site(site)
        return merge_folds(self.n[v, p], _of_neurons(mean[v, p], at), _of_neurons(m2[v, p], at), fold)

    def pair_moments(
        self, value: str, fold: int | Sequence[int] | None = None, at: Neurons = None
    ) -> tuple[int, Float[np.ndarray, "*neurons"], Float[np.ndarray, "*neurons"]]:
        """`(n, mean, M2)` of within-pair differences (+ minus -), over all folds or the given ones (float64)."""
        v = self.index(value)
        return merge_folds(self.diff_n[v], _of_neurons(self.diff_mean[v], at), _of_neurons(self.diff_m2[v], at), fold)

    def delta(self, value: str, site: str = "post", at: Neurons = None) -> Float[np.ndarray, "*neurons"]:
        """`mean(+) - mean(-)` per neuron: the unit of an amplification."""
        return self.moments(value, "+", site=site, at=at)[1] - self.moments(value, "-", site=site, at=at)[1]

    def sd(self, value: str, site: str = "post", at: Neurons = None) -> Float[np.ndarray, "*neurons"]:
        """Pooled within-pole standard deviation per neuron (n - 1 in each pole)."""
        n_plus, _, m2_plus = self.moments(value, "+", site=site, at=at)
        n_minus, _, m2_minus = self.moments(value, "-", site=site, at=at)
        return np.sqrt((m2_plus + m2_minus) / max(n_plus + n_minus - 2, 1))

    def direction(self, value: str) -> Float[np.ndarray, "l d"]:
        """Mean-difference direction of the residual stream per layer: `mean(resid_post | +) - mean(resid_post | -)`."""
        plus, minus = self.resid[self.index(value)].astype(np.float64)
        return plus - minus

    def _site(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        if site == "post":
            return self.mean, self.m2
        if site == "gate" and self.gate_mean is not None and self.gate_m2 is not None:
            return self.gate_mean, self.gate_m2
        raise InputError(f"no statistics for site {site!r}: this model has post" + (", gate" if self.gated else ""))

    def _arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name; the gate's only where they were collected."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}

    @property
    def gated(self) -> bool:
        """Whether the gate's own moments were collected."""
        return self.gate_mean is not None

    def profile(self) -> pd.DataFrame:
        """How far the poles lie apart per value and layer, before any selection.

        Returns:
            value, layer, d50, d99, d_max (percentiles over the layer's neurons of |mean(+) - mean(-)| / pooled sd), and the
            neuron of d_max; neurons that never vary count as 0.
        """
        rows = []
        for name in self.values:
            # layer by layer: float64 copies of the whole model would cost more than the statistics themselves
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
        facts |= {"samples": "kept" if self.samples is not None else "not kept"}
        title = f"Activation statistics of {self.info.get('name', 'a model')}"
        note = "layer, neuron, d_max: where the poles lie furthest apart, in pooled standard deviations"
        return card(title, facts, table.rename_axis("value").reset_index(), note=note)

    def show(self) -> Any:
        """The contrast in each layer, before any selection, as a matplotlib figure (see `profile`)."""
        from neva_tl.plots import contrast_profile

        return contrast_profile(self.profile(), title=f"Contrast per layer, {self.info.get('name', 'model')}")

    def merge(self, other: ActivationStats) -> ActivationStats:
        """Statistics of both collections together (another process, machine or file of prompts).

        Raises:
            InputError: the two come from different models, poolings or values, or one of them lacks the gate or layers.
        """
        if (self.fingerprint, self.values, self.pooling) != (other.fingerprint, other.values, other.pooling):
            raise InputError("statistics of different models, values or poolings cannot be merged")
        if not _same_encoding(self.encoding, other.encoding):
            raise InputError(
                "statistics of different chat settings (template, its date or arguments, `chat`) cannot be merged: collect "
                "both alike"
            )
        if self.gated != other.gated:
            raise InputError("statistics with and without the gate's moments cannot be merged: collect both alike")
        if self.n_layers != other.n_layers:
            raise InputError(
                f"statistics of {self.n_layers} and of {other.n_layers} layers cannot be merged: collect both alike"
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
        )

    def save(self, path: str | Path) -> Path:
        """Write `PATH.json` and `PATH.safetensors` (samples are not saved: ask for a sample file when collecting)."""
        path = Path(path).with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
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
        }
        tensor_file, json_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
        with atomic_write(tensor_file) as file:
            save_file({name: np.ascontiguousarray(a) for name, a in self._arrays().items()}, file)
        with atomic_write(json_file) as file:
            file.write_text(json.dumps(meta, indent=1))
        return json_file

    @classmethod
    def load(cls, path: str | Path) -> ActivationStats:
        """Read statistics written by `save`.

        Raises:
            InputError: a file is missing or holds something else.
        """
        path = Path(path).with_suffix("")
        json_file, tensor_file = path.with_suffix(".json"), path.with_suffix(".safetensors")
        for file in (json_file, tensor_file):
            if not file.exists():
                raise InputError(f"{file} does not exist: statistics are a .json and a .safetensors side by side")
        try:
            meta = json.loads(json_file.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"{json_file} is not valid JSON ({error}): collect again") from error
        if meta.get("kind") != "activation_stats":
            raise InputError(f"{json_file} does not hold activation statistics")
        keep = {name: meta[name] for name in ("info", "fingerprint", "prompt_hash", "pooling")}
        # files of version 0.1.0 do not hold these
        keep |= {name: meta[name] for name in ("tokens_hash", "encoding") if name in meta}
        return cls(values=tuple(meta["values"]), **load_file(str(tensor_file)), **keep)

    @classmethod
    def from_samples(
        cls,
        h: Float[np.ndarray, "n l k"],
        table: pd.DataFrame,
        *,
        resid: Float[np.ndarray, "n l d"] | None = None,
        positive: Float[np.ndarray, "n l k"] | None = None,
        keep: bool = True,
        **meta: Any,
    ) -> ActivationStats:
        """Statistics of pooled activations that are already at hand (planted data, shuffled labels).

        Args:
            h: pooled activations of n prompts.
            table: `value`, `pole`, `pair_id`, `cluster` of the rows (`fold` is made from the cluster where absent).
            resid: pooled `resid_post`; zeros of width 1 where absent.
            positive: share of tokens above 0; where absent, whether the pooled activation is.
            keep: keep `h` as `.samples`.
            meta: `info`, `fingerprint`, `prompt_hash`, `pooling`, `tokens_hash`, `encoding`.
        """
        table = table.reset_index(drop=True)
        if "fold" not in table:
            table = table.assign(fold=[fold_of(c) for c in table["cluster"]])
        values = in_circle_order(table["value"])
        layers, width = h.shape[1:]
        d_model = 1 if resid is None else resid.shape[2]
        acc = Accumulator.empty(values, [torch.device("cpu")] * layers, width, d_model, gated=False)
        part = CellIndex.of(table, values).update(np.arange(len(table)))
        for layer in range(layers):
            post = torch.from_numpy(np.array(h[:, layer], dtype=np.float32))
            share = (
                (post > 0).float() if positive is None else torch.from_numpy(np.array(positive[:, layer], np.float32))
            )
            stream = (
                torch.zeros(len(h), 1) if resid is None else torch.from_numpy(np.array(resid[:, layer], np.float32))
            )
            acc.add_layer(layer, part, {"post": post, "positive": share, "resid": stream})
        acc.count(part)
        return finish(acc, samples=Samples(h, table) if keep else None, **meta)


def _joint_hash(*hashes: str) -> str:
    """Hash of several collections together, whatever their order."""
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _same_encoding(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether texts became tokens alike; an unknown encoding (version 0.1.0) goes with plain text alone."""
    if first and second:
        return dict(first) == dict(second)
    return not (first or second or {}).get("chat", False)


def _of_neurons(array: np.ndarray, at: Neurons) -> np.ndarray:
    """`[f, l, k]` as it is, or the columns `[f, ...]` of some neurons (a view where `at` is a slice)."""
    return array if at is None else array.reshape(len(array), -1)[:, at]


def finish(accumulated: Accumulator, **rest: Any) -> ActivationStats:
    """Statistics of what was accumulated; `rest` are the fields that are no moments (`info`, `samples`, ...)."""
    arrays: dict[str, Any] = accumulated.arrays()
    return ActivationStats(values=accumulated.values, **arrays, **rest)
