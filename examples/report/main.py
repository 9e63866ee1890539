"""Summarises measurements.csv by station and writes the results as files.

out/summary.csv       for people and spreadsheets: download it with --get
out/summary.json      for programs
.output/summary.txt   a session lists what is new in .output with the result of the run
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

HERE = Path(__file__).parent


def read(path: Path) -> dict[str, list[float]]:
    """Temperatures by station."""
    stations: dict[str, list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stations[row["station"]].append(float(row["celsius"]))
    return stations


def summarise(stations: dict[str, list[float]]) -> list[dict[str, object]]:
    """One row a station."""
    return [
        {
            "station": name,
            "readings": len(values),
            "lowest": min(values),
            "mean": round(mean(values), 2),
            "highest": max(values),
        }
        for name, values in sorted(stations.items())
    ]


def main() -> None:
    """Read, summarise, write."""
    rows = summarise(read(HERE / "data" / "measurements.csv"))
    out, shown = HERE / "out", HERE / ".output"
    out.mkdir(exist_ok=True)
    shown.mkdir(exist_ok=True)

    with (out / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "summary.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")

    lines = [f"{row['station']:<10}{row['mean']:>8} °C" for row in rows]
    (shown / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
