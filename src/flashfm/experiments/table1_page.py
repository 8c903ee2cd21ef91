"""Table 1 for people: Markdown and a picture, both made from `table1.json` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from flashfm.experiments.ours import VARIANTS
from flashfm.experiments.printed import FLASH, SIZELESS, TEST, TRAIN, TRAINED
from flashfm.reporting import score_dots

FLOORED = ("lambda", "openwhisk")
"""Data sets that the repeat noise of the measured data stands beside."""
FLOORS = {
    "repeat_soon_mape": "repeat noise, measured again straight after",
    "repeat_late_mape": "repeat noise, measured again after all the rest",
    "repeat_soon_shape_mape": "repeat noise of the curve's shape, straight after",
    "repeat_late_shape_mape": "repeat noise of the curve's shape, after all the rest",
}
"""How far one measurement is from another of the same pair and size: entry of the data card -> what it is called."""
SHORT = {"lambda": "measured lambda", "openwhisk": "measured openwhisk", "sizeless-selfhosted": "self-hosted Sizeless"}
"""Names of data sets that fit beside a panel."""
DRAWN_FLOOR = "repeat_soon_shape_mape"
"""The one in the picture: shots give the level, the shape is what is left to tell."""


def markdown(path: Path) -> str:
    """The table for people, from the result file alone: a block for each data set."""
    content = json.loads(path.read_text())
    rows, lines = content["rows"], []
    for name, title in content["titles"].items():
        here = [row for row in rows if row["dataset"] == name]
        if here:
            pairs = max(row["n_pairs"] for row in here if row["metric"] == TEST)
            lines += [f"### {title}", "", f"{pairs} unseen pairs in all splits together.", ""]
            lines += [*_block(name, here, content), ""]
    for name, reason in content["left_out"].items():
        lines += [f"Left out: {name}: {reason}", ""]
    lines += _compared(content)
    quick = " **A quick run: figures without weight.**" if content["quick"] else ""
    lines.append(
        f"`{content['command']}`, commit {content['commit']}.{quick} Mean absolute percentage error as a share, with"
        " the standard deviation over splits; bold: the least over the splits that all methods of the block have."
        " Methods differ in their number of splits, for the machine's time; differences are over those that both have."
    )
    return "\n".join(lines) + "\n"


def _block(name: str, rows: list[dict[str, Any]], content: dict[str, Any]) -> list[str]:
    cells = {(row["method"], row["metric"], row["shots"]): row for row in rows}
    shots = sorted({row["shots"] for row in rows})
    tested = [k for k in shots if any(key[1:] == (TEST, k) for key in cells)]
    trained = [k for k in TRAINED if any(key[1:] == (TRAIN, k) for key in cells)]
    best = {(b["shots"], b["method"]) for b in content["best"] if b["dataset"] == name}
    heads = ["method", *(f"K={k}" for k in tested), *(f"training K={k}" for k in trained), "paper K=1/2/3", "splits"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [cells.get((method, TEST, k)) for k in tested]
        texts = ["–" if row is None else f"{row['mean']:.3f}{spread(row)}" for row in found]
        texts = [f"**{text}**" if (k, method) in best else text for k, text in zip(tested, texts, strict=True)]
        training = [cells.get((method, TRAIN, k)) for k in trained]
        texts += ["–" if row is None else f"{row['mean']:.3f}" for row in training]
        printed = content["printed"][name].get(method)
        texts.append("/".join(f"{value:.3f}" for value in printed[TEST]) if printed else "")
        counts = [str(row["split"]).split()[0] for row in found if row]
        texts.append(counts[0] if len(set(counts)) == 1 else "/".join(counts))
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    if name in FLOORED:
        where = "" if name == "lambda" else " on lambda"
        for key, words in FLOORS.items():
            if key in content["noise_floor_lambda"]:
                floor = f"{content['noise_floor_lambda'][key]:.3f}"
                cells_of = [floor] * len(tested) + [""] * (len(trained) + 2)
                lines.append(f"| *{words}{where}* | " + " | ".join(cells_of) + " |")
    return lines


def spread(row: dict[str, Any]) -> str:
    """The standard deviation over splits, nothing where there is one."""
    return "" if str(row["split"]).startswith("1 ") else f" ({row['sd']:.3f})"


def _compared(content: dict[str, Any]) -> list[str]:
    lines = []
    if reductions := content["flash_against_sizeless"]:
        lines += [
            "### FLASH-Sizeless against Sizeless, unseen applications",
            "",
            "| data set | K | error less by, % [95 %] | sd over splits | paper, % | splits |",
            "|---|---|---|---|---|---|",
        ]
        for r in reductions:
            printed = content["printed"][r["dataset"]]
            of = [printed[m][TEST][r["shots"] - 1] for m in (FLASH, SIZELESS)]
            cells = [r["dataset"], r["shots"], f"{r['percent_less']:.1f} [{r['low']:.1f}, {r['high']:.1f}]"]
            cells += [f"{r['sd']:.1f}" if r["splits"] > 1 else "–", f"{100 * (1 - of[0] / of[1]):.1f}", r["splits"]]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    if differences := content["ours_minus_rival"]:
        shots = sorted({d["shots"] for d in differences})
        heads = ["data set", "rival", *(f"K={k}" for k in shots), "splits"]
        lines += ["### flashfm minus each rival, mean difference in error [95 % by bootstrap over applications]", ""]
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for dataset, rival in dict.fromkeys((d["dataset"], d["rival"]) for d in differences):
            of_k = {d["shots"]: d for d in differences if (d["dataset"], d["rival"]) == (dataset, rival)}
            texts = [_interval(of_k[k]) if k in of_k else "–" for k in shots]
            counts = "/".join(dict.fromkeys(str(d["splits"]) for d in of_k.values()))
            lines.append(f"| {dataset} | {rival} | " + " | ".join(texts) + f" | {counts} |")
        lines.append("")
    return lines


def _interval(difference: dict[str, Any]) -> str:
    text = f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
    return f"**{text}**" if difference["high"] < 0 else text


def draw(path: Path) -> Path:
    """The picture beside a result file: a dot for each method, the paper's values hollow, the noise floor a line."""
    content = json.loads(path.read_text())
    floor = content["noise_floor_lambda"].get(DRAWN_FLOOR)
    frame = pd.DataFrame(
        {
            "dataset": SHORT.get(row["dataset"], row["dataset"]),
            "method": row["method"],
            "shots": row["shots"],
            "mean": row["mean"],
            "sd": row["sd"],
            "printed": _printed(content, row),
            "floor": floor if row["dataset"] == "lambda" else None,
        }
        for row in content["rows"]
        if row["metric"] == TEST and row["shots"] in TRAINED
    )
    splits = {row["split"] for row in content["rows"] if row["metric"] == TEST}
    note = "methods differ in their number of splits; see the table" if len(splits) > 1 else ""
    note = "a quick run: figures without weight" if content["quick"] else note
    return score_dots(
        frame.astype({"mean": float, "sd": float, "printed": float, "floor": float}),
        path.with_suffix(".png"),
        ours=VARIANTS,
        title="Error on unseen applications, by the number of measurements given",
        note=note,
        size_px=(1600, 300 + 320 * frame["dataset"].nunique()),
    )


def _printed(content: dict[str, Any], row: dict[str, Any]) -> float | None:
    values = content["printed"][row["dataset"]].get(row["method"])
    return values[TEST][row["shots"] - 1] if values else None
