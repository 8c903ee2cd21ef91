"""Patches: what real tools make of them, which pairs are in them, and names that are out to do harm."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.applications.generator import generate_many
from flashfm.applications.packaging.options import PackageOptions
from flashfm.applications.packaging.sam import template
from flashfm.errors import DataError, DataFormatError
from flashfm.fleet import FleetSettings, recommend, write_patches
from flashfm.fleet.kustomize import MARK, patch

Planned = Callable[..., Path]
HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", 'a","=1', "a;=cmd|' /C calc'!A0", "a\n=1", " =1"]


def merged(one: Any, other: Any) -> Any:
    """As yq's `*` merges maps."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{name: merged(one.get(name), value) for name, value in other.items()}}


def opened(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# spreadsheets


def test_a_spreadsheet_has_every_pair_in_a_readable_order(
    many: Callable[..., pd.DataFrame], regressor: FlashRegressor, tmp_path: Path
) -> None:
    many(30, 3).to_parquet(tmp_path / "rows.parquet")
    plan = tmp_path / "plan.parquet"
    recommend(tmp_path / "rows.parquet", plan, regressor, FleetSettings(fine_tune=False, part_pairs=8))
    done = write_patches(plan, tmp_path / "plan.csv", "csv")
    assert (done.kind, done.pairs, done.written, done.skipped) == ("csv", 30, 30, {})
    expected = pd.read_parquet(plan)
    found = pd.read_csv(tmp_path / "plan.csv", encoding="utf-8-sig")
    assert list(found.columns[:6]) == ["app", "platform", "status", "confidence", "memory_mb", "today_memory_mb"]
    assert set(found.columns) == set(expected.columns)
    same = found[expected.columns].astype(object).fillna(0), expected.astype(object).fillna(0)
    pd.testing.assert_frame_equal(*same)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_a_formula(plan_of: Planned, tmp_path: Path, name: str) -> None:
    plan = plan_of(tmp_path / "plan.parquet", [{"app": name, "saving": -0.25}, {"app": "after", "reason": name}])
    write_patches(plan, tmp_path / "plan.csv", "csv")
    text = (tmp_path / "plan.csv").read_text(encoding="utf-8-sig")
    for separator in ",;\t|":
        for record in csv.reader(text.splitlines(keepends=True), delimiter=separator):
            for cell in record:
                begin = cell.strip().removeprefix('"').strip()[:1]
                assert begin not in ("=", "+", "@", "＝"), cell
                assert begin != "-" or cell.startswith("-0.25"), cell
    first, after = opened(tmp_path / "plan.csv")
    assert first["app"].replace("'", "") == name.replace("'", "")
    assert first["saving"] == "-0.25"
    assert after["app"] == "after"


@given(st.text(st.characters(codec="utf-8", exclude_characters="'"), max_size=12))
def test_names_are_what_they_were_but_for_apostrophes(
    plan_of: Planned, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    write_patches(plan_of(folder / "plan.parquet", [{"app": name}]), folder / "plan.csv", "csv")
    (row,) = opened(folder / "plan.csv")
    assert row["app"].replace("'", "") == name
    assert row["app"].strip("\0 \t\r\n\x0b\x0c")[:1] not in tuple("=+-@")


# AWS SAM


def test_cfn_lint_takes_a_template_with_the_sizes(plan_of: Planned, tmp_path: Path) -> None:
    (spec,) = generate_many(0, 1)
    plan = plan_of(tmp_path / "plan.parquet", [{"app": "Function", "memory_mb": 1769.0}])
    write_patches(plan, tmp_path / "memory.yaml", "sam")
    whole = merged(
        template(spec, PackageOptions(memory_mb=256)), yaml.safe_load((tmp_path / "memory.yaml").read_text())
    )
    assert whole["Resources"]["Function"]["Properties"]["MemorySize"] == 1769
    assert whole["Resources"]["Function"]["Type"] == "AWS::Serverless::Function"
    (tmp_path / "sized.yaml").write_text(yaml.safe_dump(whole))
    tool = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([tool, tmp_path / "sized.yaml"], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_only_sound_recommended_pairs_are_in_the_fragment(plan_of: Planned, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"app": f"Fn{i}", "memory_mb": 128.0 + i} for i in range(20)]
    rows += [{"app": "null"}, {"app": "123"}, {"app": "on"}, {"app": "L" * 255}, {"app": "1e3", "memory_mb": 10_240.0}]
    rows += [{"app": "Stays", "status": "stay"}, {"app": "No", "status": "declined", "reason": "novel"}]
    rows += [{"app": None, "status": "bad", "reason": "no name"}, {"app": "L" * 256}, {"app": "with-dash"}]
    rows += [{"app": "A: {B}"}, {"app": "Ä"}, {"app": "line\n"}, {"app": "Half", "memory_mb": 512.5}]
    rows += [{"app": "Small", "memory_mb": 127.0}, {"app": "Large", "memory_mb": 10_241.0}]
    rows += [{"app": "Two"}, {"app": "Two", "platform": "west", "memory_mb": 256.0}, {"app": "Fn0", "status": "bad"}]
    rows += [{"app": "Kept"}, {"app": "Kept", "platform": "west", "status": "stay"}]
    plan = plan_of(tmp_path / "plan.parquet", rows)
    done = write_patches(plan, tmp_path / "memory.yaml", "sam")
    found = yaml.safe_load((tmp_path / "memory.yaml").read_text())
    sizes = {name: body["Properties"]["MemorySize"] for name, body in found["Resources"].items()}
    expected = {f"Fn{i}": 128 + i for i in range(20)} | {
        "null": 512,
        "123": 512,
        "on": 512,
        "L" * 255: 512,
        "1e3": 10_240,
    }
    assert sizes == expected
    assert all(isinstance(name, str) for name in sizes)
    assert found["Resources"]["Fn0"] == {"Properties": {"MemorySize": 128}}
    assert (done.pairs, done.written) == (len(rows), 25)
    assert sum(done.skipped.values()) == len(rows) - 25
    assert done.skipped == {
        "the application's name is no logical id: 1 to 255 letters and digits": 5,
        "another pair has the same name there": 3,
        "no whole number of MB from 128 to 10240": 3,
        "stays in today's configuration": 2,
        "bad: the pair's rows cannot be read": 2,
        "declined: no recommendation can be given": 1,
    }
    assert done.examples["another pair has the same name there"] == ("Two on lambda", "Two on west", "Kept on lambda")
    assert json.loads(json.dumps(done.to_dict()))["skipped"] == done.skipped


def test_names_tell_pairs_apart_and_say_what_runs_where(plan_of: Planned, tmp_path: Path) -> None:
    rows = [{"app": "my-app", "memory_mb": 256.0}, {"app": "my-app", "platform": "west"}, {"app": "other"}]
    rows += [{"app": "bad-id"}, {"app": "bare", "platform": None, "memory_mb": 1024.0}]
    plan, names = plan_of(tmp_path / "plan.parquet", rows), tmp_path / "names.csv"
    names.write_text(
        "﻿app, platform ,resource,owner\nmy-app,west,Two,x\nmy-app, lambda,One,\nbad-id,lambda,no id,\nbare,,Bare,\n"
    )
    done = write_patches(plan, tmp_path / "memory.yaml", "sam", names)
    found = yaml.safe_load((tmp_path / "memory.yaml").read_text())["Resources"]
    assert {name: body["Properties"]["MemorySize"] for name, body in found.items()} == {
        "One": 256,
        "Two": 512,
        "Bare": 1024,
    }
    assert done.skipped == {
        "not in names.csv": 1,
        "the resource is no logical id: 1 to 255 letters and digits": 1,
    }
    names.write_text("resource,app\nMine,my-app\nOther,other\n")
    done = write_patches(plan, tmp_path / "memory.yaml", "sam", names)
    assert list(yaml.safe_load((tmp_path / "memory.yaml").read_text())["Resources"]) == ["Other"]
    assert done.skipped == {"another pair has the same name there": 2, "not in names.csv": 2}


def test_a_plan_without_a_size_to_change_is_an_empty_fragment(plan_of: Planned, tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "plan.parquet", [{"app": "A", "status": "stay"}])
    assert write_patches(plan, tmp_path / "memory.yaml", "sam").written == 0
    assert yaml.safe_load((tmp_path / "memory.yaml").read_text()) == {"Resources": {}}


# kustomize


def deployment(name: str, *containers: str, namespace: str | None = None) -> dict[str, Any]:
    pods = [{"name": one, "image": "x", "resources": {"limits": {"memory": "3Gi", "cpu": "4"}}} for one in containers]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": pods}}
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def rendered(folder: Path, base: list[dict[str, Any]]) -> dict[str, Any]:
    """What `kubectl kustomize` makes of an overlay with the component; by namespace, Deployment and container."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl on this machine")
    overlay = folder.parent / "overlay"
    overlay.mkdir()
    (overlay / "base.yaml").write_text(yaml.safe_dump_all(base))
    wanted = {"resources": ["base.yaml"], "components": [f"../{folder.name}"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    env = {**os.environ, "HOME": str(folder.parent)}
    done = subprocess.run([program, "kustomize", overlay], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {
        "/".join(
            filter(None, (one["metadata"].get("namespace"), one["metadata"]["name"], container["name"]))
        ): container
        for one in yaml.safe_load_all(done.stdout)
        for container in one["spec"]["template"]["spec"]["containers"]
    }


def test_kustomize_sets_what_the_plan_says(plan_of: Planned, tmp_path: Path) -> None:
    rows = [{"app": "shop", "memory_mb": 1500.5, "cpu_shares": 256.0}, {"app": "side"}, {"app": "true"}, {"app": "0"}]
    rows += [
        {"app": "Not A Label"},
        {"app": "../up"},
        {"app": "-x"},
        {"app": "x" * 64},
        {"app": "rests", "status": "stay"},
    ]
    plan, out = plan_of(tmp_path / "plan.parquet", rows), tmp_path / "sizes"
    done = write_patches(plan, out, "kustomize")
    assert (done.written, done.skipped["stays in today's configuration"]) == (4, 1)
    assert sorted(path.name for path in (out / "patches").iterdir()) == [
        f"{n}.{n}.yaml" for n in ("0", "shop", "side", "true")
    ]
    base = [deployment("shop", "shop", "proxy"), *(deployment(name, name) for name in ("side", "true", "0", "rests"))]
    found = rendered(out, base)
    assert found["shop/shop"]["resources"] == {
        "requests": {"memory": "1501Mi", "cpu": "250m"},
        "limits": {"memory": "1501Mi", "cpu": "4"},
    }
    assert found["shop/shop"]["image"] == "x"
    assert found["side/side"]["resources"]["limits"]["memory"] == "512Mi"
    assert found["true/true"]["resources"]["requests"] == {"memory": "512Mi"}
    assert found["rests/rests"] == found["shop/proxy"] | {"name": "rests"}


def test_kustomize_knows_namespaces_and_containers(plan_of: Planned, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"app": "one", "memory_mb": 256.0},
        {"app": "two", "memory_mb": 640.0},
        {"app": "three"},
    ]
    plan, names = plan_of(tmp_path / "plan.parquet", [*rows, {"app": "four"}]), tmp_path / "names.csv"
    names.write_text(
        "app,namespace,deployment,container\none,a,web,main\ntwo,a,web,proxy\nthree,b,web,main\nfour,B!,web,main\n"
    )
    done = write_patches(plan, tmp_path / "sizes", "kustomize", names)
    assert done.written == 3
    (reason,) = done.skipped
    assert reason.startswith("the namespace is no DNS-1123 label")
    base = [deployment("web", "main", "proxy", namespace="a"), deployment("web", "main", namespace="b")]
    found = rendered(tmp_path / "sizes", base)
    sizes = {name: container["resources"]["requests"]["memory"] for name, container in found.items()}
    assert sizes == {"a/web/main": "256Mi", "a/web/proxy": "640Mi", "b/web/main": "512Mi"}


def test_an_empty_component_changes_nothing(plan_of: Planned, tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "plan.parquet", [{"app": "a", "status": "stay"}])
    assert write_patches(plan, tmp_path / "sizes", "kustomize").written == 0
    assert rendered(tmp_path / "sizes", [deployment("a", "a")])["a/a"]["resources"] == {
        "limits": {"memory": "3Gi", "cpu": "4"}
    }


def test_cores_are_request_and_limit() -> None:
    names = {"namespace": None, "deployment": "a", "container": "b"}
    (container,) = patch(names, {"memory_mb": 512.0, "cpu_cores": 0.25})["spec"]["template"]["spec"]["containers"]
    same = {"memory": "512Mi", "cpu": "250m"}
    assert container == {"name": "b", "resources": {"requests": same, "limits": same}}


# places


@pytest.mark.parametrize(("kind", "name"), [("csv", "plan.csv"), ("sam", "memory.yaml"), ("kustomize", "sizes")])
def test_ours_is_replaced_and_what_others_have_there_stays(
    plan_of: Planned, tmp_path: Path, kind: str, name: str
) -> None:
    def content(path: Path) -> dict[str, bytes]:
        return {str(one.relative_to(tmp_path)): one.read_bytes() for one in [path, *path.rglob("*")] if one.is_file()}

    first = plan_of(tmp_path / "first.parquet", [{"app": "a"}, {"app": "b"}])
    second = plan_of(tmp_path / "second.parquet", [{"app": "b"}])
    out = tmp_path / name
    write_patches(first, out, kind)
    before = content(out)
    assert write_patches(first, out, kind).out == out
    assert content(out) == before, "the same plan is the same patch"
    write_patches(second, out, kind)
    assert content(out) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["first.parquet", "second.parquet", name])
    for place in ("mine", "folder"):
        foreign = tmp_path / place
        if place == "mine":
            foreign.write_text("Resources: {}\n")
        else:
            foreign.mkdir()
            (foreign / "notes.txt").write_text("mine")
        kept = content(foreign)
        with pytest.raises(DataError, match=r"choose another|expected a new or empty folder") as caught:
            write_patches(first, foreign, kind)
        assert "\n" not in str(caught.value)
        assert content(foreign) == kept
    if kind == "kustomize":
        (out / "mine.yaml").write_text("x: 1")
        with pytest.raises(DataError, match="holds other files"):
            write_patches(first, out, kind)
        assert (out / MARK).exists()


@pytest.mark.parametrize("kind", ["csv", "sam", "kustomize"])
def test_a_plan_that_breaks_off_leaves_what_was_there(plan_of: Planned, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    write_patches(plan_of(tmp_path / "good.parquet", [{"app": "a"}]), out, kind)
    plan = plan_of(tmp_path / "plan.parquet", [{"app": f"a{i}", "reason": "x" * 400 + str(i)} for i in range(60)])
    damaged = bytearray(plan.read_bytes())
    damaged[4:-9000] = bytes(len(damaged) - 9004)
    plan.write_bytes(damaged)
    with pytest.raises(DataFormatError, match=r"damaged|Parquet"):
        write_patches(plan, out, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.parquet", "out", "plan.parquet"]
    assert len(list(out.rglob("*.yaml"))) == 2 if kind == "kustomize" else out.stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app,deployment\n", "no column 'container'"),
        ("deployment,container\n", "no column 'app'"),
        ("app;deployment;container\n", "commas"),
        ("", "empty"),
        ("app,deployment,container,app\n", "two or more columns 'app'"),
        ("app,deployment,container\na,b,c\nx,y,z\na,d,e\n", "row 3: the pair of 'a' has names in row 1 already"),
        ("app,deployment,container\na,b,c\n,y,z\n", "row 2, column 'app': empty cell"),
        ("app,deployment,container\na,b\n", "not CSV"),
    ],
)
def test_a_file_of_names_that_is_none_is_refused(plan_of: Planned, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "names.csv").write_text(text)
    plan = plan_of(tmp_path / "plan.parquet", [{"app": "a"}])
    with pytest.raises(DataFormatError, match=words) as caught:
        write_patches(plan, tmp_path / "sizes", "kustomize", tmp_path / "names.csv")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sizes").exists()


def test_what_else_is_refused(plan_of: Planned, tmp_path: Path, mixed: Any) -> None:
    plan, out = plan_of(tmp_path / "plan.parquet", [{"app": "a"}]), tmp_path / "out"
    names = tmp_path / "names.csv"
    names.write_text("app,resource\n")
    pd.DataFrame({"app": ["a"]}).to_parquet(tmp_path / "rows.parquet")
    later = plan_of(tmp_path / "later.parquet", [{"app": "a"}], version=9)
    for arguments, words in (
        ((plan, out, "helm"), "'helm': expected one of csv, sam, kustomize"),
        ((plan, out, "csv", names), "names are for sam and kustomize"),
        ((plan, plan, "csv"), "is an input"),
        ((plan, out, "sam", tmp_path / "no.csv"), "no such file"),
        ((tmp_path / "rows.parquet", out, "csv"), "expected a plan of a fleet"),
        ((tmp_path / "none.parquet", out, "csv"), "no such file"),
        ((tmp_path, out, "csv"), "a directory"),
        ((names, out, "csv"), "Parquet"),
        ((later, out, "csv"), "version 9"),
        ((plan, tmp_path / "no" / "out", "sam"), "cannot be written"),
        ((plan, names / "out", "kustomize"), "cannot be written"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            write_patches(*arguments)
        assert "\n" not in str(caught.value)
    assert not out.exists()
