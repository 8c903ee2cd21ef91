"""A `FlashModel` as plain JSON and arrays, and back; what comes back is checked, since files may come from anywhere.

Enters: a model, or a configuration object and named arrays. Leaves: the other. No I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Shaped

from flashfm.errors import ArtifactError, FlashError
from flashfm.models.calibration import MAX_SHOTS, Calibration
from flashfm.models.flash import FlashConfig, FlashModel, FlashNet
from flashfm.models.hierarchical_gp import HierarchicalGP, Kernel, PriorConfig
from flashfm.models.local import DISTINCT, OWN_KINDS, Likeness, LocalProcess
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.novelty import NoveltyModel
from flashfm.tasks.features import ShotScaler
from flashfm.tasks.space import ConfigSpace

Array = Shaped[np.ndarray, "..."]

KIND = "config-search"
_SCALARS = ("rbf_variance", "noise", "offset_variance")
_LEVEL = "gp.level_deviation"
_KERNEL = ("slope_variance", "loading", "lengthscale", "interactions")
_GP = ("features", "mean", "covariance", "profiles", "pattern", "residual")
_NOVELTY = ("reference", "pair", "whiten", "held")


def to_state(model: FlashModel) -> tuple[dict[str, Any], dict[str, Array]]:
    """Everything that a model is."""
    prior, gp = model.prior, model.prior.gp
    grid = {name: [None if value != value else value for value in model.grid[name].tolist()] for name in model.grid}
    config: dict[str, Any] = {
        "space": model.space.to_dict(),
        "grid": grid,
        "metrics": list(model.metric_names),
        "timed": list(prior.scaler.timed),
        "known": [list(pair) for pair in model.known],
        "prior": dataclasses.asdict(gp.config),
        "network": dataclasses.asdict(model.nets[0].config) if model.nets else None,
        "members": len(model.nets),
        "novelty": model.novelty is not None,
    }
    tensors: dict[str, Array] = {f"kernel.{name}": getattr(gp.kernel, name) for name in _KERNEL}
    tensors["kernel.scalars"] = np.array([getattr(gp.kernel, name) for name in _SCALARS])
    tensors |= {f"gp.{name}": getattr(gp, name) for name in _GP}
    tensors[_LEVEL] = np.array([gp.level_deviation])
    tensors |= {"scaler.centre": prior.scaler.centre, "scaler.scale": prior.scaler.scale}
    tensors |= {"local.values": prior.values.astype(np.float32), "local.known": prior.known > 0}
    tensors |= {"local.observed": prior.observed > 0, "together": model.together}
    for part, record in (("likeness", prior.likeness), ("calibration", model.calibration)):
        tensors |= {f"{part}.{field.name}": getattr(record, field.name) for field in dataclasses.fields(record)}
    for i, net in enumerate(model.nets):
        tensors |= {f"net.{i}.{name}": value.detach().numpy() for name, value in net.state_dict().items()}
    if model.novelty is not None:
        tensors |= {f"novelty.{name}": getattr(model.novelty, name) for name in _NOVELTY}
    return config, {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def from_state(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> FlashModel:
    """Inverse of `to_state`.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    try:
        model = _build(config, dict(tensors))
        _check(model)
    except ArtifactError:
        raise
    except (FlashError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise ArtifactError(
            f"the parts of the saved model do not fit together ({reason}); get or write the model again"
        ) from None
    return model


def _build(config: Mapping[str, Any], tensors: dict[str, Array]) -> FlashModel:
    space = ConfigSpace.from_dict(config["space"])
    grid = space.check(pd.DataFrame(config["grid"], columns=space.names), "grid")
    scalars: dict[str, Any] = dict(zip(_SCALARS, map(float, tensors["kernel.scalars"]), strict=True))
    arrays: dict[str, Any] = {name: tensors[f"kernel.{name}"] for name in _KERNEL}
    kernel = Kernel(**arrays, **scalars)
    moments: dict[str, Any] = {name: tensors[f"gp.{name}"] for name in _GP}
    gp = HierarchicalGP(PriorConfig(**config["prior"]), kernel, **moments, level_deviation=float(tensors[_LEVEL][0]))
    scaler = ShotScaler(tensors["scaler.centre"], tensors["scaler.scale"], tuple(map(int, config["timed"])))
    likeness = Likeness(**{field.name: tensors[f"likeness.{field.name}"] for field in dataclasses.fields(Likeness)})
    local = {name: tensors[f"local.{name}"].astype(np.float64) for name in ("values", "known", "observed")}
    prior = LocalProcess(gp, scaler, likeness=likeness, **local)
    nets = []
    for i in range(int(config["members"])):
        network = {**config["network"], "meta": MetaLearnerConfig(**config["network"]["meta"])}
        width = gp.features.shape[1]
        net = FlashNet(width + 1 + scaler.width, width + 4, FlashConfig(**network))
        prefix = f"net.{i}."
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=True)
        nets.append(net.eval())
    calibration = {field.name: tensors[f"calibration.{field.name}"] for field in dataclasses.fields(Calibration)}
    novelty = NoveltyModel(**{name: tensors[f"novelty.{name}"] for name in _NOVELTY}) if config["novelty"] else None
    return FlashModel(
        space=space,
        grid=grid,
        metric_names=tuple(map(str, config["metrics"])),
        prior=prior,
        together=tensors["together"],
        nets=tuple(nets),
        calibration=Calibration(**calibration),
        known=tuple((str(app), None if platform is None else str(platform)) for app, platform in config["known"]),
        novelty=novelty,
    )


def _check(model: FlashModel) -> None:
    """Shapes that nothing else would notice before the model is used."""
    gp, prior = model.prior.gp, model.prior
    configs, pairs = len(model.grid), len(gp.profiles)
    values = prior.scaler.width // 2
    shapes = {
        "gp.features": (gp.features, (configs, sum(column.width for column in model.space.columns))),
        "gp.mean": (gp.mean, (configs,)),
        "gp.covariance": (gp.covariance, (configs, configs)),
        "gp.profiles": (gp.profiles, (pairs, configs)),
        "gp.pattern": (gp.pattern, (pairs,)),
        "gp.residual": (gp.residual, (len(gp.residual), configs, configs)),
        "scaler.scale": (prior.scaler.scale, (values,)),
        "local.values": (prior.values, (pairs, configs, values)),
        "local.known": (prior.known, (pairs, configs, values)),
        "local.observed": (prior.observed, (pairs, configs)),
        "likeness.weight": (prior.likeness.weight, (DISTINCT, OWN_KINDS + values)),
        "together": (model.together, (configs, configs)),
    }
    shapes |= {
        f"calibration.{f.name}": (getattr(model.calibration, f.name), (MAX_SHOTS + 1,))
        for f in dataclasses.fields(Calibration)
    }
    timed = prior.scaler.timed
    if values != len(model.metric_names) + len(timed) + bool(timed):
        raise ArtifactError("the saved model has another number of metrics than of their scales; get or write it again")
    if model.novelty is not None:
        if not model.nets:
            raise ArtifactError("the saved model has embeddings but no network that makes them; get or write it again")
        references, embed = len(model.novelty.reference), model.nets[0].config.meta.embed
        shapes["novelty.reference"] = (model.novelty.reference, (references, embed))
        shapes["novelty.pair"] = (model.novelty.pair, (references,))
        shapes["novelty.whiten"] = (model.novelty.whiten, (embed, embed))
        if (
            model.novelty.held.ndim != 2
            or not model.novelty.held.size
            or model.novelty.pair.max(initial=0) >= len(model.known)
        ):
            raise ArtifactError("the saved model's novelty part is damaged; get or write the model again")
    for name, (array, expected) in shapes.items():
        if array.shape != expected:
            raise ArtifactError(
                f"tensor {name!r} of the saved model has shape {array.shape}, expected {expected};"
                " get or write the model again"
            )
    if not 0 <= gp.pattern.min(initial=0) <= gp.pattern.max(initial=0) < len(gp.residual):
        raise ArtifactError("the saved model's training pairs are damaged; get or write the model again")
