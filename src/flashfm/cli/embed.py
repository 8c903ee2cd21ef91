"""`flashfm embed`: where applications lie in a model's embedding space, and whether like ones lie close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from jaxtyping import Float, Int

from flashfm.cli import adapted as shared
from flashfm.cli.printing import percent, print_json, print_table
from flashfm.errors import DataError, ModelError

if TYPE_CHECKING:
    from flashfm.models.flash import FlashModel
    from flashfm.tasks.config_search import Observations

EXAMPLE = "Example: flashfm embed --plot map.png"
SHOTS, SEED, PERMUTATIONS = 3, 0, 1000
SHOWN = 8
MIXED, OTHER = "mixed", "other"
MAX_NEW = 12
"""Unknown applications up to which the picture names all of them; of more, the hand-written ones."""
BOUNDS = {"cpu": "CPU", "disk": "disk", "network": "network", "time": "waiting"}
HOW = (
    "An application's group is what most of its segments are bound by, mixed where two kinds tie; what a segment"
    " contributes to the run time is not weighed."
)


def command(
    model: str | None = shared.Model,
    data: str = typer.Option("measured", help="A .csv or .parquet table, or a name from `flashfm data list`."),
    plot: Path | None = typer.Option(None, help="Draw the map, .png or .svg."),
    as_json: bool = shared.Json,
) -> None:
    """Map applications by their embeddings, and compare nearest neighbours with chance."""
    from flashfm.adapt.fewshot import FlashRegressor

    reference = model or shared.DEFAULT_MODEL
    loaded = FlashRegressor.from_pretrained(reference).model
    if not loaded.nets or loaded.novelty is None:
        raise ModelError(
            f"model {reference} has no network, so no embeddings: it was pretrained on too few applications"
        )
    observations, fitted = _observations(data, loaded)
    pairs, embedding = _embed(fitted, observations)
    places = embedding @ loaded.novelty.whiten
    apps = [app for app, _ in pairs]
    nearest, distance = _neighbours(places, apps)
    groups = _groups(apps)
    known = {app for app, _ in loaded.known}
    coordinates, explained = _plane(embedding)
    rows = [
        {
            "app": app,
            "platform": platform,
            "group": groups[app],
            "pretrained_on": app in known,
            "x": float(x),
            "y": float(y),
            "nearest": {"app": pairs[j][0], "platform": pairs[j][1], "distance": float(d)},
        }
        for (app, platform), (x, y), j, d in zip(pairs, coordinates, nearest, distance, strict=True)
    ]
    agreement = _agreement(apps, nearest, groups)
    picture = None
    if plot is not None:
        picture = _draw(rows, coordinates, plot, agreement, explained)
    if as_json:
        more = {"explained_variance": explained, "groups": HOW, "agreement": agreement}
        print_json(
            {"model": reference, "data": data, **more, "pairs": rows, "picture": str(picture) if picture else None}
        )
        return
    _print(rows, agreement)
    if picture:
        print(f"Picture: {picture}")


def _observations(data: str, model: FlashModel) -> tuple[Observations, FlashModel]:
    """The table's pairs over the model's grid, which is extended where the table has further configurations."""
    from flashfm.datasets.catalogue import SOURCES
    from flashfm.datasets.sources import load_table
    from flashfm.datasets.table import MeasurementTable
    from flashfm.tasks.config_search import Observations

    if data == "measured" or data in SOURCES:
        table = load_table(data)
    else:
        if not Path(data).exists() and Path(data).suffix.lower() not in (".csv", ".parquet"):
            raise DataError(f"--data {data!r} is neither a file nor a table of `flashfm data list`")
        table = MeasurementTable.read(data, config_columns=None, average_repeats=True)
    configurations = model.space.check(table.ok().configurations, data)
    strange = model.space.locate(configurations, model.places) < 0
    if strange.any():
        model = model.extended(configurations[strange])
    empty = Observations(
        model.space,
        model.grid,
        (),
        np.empty((0, len(model.grid))),
        np.empty((0, len(model.grid), len(model.metric_names))),
        model.metric_names,
    )
    found = Observations.from_table(table, like=empty)
    return found, model


def _embed(
    model: FlashModel, data: Observations
) -> tuple[list[tuple[str, str | None]], Float[np.ndarray, "pair embed"]]:
    """One embedding a pair, from `SHOTS` random shots, or all where there are fewer."""
    rng = np.random.default_rng(SEED)
    drawn = {i: np.sort(rng.permutation(seen)[:SHOTS]) for i, seen in enumerate(data.observed)}
    found: dict[int, np.ndarray] = {}
    for k in range(1, SHOTS + 1):
        able = [i for i, chosen in drawn.items() if chosen.size == k]
        if able:
            shots = data.shots(np.array(able), np.stack([drawn[i] for i in able]))
            found |= dict(zip(able, model.embed(shots), strict=True))
    return [data.pairs[i] for i in sorted(found)], np.stack([found[i] for i in sorted(found)])


def _neighbours(
    places: Float[np.ndarray, "pair embed"], apps: Sequence[str]
) -> tuple[Int[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """The nearest pair of another application, and its distance.

    Raises:
        DataError: there is but one application.
    """
    if len(set(apps)) < 2:
        raise DataError("one application has no neighbours; expected a table of several")
    squares = (places**2).sum(axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * places @ places.T, 0.0))
    number = np.unique(list(apps), return_inverse=True)[1]
    between[number[:, None] == number[None]] = np.inf
    nearest = between.argmin(axis=1)
    return nearest, between[np.arange(len(between)), nearest]


def _groups(apps: Sequence[str]) -> dict[str, str]:
    """What most segments of each application are bound by; `OTHER` for those that are not ours."""
    from flashfm.applications.catalogue import NAMED_COUNT, NAMED_SEED, real_application
    from flashfm.applications.generator import generate_many
    from flashfm.applications.segments import REAL, segment_class

    ours = {spec.name: spec for spec in generate_many(NAMED_SEED, NAMED_COUNT)}
    ours |= {name: real_application(name) for name in REAL}
    found = {}
    for app in set(apps):
        found[app] = OTHER
        if app in ours:
            counts = Counter(segment_class(part.kind).bound for part in ours[app].segments).most_common()
            tie = len(counts) > 1 and counts[0][1] == counts[1][1]
            found[app] = MIXED if tie else BOUNDS[counts[0][0]]
    return found


def _agreement(
    apps: Sequence[str], nearest: Int[np.ndarray, " pair"], groups: dict[str, str]
) -> dict[str, float | int] | None:
    """How often a pair and its nearest neighbour are of one group, and how often they would be by chance.

    Chance: the groups are dealt anew to the applications. None where no application has a group.
    """
    names = sorted({app for app in apps if groups[app] != OTHER})
    if len(names) < 2:
        return None
    place = {name: i for i, name in enumerate(names)}
    own = np.array([place.get(app, -1) for app in apps])
    other = own[nearest]
    judged = (own >= 0) & (other >= 0)
    if not judged.any():
        return None
    labels = np.array([groups[name] for name in names])
    rng = np.random.default_rng(SEED)

    def share(dealt: np.ndarray) -> float:
        return float((dealt[own[judged]] == dealt[other[judged]]).mean())

    seen = share(labels)
    dealt = np.array([share(rng.permutation(labels)) for _ in range(PERMUTATIONS)])
    return {
        "pairs": int(judged.sum()),
        "share": seen,
        "chance": float(dealt.mean()),
        "p_value": float((1 + (dealt >= seen).sum()) / (1 + PERMUTATIONS)),
    }


def _plane(embedding: Float[np.ndarray, "pair embed"]) -> tuple[Float[np.ndarray, "pair 2"], float]:
    """The two principal components, and the share of the variance that they have."""
    centred = embedding - embedding.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(embedding), 2))
    plane[:, : min(2, len(values))] = (left * values)[:, :2]
    total = float((values**2).sum())
    return plane, float((values[:2] ** 2).sum() / total) if total > 0 else 1.0


def _draw(
    rows: list[dict[str, Any]],
    coordinates: Float[np.ndarray, "pair 2"],
    path: Path,
    agreement: dict[str, float | int] | None,
    explained: float,
) -> Path:
    from flashfm.applications.segments import REAL
    from flashfm.reporting import embedding_map

    platforms = [row["platform"] or "" for row in rows]
    fresh = {row["app"] for row in rows if not row["pretrained_on"]}
    left = fresh if len(fresh) <= MAX_NEW else fresh & set(REAL)
    new: list[str | None] = []
    for row in rows:
        new.append(row["app"] if row["app"] in left else None)
        left = left - {row["app"]}
    note = f"two principal components, {percent(explained)} of the variance"
    if agreement is not None:
        note += (
            f"; nearest neighbour of the same group: {percent(agreement['share'])},"
            f" by chance {percent(agreement['chance'])}"
        )
    return embedding_map(coordinates, [row["group"] for row in rows], path, platforms=platforms, new=new, note=note)


def _print(rows: list[dict[str, Any]], agreement: dict[str, float | int] | None) -> None:
    def named(app: str, platform: str | None) -> str:
        return f"{app} on {platform}" if platform else app

    groups = {row["app"]: row["group"] for row in rows}
    fresh = [row for row in rows if not row["pretrained_on"]]
    shown = [*fresh, *(row for row in rows if row["pretrained_on"])][: max(SHOWN, min(len(fresh), MAX_NEW))]
    table = [
        (
            named(row["app"], row["platform"]),
            row["group"],
            named(row["nearest"]["app"], row["nearest"]["platform"]),
            groups[row["nearest"]["app"]],
            f"{row['nearest']['distance']:.3g}",
        )
        for row in shown
    ]
    print_table(("application", "group", "nearest of another application", "group", "distance"), table)
    print(f"{len(rows)} pairs, {len(shown)} shown; {len(fresh)} of applications that were not pretrained on. {HOW}")
    if agreement is None:
        print("No group is known for these applications, so neighbours are not compared with chance.")
        return
    print(
        f"Nearest neighbour of the same group: {percent(agreement['share'])} of {agreement['pairs']} pairs, against"
        f" {percent(agreement['chance'])} by chance (p = {agreement['p_value']:.2g})"
    )
