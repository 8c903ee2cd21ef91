"""The model card: figures of the run that made a model in, Markdown out.

Everything shown was given and nothing is computed here; a section without data is left out, an absent figure is a dash.
Errors are absolute percentage errors as fractions (0.05 = 5 %), as in the paper's tables.
"""

from __future__ import annotations

import datetime
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True)
class DataPart:
    """What one platform of one data set gave to pretraining."""

    title: str
    """Title of the data set's card."""
    licence: str
    platform: str
    applications: int
    pairs: int
    rows: int


@dataclass(frozen=True)
class Score:
    """Absolute percentage error on one part of one data set."""

    dataset: str
    part: str
    """As "unseen applications"."""
    shots: int
    mean: float | None
    median: float | None
    sd: float | None
    """Standard deviation of the mean over splits or seeds, as `CardData.protocol` tells."""
    n_pairs: int


@dataclass(frozen=True)
class GroupError:
    """Error on one kind of application."""

    group: str
    n_pairs: int
    ape_1: float | None
    """Mean absolute percentage error with one shot."""
    ape_3: float | None
    """The same with three shots."""
    coverage: float | None
    """Share of measured values inside their interval, in [0, 1]."""


@dataclass(frozen=True)
class Calibration:
    """How honest the intervals are after some shots."""

    shots: int
    nominal: float
    """Share that was promised, in [0, 1]."""
    covered: float | None
    """Share of measured values inside their interval, in [0, 1]."""


@dataclass(frozen=True)
class NoveltyRates:
    """How well pairs unlike the pretraining data are told."""

    level: float
    """The share of known pairs that may be flagged, in [0, 1]."""
    false_alarms: float | None
    """Share of held-out pairs of the pretraining kind that were flagged."""
    detected: float | None
    """Share of truly different pairs that were flagged."""
    different: str = "another platform"
    """What the truly different pairs were."""


@dataclass(frozen=True)
class CardData:
    """All that a model card can show; only the first three are always there."""

    name: str
    kind: str
    """As "config-search"."""
    summary: str
    """What the model does, in a sentence or two."""
    intended_use: str = ""
    command: str = ""
    """What reproduces the model, as typed in a shell."""
    commit: str = ""
    date: datetime.date | None = None
    machine: Mapping[str, str | int | float] = field(default_factory=dict)
    seconds: float | None = None
    """Duration of pretraining."""
    data: tuple[DataPart, ...] = ()
    splits: str = ""
    """How pairs were parted into those for training and those for testing."""
    protocol: str = ""
    """How the scores were measured."""
    scores: tuple[Score, ...] = ()
    by_application: tuple[GroupError, ...] = ()
    """Groups of applications, as real and generated."""
    by_segment: tuple[GroupError, ...] = ()
    """Groups of one dominant segment."""
    calibration: tuple[Calibration, ...] = ()
    novelty: NoveltyRates | None = None
    limits: tuple[str, ...] = ()
    """One sentence each."""
    size_bytes: int | None = None
    licence: str = ""
    citation: str = ""


def render(card: CardData) -> str:
    """The card as Markdown, ending in one newline; the same card gives the same text."""
    text: str = _template().render(card=card)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def figure(value: float | int | None) -> str:
    """Three significant digits; a dash where the figure is absent; an int as it is."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int):
        return str(value)
    if value == 0:
        return "0"
    text = f"{value:.2e}"
    exponent = int(text.partition("e")[2])
    return f"{float(text):.{max(0, 2 - exponent)}f}" if -4 <= exponent <= 8 else text


@cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - Markdown; `cell` and `words` escape what would be markup
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "words": _words, "code": _code, "mib": _mib}
    return environment.from_string(TEMPLATE)


def _cell(value: object) -> str:
    """One cell of a table."""
    if value is None:
        return figure(None)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return figure(int(value) if isinstance(value, numbers.Integral) else float(value))
    return _words(value).replace("|", "\\|") or "–"


def _words(value: object) -> str:
    """Text on one line in which Markdown sees no HTML."""
    return " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")


def _code(value: str) -> str:
    """A fenced block, whatever the text holds."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{value.strip()}\n{fence}"


def _mib(value: int) -> str:
    return f"{value} bytes ({figure(value / 2**20)} MiB)"


TEMPLATE = """
{% macro table(titles, rows) %}
| {{ titles | join(" | ") }} |
|{{ "---|" * (titles | length) }}
{% for row in rows %}
| {% for value in row %}{{ value | cell }}{{ " | " if not loop.last }}{% endfor %} |
{% endfor %}
{% endmacro %}
{% macro groups(title, rows) %}
{{ table([title, "pairs", "mean APE, K = 1", "mean APE, K = 3", "inside the interval"], rows) }}
{% endmacro %}
# {{ card.name | words }}

{{ card.summary | words }}

{% set facts = [
  ("kind", card.kind), ("date", card.date), ("commit", card.commit), ("licence", card.licence),
  ("size", card.size_bytes | mib if card.size_bytes is not none else ""), ("pretraining, seconds", card.seconds),
] | rejectattr(1, "in", ("", none)) | list %}
{{ table(["fact", "value"], facts) }}

{% if card.intended_use %}
## Intended use

{{ card.intended_use | words }}

{% endif %}
{% if card.limits %}
## Limits

{% for sentence in card.limits %}
- {{ sentence | words }}
{% endfor %}

{% endif %}
{% if card.command %}
## How to reproduce it

{{ card.command | code }}

{% endif %}
{% if card.machine %}
Machine:

{{ table(["part", "value"], card.machine.items()) }}

{% endif %}
{% if card.data %}
## Data

{% set rows = [] %}
{% for part in card.data %}
{% set _ = rows.append((part.title, part.platform, part.applications, part.pairs, part.rows, part.licence)) %}
{% endfor %}
{{ table(["data set", "platform", "applications", "pairs", "rows", "licence"], rows) }}

{% endif %}
{% if card.scores or card.splits or card.protocol %}
## Scores

{{ card.splits | words }}

{{ card.protocol | words }}

{% endif %}
{% if card.scores %}
APE is the absolute percentage error as a fraction, K the number of shots.

{% set rows = [] %}
{% for s in card.scores %}
{% set _ = rows.append((s.dataset, s.part, s.shots, s.mean, s.median, s.sd, s.n_pairs)) %}
{% endfor %}
{{ table(["data set", "part", "K", "mean APE", "median", "sd of the mean", "pairs"], rows) }}

{% endif %}
{% if card.by_application or card.by_segment %}
## Error by kind of application

{% for title, members in [("application group", card.by_application), ("dominant segment", card.by_segment)] %}
{% if members %}
{% set rows = [] %}
{% for g in members %}
{% set _ = rows.append((g.group, g.n_pairs, g.ape_1, g.ape_3, g.coverage)) %}
{% endfor %}
{{ groups(title, rows) }}

{% endif %}
{% endfor %}
{% endif %}
{% if card.calibration %}
## Intervals

{% set rows = [] %}
{% for c in card.calibration %}
{% set _ = rows.append((c.shots, c.nominal, c.covered)) %}
{% endfor %}
{{ table(["K", "nominal", "covered"], rows) }}

{% endif %}
{% if card.novelty %}
## Novelty

{% set n = card.novelty %}
{% set rows = [(n.level, n.false_alarms, n.detected, n.different)] %}
{{ table(["level", "false alarms", "detected", "what was to be detected"], rows) }}

{% endif %}
{% if card.citation %}
## Citation

{{ card.citation | words }}
{% endif %}
"""
"""Jinja2 template of the card."""
