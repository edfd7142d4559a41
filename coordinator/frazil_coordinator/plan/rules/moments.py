"""Skewness, kurtosis, covariance, correlation and entropy, written out as sums for which there are rules.

Each is what polars computes (and SciPy: ``skew``, ``kurtosis``, ``entropy``), in two passes: the mean first, then sums of
powers of the distances from it. :mod:`.rewrites` takes them for simpler terms.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["correlation", "covariance", "entropy", "kurtosis", "rank_correlation", "skewness"]

_EPSILON: Final = 2.0**-52
"""Distance of 1.0 to the next float: a spread of less than this share of the mean counts as none."""


def _central(values: pl.Expr, power: int) -> pl.Expr:
    """Return the mean of a power of the distances from the mean."""
    return ((values - values.mean()) ** power).mean()


def _has_no_spread(values: pl.Expr, spread: pl.Expr) -> pl.Expr:
    return spread <= (values.mean() * _EPSILON) ** 2


def skewness(values: pl.Expr, *, bias: bool) -> pl.Expr:
    """Return the skewness of floats; NaN of values that are all the same."""
    count, spread = values.count(), _central(values, 2)
    found = pl.when(_has_no_spread(values, spread)).then(float("nan")).otherwise(_central(values, 3) / spread**1.5)
    if bias:
        return pl.when(count > 0).then(found)
    return pl.when(count > 2).then(found * ((count - 1.0) * count).sqrt() / (count - 2.0))


def kurtosis(values: pl.Expr, *, fisher: bool, bias: bool) -> pl.Expr:
    """Return the kurtosis of floats; NaN of values that are all the same."""
    count, spread = values.count(), _central(values, 2)
    found = pl.when(_has_no_spread(values, spread)).then(float("nan")).otherwise(_central(values, 4) / spread**2)
    if bias:
        made = pl.when(count > 0).then(found)
    else:
        n = count.cast(pl.Float64)
        corrected = ((n**2 - 1) * found - 3 * (n - 1) ** 2) / ((n - 2) * (n - 3)) + 3
        made = pl.when(count > 3).then(corrected)
    return made - 3.0 if fisher else made


def _pair(a: pl.Expr, b: pl.Expr) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return the distances of two columns of floats from their means, where both have a value, and how often they have."""
    both = a.is_not_null() & b.is_not_null()
    left, right = pl.when(both).then(a), pl.when(both).then(b)
    return left - left.mean(), right - right.mean(), left.count()


def covariance(a: pl.Expr, b: pl.Expr, *, ddof: int) -> pl.Expr:
    """Return the covariance of two columns of floats; null of `ddof` pairs or fewer."""
    left, right, count = _pair(a, b)
    return pl.when(count > ddof).then((left * right).sum() / (count.cast(pl.Int64) - ddof))


def correlation(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Return Pearson's correlation of two columns of floats; NaN of no pairs, and of values that are all the same."""
    left, right, _ = _pair(a, b)
    return (left * right).sum() / ((left**2).sum() * (right**2).sum()).sqrt()


def rank_correlation(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Return Spearman's correlation of two columns of floats: Pearson's of their ranks, where both have a value."""
    both = a.is_not_null() & b.is_not_null()
    return correlation(pl.when(both).then(a).rank(), pl.when(both).then(b).rank())


def entropy(values: pl.Expr, *, base: float, normalize: bool) -> pl.Expr:
    """Return the entropy of floats."""
    share = values / values.sum() if normalize else values
    return -(share * share.log(base)).sum()
