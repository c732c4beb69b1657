"""Line charts as SVG, in plain text: nothing to install, and readable on light and dark pages."""

import dataclasses
import math
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 206, 48, 58
FONT = "font: 12px system-ui, sans-serif"
LIGHT = ["#0b62c4", "#b3470a", "#1b7a3d", "#8a2be2", "#a8730b"]
DARK = ["#62aeff", "#ff9a5c", "#57d384", "#c79bff", "#f0c04d"]
DASHES = ["", "7 4", "2 3", "10 3 2 3", "4 2"]
"""Lines differ by more than their colours."""

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name, and points in the order of x."""

    title: str
    points: list[Point]


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        is_log: Equal distances are equal ratios; 0, which has no logarithm, then has the first tick for itself.
        is_size: Values are bytes, and are written as B, KiB, MiB.
    """

    title: str
    is_log: bool = False
    is_size: bool = False

    def ticks(self, values: list[float]) -> list[float]:
        """Return the values to be marked: round ones that enclose what is shown."""
        if self.is_log:
            base = 4 if self.is_size else 10
            lowest = min((value for value in values if value > 0), default=1.0)
            first = math.floor(math.log(lowest, base) + 1e-9)
            last = max(first + 1, math.ceil(math.log(max(*values, lowest), base) - 1e-9))
            zero = [0.0] if min(values) <= 0 else []
            return zero + [float(base) ** exponent for exponent in range(first, last + 1)]
        highest = max(*values, 1e-9)
        step = 10.0 ** math.floor(math.log10(highest))
        step = next(one for one in (step / 5, step / 2, step, step * 2) if highest / one <= 6)
        return [index * step for index in range(math.ceil(highest / step - 1e-9) + 1)]

    def place(self, value: float, ticks: list[float]) -> float:
        """Return where a value stands between the first tick (0) and the last (1)."""
        if not self.is_log:
            return value / ticks[-1]
        if value <= 0:
            return 0.0
        has_zero = ticks[0] == 0
        first, step = math.log(ticks[1 if has_zero else 0]), math.log(ticks[-1] / ticks[-2])
        return ((math.log(value) - first) / step + has_zero) / (len(ticks) - 1)

    def label(self, value: float) -> str:
        """Return a value as it is written beside its tick."""
        steps = [(2**20, " MiB"), (2**10, " KiB")] if self.is_size else [(10**6, " M"), (10**3, " k")]
        for size, unit in steps:
            if value >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}{' B' if self.is_size else ''}"


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    x: Axis
    y: Axis
    lines: list[Line]

    def svg(self) -> str:
        """Return the chart as an SVG document."""
        x_values = [x for line in self.lines for x, _ in line.points]
        y_values = [y for line in self.lines for _, y in line.points]
        x_ticks, y_ticks = self.x.ticks(x_values), self.y.ticks(y_values)
        parts = [_head(self.title, len(self.lines))]
        for tick in y_ticks:
            y = _y(self.y.place(tick, y_ticks))
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{self.y.label(tick)}</text>')
        for tick in x_ticks[:: max(1, math.ceil(len(x_ticks) / 8))]:
            x = _x(self.x.place(tick, x_ticks))
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            text = self.x.label(tick)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(self.x.title)}</text>')
        parts.append(f'<text x="{LEFT - 68}" y="{TOP - 14}">{escape(self.y.title)}</text>')
        parts += self._curves(x_ticks, y_ticks)
        return "\n".join([*parts, "</svg>", ""])

    def _curves(self, x_ticks: list[float], y_ticks: list[float]) -> list[str]:
        parts: list[str] = []
        ends: list[tuple[float, int, Line]] = []
        for index, line in enumerate(self.lines):
            spots = [(_x(self.x.place(x, x_ticks)), _y(self.y.place(y, y_ticks))) for x, y in line.points]
            if not spots:
                continue
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            parts.append(f'<polyline class="line c{index}" points="{path}"/>')
            parts += [f'<circle class="dot c{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
            ends.append((spots[-1][1], index, line))
        # The names stand at the ends of their curves, but never on each other.
        lowest = TOP - 4.0
        for y, index, line in sorted(ends, key=lambda end: end[:2]):
            lowest = max(y, lowest + 15)
            x = WIDTH - RIGHT + 10
            parts.append(f'<text class="name c{index}" x="{x}" y="{lowest + 4:.1f}">{escape(line.title)}</text>')
        return parts


def _x(part: float) -> float:
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(part: float) -> float:
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def _head(title: str, count: int) -> str:
    light = "\n".join(_colours(index, LIGHT) for index in range(count))
    dark = "\n".join(_colours(index, DARK) for index in range(count))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"
 role="img" aria-label="{escape(title)}">
<style>
text {{ {FONT}; fill: #1f2328 }}
.paper {{ fill: #ffffff }}
.grid {{ stroke: #d1d9e0; stroke-width: 1 }}
.line {{ fill: none; stroke-width: 2 }}
.title {{ font-size: 14px; font-weight: 600 }}
{light}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }}
.paper {{ fill: #0d1117 }}
.grid {{ stroke: #30363d }}
{dark}
}}
</style>
<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>
<text class="title" x="{LEFT - 68}" y="18">{escape(title)}</text>"""


def _colours(index: int, palette: list[str]) -> str:
    colour = palette[index % len(palette)]
    dash = DASHES[index % len(DASHES)]
    return (
        f".line.c{index} {{ stroke: {colour}{f'; stroke-dasharray: {dash}' if dash else ''} }} "
        f".dot.c{index}, .name.c{index} {{ fill: {colour} }}"
    )
