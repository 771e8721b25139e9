"""Two-sided tail probabilities of the noncentral t, exact or by splines through exact values."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num
from scipy.interpolate import PPoly, RectBivariateSpline, make_interp_spline
from scipy.special import nctdtr, ndtr
from scipy.stats import nct
from scipy.stats import t as student

#: Above these numbers of sizes, p-values come from a spline (one df and ncp) or a surface (df and ncp that follow from a share).
MANY, MANY_SHARES = 4096, 16_384
#: Steps of arcsinh(size) between nodes: relative error < 1e-10 and < 1e-9 (< 1e-7 at sizes where SciPy switches its series).
_STEP, _SURFACE_STEP = 1 / 256, 1 / 32
#: Numbers of nodes over the observed shares, tried in turn, and the largest error in log p of a surface through half of them at
#: the other half (a surface through all nodes is 60 times closer).
_SHARES, _OFF = (33, 65, 129, 257), 1e-6
#: Smallest p-value whose logarithm is interpolated: below it SciPy's tail underflows.
_LEAST = 1e-250


def two_tails(
    c: Num[np.ndarray, "*dims"] | float, df: Num[np.ndarray, ...] | float, ncp: Num[np.ndarray, ...] | float
) -> Float[np.ndarray, ...]:
    """Compute `P(|T| >= c)` for `T ~ noncentral t(df, ncp)`.

    SciPy's series for the tail on the other side of ncp may fail to converge and return NaN. Its upper bound
    `2 Phi(-ncp) P(t_df <= -c)` (the normal survival function is log-concave) then replaces it, many orders of magnitude below
    the other tail.

    Args:
        c: Sizes of t, at least 0; broadcasts with df and ncp.
        df: Degrees of freedom.
        ncp: Noncentrality, at least 0.
    """
    if np.all(np.asarray(ncp) == 0):
        return np.asarray(2 * student.sf(c, df))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*", category=RuntimeWarning)
        near = nct.sf(c, df, ncp)
        far = nctdtr(df, ncp, -np.asarray(c))  # nct.cdf without its checks, which root finding would repeat many times
    far = np.where(np.isnan(far), 2 * ndtr(-np.asarray(ncp)) * student.cdf(-np.asarray(c), df), far)
    return np.asarray(np.clip(near + far, 0.0, 1.0))


def tails_on_curve(size: Float[np.ndarray, "*dims"], df: float, ncp: float) -> Float[np.ndarray, "*dims"]:
    """Compute `two_tails` of many sizes at one df and ncp by a spline of log P in arcsinh(size).

    Sizes beyond the range of the spline, where SciPy's tail underflows, are computed one by one.

    Args:
        size: Sizes of t, at least 0.
        df: Degrees of freedom.
        ncp: Noncentrality, at least 0.
    """
    x = np.arcsinh(size)
    nodes = _nodes(x, _STEP)
    tails = two_tails(np.sinh(nodes), df, ncp)
    usable = _usable(tails)
    if usable < 8:
        return np.asarray(two_tails(size, df, ncp))
    near = x <= nodes[usable - 1]
    log_tail = spline(nodes[:usable], np.log(tails[:usable]))
    p = np.minimum(np.exp(log_tail(np.minimum(x, nodes[usable - 1]))), 1.0)
    if not near.all():
        p[~near] = two_tails(size[~near], df, ncp)
    return np.asarray(p)


def tails_on_surface(
    size: Float[np.ndarray, "*dims"],
    share: Float[np.ndarray, "*dims"],
    parameters: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Float[np.ndarray, "*dims"]:
    """Compute `two_tails` of many sizes whose df and ncp follow from one share each.

    log P comes from a spline surface in arcsinh(size) and the share.

    Args:
        size: Sizes of t, at least 0.
        share: One share per size, within [0, 1].
        parameters: Smooth function from shares to df and ncp.
    """
    x = np.arcsinh(size)
    nodes = _nodes(x, _SURFACE_STEP)
    low = min(float(share.min()), 0.999)
    high = max(float(share.max()), low + 0.001)
    for count in _SHARES:
        shares = np.linspace(low, high, count)
        tails = two_tails(np.sinh(nodes)[:, None], *parameters(shares))
        usable = _usable(tails.min(axis=1))
        if usable < 8:
            break
        log_tails, knots = np.log(tails[:usable]), nodes[:usable]
        half = RectBivariateSpline(knots, shares[::2], log_tails[:, ::2], kx=5, ky=5, s=0)
        if np.abs(half(knots, shares[1::2]) - log_tails[:, 1::2]).max() < _OFF:
            surface = RectBivariateSpline(knots, shares, log_tails, kx=5, ky=5, s=0)
            p = np.minimum(np.exp(surface.ev(np.minimum(x, knots[-1]), share)), 1.0)
            far = x > knots[-1]
            if far.any():
                p[far] = two_tails(size[far], *parameters(share[far]))
            return np.asarray(p)
    return np.asarray(two_tails(size, *parameters(share)))


def spline(x: np.ndarray, y: np.ndarray) -> PPoly:
    """Fit a quintic interpolating spline, as piecewise polynomials (faster to evaluate at many points).

    Args:
        x: Nodes, ascending.
        y: Values at the nodes.
    """
    return PPoly.from_spline(make_interp_spline(x, y, k=5))


def _nodes(x: np.ndarray, step: float) -> np.ndarray:
    """Return nodes from 0 to beyond the largest x, at least the eight that a quintic spline needs."""
    return step * np.arange(max(8, int(np.ceil(x.max() / step)) + 1))


def _usable(tails: np.ndarray) -> int:
    """Count the leading nodes whose tail can be interpolated."""
    tiny = np.flatnonzero(~(tails >= _LEAST))
    return int(tiny[0]) if len(tiny) else len(tails)
