"""`flashfm embed`: the map, its neighbours, and the comparison with chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.applications.generator import generate_many
from flashfm.cli import embed


@pytest.fixture
def table(tmp_path: Path, synthetic) -> Path:
    """Twelve applications under names of generated ones, and one of another world."""
    frame = synthetic(13, seed=2)
    names = [spec.name for spec in generate_many(0, 12)] + ["mine"]
    frame["app"] = frame["app"].map(dict(zip(frame["app"].unique(), names, strict=True)))
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_neighbours_groups_and_chance(flashfm, model: Path, table: Path) -> None:
    code, said, err = flashfm("embed", "--model", model, "--data", table)
    assert (code, err) == (0, "")
    assert "nearest of another application" in said
    assert "Nearest neighbour of the same group:" in said
    found = json.loads(flashfm("embed", "--model", model, "--data", table, "--json")[1])
    assert len(found["pairs"]) == 13
    assert all(row["nearest"]["app"] != row["app"] for row in found["pairs"])
    assert {row["app"]: row["group"] for row in found["pairs"]}["mine"] == "other"
    assert not any(row["pretrained_on"] for row in found["pairs"])
    assert 0 <= found["agreement"]["chance"] <= 1
    assert 0 < found["explained_variance"] <= 1
    assert np.ptp([row["x"] for row in found["pairs"]]) > np.ptp([row["y"] for row in found["pairs"]]) * 0.5


def test_applications_of_ones_own_have_no_group(flashfm, model: Path, synthetic, tmp_path: Path) -> None:
    synthetic(24).to_csv(tmp_path / "own.csv", index=False)
    code, said, _ = flashfm("embed", "--model", model, "--data", tmp_path / "own.csv")
    assert code == 0
    assert "No group is known" in said
    assert "0 of applications that were not pretrained on" in said


def test_the_map(flashfm, model: Path, table: Path, tmp_path: Path) -> None:
    code, said, _ = flashfm("embed", "--model", model, "--data", table, "--plot", tmp_path / "map.svg")
    assert code == 0
    assert "Picture:" in said
    text = (tmp_path / "map.svg").read_text()
    assert "other (1)" in text
    assert "two principal components" in text


def test_a_pair_with_one_configuration_and_one_that_is_new_to_the_grid(
    flashfm, model: Path, synthetic, tmp_path: Path
) -> None:
    frame = synthetic(4, seed=3)
    frame = pd.concat([frame, frame[:1].assign(app="once", memory_mb=700)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = json.loads(flashfm("embed", "--model", model, "--data", tmp_path / "t.csv", "--json")[1])
    assert [row["app"] for row in found["pairs"]][-1] == "once"


def test_what_it_refuses(flashfm, model: Path, synthetic, small, tmp_path: Path) -> None:
    code, _, err = flashfm("embed", "--model", model, "--data", "nothing")
    assert code == 3
    assert "neither a file nor a table" in err
    synthetic(1).to_csv(tmp_path / "one.csv", index=False)
    code, _, err = flashfm("embed", "--model", model, "--data", tmp_path / "one.csv")
    assert code == 3
    assert "one application has no neighbours" in err
    import flashfm as package

    package.pretrain(synthetic(3), config=small).save_pretrained(tmp_path / "few")
    code, _, err = flashfm("embed", "--model", tmp_path / "few")
    assert code == 7
    assert "no network, so no embeddings" in err


# -- parts -----------------------------------------------------------------------------------------------------------


def test_groups_are_what_most_segments_are_bound_by() -> None:
    from flashfm.applications.segments import segment_class

    specs = {spec.name: spec for spec in generate_many(0, 200)}
    found = embed._groups([*specs, "airline-booking", "unknown"])
    assert found["unknown"] == embed.OTHER
    assert found["airline-booking"] == "network"
    for name, spec in specs.items():
        bounds = [segment_class(part.kind).bound for part in spec.segments]
        if len(set(bounds)) == 1:
            assert found[name] == embed.BOUNDS[bounds[0]]
        if len(bounds) == 2 and len(set(bounds)) == 2:
            assert found[name] == embed.MIXED


def test_agreement_against_chance() -> None:
    apps = [f"a{i}" for i in range(40)]
    groups = {app: "CPU" if i < 20 else "disk" for i, app in enumerate(apps)}
    alike = np.array([(i + 1) % 20 + 20 * (i // 20) for i in range(40)])
    found = embed._agreement(apps, alike, groups)
    assert found is not None
    assert found["share"] == 1
    assert found["chance"] == pytest.approx(0.49, abs=0.03)
    assert found["p_value"] < 0.01
    unlike = embed._agreement(apps, (np.arange(40) + 20) % 40, groups)
    assert unlike is not None
    assert unlike["share"] == 0
    assert unlike["p_value"] > 0.9


def test_the_nearest_is_of_another_application(model: Path) -> None:
    places = np.array([[0.0], [0.1], [5.0], [6.0]])
    nearest, distance = embed._neighbours(places, ["a", "a", "b", "c"])
    assert nearest.tolist() == [2, 2, 3, 2]
    assert distance == pytest.approx([5.0, 4.9, 1.0, 1.0])
    assert FlashRegressor.from_pretrained(model).model.novelty is not None
