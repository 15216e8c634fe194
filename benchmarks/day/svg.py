"""Stacked areas and bars as SVG, and nothing else. Text keeps its size; colours are told apart by those who see few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#999999")  # Okabe & Ito (2008)
_INK, _PAPER = "#333333", "#ffffff"


def page(width: int, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>', *parts, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def areas(x: float, y: float, width: float, height: float, shares: Mapping[str, Sequence[float]]) -> list[str]:
    """Each name's shares of one (they sum to one at each step), as bands over each other, the first at the bottom."""
    parts = []
    floor = [0.0] * len(next(iter(shares.values())))
    step = width / (len(floor) - 1)
    for colour, values in zip(COLOURS, shares.values(), strict=False):
        top = [low + value for low, value in zip(floor, values, strict=True)]
        edge = [(x + i * step, y + height * (1 - share)) for i, share in enumerate(top)]
        base = [(x + i * step, y + height * (1 - share)) for i, share in enumerate(floor)]
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in [*edge, *reversed(base)])
        parts.append(f'<polygon points="{points}" fill="{colour}"/>')
        floor = top
    return parts


def legend(x: float, y: float, names: Sequence[str], gap: float = 90) -> list[str]:
    parts = []
    for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        parts += [box(x + i * gap, y - 10, 12, 12, colour), text(x + i * gap + 17, y, name)]
    return parts


def bars(x: float, y: float, width: float, title: str, values: Mapping[str, float], unit: str) -> list[str]:
    """One bar a name, from zero, each with its value."""
    parts = [text(x, y, title, weight="bold")]
    most = max(values.values()) or 1.0
    for i, (name, value) in enumerate(values.items()):
        at = y + 14 + i * 22
        parts += [
            text(x + 78, at + 12, name, "end"),
            box(x + 84, at, (width - 190) * value / most, 16, COLOURS[0]),
            text(
                x + 90 + (width - 190) * value / most,
                at + 12,
                f"{value:,.2f}{unit}" if value < 100 else f"{value:,.0f}{unit}",
            ),
        ]
    return parts
