"""An `AgentModel` as plain JSON and arrays, and back; what comes back is checked, since files may come from anywhere.

Enters: a model, or a configuration object and named arrays. Leaves: the other. No I/O.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn

from flashfm.errors import ArtifactError, FlashError
from flashfm.models.agent import NETWORKS, AgentModel
from flashfm.models.ddpg import DdpgConfig, Network
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.novelty import NoveltyModel
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions

Array = Shaped[np.ndarray, "..."]

KIND = "autoscaling"
TOKEN = 2 * len(OBSERVATION) + len(ACTION) + 1
"""Width of a step of a trajectory: state, action, reward, next state."""
_NOVELTY = tuple(field.name for field in dataclasses.fields(NoveltyModel))
_MOST = 4096
"""Widest layer that is built from a file."""


def digest(model: AgentModel) -> str:
    """What tells a pretrained agent from another: twelve hexadecimal digits of its tensors' SHA-256."""
    found = hashlib.sha256()
    for name, values in sorted(to_state(model)[1].items()):
        found.update(name.encode() + values.tobytes())
    return found.hexdigest()[:12]


def to_state(model: AgentModel) -> tuple[dict[str, Any], dict[str, Array]]:
    """Everything that a model is."""
    config = {
        "actions": model.actions,
        "observation": list(OBSERVATION),
        "encoder": dataclasses.asdict(model.encoder.meta.config),
        **{name: _shape(getattr(model, name)) for name in NETWORKS[:3]},
    }
    tensors = {
        f"{part}.{name}": np.ascontiguousarray(value.detach().cpu().numpy())
        for part in NETWORKS
        for name, value in getattr(model, part).state_dict().items()
    }
    return config, tensors | {f"novelty.{name}": getattr(model.novelty, name) for name in _NOVELTY}


def from_state(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> AgentModel:
    """Inverse of `to_state`.

    Raises:
        ArtifactError: the parts do not fit together, or the observations are of another version.
    """
    try:
        if config["observation"] != list(OBSERVATION):
            raise _damaged("its observations are not those of this version")
        if config["actions"] not in get_args(Actions):
            raise _damaged(f"actions {config['actions']!r:.40} are unknown")
        meta = MetaLearnerConfig(**config["encoder"])
        if max(meta.hidden, meta.embed, meta.layers) > _MOST:
            raise _damaged("its encoder is too wide")
        read = len(OBSERVATION) + meta.embed + 1
        parts: dict[str, nn.Module] = {
            "shared": _network(config["shared"], len(OBSERVATION), len(ACTION), bounded=True),
            "conditioned": _network(config["conditioned"], read, len(ACTION), bounded=True),
            "critic": _network(config["critic"], read + len(ACTION), 1, bounded=False),
            "encoder": TrajectoryEncoder(TOKEN, meta),
        }
        for part, module in parts.items():
            own = {name: array for name, array in tensors.items() if name.split(".", 1)[0] == part}
            odd = next((name for name, array in own.items() if array.dtype != np.float32), None)
            if odd is not None:
                raise _damaged(f"tensor {odd!r:.80} is {own[odd].dtype}, expected float32")
            module.load_state_dict({name.split(".", 1)[1]: torch.from_numpy(a.copy()) for name, a in own.items()})
            module.eval().requires_grad_(False)
        novelty = _novelty({name: tensors[f"novelty.{name}"] for name in _NOVELTY}, meta.embed)
        model = AgentModel(**parts, novelty=novelty, actions=config["actions"])  # type: ignore[arg-type]
        again, arrays = to_state(model)
    except ArtifactError:
        raise
    except (FlashError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise _damaged(f"its parts do not fit together ({reason})") from None
    if json.dumps(config, sort_keys=True) != json.dumps(again, sort_keys=True) or {*tensors} != {*arrays}:
        raise _damaged("its configuration or its tensors are not as they were written")
    return model


def _shape(network: Network) -> dict[str, Any]:
    return {"hidden": [int(weight.shape[-1]) for weight in network.weights][:-1], "normalise": network.normalise}


def _novelty(arrays: dict[str, Array], embed: int) -> NoveltyModel:
    shapes = {"reference": (len(arrays["reference"]), embed), "pair": (len(arrays["reference"]),)}
    for name, shape in (shapes | {"whiten": (embed, embed)}).items():
        if arrays[name].shape != shape:
            raise _damaged(f"tensor 'novelty.{name}' has shape {arrays[name].shape}, expected {shape}")
    held = arrays["held"]
    if not shapes["pair"][0] or held.ndim != 2 or not held.size:
        raise _damaged("its novelty part does not fit")
    for name, array in arrays.items():
        kind = np.int64 if name == "pair" else np.float64
        if array.dtype != kind or not np.isfinite(array).all():
            raise _damaged(f"tensor 'novelty.{name}' is {array.dtype}, expected finite {kind.__name__}")
    return NoveltyModel(**arrays)


def _network(shape: Mapping[str, Any], inputs: int, outputs: int, *, bounded: bool) -> Network:
    hidden = tuple(shape["hidden"])
    if not 1 <= len(hidden) <= 8 or not all(type(width) is int and 1 <= width <= _MOST for width in hidden):
        raise _damaged(f"hidden layers {shape['hidden']!r:.60}")
    return Network(1, inputs, outputs, DdpgConfig(hidden=hidden, normalise=shape["normalise"]), bounded=bounded)


def _damaged(what: str) -> ArtifactError:
    return ArtifactError(f"the saved agent is damaged: {what}; get or pretrain the model again")
