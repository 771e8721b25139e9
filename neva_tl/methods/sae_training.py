"""Training of a small sparse autoencoder on recorded residuals, by `eai-sparsify`.

The library trains on the outputs of a module of a transformers model. It is given a stand-in whose only module returns recorded
residuals of our model by row number, so that one model in memory, our tokens and both versions of TransformerLens serve.
"""

from __future__ import annotations

import importlib
import io
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.files import first_line
from neva_tl.core.messages import progress_bar
from neva_tl.methods.sae_files import SparseAutoencoder

#: Tokens of one row of the stand-in's input.
_ROW = 64


@dataclass(frozen=True)
class SaeSettings:
    """Settings of a training (ours: small, for one layer on two processors).

    Attributes:
        expansion: Features per dimension of the residual stream.
        k: Features of a token that are not 0.
        batch: Tokens of a step.
        steps: Number of steps.
        lr: Learning rate, for residuals with a root mean square of 1 (the library's own rate is for 16,384 features and breaks
            small autoencoders: with auxk 1/32, .936 of the demo model's held-out variance explained instead of .972, and 10.7 %
            dead features instead of .2 %).
        auxk: Weight of the loss that revives dead features. At 0, 6.5 % are dead after 200 steps on SmolLM2; the loss took more
            time than all else.
        seed: Seed of the initial weights and of the order of the tokens.
    """

    expansion: int = 4
    k: int = 16
    batch: int = 1024
    steps: int = 500
    lr: float = 0.005
    auxk: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class SaeQuality:
    """Measures of an autoencoder on tokens.

    Attributes:
        explained: Share of the variance that the reconstruction explains.
        dead: Share of features that no token activates.
        tokens: Number of tokens.
    """

    explained: float
    dead: float
    tokens: int

    __repr__ = brief


def quality(sae: SparseAutoencoder, x: Float[Tensor, "n d"]) -> SaeQuality:
    """Measure an autoencoder on tokens.

    Args:
        sae: The autoencoder.
        x: Residuals.
    """
    fired = torch.zeros(sae.n_features, dtype=torch.bool)
    error = 0.0
    for part in x.split(4096):
        values, features = sae.top(part)
        fired[features[values > 0]] = True
        error += float((part - sae.decode(values, features)).double().square().sum())
    variance = float((x.double() - x.double().mean(0)).square().sum())
    explained = 1 - error / variance if variance > 0 else math.nan
    return SaeQuality(explained, 1 - float(fired.double().mean()), len(x))


def need_sparsify() -> ModuleType:
    """Import the library.

    Raises:
        InputError: It is not installed.
    """
    try:
        with redirect_stdout(io.StringIO()):  # it prints a line about Triton
            return importlib.import_module("sparsify")
    except ImportError as error:
        raise InputError(
            f"training a sparse autoencoder needs eai-sparsify ({first_line(error)}): pip install 'neva_tl[sae]', or name a "
            "folder of trained ones (sae=FOLDER)"
        ) from error


def train(x: Float[Tensor, "n d"], settings: SaeSettings, *, progress: bool = False) -> SparseAutoencoder:
    """Train an autoencoder on residuals.

    Residuals are divided by their root mean square during the training, so that the library's learning rates fit models of
    any scale; biases are scaled back.

    Args:
        x: Residuals, one row per token.
        settings: Settings.
        progress: Show a bar on stderr.

    Raises:
        InputError: `eai-sparsify` is not installed, or there are too few tokens.
        WorkError: The library fails.
    """
    library = need_sparsify()
    if len(x) < 2 * settings.k:
        raise InputError(
            f"{len(x)} tokens are too few to train a sparse autoencoder with {settings.k} features a token"
        )
    scale = float((x - x.mean(0)).square().mean().sqrt()) or 1.0
    rows_of_step = max(1, settings.batch // _ROW)
    order = _order(len(x), settings.steps * rows_of_step, settings.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(total=settings.steps, desc="training an SAE", unit="step", progress=progress, leaf=True) as bar,
    ):
        config = library.TrainConfig(
            library.SaeConfig(expansion_factor=settings.expansion, k=min(settings.k, settings.expansion * x.shape[1])),
            batch_size=rows_of_step,
            hookpoints=["layers.0"],
            init_seeds=[settings.seed],
            lr=settings.lr,
            auxk_alpha=settings.auxk,
            dead_feature_threshold=len(x),
            save_every=settings.steps + 1,
            log_to_wandb=False,
            save_dir=folder,
            run_name="sae",
        )
        try:
            with _quiet_globals():
                library.Trainer(config, _Rows(order), _Recorded(x / scale, bar.update)).fit()
        except Exception as error:  # whatever another library's training raises
            raise WorkError(f"eai-sparsify failed: {first_line(error)}") from error
        trained = SparseAutoencoder.load(Path(folder) / "sae" / "layers.0")
    # relu and TopK are homogeneous: with biases in units of the residuals, the same features and directions
    return replace(trained, bias=trained.bias * scale, offset=trained.offset * scale)


def _order(n: int, rows: int, seed: int) -> Int[Tensor, "r t"]:
    """Row numbers of tokens in random order, all tokens before any repeats."""
    generator = torch.Generator().manual_seed(seed)
    passes = math.ceil(rows * _ROW / n)
    tokens = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    return tokens[: rows * _ROW].reshape(rows, _ROW)


class _Rows:
    """The data set that the library reads: rows of token numbers."""

    def __init__(self, order: Tensor) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self._order[index]}

    def select(self, indices: range) -> _Rows:
        """The rows of a range.

        Args:
            indices: The range.
        """
        return _Rows(self._order[indices.start : indices.stop])


class _Recorded(torch.nn.Module):
    """Stands in for a language model: its only layer returns recorded residuals by row number."""

    def __init__(self, x: Tensor, on_step: Callable[[int], Any]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Embedding.from_pretrained(x, freeze=True)])
        self.config = SimpleNamespace(num_hidden_layers=1)
        self.device = x.device
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}
        self._on_step = on_step

    @property
    def base_model(self) -> _Recorded:
        """The model itself, without a head."""
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        """Residuals of the tokens.

        Args:
            input_ids: Row numbers.
        """
        out: Tensor = self.layers[0](input_ids)
        if input_ids.numel() > 1:  # not the library's look at the widths
            self._on_step(1)
        return out


@contextmanager
def _quiet_globals() -> Iterator[None]:
    """Keep the library from printing, and from changing the precision and the random state of this process."""
    precision, state = torch.get_float32_matmul_precision(), torch.get_rng_state()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), torch.enable_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_rng_state(state)
