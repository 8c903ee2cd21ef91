"""The command that makes the shipped costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashfm.experiments.costs import described, main, run
from flashfm.tasks.autoscaling.calibration import ShippedCosts, load_costs


def test_the_shipped_file_is_what_the_command_writes(tmp_path: Path) -> None:
    made = run(tmp_path / "costs.json")
    again = ShippedCosts.from_json((tmp_path / "costs.json").read_text(), "costs.json")
    shipped = load_costs()
    assert (tmp_path / "costs.json").stat().st_size < 100_000
    assert [one.name for one in again.costs] == [one.name for one in made.costs] == [one.name for one in shipped.costs]
    for ours, theirs in zip(again.costs, shipped.costs, strict=True):
        assert ours.cpu_s == pytest.approx(theirs.cpu_s, rel=2e-3), ours.name
    assert again.fit_error == shipped.fit_error


def test_the_description_states_distribution_and_error() -> None:
    text = described(load_costs())
    assert "| cpu_s |" in text
    assert "400 of 1000 applications are measured" in text


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["costs", str(tmp_path / "file" / "costs.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith("flashfm: ")
    assert "\n" not in str(ended.value.code)
