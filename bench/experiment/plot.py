"""Bars and lines as SVG: no more than the report needs."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 840, 300, 48, 34, 58
COLOURS = ("#b8b8b8", "#e0a45c", "#cf7a5b", "#a55a7f", "#7a8f5a", "#5a9a9f",
           "#1f5fa8")


def _nice(most):
    """A round number not below most."""
    step = 10.0 ** len(str(int(most)))
    for part in (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1):
        if step * part >= most:
            return step * part
    return step


def _frame(title, top, unit):
    """Background, title and grid; the height of the drawing."""
    high = HEIGHT - TOP - BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{HEIGHT}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>']
    for i in range(5):
        y = TOP + high * (1 - i / 4)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 8}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">'
                   f'{top * i / 4:g}{unit}</text>')
    return out, high


def _legend(names):
    for s, name in enumerate(names):
        x = LEFT + s * (WIDTH - LEFT) / len(names)
        yield (f'<rect x="{x:.1f}" y="{HEIGHT - 24}" width="9" height="9" '
               f'fill="{COLOURS[s % len(COLOURS)]}"/><text '
               f'x="{x + 12:.1f}" y="{HEIGHT - 16}" font-size="10">'
               f'{escape(name)}</text>')


def bars(title, groups, series, unit):
    """groups: labels.  series: {name: [value or None for each group]}.  None is
    no bar."""
    values = [v for row in series.values() for v in row if v is not None]
    top = _nice(max(values + [1e-9]))
    out, high = _frame(title, top, unit)
    group = (WIDTH - LEFT - 8) / len(groups)
    bar = group * 0.84 / len(series)
    for g, label in enumerate(groups):
        begin = LEFT + g * group
        out.append(f'<text x="{begin + group / 2:.1f}" '
                   f'y="{TOP + high + 16}" text-anchor="middle">'
                   f'{escape(label)}</text>')
        for s, row in enumerate(series.values()):
            if row[g] is None:
                continue
            size = high * row[g] / top
            x = begin + group * 0.08 + s * bar
            out.append(f'<rect x="{x:.1f}" y="{TOP + high - size:.1f}" '
                       f'width="{bar * 0.9:.1f}" height="{size:.1f}" '
                       f'fill="{COLOURS[s % len(COLOURS)]}"/>'
                       f'<text x="{x + bar * 0.45:.1f}" font-size="8" '
                       f'y="{TOP + high - size - 2:.1f}" '
                       f'text-anchor="middle">{row[g]:.3g}</text>')
    return "\n".join([*out, *_legend(series), "</svg>", ""])


def lines(title, series):
    """series: {name: [(second, value)]}."""
    points = [p for row in series.values() for p in row]
    top = _nice(max([y for _, y in points] + [1e-9]))
    end = max([x for x, _ in points] + [1.0])
    out, high = _frame(title, top, "")

    def place(x, y):
        return (f"{LEFT + (WIDTH - LEFT - 8) * x / end:.1f} "
                f"{TOP + high * (1 - y / top):.1f}")

    for i in range(6):
        x, _ = place(end * i / 5, 0).split()
        out.append(f'<text x="{x}" y="{TOP + high + 16}" '
                   f'text-anchor="{"end" if i == 5 else "middle"}">'
                   f'{end * i / 5:.0f} s</text>')
    for s, row in enumerate(series.values()):
        path = "L".join(place(x, y) for x, y in row)
        out.append(f'<path d="M{path}" fill="none" stroke-width="1.5" '
                   f'stroke="{COLOURS[-1 - s]}"/>')
    legend = _legend(series)
    for s, text in enumerate(legend):
        out.append(text.replace(COLOURS[s], COLOURS[-1 - s]))
    return "\n".join([*out, "</svg>", ""])
