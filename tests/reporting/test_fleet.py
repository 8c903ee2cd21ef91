"""The page of a fleet: sums that are those of the plan, tables that end, names that do no harm."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flashfm.errors import DataError, DataFormatError
from flashfm.fleet import digest as digesting
from flashfm.fleet.digest import Foremost, digest
from flashfm.fleet.parts import KEY
from flashfm.fleet.plan import schema
from flashfm.fleet.reading import PlanFile
from flashfm.reporting.fleet import page
from flashfm.tasks.space import ConfigSpace

SPACE = ConfigSpace.fit(pd.DataFrame({"memory_mb": [128.0, 10_240.0], "family": ["small", "big"]}))
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>{{ 7*7 }}"
MAP = {"points": [[0.0, 0.0], [1.0, 2.0]], "explained": 0.6}
RUN = {"settings": {"objective": "cost", "price": {"name": "aws-lambda"}, "max_slowdown": 1.2, "strict": True}}


def fleet(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows of a plan, of every status."""
    rng = np.random.default_rng(seed)
    status = rng.choice(["recommended", "stay", "declined", "bad"], n, p=[0.6, 0.2, 0.12, 0.08])
    done, today = np.isin(status, ["recommended", "stay"]), np.exp(rng.normal(1, 1, n))
    saving = rng.uniform(-0.4, 0.9, n)
    frame = pd.DataFrame(
        {
            "app": [f"app-{i}" for i in range(n)],
            "platform": rng.choice(np.array(["east", None], dtype=object), n),
            "status": status,
            "memory_mb": rng.choice([128.0, 512.0], n),
            "family": "big",
            "runtime_ms": 100.0,
            "lower_ms": 90.0,
            "upper_ms": rng.uniform(100, 300, n),
            "usd_per_million": today * (1 - saving),
            "usd_per_million_lower": today * (1 - saving) * 0.9,
            "usd_per_million_upper": today * (1 - saving) * 1.2,
            "today_memory_mb": 1024.0,
            "today_runtime_ms": 110.0,
            "today_usd_per_million": today,
            "saving": saving,
            "saving_lower": saving - 0.1,
            "saving_upper": saving + 0.05,
            "confidence": rng.choice(["measured", "likely", "uncertain"], n),
            "p_value": rng.uniform(0, 1, n),
            "map_x": rng.normal(size=n),
            "map_y": rng.normal(size=n),
        }
    )
    frame.loc[~done, frame.columns[3:]] = None
    frame["shots"] = 2
    frame["reason"] = [
        f"shots: row {i}, column 'c{i}': got -{i}.5" if one == "bad" else None for i, one in enumerate(status)
    ]
    frame.loc[status == "declined", "reason"] = "unlike all (p = 0.01)"
    frame.loc[status == "declined", "mend"] = "measure 2 more"
    return frame


def written(frame: pd.DataFrame, path: Path, **told: Any) -> Path:
    columns = schema(SPACE)
    full = frame.reindex(columns=columns.names)
    table = pa.Table.from_pandas(full.astype(object).where(full.notna(), None), schema=columns, preserve_index=False)
    metadata = {KEY: json.dumps({"version": 1, "run": RUN, "summary": {}, "map": MAP, **told}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=97)
    return path


class Page(HTMLParser):
    """Headings, the rows of each table by heading, and tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.heading, self.inside = "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag in ("h1", "h2"):
            self.heading = ""
        if tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self.heading][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.inside in ("h1", "h2"):
            self.heading += data.strip()
        elif self.inside in ("td", "th"):
            self.tables[self.heading][-1][-1] += data.strip()
        elif self.inside == "p":
            self.texts[self.heading] = self.texts.get(self.heading, "") + data


# what is read off a plan


def test_a_digest_is_what_the_whole_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashfm.fleet.reading.BATCH_PAIRS", 64)
    frame = fleet(700)
    found = digest(PlanFile.open(written(frame, tmp_path / "plan.parquet")), 10, 50)
    chosen = frame[frame["status"] == "recommended"]
    assert found.pairs == 700
    for (status, sure), n in found.counts.items():
        alike = frame["confidence"].isna() if sure is None else frame["confidence"] == sure
        assert n == ((frame["status"] == status) & alike).sum()
    assert (found.priced, found.compared) == (len(chosen), len(chosen))
    assert found.usd_today == pytest.approx(chosen["today_usd_per_million"].sum())
    assert found.usd_planned == pytest.approx(chosen["usd_per_million"].sum())
    saved = chosen["today_usd_per_million"] - chosen["usd_per_million"]
    assert (found.dearer, found.usd_more) == ((saved < 0).sum(), pytest.approx(-saved[saved < 0].sum()))
    assert found.histogram.sum() == len(chosen)
    for name, score in (
        ("savings", saved[saved > 0]),
        ("slower", (chosen["upper_ms"] / 110)[chosen["upper_ms"] > 110]),
        ("costlier", (chosen["usd_per_million_upper"] / chosen["today_usd_per_million"])[lambda x: x > 1]),
        ("novel", -chosen["p_value"][chosen["p_value"] < 0.05]),
    ):
        kept = getattr(found, name)
        expected = score.sort_values(ascending=False)
        assert kept.count == len(expected)
        assert [row["app"] for row in kept.rows] == frame.loc[expected.index[:10], "app"].tolist()
    assert [(kind, reason.count) for kind, reason in found.by_reason("bad")] == [
        ("shots: row …, column '…': got …", int((frame["status"] == "bad").sum()))
    ]
    assert (
        found.reasons["bad"]["shots: row …, column '…': got …"].example["app"]
        == frame.loc[frame["status"] == "bad", "app"].iloc[0]
    )
    assert len(found.places.rows) == 50
    assert found.places.count == frame["map_x"].notna().sum()


def test_the_foremost_rows_do_not_depend_on_batches() -> None:
    score = np.random.default_rng(1).integers(0, 9, 200).astype(float)
    score[::7] = np.nan
    table = pa.table({"row": np.arange(200)})
    whole, parts = Foremost(12), Foremost(12)
    whole.add(table, score)
    for start in range(0, 200, 17):
        parts.add(table.slice(start, 17), score[start : start + 17])
    assert whole.rows == parts.rows
    assert whole.count == parts.count == np.isfinite(score).sum()
    assert whole.rows[0]["row"] == np.nanargmax(score)


def test_reasons_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digesting, "MOST_REASONS", 3)
    letters = [chr(ord("a") + i % 26) * (1 + i) for i in range(40)]
    frame = pd.DataFrame({"app": letters, "status": "bad", "reason": letters})
    reasons = dict(digest(PlanFile.open(written(frame, tmp_path / "plan.parquet")), 5, 5).by_reason("bad"))
    assert {kind: reason.count for kind, reason in reasons.items()} == {"other reasons": 37, "a": 1, "bb": 1, "ccc": 1}


# the page


def test_the_page_says_what_the_plan_comes_to(tmp_path: Path) -> None:
    frame = fleet(900)
    out = page(written(frame, tmp_path / "plan.parquet"), tmp_path / "plan.html", rows=7, points=200)
    seen, text = Page(out), out.read_text(encoding="utf-8")
    chosen = frame[frame["status"] == "recommended"]
    before, after = chosen["today_usd_per_million"].sum(), chosen["usd_per_million"].sum()
    (title,) = re.findall("<h1>(.*)</h1>", text)
    assert title == f"Saves {100 * (1 - after / before):.0f} % of the cost of {len(chosen)} of 900 pairs"
    assert f"instead of {before:,.0f} USD" in text
    assert "How often a pair runs is not known here" in text
    assert "at most 1.20 times the fastest" in text
    statuses = {row[0].split(":")[0]: row[1] for row in seen.tables["What is to be done"][1:]}
    assert statuses == {name: str(n) for name, n in frame["status"].value_counts().items()}
    for heading in (
        "Largest savings",
        "Worst risks: run time",
        "Worst risks: cost",
        "Worst risks: unlike what is known",
    ):
        assert len(seen.tables[heading]) == 1 + 7
        hidden = re.search(r"([\d,]+) pairs, ([\d,]+) of them not shown", seen.texts[heading])
        assert hidden is not None
        assert int(hidden[1]) - int(hidden[2]) == 7
    declined = seen.tables["Declined pairs"][1]
    assert declined[:2] == [str((frame["status"] == "declined").sum()), "unlike all (p = …)"]
    assert declined[3:] == ["unlike all (p = 0.01)", "measure 2 more"]
    assert seen.tags.count("img") == 2
    assert "Map" in seen.texts
    again = page(tmp_path / "plan.parquet", tmp_path / "again.html", rows=7, points=200)
    assert again.read_bytes() == out.read_bytes()


def test_it_is_one_file_in_which_nothing_runs(tmp_path: Path) -> None:
    frame = fleet(60)
    frame["app"] = HOSTILE + frame["app"]
    frame["platform"] = HOSTILE
    frame.loc[frame["status"].isin(["bad", "declined"]), ["reason", "mend"]] = HOSTILE
    frame.loc[frame["family"].notna(), "family"] = "big"
    run = {"settings": {"objective": HOSTILE, "price": {"name": HOSTILE}}}
    out = page(written(frame, tmp_path / "plan.parquet", run=run), tmp_path / "plan.html")
    seen, text = Page(out), out.read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not any(name.startswith("on") for name, _ in seen.attributes)
    assert all((value or "").startswith("data:") for name, value in seen.attributes if name in ("src", "href"))
    assert "http:" not in re.sub('"data:[^"]*"', "", text)


@pytest.mark.parametrize("lacking", ["prices", "today", "recommendations", "map", "names"])
def test_what_is_not_known_is_not_told(tmp_path: Path, lacking: str) -> None:
    frame, told = fleet(80), {}
    money = [name for name in frame if "usd" in name]
    if lacking == "prices":
        frame[money] = np.nan
    if lacking == "today":
        frame[[name for name in frame if name.startswith(("today_", "saving"))]] = np.nan
    if lacking == "recommendations":
        frame = frame[frame["status"] == "bad"]
    if lacking == "map":
        frame[["map_x", "map_y"]] = np.nan
    if lacking == "names":
        frame["app"], told = None, {"map": "damaged"}
    seen = Page(page(written(frame, tmp_path / "plan.parquet", **told), tmp_path / "plan.html"))
    intro = " ".join(seen.texts.values())
    assert ("No costs are known" in intro) == (lacking in ("prices", "today", "recommendations"))
    assert ("Savings" in seen.texts) == (lacking not in ("today", "recommendations"))
    assert ("Worst risks: cost" in seen.texts) == (lacking not in ("prices", "today", "recommendations"))
    assert ("Map" in seen.texts) == (lacking not in ("recommendations", "map"))
    assert "nan" not in " ".join(cell for rows in seen.tables.values() for row in rows for cell in row)


def test_what_is_refused(tmp_path: Path) -> None:
    plan = written(fleet(5), tmp_path / "plan.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"expected a \.html file"):
        page(plan, tmp_path / "plan.txt")
    with pytest.raises(DataError, match="at least 1"):
        page(plan, tmp_path / "plan.html", rows=0)
    with pytest.raises(DataFormatError, match="expected a plan of a fleet"):
        page(tmp_path / "other.parquet", tmp_path / "plan.html")
    with pytest.raises(DataError, match="cannot be written"):
        page(plan, tmp_path / "no" / "plan.html")
    assert not (tmp_path / "plan.html").exists()
