"""Pretrains the agent that ships with the package, and judges it on pairs that it never saw, at several trade-offs.

Enters: the default scenario. Leaves: the model's folder with its card, and `autoscaling.json`. A stopped run goes on
from its checkpoints.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flashfm.adapt.agent import FlashAgent
from flashfm.artifact.card import CardData, render
from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig, in_use
from flashfm.experiments import results
from flashfm.experiments.foreign import foreign, table
from flashfm.experiments.scaling import EPISODES, METRICS, Judged, cells, judge, model_acts
from flashfm.measurements.machine import describe
from flashfm.models.agent import AgentModel
from flashfm.models.agent_state import KIND
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.lived import collect, collect_rules
from flashfm.tasks.autoscaling.scenario import Scenario, default, split, training_pairs

ALPHAS = (0.3, 0.5, 0.7)
NAME = "autoscaling"
CHECKPOINTS = "checkpoints"
RULES = HpaVpaConfig(target=0.5, day_s=3600.0)
"""What plays warm-ups where it is not the model itself."""
BY_RULES = "after 1 warm-up by HPA + VPA"
ARMS = ("without embedding", "after 1 warm-up", "after 3 warm-ups", BY_RULES)


@dataclass(frozen=True)
class ShippedConfig:
    """How much is trained and judged."""

    training: int = 800
    """Applications."""
    environments: int = 4
    """That each of them is drawn in."""
    tested: int = 200
    pretraining: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    seed: int = 0

    @classmethod
    def of(cls, *, quick: bool) -> ShippedConfig:
        """The model that ships, or a small one."""
        if not quick:
            return cls()
        whole = AutoscalingConfig()
        agent = replace(whole.agent, episodes=10, random_episodes=4)
        return cls(100, 1, 40, replace(whole, agent=agent, identification=replace(whole.identification, steps=200)))


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: Callable[[int, int], object] = lambda *_: None,
    config: ShippedConfig | None = None,
) -> Path:
    """Pretrain, judge, save.

    Args:
        out: the model is written to its folder `autoscaling`; checkpoints are in another one until the run has ended.
        folder: of the result file.
        quick: a small model.
        on_step: told of progress.
        config: settings, in place of those that `quick` chooses.

    Returns:
        The result file.

    Raises:
        ArtifactError: the checkpoints are damaged, or of another run.
    """
    config = config or ShippedConfig.of(quick=quick)
    train_on = training_pairs(config.training, config.environments, config.seed)
    test_on = split(default(config.seed))[1].take(np.arange(config.tested))
    path, command = folder / "autoscaling.json", "flashfm reproduce autoscaling" + (" --quick" if quick else "")
    with Checkpoints(out / CHECKPOINTS) as checkpoints:
        model = pretrain(
            train_on,
            config.pretraining,
            seed=config.seed,
            on_step=on_step,
            checkpoints=checkpoints,
            rules=in_use(),
        )
        seconds = checkpoints.seconds
        rows, kinds = _judge(model, test_on, config.seed, seconds)
        low, high = config.pretraining.agent.alpha
        results.write(
            path,
            command=command,
            protocol=(
                f"one model, alpha from {low} to {high} in pretraining; {len(test_on)} unseen applications, {EPISODES}"
                " episodes each; warm-up episodes by the model's own policy without embedding, or by HPA and VPA at a"
                f" target of {RULES.target:g}, which is none of those of pretraining"
            ),
            seeds=[config.seed],
            rows=rows,
            more={
                "pretraining_applications": config.training,
                "pretraining_pairs": len(train_on),
                "pretraining_seconds": seconds,
                "by_kind": kinds,
                "foreign": foreign(model, tested=len(test_on), seed=config.seed),
            },
            markdown_of=_page,
        )
        FlashAgent(model, _card(path, model)).save_pretrained(out / NAME)
        checkpoints.remove()
    return path


def card(
    name: str, model: AgentModel, *, pairs: int, seed: int, seconds: float, command: str, commit: str = ""
) -> CardData:
    """What is known of a pretrained agent without judging it.

    Args:
        name: of the model.
        model: the agent.
        pairs: that it was pretrained on.
        seed: of its pretraining.
        seconds: that this took.
        command: what to type to get it again.
        commit: of the source.
    """
    return CardData(
        name,
        KIND,
        "Sets replicas, CPU and memory of a replicated application every 30 seconds, and knows an application after one"
        f" to three warm-up episodes. Pretrained on {pairs} generated applications in several drawn environments each.",
        intended_use="Simulation and research: `flashfm/Autoscaling-v0` of Gymnasium, and `flashfm simulate`.",
        command=command,
        commit=commit,
        date=datetime.datetime.now(datetime.UTC).date(),
        machine={**describe(), "seed": seed},
        seconds=round(seconds, 1),
        limits=(
            f"Actions are `{model.actions}`; alpha, the weight of the SLO, is an input.",
            "It has met simulated applications only.",
            "It has no guard of its own: it is no controller for a cluster as it is.",
        ),
    )


def _judge(
    model: AgentModel, test_on: Scenario, seed: int, seconds: float
) -> tuple[list[results.Row], list[dict[str, Any]]]:
    """Scores at all trade-offs, and by kind at the middle one."""
    rows: list[results.Row] = []
    kinds: list[dict[str, Any]] = []
    for alpha in ALPHAS:
        warm = collect(test_on.simulator(actions=model.actions, seed=31), model.shared, 3, 0.1, seed, (alpha, alpha))
        today = collect_rules(test_on.simulator(actions="targets", seed=32), [HpaVpa(RULES)], seed, (alpha, alpha))
        embedded: list[Any] = [None, model.embed(warm[:, :1]), model.embed(warm), model.embed(today)]
        for name, embedding in zip(ARMS, embedded, strict=True):
            judged = judge(test_on, model_acts(model, embedding), alpha=alpha, actions=model.actions)
            rows += _rows(f"alpha {alpha}", name, judged, seconds)
            if alpha == ALPHAS[1] and name == ARMS[1]:
                kinds = _kinds(test_on, judged)
    return rows, kinds


def _rows(dataset: str, name: str, judged: Judged, seconds: float) -> list[results.Row]:
    found = []
    for metric in METRICS:
        values = getattr(judged, metric)
        spread = (float(values.mean()), float(np.median(values)), float(values.std()))
        n = len(values)
        found.append(results.Row(dataset, name, metric, *spread, n, n * EPISODES, seconds=seconds))
    return found


def _kinds(scenario: Scenario, judged: Judged) -> list[dict[str, Any]]:
    """Scores by kind of application and deployment."""
    p = scenario.params
    waits = p.wait_s > p.cpu_s
    kinds = {
        "mostly CPU": ~waits,
        "mostly waiting": waits,
        "limits change in place": p.restarts == 0,
        "limits need a restart": p.restarts > 0,
        "starts within 2 minutes": p.start_steps <= 4,
        "starts later": p.start_steps > 4,
    }
    return [
        {
            "kind": name,
            "pairs": int(of.sum()),
            "reward": float(judged.reward[of].mean()),
            "violations": float(judged.violations[of].mean()),
        }
        for name, of in kinds.items()
        if of.any()
    ]


def _page(path: Path) -> str:
    content = json.loads(path.read_text())
    of: dict[tuple[str, str], dict[str, float]] = {}
    for row in content["rows"]:
        of.setdefault((row["dataset"], row["method"]), {})[row["metric"]] = row["mean"]
    lines = ["| trade-off | arm | reward | violations | core-hours | GiB-hours | killed |", "|---|---|" + "---|" * 5]
    for (dataset, name), values in of.items():
        lines.append(f"| {dataset} | {name} | {cells(values)} |")
    lines += ["", "| kind, alpha 0.5, after 1 warm-up | pairs | reward | violations |", "|---|---|---|---|"]
    lines += [f"| {k['kind']} | {k['pairs']} | {k['reward']:.3f} | {k['violations']:.3f} |" for k in content["by_kind"]]
    return "\n".join([*lines, "", table(content["foreign"])])


def _card(path: Path, model: AgentModel) -> str:
    """The model card, with the scores of the result file."""
    content = json.loads(path.read_text())
    known = card(
        NAME,
        model,
        pairs=content["pretraining_applications"],
        seed=content["seeds"][0],
        seconds=content["pretraining_seconds"],
        command=content["command"],
        commit=content["commit"],
    )
    return render(replace(known, protocol=f"{content['protocol']}.")) + "\n" + _page(path)
