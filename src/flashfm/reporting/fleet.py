"""One page about a plan for a fleet: what it saves, what may go wrong, what has no recommendation, where the pairs lie.

Enters: a plan on disk, of any length. Leaves: one self-contained HTML file of bounded size. Names come from users'
data; `flashfm.reporting.page` escapes them, and pictures show none.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.act.choose import CONFIDENCES
from flashfm.act.decisions import Estimate
from flashfm.act.words import label, millis, ratio, share, span, usd
from flashfm.errors import DataError
from flashfm.fleet.digest import BINS, Digest, Foremost, digest
from flashfm.fleet.plan import STATUSES, TODAY
from flashfm.fleet.reading import PlanFile
from flashfm.reporting.page import Section, Table, write_page
from flashfm.reporting.style import (
    PALETTE,
    footnote,
    grid,
    headline,
    key,
    new_figure,
    save,
    short,
    styled,
)

ROWS, POINTS = 50, 4000
LONGEST_NAME, LONGEST_REASON = 80, 400
"""Characters that a cell shows."""
COLORS = {"recommended": PALETTE[1], "stay": PALETTE[2], "declined": PALETTE[0], "bad": "#000000"}
KNOWN = "#c4c4c4"
_SIZE_PX = (1200, 520)
_MAP_PX = (1200, 800)


def page(plan: Path, out: Path, *, rows: int = ROWS, points: int = POINTS) -> Path:
    """Write the page of a plan.

    Args:
        plan: what `flashfm.fleet.recommend` wrote.
        out: `.html`; what is there is replaced.
        rows: pairs that each table shows at most; how many more there are is said.
        points: pairs that the map shows at most, drawn by chance, the same for the same plan.

    Returns:
        `out`.

    Raises:
        DataFormatError: `plan` is none, or damaged.
        DataError: another suffix, no row to show, or a file that cannot be read or written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{out}: expected a .html file for the page, got suffix {out.suffix!r}")
    if rows < 1 or points < 1:
        raise DataError(f"{rows} rows and {points} points: expected at least 1 of each")
    source = PlanFile.open(plan)
    found = digest(source, rows, points)
    sections = [_statuses(found), *_savings(found, source), *_risks(found, source)]
    sections += [_refused(found, status, rows) for status in ("declined", "bad") if found.of(status)]
    sections += _map(found, source)
    return write_page(out, _title(found), _intro(found, source), sections)


# words


def _title(found: Digest) -> str:
    saved = found.usd_today - found.usd_planned
    of = f"{found.pairs:,} pair{'s' * (found.pairs != 1)}"
    if not found.priced:
        return f"Recommendations for {of}"
    what = f"{share(abs(saved) / found.usd_today)} of the cost of" if found.usd_today > 0 else "nothing on"
    return f"{'Saves' if saved >= 0 else 'Adds'} {what} {found.priced:,} of {of}"


def _intro(found: Digest, source: PlanFile) -> str:
    saved, n = found.usd_today - found.usd_planned, found.of("recommended")
    parts = []
    if found.priced:
        way = "less" if saved >= 0 else "more"
        parts.append(
            f"A million runs of each of {found.priced:,} recommended pairs are expected to cost"
            f" {usd(found.usd_planned)} USD instead of {usd(found.usd_today)} USD: {usd(abs(saved))} USD {way}. How"
            " often a pair runs is not known here, so each counts as a million runs; what is saved in a month depends"
            " on how often each one does run."
        )
        if found.dearer:
            parts[-1] += (
                f" {found.dearer:,} of these pairs are expected to cost {usd(found.usd_more)} USD more than today, the"
                f" others {usd(found.usd_more + saved)} USD less."
            )
        if n > found.priced:
            parts[-1] += f" {n - found.priced:,} further recommended pairs have no known cost today."
    else:
        parts.append(f"{n:,} pairs have a recommendation. No costs are known, so no total is told.")
    parts.append(_aim(source))
    return "\n\n".join(filter(None, parts))


def _aim(source: PlanFile) -> str:
    """What was asked for, where the plan says it."""
    asked = source.told["run"].get("settings")
    if not isinstance(asked, dict):
        return ""
    words = {"cost": "the cheapest configuration", "runtime": "the fastest configuration"}
    said = [words.get(str(asked.get("objective")), "a configuration")]
    price, slow, longest = asked.get("price"), asked.get("max_slowdown"), asked.get("max_runtime_ms")
    if isinstance(price, dict):
        said.append(f"at the prices of {short(price.get('name'))}")
    if isinstance(slow, int | float):
        said.append(f"at most {ratio(slow)} times the fastest expected run time")
    if isinstance(longest, int | float):
        said.append(f"within {millis(longest)}")
    strict = " The upper end of the interval has to meet the limit." if asked.get("strict") is True else ""
    return f"Asked for: {', '.join(said)}.{strict} Intervals are of 90 %."


def _pair(row: Mapping[str, Any]) -> str:
    app = "(no name)" if row["app"] is None else short(row["app"], LONGEST_NAME)
    return f"{app} on {short(row['platform'], LONGEST_NAME)}" if row["platform"] else app


def _config(row: Mapping[str, Any], source: PlanFile, prefix: str = "") -> str:
    told = {name: row[prefix + name] for name in source.config if row[prefix + name] is not None}
    return short(label(told), LONGEST_NAME) if told else "not known"


def _span(row: Mapping[str, Any], names: Sequence[str], say: Any) -> str:
    expected, lower, upper = (row[name] for name in names)
    if expected is None:
        return ""
    return f"{say(expected)} ({say(lower)} to {say(upper)})" if lower is not None else str(say(expected))


def _runtime(row: Mapping[str, Any]) -> str:
    return span(Estimate(row["runtime_ms"], row["lower_ms"], row["upper_ms"]))


def _more(words: str, shown: Foremost) -> str:
    hidden = shown.count - len(shown.score)
    return f"{words} {shown.count:,} pairs{f', {hidden:,} of them not shown' * (hidden > 0)}."


# sections


def _statuses(found: Digest) -> Section:
    words = {
        "recommended": "use the recommended configuration",
        "stay": "keep today's configuration",
        "declined": "no recommendation can be given",
        "bad": "the rows cannot be read",
    }
    rows = []
    for status in STATUSES:
        sure = [f"{found.of(status, one):,}" if status in STATUSES[:2] else "" for one in CONFIDENCES]
        n = found.of(status)
        rows.append((f"{status}: {words[status]}", f"{n:,}", share(n / found.pairs) if found.pairs else "", *sure))
    text = "Confidence says whether the configuration was measured, or how sure the prediction is."
    return Section("What is to be done", text, Table(("status", "pairs", "share", *CONFIDENCES), tuple(rows)))


def _savings(found: Digest, source: PlanFile) -> list[Section]:
    sections = []
    if found.compared:
        text = f"What {found.compared:,} recommended pairs are expected to save of what they take today."
        picture, alt = _drawn(_histogram(found)), "How many recommended pairs save which share"
        sections.append(Section("Savings", text, picture=picture, alt=alt))
    rows = [
        (
            _pair(row),
            _config(row, source, TODAY),
            _config(row, source),
            _span(row, ("saving", "saving_lower", "saving_upper"), share),
            _between(row[f"{TODAY}usd_per_million"], row["usd_per_million"]),
            str(row["confidence"]),
        )
        for row in found.savings.rows
    ]
    if rows:
        text = _more("Per million runs, the most first:", found.savings)
        head = ("pair", "today", "use", "saving", "USD per million runs", "confidence")
        sections.append(Section("Largest savings", text, Table(head, tuple(rows))))
    return sections


def _between(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{usd(before)} to {usd(after)}"


def _risks(found: Digest, source: PlanFile) -> list[Section]:
    common = ("pair", "today", "use")
    slower = [
        (*_start(row, source), millis(row[f"{TODAY}runtime_ms"]), _runtime(row), f"{ratio(score)} times")
        for row, score in _scored(found.slower)
    ]
    money = ("usd_per_million", "usd_per_million_lower", "usd_per_million_upper")
    costlier = [
        (*_start(row, source), usd(row[f"{TODAY}usd_per_million"]), _span(row, money, usd), f"{ratio(score)} times")
        for row, score in _scored(found.costlier)
    ]
    novel = [
        (*_start(row, source), f"{-score:.2g}", str(row["shots"]), "yes" if row["fine_tuned"] else "no")
        for row, score in _scored(found.novel)
    ]
    given = (
        (
            "Worst risks: run time",
            _more("The upper end of the run time is above today's of", found.slower),
            ("run time today", "run time", "at worst, of today's"),
            slower,
        ),
        (
            "Worst risks: cost",
            _more("The upper end of the cost is above today's of", found.costlier),
            ("USD today", "USD per million runs", "at worst, of today's"),
            costlier,
        ),
        (
            "Worst risks: unlike what is known",
            _more(
                "Recommended although they are unlike the pairs of pretraining, which is told by a small p-value:",
                found.novel,
            )
            + " Measure the new configuration once before relying on it.",
            ("p-value", "measured configurations", "fine-tuned"),
            novel,
        ),
    )
    return [Section(name, text, Table((*common, *head), tuple(rows))) for name, text, head, rows in given if rows]


def _start(row: Mapping[str, Any], source: PlanFile) -> tuple[str, str, str]:
    return _pair(row), _config(row, source, TODAY), _config(row, source)


def _scored(shown: Foremost) -> Iterable[tuple[dict[str, Any], float]]:
    return zip(shown.rows, shown.score.tolist(), strict=True)


def _refused(found: Digest, status: str, rows: int) -> Section:
    words = {"declined": "Declined pairs", "bad": "Pairs whose rows cannot be read"}
    reasons = found.by_reason(status)
    cells = tuple(
        (
            f"{reason.count:,}",
            short(kind, LONGEST_REASON),
            _pair(reason.example),
            short(reason.example["reason"] or "", LONGEST_REASON),
            short(reason.example["mend"], LONGEST_REASON) if reason.example["mend"] else "",
        )
        for kind, reason in reasons[:rows]
    )
    hidden = len(reasons) - len(cells)
    text = f"{found.of(status):,} pairs by reason, whose figures are left out."
    if hidden > 0:
        text += f" {hidden:,} more reasons are not shown."
    return Section(words[status], text, Table(("pairs", "reason", "such as", "there it is", "what helps"), cells))


def _map(found: Digest, source: PlanFile) -> list[Section]:
    rows = found.places.rows
    if not rows:
        return []
    known = source.told.get("map")
    try:
        reference = np.array(known["points"], dtype=np.float64).reshape(-1, 2) if known else np.empty((0, 2))
        explained = float(known["explained"]) if known else math.nan
    except (TypeError, KeyError, ValueError):
        reference, explained = np.empty((0, 2)), math.nan
    places = np.array([(row["map_x"], row["map_y"]) for row in rows])
    picture = _drawn(_places(places, [row["status"] for row in rows], reference[np.isfinite(reference).all(axis=1)]))
    of = f"{len(rows):,} of {found.places.count:,}" if found.places.count > len(rows) else f"{len(rows):,}"
    text = (
        f"Where {of} pairs lie in the model's embedding space, over the pairs of pretraining in grey: the two principal"
        " components of those. Each of them is there with its metrics and once more without, for embeddings rest on the"
        " metrics too. Pairs that lie close behave alike."
    )
    if math.isfinite(explained):
        text += f" The two components have {share(explained)} of the variance of pretraining."
    return [Section("Map", text, picture=picture, alt="Pairs by their embeddings, coloured by status")]


# pictures


def _drawn(figure: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(figure, Path(folder) / "picture.png").read_bytes()


@styled()
def _histogram(found: Digest) -> Any:
    figure, panels = new_figure(_SIZE_PX)
    axes = panels[0, 0]
    full = np.flatnonzero(found.histogram)
    colors = [PALETTE[0] if end <= 0 else PALETTE[1] for end in BINS[1:].round(9)]
    axes.bar(BINS[:-1], found.histogram, width=np.diff(BINS), align="edge", color=colors, edgecolor="white", zorder=3)
    axes.set_xlim(BINS[full[0]] - 0.02, BINS[full[-1] + 1] + 0.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set(xlabel="saved of what is taken today; the bar at -100 % has all below it too", ylabel="recommended pairs")
    grid(axes, "y")
    headline(axes, "How much pairs save")
    return figure


@styled()
def _places(places: Float[np.ndarray, "pair 2"], status: list[str], known: Float[np.ndarray, "known 2"]) -> Any:
    from matplotlib.lines import Line2D

    figure, panels = new_figure(_MAP_PX)
    axes = panels[0, 0]
    every = np.concatenate([places, known])
    low, high = np.quantile(every, [0.01, 0.99], axis=0)
    room = np.maximum(0.15 * (high - low), 1e-6)
    low, high = low - room, high + room
    beyond = ((places < low) | (places > high)).any(axis=1)
    axes.scatter(*np.clip(known, low, high).T, s=14, color=KNOWN, linewidths=0, zorder=2)
    for name, color in COLORS.items():
        here = np.array([one == name for one in status], dtype=np.bool_)
        axes.scatter(*np.clip(places[here], low, high).T, s=16, color=color, alpha=0.55, linewidths=0, zorder=3)
    axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    headline(axes, "Where pairs lie")
    marks = [("known from pretraining", KNOWN), *((name, color) for name, color in COLORS.items() if name in status)]
    dots = [Line2D([], [], linestyle="", marker="o", color=color, label=name) for name, color in marks]
    key(figure, dots[not len(known) :])
    footnote(figure, f"{int(beyond.sum())} beyond the frame, drawn at its edge" if beyond.any() else "")
    return figure
