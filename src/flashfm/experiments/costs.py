"""The costs that ship with the package: `src/flashfm/tasks/autoscaling/costs.json`, made from the measured data set.

python -m flashfm.experiments.costs src/flashfm/tasks/autoscaling/costs.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from flashfm.applications.generator import generate_many
from flashfm.datasets.files import write_whole
from flashfm.datasets.sources import load_measured
from flashfm.errors import FlashError
from flashfm.tasks.autoscaling.calibration import (
    QUANTITIES,
    CostModel,
    ShippedCosts,
    fit_error,
    from_measurements,
)

SEED = 0
"""Seed of the generated applications, that of the measured data set."""
COUNT = 1_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def run(path: Path, *, count: int = COUNT) -> ShippedCosts:
    """Make the costs and write them.

    Args:
        path: the file, written whole.
        count: generated applications.

    Raises:
        DataMissingError: the package is without the measured data set.
        DataError: the file cannot be written.
    """
    table = load_measured()
    every = from_measurements(table)
    by_name = {one.name: one for one in every}
    specs = generate_many(SEED, count)
    known = [spec for spec in specs if spec.name in by_name]
    model = CostModel.fit(known, [by_name[spec.name] for spec in known])
    costs = tuple(by_name.get(spec.name) or model.predict(spec) for spec in specs)
    error = {
        str(size): {"median": round(float(row["median"]), 4), "p90": round(float(row["p90"]), 4)}
        for size, row in fit_error(table, [by_name[spec.name] for spec in known]).iterrows()
    }
    shipped = ShippedCosts(costs, model, error)
    write_whole(path, lambda file: file.write(shipped.to_json().encode()))
    return shipped


def described(shipped: ShippedCosts) -> str:
    """How the costs are distributed, and their errors, as a Markdown table."""
    head = ["quantity", *(f"{100 * q:g} %" for q in QUANTILES), "error where modelled"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in QUANTITIES:
        values = np.quantile([getattr(one, name) for one in shipped.costs], QUANTILES)
        error = shipped.model.error.get(name)
        cells = [name, *(f"{value:.3g}" for value in values), "–" if error is None else f"{100 * error:.1f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    measured = sum(one.measured for one in shipped.costs)
    return (
        "\n".join(lines) + f"\n\n{measured} of {len(shipped.costs)} applications are measured, the others modelled.\n"
    )


def main() -> None:
    """Write the file that the command line names, and print what is in it."""
    parser = argparse.ArgumentParser(prog="python -m flashfm.experiments.costs", description=__doc__)
    parser.add_argument("path", type=Path)
    try:
        print(described(run(parser.parse_args().path)))
    except FlashError as error:
        raise SystemExit(f"flashfm: {error}") from None


if __name__ == "__main__":
    main()
