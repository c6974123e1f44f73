#!/usr/bin/env python3
"""usage: plot_policies.py POLICIES.csv OUT.svg

Draws what router_policy_bench printed: for each traffic the time to the first token (p99, medians over seeds, range as
a line) and the hit rate, by policy and requests per second. The same file makes the same picture.
"""
import csv
import math
import statistics
import sys

COLOURS = {
    "cache_aware": "#0b6e4f",
    "power_of_two": "#c8553d",
    "least_tokens": "#2b59c3",
    "round_robin": "#8e6c88",
    "random": "#888888",
}
WIDTH, HEIGHT, LEFT, TOP, GAP = 360, 240, 60, 40, 90
TITLES = {"zipf": "128 prefixes, Zipf", "hot": "one prefix has 80 %"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def series(rows, traffic, policy, column):
    """[(rate, median, least, most)] over seeds, by rate."""
    rates = sorted({float(r["requests_per_second"]) for r in rows})
    out = []
    for rate in rates:
        values = [
            float(r[column])
            for r in rows
            if r["traffic"] == traffic and r["policy"] == policy and float(r["requests_per_second"]) == rate
        ]
        out.append((rate, statistics.median(values), min(values), max(values)))
    return out


class Panel:
    def __init__(self, x, y, rates, low, high, logarithmic):
        self.x, self.y, self.rates, self.low, self.high, self.log = x, y, rates, low, high, logarithmic

    def at(self, rate, value):
        across = (rate - self.rates[0]) / (self.rates[-1] - self.rates[0])
        if self.log:
            up = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            up = (value - self.low) / (self.high - self.low)
        return f"{self.x + across * WIDTH:.1f}", f"{self.y + (1 - up) * HEIGHT:.1f}"

    def frame(self, title, ticks):
        out = [f'<rect x="{self.x}" y="{self.y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>']
        out.append(f'<text x="{self.x}" y="{self.y - 10}" font-weight="bold">{title}</text>')
        for tick in ticks:
            _, y = self.at(self.rates[0], tick)
            out.append(f'<line x1="{self.x}" x2="{self.x + WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
            out.append(f'<text x="{self.x - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{tick:g}</text>')
        for rate in self.rates:
            x, _ = self.at(rate, self.low)
            out.append(f'<text x="{x}" y="{self.y + HEIGHT + 16}" text-anchor="middle">{rate:g}/s</text>')
        return out

    def draw(self, points, colour):
        path = " ".join(",".join(self.at(rate, middle)) for rate, middle, _, _ in points)
        out = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
        for rate, middle, least, most in points:
            x, top = self.at(rate, most)
            _, bottom = self.at(rate, least)
            _, y = self.at(rate, middle)
            out.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        return out


def main(source, target):
    rows = read(source)
    rates = sorted({float(r["requests_per_second"]) for r in rows})
    slowest = max(float(r["ttft_p99_ms"]) for r in rows)
    high = 10 ** math.ceil(math.log10(slowest))
    out = []
    for column, traffic in enumerate(TITLES):
        x = LEFT + column * (WIDTH + GAP)
        times = Panel(x, TOP, rates, 100, high, True)
        hits = Panel(x, TOP + HEIGHT + 70, rates, 0, 1, False)
        ticks = [t for t in (100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000) if t <= high]
        out += times.frame(f"{TITLES[traffic]}: first token, p99, ms", ticks)
        out += hits.frame("prompt tokens found in caches", [0, 0.25, 0.5, 0.75, 1])
        for policy, colour in COLOURS.items():
            out += times.draw(series(rows, traffic, policy, "ttft_p99_ms"), colour)
            out += hits.draw(series(rows, traffic, policy, "hit_rate"), colour)
    bottom = TOP + 2 * HEIGHT + 120
    for i, (policy, colour) in enumerate(COLOURS.items()):
        x = LEFT + i * 140
        out.append(f'<rect x="{x}" y="{bottom}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 18}" y="{bottom + 10}">{policy}</text>')
    width, height = LEFT + 2 * WIDTH + GAP + 30, bottom + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>'
    )
    with open(target, "w", encoding="utf-8") as file:
        file.write(head + "\n" + "\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
