"""A curve as SVG, without a library: what the pages of the documentation show."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["speedup_svg"]

_WIDTH, _HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 36, 52


def speedup_svg(title: str, functions: Sequence[int], speedups: Sequence[float], *, floor: float) -> str:
    """Return a plot of how many times as fast a query is on so many functions, both axes by powers of two.

    Parameters
    ----------
    title
        Its headline.
    functions
        How many functions, ascending.
    speedups
        For each of them, times as fast as on the first.
    floor
        Efficiency that is drawn as a dashed line below the ideal one.
    """
    most = math.ceil(math.log2(max(*functions, *speedups, 2)))

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log2(value) / most

    def y(value: float) -> float:
        # What is slower than one function lies on the axis.
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * max(0.0, math.log2(value)) / most

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        at = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        return f'<polyline points="{at}" fill="none" {style}/>'

    def text(across: float, down: float, words: str, more: str = 'text-anchor="middle"') -> str:
        return f'<text x="{across:.1f}" y="{down:.1f}" {more}>{words}</text>'

    ticks = [2**power for power in range(most + 1)]
    grid = [line([(1, tick), (2**most, tick)], 'stroke="#ddd"') for tick in ticks]
    axes = [text(x(tick), _HEIGHT - _BOTTOM + 18, str(tick)) for tick in ticks]
    axes += [text(_LEFT - 8, y(tick) + 4, f"{tick} ×", 'text-anchor="end"') for tick in ticks]
    last = functions[-1]
    lines = [
        line([(1, 1), (last, last)], 'stroke="#999"'),
        line([(1 / floor, 1), (last, last * floor)], 'stroke="#999" stroke-dasharray="5 4"'),
        line(list(zip(functions, speedups, strict=True)), 'stroke="#1f5fa8" stroke-width="2"'),
    ]
    points = []
    for count, speedup in zip(functions, speedups, strict=True):
        points.append(f'<circle cx="{x(count):.1f}" cy="{y(speedup):.1f}" r="4" fill="#1f5fa8"/>')
        share = f"{speedup / count:.0%}"
        points.append(text(x(count) + 6, y(speedup) + 18, share, 'fill="#1f5fa8"'))
    words = [
        text(_WIDTH / 2, 22, title, 'text-anchor="middle" font-size="15"'),
        text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, "functions"),
        text(x(last) - 8, y(last) + 4, "ideal", 'text-anchor="end" fill="#777"'),
        text(x(last), y(last * floor) + 18, f"{floor:.0%}", 'text-anchor="end" fill="#777"'),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    return "\n".join(
        [
            f'{head} font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            *grid,
            *axes,
            *lines,
            *points,
            *words,
            "</svg>\n",
        ]
    )
