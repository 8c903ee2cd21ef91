"""A `FlashModel` as plain JSON and arrays, and back; what comes back is checked, since files may come from anywhere.

Enters: a model, or a configuration object and named arrays. Leaves: the other. No I/O.
"""

from __future__ import annotations

import dataclasses
import json
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
from flashfm.models.novelty import EnvironmentModel, NoveltyModel
from flashfm.tasks.features import ShotScaler, environment_values
from flashfm.tasks.space import ConfigSpace

Array = Shaped[np.ndarray, "..."]

KIND = "config-search"
_SCALARS = ("rbf_variance", "noise", "offset_variance")
_LEVEL = "gp.level_deviation"
_KERNEL = ("slope_variance", "loading", "lengthscale", "interactions")
_GP = ("features", "mean", "covariance", "profiles", "pattern", "residual")
_NOVELTY = ("reference", "pair", "whiten", "held")
_PARTS = {"novelty": _NOVELTY, "bare": _NOVELTY, "environment": ("mean", "scale", "reference", "held")}
"""Parts that a model may be without, and their tensors."""


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
        **{name: getattr(model, name) is not None for name in _PARTS},
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
        tensors |= {f"net.{i}.{name}": value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    for part, names in _PARTS.items():
        if (record := getattr(model, part)) is not None:
            tensors |= {f"{part}.{name}": getattr(record, name) for name in names}
    return config, {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def from_state(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> FlashModel:
    """Inverse of `to_state`.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    try:
        model = _build(config, dict(tensors))
        _check(model)
        again, arrays = to_state(model)
        strange = _difference(config, again, tensors, arrays)
    except ArtifactError:
        raise
    except (
        FlashError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        RuntimeError,
        OverflowError,
    ) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise _damaged(f"its parts do not fit together ({reason})") from None
    if strange:
        raise _damaged(strange)
    return model


def _damaged(what: str) -> ArtifactError:
    return ArtifactError(f"the saved model is damaged: {what}; get or write the model again")


def _difference(
    config: Mapping[str, Any], again: Mapping[str, Any], tensors: Mapping[str, Array], arrays: Mapping[str, Array]
) -> str:
    """What a model that was read would be saved differently in; empty where nothing is."""
    if json.dumps(config, sort_keys=True) != json.dumps(again, sort_keys=True):
        names = [name for name in {*config, *again} if config.get(name) != again.get(name)]
        return f"its configuration is not as it was written ({', '.join(sorted(map(str, names))[:1]) or 'types'})"
    odd = sorted({*tensors} ^ {*arrays})
    if odd:
        return f"tensor {odd[0]!r} is {'missing' if odd[0] in arrays else 'unknown'}"
    for name, array in tensors.items():
        if array.dtype != _dtype(name):
            return f"tensor {name!r} is {array.dtype}, expected {_dtype(name)}"
        if array.dtype != arrays[name].dtype or array.shape != arrays[name].shape:
            expected = arrays[name]
            return (
                f"tensor {name!r} is {array.dtype}{list(array.shape)}, expected {expected.dtype}{list(expected.shape)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"tensor {name!r} holds values that are not finite"
    return ""


def _dtype(name: str) -> str:
    """What a tensor of this name is made of."""
    if name in ("local.known", "local.observed", "together"):
        return "bool"
    if name in ("kernel.interactions", "gp.pattern") or name.endswith(".pair"):
        return "int64"
    if name.startswith("net.") or name in ("local.values", "novelty.reference", "bare.reference"):
        return "float32"
    return "float64"


def _read(like: Any, data: Any) -> Any:
    """A settings record like `like` from JSON: its fields, no others, each of the type that it has there."""
    names = [field.name for field in dataclasses.fields(like)]
    if not isinstance(data, Mapping) or set(data) != set(names):
        raise ValueError(f"settings of {type(like).__name__}")
    values = {}
    for name in names:
        default, value = getattr(like, name), data[name]
        if dataclasses.is_dataclass(default):
            value = _read(default, value)
        elif isinstance(value, bool) != isinstance(default, bool) or not isinstance(
            value, int | float if isinstance(default, float) else type(default)
        ):
            raise ValueError(f"{name} of {type(like).__name__}")
        values[name] = value
    return type(like)(**values)


def _build(config: Mapping[str, Any], tensors: dict[str, Array]) -> FlashModel:
    space = ConfigSpace.from_dict(config["space"])
    grid = space.check(pd.DataFrame(config["grid"], columns=space.names), "grid")
    scalars: dict[str, Any] = dict(zip(_SCALARS, map(float, tensors["kernel.scalars"]), strict=True))
    arrays: dict[str, Any] = {name: tensors[f"kernel.{name}"] for name in _KERNEL}
    kernel = Kernel(**arrays, **scalars)
    moments: dict[str, Any] = {name: tensors[f"gp.{name}"] for name in _GP}
    gp = HierarchicalGP(
        _read(PriorConfig(), config["prior"]), kernel, **moments, level_deviation=float(tensors[_LEVEL][0])
    )
    scaler = ShotScaler(tensors["scaler.centre"], tensors["scaler.scale"], tuple(map(int, config["timed"])))
    likeness = Likeness(**{field.name: tensors[f"likeness.{field.name}"] for field in dataclasses.fields(Likeness)})
    values, known, observed = (tensors[f"local.{name}"].astype(np.float64) for name in ("values", "known", "observed"))
    prior = LocalProcess(gp, scaler, values, known, observed, likeness)
    nets = []
    for i in range(int(config["members"])):
        network = _read(FlashConfig(), config["network"])
        width = gp.features.shape[1]
        net = FlashNet(width + 1 + scaler.width, width + 4, network)
        prefix = f"net.{i}."
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=True)
        nets.append(net.eval())
    calibration = {field.name: tensors[f"calibration.{field.name}"] for field in dataclasses.fields(Calibration)}
    parts: dict[str, Any] = {}
    for part, names in _PARTS.items():
        kind = EnvironmentModel if part == "environment" else NoveltyModel
        parts[part] = kind(**{name: tensors[f"{part}.{name}"] for name in names}) if config[part] else None
    return FlashModel(
        space=space,
        grid=grid,
        metric_names=tuple(map(str, config["metrics"])),
        prior=prior,
        together=tensors["together"],
        nets=tuple(nets),
        calibration=Calibration(**calibration),
        known=tuple((str(app), None if platform is None else str(platform)) for app, platform in config["known"]),
        **parts,
    )


def _check(model: FlashModel) -> None:
    """Shapes that nothing else would notice before the model is used."""
    gp, prior = model.prior.gp, model.prior
    configs, pairs = len(model.grid), len(gp.profiles)
    values = prior.scaler.width // 2
    width = sum(column.width for column in model.space.columns)
    basis = gp.kernel.basis(np.zeros((1, width))).shape[1]
    shapes = {
        "kernel.slope_variance": (gp.kernel.slope_variance, (basis,)),
        "kernel.loading": (gp.kernel.loading, (basis,)),
        "kernel.lengthscale": (gp.kernel.lengthscale, (width,)),
        "kernel.interactions": (gp.kernel.interactions, (basis - 1 - width, 2)),
        "gp.features": (gp.features, (configs, width)),
        "gp.mean": (gp.mean, (configs,)),
        "gp.covariance": (gp.covariance, (configs, configs)),
        "gp.profiles": (gp.profiles, (pairs, configs)),
        "gp.pattern": (gp.pattern, (pairs,)),
        "gp.residual": (gp.residual, (len(gp.residual), configs, configs)),
        "scaler.centre": (prior.scaler.centre, (values,)),
        "scaler.scale": (prior.scaler.scale, (values,)),
        "local.values": (prior.values, (pairs, configs, values)),
        "local.known": (prior.known, (pairs, configs, values)),
        "local.observed": (prior.observed, (pairs, configs)),
        "likeness.weight": (prior.likeness.weight, (DISTINCT, OWN_KINDS + values)),
        "together": (model.together, (configs, configs)),
    }
    for part, record, shape in (
        ("likeness", prior.likeness, (DISTINCT,)),
        ("calibration", model.calibration, (MAX_SHOTS + 1,)),
    ):
        for field in dataclasses.fields(record):
            if field.name != "weight":
                shapes[f"{part}.{field.name}"] = (getattr(record, field.name), shape)
    timed = prior.scaler.timed
    if values != len(model.metric_names) + len(timed) + bool(timed):
        raise _damaged("it has another number of metrics than of their scales")
    for part, bank in (("novelty", model.novelty), ("bare", model.bare)):
        if bank is None:
            continue
        if not model.nets or model.novelty is None:
            raise _damaged("it has embeddings but no network that makes them")
        references, embed = len(bank.reference), model.nets[0].config.meta.embed
        shapes[f"{part}.reference"] = (bank.reference, (references, embed))
        shapes[f"{part}.pair"] = (bank.pair, (references,))
        shapes[f"{part}.whiten"] = (bank.whiten, (embed, embed))
        if not references or bank.held.ndim != 2 or not bank.held.size:
            raise _damaged("its novelty part does not fit")
        if not 0 <= bank.pair.min() <= bank.pair.max() < len(model.known):
            raise _damaged("its embeddings are of pairs that it does not know")
    if model.environment is not None:
        told = environment_values(
            np.zeros((1, 1, len(model.metric_names))), np.zeros((1, 1)), model.metric_names
        ).shape[-1]
        shapes["environment.mean"] = (model.environment.mean, (configs, told))
        shapes["environment.scale"] = (model.environment.scale, (configs, told))
        shapes["environment.reference"] = (
            model.environment.reference,
            (configs, model.environment.reference.shape[1], told),
        )
        if model.environment.held.ndim != 2 or not model.environment.held.size:
            raise _damaged("its environment part does not fit")
    for name, (array, expected) in shapes.items():
        if array.shape != expected:
            raise _damaged(f"tensor {name!r} has shape {array.shape}, expected {expected}")
    if any(not 0 <= i < len(model.metric_names) for i in timed):
        raise _damaged("a metric that it reads is not among its metrics")
    if gp.kernel.interactions.size and not 0 <= gp.kernel.interactions.min() <= gp.kernel.interactions.max() < width:
        raise _damaged("its interactions are of features that it has not")
    if not 0 <= gp.pattern.min(initial=0) <= gp.pattern.max(initial=0) < len(gp.residual):
        raise _damaged("its training pairs do not fit")
    scales = (gp.kernel.lengthscale, np.array([gp.level_deviation, gp.noise]))
    if (prior.scaler.scale < 0).any() or any((scale <= 0).any() for scale in scales):
        raise _damaged("a scale or its noise is not above 0")
    if len(model.places) != configs:
        raise _damaged("a configuration of its grid comes twice")
