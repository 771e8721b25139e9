"""Sparse autoencoders in the on-disk format of `eai-sparsify`, read and written without importing that library.

A folder holds `cfg.json` (`d_in`, `k`) and `sae.safetensors` (`encoder.weight [m, d]`, `encoder.bias [m]`, `W_dec [m, d]`,
`b_dec [d]`). A folder of several layers holds one such folder for each (`layers.10`, `h.3`), as `EleutherAI/sae-...` do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, first_line, read_json

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
_KIND = "a sparse autoencoder of eai-sparsify"
#: Names of the tensors in the file, in the order of `SparseAutoencoder`.
_TENSORS = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
#: Settings that change what the tensors mean -> the only setting that is read.
_READ = {"activation": "topk", "transcode": False, "skip_connection": False, "signed": False}


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """A TopK sparse autoencoder of one layer's `resid_post` (Gao et al., arXiv 2406.04093).

    `z = TopK(relu(W_enc (x - b_dec) + b_enc))` and `x ~ z W_dec + b_dec`.

    Attributes:
        encoder: `W_enc`, one row per feature.
        bias: `b_enc`.
        decoder: `W_dec`, one direction of the residual stream per feature.
        offset: `b_dec`.
        k: Number of features of a token that are not 0.

    Example:
        >>> import torch
        >>> from neva_tl.methods.sae_files import SparseAutoencoder
        >>> eye = torch.eye(3)
        >>> sae = SparseAutoencoder(eye, torch.zeros(3), eye, torch.zeros(3), k=1)
        >>> sae.decode(*sae.top(torch.tensor([[1.0, 3.0, 2.0]])))
        tensor([[0., 3., 0.]])
    """

    encoder: Float[Tensor, "m d"]
    bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m d"]
    offset: Float[Tensor, " d"]
    k: int

    __repr__ = brief

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.decoder.shape[1])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.decoder.shape[0])

    def top(self, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """Encode tokens.

        Args:
            x: Residuals.

        Returns:
            Activations of each token's `k` largest features, and the features.
        """
        activations = torch.relu((x.to(self.encoder.dtype) - self.offset) @ self.encoder.T + self.bias)
        largest = activations.topk(min(self.k, self.n_features), dim=-1, sorted=False)
        return largest.values, largest.indices

    def decode(self, values: Float[Tensor, "n k"], features: Int[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """Reconstruct tokens.

        Args:
            values: Activations.
            features: Their features.
        """
        return (
            torch.nn.functional.embedding_bag(features, self.decoder, per_sample_weights=values, mode="sum")
            + self.offset
        )

    def save(self, folder: Path) -> Path:
        """Write the autoencoder as `sparsify.Sae.load_from_disk` reads it.

        Args:
            folder: The folder; created when missing.

        Returns:
            The folder.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = (self.encoder, self.bias, self.decoder, self.offset)
        config = {"activation": "topk", "d_in": self.width, "k": self.k, "num_latents": self.n_features}
        config |= {"normalize_decoder": True, "transcode": False, "skip_connection": False}
        with atomic_write(folder / WEIGHTS, recorded=False) as file:
            save_file({name: x.detach().clone().contiguous() for name, x in zip(_TENSORS, tensors, strict=True)}, file)
        with atomic_write(folder / CONFIG, recorded=False) as file:  # last: its presence marks a complete folder
            file.write_text(json.dumps(config), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> SparseAutoencoder:
        """Read the autoencoder of one layer, in float32.

        Args:
            folder: The folder.

        Raises:
            InputError: A file is missing or damaged, or the autoencoder is of another kind (transcoder, group-max).
        """
        from safetensors.torch import load_file

        config = read_json(folder / CONFIG, _KIND)
        for name, setting in _READ.items():
            if config.get(name, setting) != setting:
                raise InputError(f"{folder / CONFIG} has {name} {config[name]!r}: only TopK autoencoders are read")
        try:
            tensors = load_file(folder / WEIGHTS)
        except Exception as error:  # the reader raises a class of its own, and OSError
            raise InputError(f"{folder / WEIGHTS} is not {_KIND} ({first_line(error)})") from error
        lacking = [name for name in _TENSORS if name not in tensors]
        if lacking:
            raise InputError(f"{folder / WEIGHTS} is not {_KIND}: it lacks {', '.join(lacking)}")
        encoder, bias, decoder, offset = (tensors[name].float() for name in _TENSORS)
        shapes = (encoder.shape, bias.shape, decoder.shape, offset.shape)
        size = (len(decoder), config.get("d_in"))
        k = config.get("k")
        fits = shapes == (size, size[:1], size, size[1:]) and isinstance(k, int) and 0 < k <= size[0]
        if not fits or not all(bool(x.isfinite().all()) for x in (encoder, bias, decoder, offset)):
            raise InputError(f"{folder} is not {_KIND}: shapes {shapes} with d_in {size[1]} and k {k}, or not finite")
        return cls(encoder, bias, decoder, offset, int(k))  # type: ignore[arg-type]


def layer_folders(source: str) -> dict[int | None, Path]:
    """List the autoencoders of a folder, or of a repository of the hub.

    Args:
        source: A folder, or a name such as `EleutherAI/sae-llama-3-8b-32x`.

    Returns:
        Layer -> its folder; None where the folder holds one autoencoder and its name has no number at the end.

    Raises:
        InputError: The folder holds no autoencoder, or the repository cannot be fetched.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        root = _from_hub(source)
    if (root / CONFIG).is_file() and (root / WEIGHTS).is_file():
        return {_layer_of(root.resolve().name): root}
    folders = {_layer_of(folder.name): folder for folder in sorted(root.iterdir()) if (folder / CONFIG).is_file()}
    folders.pop(None, None)  # embed_tokens
    if not folders:
        raise InputError(
            f"{source} holds no sparse autoencoder: neither {CONFIG} nor folders such as layers.10 with one"
        )
    return folders


def nearest_layer(source: str, layer: int) -> tuple[int, Path]:
    """Return the autoencoder of a layer, or of the nearest layer that has one.

    Args:
        source: See `layer_folders`.
        layer: The layer.

    Returns:
        Its layer and its folder.

    Raises:
        InputError: See `layer_folders`.
    """
    folders = layer_folders(source)
    if None in folders:
        return layer, folders[None]
    best = min((number for number in folders if number is not None), key=lambda number: (abs(number - layer), number))
    return best, folders[best]


def _layer_of(name: str) -> int | None:
    """Layer of a hook point such as `layers.10`; an MLP's (`layers.10.mlp`) does not end in a number."""
    match = re.fullmatch(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)", name)
    return int(match.group(1)) if match else None


def _from_hub(source: str) -> Path:
    """Return the local copy of a repository, fetched where it is missing."""
    from huggingface_hub import snapshot_download

    folder: Any = None
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        try:
            folder = snapshot_download(source, allow_patterns=[f"*{CONFIG}", f"*{WEIGHTS}"])
        except Exception as error:  # many classes, of huggingface_hub and of its HTTP client
            raise InputError(
                f"the sparse autoencoder {source!r} is neither a folder nor can it be fetched from the hub "
                f"({type(error).__name__}): download it, and name its folder"
            ) from error
    if folder is None:
        raise InputError(f"{source} is not a folder of sparse autoencoders: pass one with {CONFIG} and {WEIGHTS}")
    return Path(folder)
