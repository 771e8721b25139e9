"""Both tails of the noncentral t: exact, and for many sizes at once by splines through exact ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num
from scipy.interpolate import PPoly, RectBivariateSpline, make_interp_spline
from scipy.special import nctdtr, ndtr
from scipy.stats import nct
from scipy.stats import t as student

#: Above this many sizes with one df and ncp p-values come from a spline; where both follow from a share, from a surface.
MANY, MANY_SHARES = 4096, 16_384
#: Steps of arcsinh(size) between nodes: relative error < 1e-10 and 1e-9 (< 1e-7 where SciPy's own series changes its method).
_STEP, _SURFACE_STEP = 1 / 256, 1 / 32
#: Nodes over the shares seen, tried in turn, and how far half of them may be off the others (in log p: all are 60 times nearer).
_SHARES, _OFF = (33, 65, 129, 257), 1e-6
#: Below this a p-value's logarithm is not interpolated: SciPy's tail runs out of numbers.
_LEAST = 1e-250


def two_tails(
    c: Num[np.ndarray, "*dims"] | float, df: Num[np.ndarray, ...] | float, ncp: Num[np.ndarray, ...] | float
) -> Float[np.ndarray, ...]:
    """`P(|T| >= c)` for `T ~ noncentral t(df, ncp)`, c and ncp at least 0.

    SciPy's series for the far tail on the other side of ncp may not converge and gives NaN; there its upper bound
    `2 Phi(-ncp) P(t_df <= -c)` stands in (the normal survival function is log-concave), many orders below the other tail.
    """
    if np.all(np.asarray(ncp) == 0):
        return np.asarray(2 * student.sf(c, df))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*", category=RuntimeWarning)
        near = nct.sf(c, df, ncp)
        far = nctdtr(df, ncp, -np.asarray(c))  # what nct.cdf calls, without its checks: roots ask many times
    far = np.where(np.isnan(far), 2 * ndtr(-np.asarray(ncp)) * student.cdf(-np.asarray(c), df), far)
    return np.asarray(np.clip(near + far, 0.0, 1.0))


def tails_on_curve(size: Float[np.ndarray, "*dims"], df: float, ncp: float) -> Float[np.ndarray, "*dims"]:
    """`two_tails` of many sizes at one df and ncp: log P by a spline in arcsinh(size), as far as SciPy has numbers."""
    x = np.arcsinh(size)
    nodes = _nodes(x, _STEP)
    tails = two_tails(np.sinh(nodes), df, ncp)
    known = _known(tails)
    if known < 8:
        return np.asarray(two_tails(size, df, ncp))
    near = x <= nodes[known - 1]
    log_tail = spline(nodes[:known], np.log(tails[:known]))
    p = np.minimum(np.exp(log_tail(np.minimum(x, nodes[known - 1]))), 1.0)
    if not near.all():
        p[~near] = two_tails(size[~near], df, ncp)
    return np.asarray(p)


def tails_on_surface(
    size: Float[np.ndarray, "*dims"],
    share: Float[np.ndarray, "*dims"],
    follows: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Float[np.ndarray, "*dims"]:
    """`two_tails` of many sizes whose df and ncp follow from one share each: log P by a spline in arcsinh(size) and the share.

    Args:
        share: each within [0, 1].
        follows: df and ncp of shares; smooth.
    """
    x = np.arcsinh(size)
    nodes = _nodes(x, _SURFACE_STEP)
    low = min(float(share.min()), 0.999)
    high = max(float(share.max()), low + 0.001)
    for count in _SHARES:
        shares = np.linspace(low, high, count)
        tails = two_tails(np.sinh(nodes)[:, None], *follows(shares))
        known = _known(tails.min(axis=1))
        if known < 8:
            break
        log_tails, seen = np.log(tails[:known]), nodes[:known]
        half = RectBivariateSpline(seen, shares[::2], log_tails[:, ::2], kx=5, ky=5, s=0)
        if np.abs(half(seen, shares[1::2]) - log_tails[:, 1::2]).max() < _OFF:
            surface = RectBivariateSpline(seen, shares, log_tails, kx=5, ky=5, s=0)
            p = np.minimum(np.exp(surface.ev(np.minimum(x, seen[-1]), share)), 1.0)
            far = x > seen[-1]
            if far.any():
                p[far] = two_tails(size[far], *follows(share[far]))
            return np.asarray(p)
    return np.asarray(two_tails(size, *follows(share)))


def spline(x: np.ndarray, y: np.ndarray) -> PPoly:
    """Quintic interpolating spline, as piecewise polynomials (quicker to evaluate at many points)."""
    return PPoly.from_spline(make_interp_spline(x, y, k=5))


def _nodes(x: np.ndarray, step: float) -> np.ndarray:
    """From 0 to beyond the largest, by so many that a quintic spline has room."""
    return step * np.arange(max(8, int(np.ceil(x.max() / step)) + 1))


def _known(tails: np.ndarray) -> int:
    """How many of the first nodes have a tail that can be interpolated."""
    tiny = np.flatnonzero(~(tails >= _LEAST))
    return int(tiny[0]) if len(tiny) else len(tails)
