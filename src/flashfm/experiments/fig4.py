"""Figure 4: what agents lose on applications they have not met, and what it takes them to adapt.

Enters: the default scenario and the pretrained agent. Leaves: `fig4.json` with the reward drop of every arm without
adaptation, the episodes that transfer learning and FLASH take to reach the reward of agents that were trained on the
very pair, and what that costs meanwhile; its tables, and a picture.

Source: FLASH, section 3, figure 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import GRIDS
from flashfm.datasets.files import write_whole
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.experiments import autoscaling, fig4_figures, fig4_page, fig4_parts, results
from flashfm.experiments.adapting import LIVED, Arrays, Lived, OnStep, from_arrays
from flashfm.experiments.fig4_figures import OTHER, Moved
from flashfm.experiments.fig4_page import (
    ADAPTED,
    COLUMNS,
    FIXED,
    FLASH,
    OWN,
    PAPERS_OTHER,
    PAPERS_OWN,
    SHARED,
    TRANSFER,
    TUNING,
)
from flashfm.experiments.fig4_parts import ALPHA, WARMUPS, Fig4Config, Part
from flashfm.experiments.guarded import Guarded
from flashfm.experiments.scaling import EPISODES
from flashfm.models.agent import AgentModel
from flashfm.models.agent_state import digest
from flashfm.tasks.autoscaling.scenario import default, split

Parts = dict[str, tuple[int, Callable[[OnStep], Part]]]
"""Name -> share of the progress, and what makes it."""


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: OnStep = lambda *_: None,
    config: Fig4Config | None = None,
    model: AgentModel | None = None,
    engine: Engine = INLINE,
) -> Path:
    """Train, move and judge agents, and write the result file, its tables and its picture.

    Args:
        out: what each part gave is kept here; a stopped run goes on there.
        folder: of the result file.
        quick: few pairs and short training.
        on_step: told of progress, in episodes of training; a part without any counts for one.
        config: settings, in place of those that `quick` chooses.
        model: the pretrained agent; what ships with the package by default.
        engine: where parts are made.

    Returns:
        The result file.
    """
    c = config or Fig4Config.of(quick=quick)
    pretrained = model or FlashAgent.from_pretrained(autoscaling.NAME).model
    train_on, test_on = split(default(0))
    rng = np.random.default_rng(4)
    unseen = test_on.take(np.sort(rng.choice(len(test_on), c.pairs, replace=False)))
    train_on = train_on.take(rng.permutation(len(train_on)))
    first, mark = f"converged-{c.seeds[0]}", digest(pretrained)
    first_of_all: Parts = {
        "fixed": (1, results.untold(fig4_parts.fixed, train_on.take(np.arange(c.controllers_on)), unseen)),
        **{f"converged-{seed}": (c.agent.episodes, partial(fig4_parts.converged, unseen, c, seed)) for seed in c.seeds},
        "paper": (c.paper_agent.episodes, partial(fig4_parts.papers, unseen.take(np.arange(c.paper_pairs)), c)),
        "tuning": (
            c.agent.episodes + len(c.grid.settings) * c.horizon,
            partial(fig4_parts.tuning, train_on.take(np.arange(c.transfer_on)), c),
        ),
        f"warmed-{mark}": (1, results.untold(fig4_parts.warmed, unseen, pretrained, c)),
    }
    weight = sum(of for of, _ in first_of_all.values())
    total = weight + 1 + c.horizon + c.tuned
    made = results.in_parts(out, first_of_all, _keep, lambda done, _: on_step(done, total), engine)
    kept = {name: _read(file) for name, file in made}

    agents = from_arrays(kept[first].arrays, c.agent.ddpg)
    safe = partial(GRIDS["HPA + VPA"][0], **kept["fixed"].settings["HPA + VPA"])
    then: Parts = {
        "moved": (1, results.untold(fig4_parts.moved, unseen, agents)),
        "transfer": (
            c.horizon,
            partial(fig4_parts.moved_and_trained, unseen, agents, kept["tuning"].settings[0], c),
        ),
        f"guarded-{mark}": (c.tuned, partial(fig4_parts.gated, unseen, pretrained, safe, c)),
    }
    made = results.in_parts(out, then, _keep, lambda done, _: on_step(weight + done, total), engine)
    kept |= {name: _read(file) for name, file in made}
    kept |= {name.split("-")[0]: kept[name] for name in [*kept] if name.endswith(mark)}

    path = folder / "fig4.json"
    results.write(
        path,
        command="flashfm reproduce fig4" + (" --quick" if quick else ""),
        protocol=_protocol(c),
        seeds=list(c.seeds),
        rows=_rows(kept, c),
        more=_more(kept, c),
        markdown_of=fig4_page.page,
    )
    fig4_page.picture(path)
    return path


def _rows(kept: Mapping[str, Part], c: Fig4Config) -> list[results.Row]:
    """Figures of every arm without adaptation, the mean over seeds of the converged one."""
    found = []
    moved, paper = kept["moved"].arrays, kept["paper"].arrays
    for metric in COLUMNS:
        arms = {OWN: _own(kept, metric, c)}
        arms |= {OTHER: _off(moved[f"{OTHER}|{metric}"])}
        arms |= {name: kept["fixed"].arrays[f"{name}|{metric}"] for name in FIXED}
        arms |= {name: kept["warmed"].arrays[f"{name}|{metric}"] for name in (SHARED, FLASH)}
        arms |= {PAPERS_OWN: np.diag(paper[f"{OTHER}|{metric}"]), PAPERS_OTHER: _off(paper[f"{OTHER}|{metric}"])}
        for name, of in arms.items():
            pairs = c.paper_pairs if name in (PAPERS_OWN, PAPERS_OTHER) else c.pairs
            spread = (float(of.mean()), float(np.median(of)), float(of.std()))
            found.append(results.Row("without adaptation", name, metric, *spread, pairs, of.size * EPISODES))
    return found


def _more(kept: Mapping[str, Part], c: Fig4Config) -> dict[str, Any]:
    own = {metric: _own(kept, metric, c) for metric in ("reward", "violations", "cpu_use")}
    fixed, pretrained, paper = (kept[name].arrays for name in ("fixed", "warmed", "paper"))
    arms = {name: fixed[f"{name}|reward"] for name in FIXED}
    arms |= {name: pretrained[f"{name}|reward"] for name in (SHARED, FLASH)}
    tests = fig4_figures.ab_tests(c.pairs, c.tests, c.others, c.seeds[0])
    dropped = fig4_figures.drops(own["reward"], kept["moved"].arrays[f"{OTHER}|reward"], arms, tests)
    theirs: Moved = paper[f"{OTHER}|reward"]
    again = fig4_figures.ab_tests(c.paper_pairs, c.tests, c.others, c.seeds[0])
    dropped += [one | {"method": PAPERS_OTHER} for one in fig4_figures.drops(np.diag(theirs), theirs, {}, again)]

    moved, warm, gated = (kept[name].arrays for name in ("transfer", "warmed", "guarded"))
    warmed = [(judged, _lived("lived", warm, i)) for i, judged in enumerate(warm["judged"])]
    adapting = {
        TRANSFER: (0, [(moved["judged"], _lived("lived", moved))]),
        ADAPTED: (1, warmed),
        TUNING: (1, [(gated["judged"], _lived("lived", gated))]),
    }
    of = Guarded(gated["judged"], _lived("lived", gated), _lived("safe", gated), gated["served"])
    curves = {seed: kept[f"converged-{seed}"].arrays["curve"] for seed in c.seeds}
    last = np.stack([curve[-1] for curve in curves.values()])
    return {
        "drops": dropped,
        "converged": {
            "episodes": fig4_parts.curve_at(c.agent),
            "curves": {str(seed): curve.mean(axis=1).tolist() for seed, curve in curves.items()},
            "spread": float((np.ptp(last, axis=0) / own["reward"]).mean()) if len(last) > 1 else None,
        },
        "adaptation": fig4_figures.adaptation(adapting, own, c.horizon),
        "guard": fig4_figures.guard(of, c.gate.allowance),
        "curves": {
            name: np.mean([rewards for rewards, _ in drawn], axis=(0, 2)).tolist()
            for name, (_, drawn) in adapting.items()
        },
        "draws": warm["judged"].mean(axis=2).tolist(),
        "levels": {"converged": float(own["reward"].mean()), "HPA + VPA": float(arms["HPA + VPA"].mean())},
        "controllers": kept["fixed"].settings,
        "transfer_tried": kept["tuning"].settings,
    }


def _protocol(c: Fig4Config) -> str:
    return (
        f"{c.pairs} unseen applications, {EPISODES} episodes each, alpha {ALPHA}; the same loads and chance for all"
        f" arms; converged: mean over {len(c.seeds)} agents of the very pair, trained {c.agent.episodes} episodes in"
        f" {c.envs} environments at once; drops: every agent on every other pair, and {c.tests} tests of one agent and"
        f" up to {c.others} other pairs; as in the paper: its networks, noise, learning rates and actions, on"
        f" {c.paper_pairs} of the pairs; adapting: one environment a pair, judged after every episode without noise;"
        " transfer: the agent of a random other pair, trained on with the best of"
        f" {2 * len(c.grid.settings)} settings on {c.transfer_on} training pairs; FLASH: after 1 to {WARMUPS} warm-up"
        f" episodes, at least 1 counts, mean over {c.draws} draws of them; a pair that never gets there counts with"
        f" {c.horizon}; controllers tuned by reward on training pairs; intervals: bootstrap over pairs, 95 %, for one"
        " pretrained agent"
    )


def _own(kept: Mapping[str, Part], metric: str, c: Fig4Config) -> np.ndarray:
    mean: np.ndarray = np.mean([kept[f"converged-{seed}"].arrays[f"{OWN}|{metric}"] for seed in c.seeds], axis=0)
    return mean


def _off(matrix: Moved) -> np.ndarray:
    """What is not on the diagonal."""
    found: np.ndarray = matrix[~np.eye(len(matrix), dtype=bool)]
    return found


def _lived(name: str, arrays: Arrays, draw: int | None = None) -> Lived:
    """What was lived through, in one draw where there are several."""
    at = ... if draw is None else draw
    return {metric: arrays[f"{name}|{metric}"][at] for metric in LIVED}


def _keep(path: Path, part: Part) -> None:
    arrays: dict[str, Any] = part.arrays | {"settings": np.array(json.dumps(part.settings))}
    write_whole(path, lambda file: np.savez(file, **arrays))


def _read(path: Path) -> Part:
    arrays = results.read_arrays(path)
    settings = json.loads(str(arrays.pop("settings")))
    return Part(arrays, settings)
