"""Sparse autoencoders on disk: eai-sparsify's format, read and written without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from neva_tl.core.errors import InputError
from neva_tl.methods.sae_files import SparseAutoencoder, layer_folders, nearest_layer

pytestmark = pytest.mark.core


def published(folder: Path, d: int = 3, m: int = 4, **config: Any) -> Path:
    """A folder as the library writes it, in half precision as published ones may be."""
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(1)
    tensors = {"encoder.weight": (m, d), "encoder.bias": (m,), "W_dec": (m, d), "b_dec": (d,)}
    save_file(
        {name: torch.randn(size, generator=g).bfloat16() for name, size in tensors.items()}, folder / "sae.safetensors"
    )
    (folder / "cfg.json").write_text(json.dumps({"d_in": d, "k": 2, "expansion_factor": 32, **config}))
    return folder


def test_encodes_and_decodes_by_hand(tmp_path: Path) -> None:
    sae = SparseAutoencoder.load(published(tmp_path / "layers.1"))
    assert (sae.width, sae.n_features, sae.k, sae.decoder.dtype) == (3, 4, 2, torch.float32)
    x = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]])
    values, features = sae.top(x)
    for row in range(2):
        a = [max(0.0, float((x[row] - sae.offset) @ sae.encoder[f] + sae.bias[f])) for f in range(4)]
        largest = sorted(range(4), key=lambda f: -a[f])[:2]
        assert sorted(values[row].tolist()) == pytest.approx(sorted(a[f] for f in largest), abs=1e-5)
        want = sae.offset + sum(a[f] * sae.decoder[f] for f in largest)
        torch.testing.assert_close(sae.decode(values, features)[row], want)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    sae = SparseAutoencoder.load(published(tmp_path / "one"))
    again = SparseAutoencoder.load(sae.save(tmp_path / "two"))
    x = torch.randn(5, 3)
    torch.testing.assert_close(again.decode(*again.top(x)), sae.decode(*sae.top(x)))
    assert not [file for file in (tmp_path / "two").iterdir() if file.name.startswith(".")]


def test_finds_the_layer(tmp_path: Path) -> None:
    for name in ("layers.2", "layers.10", "layers.2.mlp", "embed_tokens"):
        published(tmp_path / "many" / name)
    assert sorted(layer_folders(str(tmp_path / "many"))) == [2, 10]  # type: ignore[type-var]
    assert nearest_layer(str(tmp_path / "many"), 7) == (10, tmp_path / "many" / "layers.10")
    assert nearest_layer(str(tmp_path / "many"), 6)[0] == 2
    assert nearest_layer(str(tmp_path / "many" / "layers.10"), 3)[0] == 10, "its name says which layer it reads"
    published(tmp_path / "mine")
    assert nearest_layer(str(tmp_path / "mine"), 3) == (3, tmp_path / "mine")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"activation": "groupmax"}, "groupmax"),
        ({"transcode": True}, "transcode"),
        ({"d_in": 5}, "d_in 5"),
        ({"k": 9}, "k 9"),
    ],
)
def test_refuses_other_kinds(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        SparseAutoencoder.load(published(tmp_path / "other", **config))
    assert "\n" not in str(caught.value)


def test_refuses_damaged_and_missing_files(tmp_path: Path) -> None:
    folder = published(tmp_path / "damaged")
    (folder / "sae.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a sparse autoencoder"):
        SparseAutoencoder.load(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no sparse autoencoder"):
        layer_folders(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="not a folder"):
        layer_folders(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="fetched from the hub"):
        layer_folders("nobody/sae-of-no-model")
