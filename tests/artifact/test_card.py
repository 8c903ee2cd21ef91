"""Model cards: all that was given is shown, nothing else, and nothing breaks the Markdown."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.artifact.card import (
    Calibration,
    CardData,
    DataPart,
    GroupError,
    NoveltyRates,
    Score,
    figure,
    render,
)
from flashfm.artifact.checkpoint import load, save

FULL = CardData(
    name="serverless-memory",
    kind="config-search",
    summary="Predicts run times at every memory size.",
    intended_use="Choosing a memory size.",
    command="flashfm pretrain config-search --out serverless-memory",
    commit="0123456789ab",
    date=datetime.date(2026, 3, 1),
    machine={"cpu": "Some CPU", "cores": 2, "memory_gib": 7.75},
    seconds=123.456,
    data=(
        DataPart("Measured functions", "Apache-2.0", "lambda", 404, 404, 2424),
        DataPart("Measured functions", "Apache-2.0", "openwhisk", 154, 308, 1848),
    ),
    splits="Twenty splits by application.",
    protocol="Random shots; the mean over pairs.",
    scores=(
        Score("lambda", "unseen applications", 1, 0.07654, 0.05432, 0.00456, 81),
        Score("lambda", "unseen applications", 3, 0.0412, None, math.nan, 81),
    ),
    by_application=(GroupError("real", 4, 0.111, 0.0555, 0.875),),
    by_segment=(GroupError("sleep", 12, 0.0123, 0.00987, 0.9), GroupError("s3_write", 3, 0.321, None, None)),
    calibration=(Calibration(1, 0.9, 0.913),),
    novelty=NoveltyRates(0.05, 0.0478, 0.876, "pairs of openwhisk"),
    limits=("Seen at 128 to 3008 MB only.", "Rare kinds have larger errors."),
    size_bytes=1_234_567,
    licence="Apache-2.0",
    citation="H. Qiu et al.: FLASH. 2023",
)
SECTIONS = {
    "Intended use": {"intended_use": ""},
    "Limits": {"limits": ()},
    "How to reproduce it": {"command": ""},
    "Data": {"data": ()},
    "Scores": {"scores": (), "splits": "", "protocol": ""},
    "Error by kind of application": {"by_application": (), "by_segment": ()},
    "Intervals": {"calibration": ()},
    "Novelty": {"novelty": None},
    "Citation": {"citation": ""},
}


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every table, the rule left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for i, row in enumerate(block) if i != 1] for block in rows]


def test_everything_given_is_shown() -> None:
    text = render(FULL)
    assert re.findall("^## (.*)", text, re.MULTILINE) == list(SECTIONS)
    rows = {tuple(row) for table in tables(text) for row in table}
    assert {
        ("kind", "config-search"),
        ("date", "2026-03-01"),
        ("commit", "0123456789ab"),
        ("licence", "Apache-2.0"),
        ("size", "1234567 bytes (1.18 MiB)"),
        ("pretraining, seconds", "123"),
        ("cpu", "Some CPU"),
        ("memory_gib", "7.75"),
        ("Measured functions", "openwhisk", "154", "308", "1848", "Apache-2.0"),
        ("lambda", "unseen applications", "1", "0.0765", "0.0543", "0.00456", "81"),
        ("lambda", "unseen applications", "3", "0.0412", "–", "–", "81"),
        ("real", "4", "0.111", "0.0555", "0.875"),
        ("s3_write", "3", "0.321", "–", "–"),
        ("1", "0.900", "0.913"),
        ("0.0500", "0.0478", "0.876", "pairs of openwhisk"),
    } <= rows
    for words in (FULL.summary, FULL.intended_use, FULL.command, FULL.splits, FULL.protocol, FULL.citation):
        assert words in text
    for sentence in FULL.limits:
        assert f"- {sentence}\n" in text


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_without_data_is_left_out(title: str) -> None:
    text = render(dataclasses.replace(FULL, **SECTIONS[title]))
    assert re.findall("^## (.*)", text, re.MULTILINE) == [name for name in SECTIONS if name != title]


def test_the_least_card() -> None:
    assert render(CardData("m", "k", "s")) == "# m\n\ns\n\n| fact | value |\n|---|---|\n| kind | k |\n"


def test_one_kind_of_group_alone() -> None:
    text = render(dataclasses.replace(FULL, by_application=()))
    assert "dominant segment" in text
    assert "application group" not in text


WORDS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("|`<\n#"), max_size=20)


@given(WORDS, WORDS)
def test_no_text_breaks_a_table(one: str, other: str) -> None:
    card = dataclasses.replace(
        FULL,
        data=(DataPart(one, other, one, 1, 2, 3),),
        by_segment=(GroupError(other, 1, None, None, None),),
        machine={"cpu": one},
        summary="s",
    )
    text = render(card)
    assert [len(table) for table in tables(text)] == [7, 2, 2, 3, 2, 2, 2, 2]
    for table in tables(text):
        assert len({len(row) for row in table}) == 1
    outside = re.sub(r"^(`{3,})sh\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<" not in outside.replace("&lt;", "")


def test_a_command_stays_inside_its_fence() -> None:
    text = render(dataclasses.replace(FULL, command="echo ```\n# no heading"))
    assert "````sh\necho ```\n# no heading\n````\n" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0, "0"),
        (0.0, "0"),
        (404, "404"),
        (1234567, "1234567"),
        (0.04567, "0.0457"),
        (0.3, "0.300"),
        (-1.005, "-1.00"),
        (9.999, "10.0"),
        (99.96, "100"),
        (1234.5, "1230"),
        (0.0001234, "0.000123"),
        (0.000012345, "1.23e-05"),
        (1.5e9, "1.50e+09"),
        (np.float64(0.5), "0.500"),
    ],
)
def test_figures_have_three_digits(value: float | None, shown: str) -> None:
    assert figure(value) == shown


@given(st.floats(-1e300, 1e300))
def test_figures_are_near_what_was_given(value: float) -> None:
    assert math.isclose(float(figure(value)), value, rel_tol=0.005001)


def test_a_card_is_saved_with_the_model(tmp_path: Path) -> None:
    save(tmp_path / "m", kind=FULL.kind, config={}, tensors={"x": np.ones(2)}, card=render(FULL))
    assert load(tmp_path / "m", kind=FULL.kind).card == render(FULL)
