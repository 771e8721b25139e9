"""Training by eai-sparsify on planted sparse data. Runs where the library is installed (the extra `sae`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from neva_tl.core.errors import InputError
from neva_tl.methods.sae_files import SparseAutoencoder
from neva_tl.methods.sae_training import SaeSettings, need_sparsify, quality, train

needs_library = pytest.mark.skipif(importlib.util.find_spec("sparsify") is None, reason="needs eai-sparsify")
SMALL = SaeSettings(expansion=4, k=3, steps=300, batch=512)


def planted(n: int = 4000, d: int = 16, m: int = 24, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens that are sums of k of m directions, far from the origin and of a large scale; the directions."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(m, d, generator=g), dim=1)
    features = torch.rand(n, m, generator=g).topk(k, dim=1).indices
    z = torch.zeros(n, m).scatter_(1, features, torch.rand(n, k, generator=g) + 0.5)
    return 40 * (z @ directions) + 7, directions


@needs_library
@pytest.mark.filterwarnings("ignore")
def test_recovers_planted_directions_and_leaves_the_process_alone(capsys: pytest.CaptureFixture[str]) -> None:
    x, directions = planted()
    torch.manual_seed(5)
    want, precision = torch.rand(1), torch.get_float32_matmul_precision()
    torch.manual_seed(5)
    sae = train(x, SMALL)
    assert torch.equal(torch.rand(1), want) and torch.get_float32_matmul_precision() == precision
    assert capsys.readouterr() == ("", "")
    nearest = (torch.nn.functional.normalize(sae.decoder, dim=1) @ directions.T).max(dim=0).values
    assert (nearest > 0.9).float().mean() > 0.8
    assert quality(sae, x).explained > 0.8
    torch.testing.assert_close(train(x, SMALL).decoder, sae.decoder)


@needs_library
@pytest.mark.filterwarnings("ignore")
def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    library = need_sparsify()
    g = torch.Generator().manual_seed(2)
    ours = SparseAutoencoder(
        torch.randn(8, 4, generator=g), torch.randn(8, generator=g), torch.randn(8, 4, generator=g), torch.ones(4), 2
    )
    theirs = library.Sae.load_from_disk(ours.save(tmp_path / "layers.1"))
    x = torch.randn(6, 4, generator=g)
    torch.testing.assert_close(theirs(x).sae_out, ours.decode(*ours.top(x)))


def test_quality_by_hand() -> None:
    """Two features along the axes, one token a feature: x loses its smaller coordinate."""
    eye = torch.eye(2)
    sae = SparseAutoencoder(torch.cat([eye, -eye]), torch.zeros(4), torch.cat([eye, -eye]), torch.zeros(2), 1)
    x = torch.tensor([[3.0, 1.0], [1.0, 5.0], [4.0, 0.0]])
    found = quality(sae, x)
    variance = float((x - x.mean(0)).square().sum())
    assert found.explained == pytest.approx(1 - (1 + 1 + 0) / variance)
    assert (found.dead, found.tokens) == (0.5, 3)


def test_one_line_where_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sparsify", None)
    with pytest.raises(InputError, match=r"needs eai-sparsify .*pip install 'neva_tl\[sae\]'.*folder") as caught:
        train(torch.zeros(100, 4), SMALL)
    assert "\n" not in str(caught.value)
