"""Neighbours: dominant segments, like neighbours, and chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flashfm.applications.generator import generate_many
from flashfm.applications.spec import SegmentSpec
from flashfm.errors import ModelError
from flashfm.experiments.neighbours import (
    SETS,
    SHOTS,
    bound,
    dominant_segments,
    likeness,
    nearest_apps,
    work,
)
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Observations


def test_work_grows_with_amounts_and_not_with_settings() -> None:
    assert work(SegmentSpec("sleep", {"sleep_ms": 7})) == 7
    assert work(SegmentSpec("image-resize", {"side": 10, "images": 3})) == 300
    assert work(SegmentSpec("matrix-multiplication", {"side": 10, "repeats": 2})) == 2000
    assert work(SegmentSpec("compression", {"file_kb": 5, "level": 9})) == 5


def test_the_dominant_segment_is_the_one_that_takes_longest(observe: Callable[..., Observations]) -> None:
    per_unit = {"sleep": 1.0, "dynamodb-read": 0.05}
    rows = []
    for app in generate_many(0, 300):
        ms = sum(per_unit.get(s.kind, 1e-9) * work(s) + 0.5 for s in app.segments)
        rows += [{"app": app.name, "platform": "lambda", "memory_mb": mb, "runtime_ms": ms} for mb in (512, 1024)]
    found, error = dominant_segments(observe(pd.DataFrame(rows)))
    assert error < 0.01
    for app in generate_many(0, 300):
        longest = max(app.segments, key=lambda s: per_unit.get(s.kind, 1e-9) * work(s))
        if per_unit.get(longest.kind, 0) * work(longest) > 2:
            assert found[app.name] == longest.kind


def test_likeness_against_chance() -> None:
    label = {f"a{i}": "x" if i < 10 else "y" for i in range(20)}
    alike = likeness([(f"a{i}", [f"a{(i + 1) % 10}"] * 2) for i in range(10)], label)
    assert alike.share == 1.0
    assert alike.sd == 0.0
    assert (alike.pairs, alike.queries) == (10, 20)
    assert alike.chance == pytest.approx(9 / 19, abs=0.05), "of 19 others nine have the same label"
    assert alike.chance_low < alike.chance < alike.chance_high < 1
    assert likeness([("a0", ["a15", "a1"])], label).share == 0.5


def test_the_nearest_application_is_another_one(pretrained: FlashModel, unseen: Observations) -> None:
    near = nearest_apps(pretrained, unseen)
    assert [app for app, _ in near] == [app for app, _ in unseen.pairs]
    known = {app for app, _ in pretrained.known}
    assert all(len(others) == SETS and set(others) <= known for _, others in near)
    assert SHOTS == 3


def test_no_pair_of_the_application_itself_is_its_neighbour(
    pretrained: FlashModel, observe: Callable[..., Observations], synthetic: Callable[..., pd.DataFrame]
) -> None:
    """Of a model that knows the same applications on six platforms, whose embeddings are nearest of all."""
    assert pretrained.novelty is not None
    seen = observe(synthetic(24))
    assert seen.pairs == pretrained.known
    known = tuple((app, platform) for platform in "abcdef" for app, _ in seen.pairs)
    references = pretrained.novelty
    copied = replace(
        references,
        reference=np.tile(references.reference, (6, 1)),
        pair=np.concatenate([references.pair + 24 * i for i in range(6)]),
    )
    model = replace(pretrained, known=known, novelty=copied)
    assert all(app not in others for app, others in nearest_apps(model, seen))


def test_a_model_of_one_application_has_no_other_to_compare_with(pretrained: FlashModel, unseen: Observations) -> None:
    only = replace(pretrained, known=tuple((unseen.pairs[0][0], str(i)) for i in range(24)))
    with pytest.raises(ModelError, match="knows no application but"):
        nearest_apps(only, unseen)


def test_bounds_are_those_of_the_segments() -> None:
    assert [bound(kind) for kind in ("sleep", "s3-read", "file-write", "image-resize")] == [
        "time",
        "network",
        "disk",
        "cpu",
    ]
