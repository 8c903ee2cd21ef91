"""The hierarchical process near a new pair: training pairs count by how alike their measurements are to the shots.

Enters: a fitted `HierarchicalGP`, the training pairs' own measurements, and shots. Leaves: a posterior over the grid.
Likeness is learned: a weight for the difference in level, in the shape over the shots, and in each value that is read
off a shot, so that pairs that wait, compute or write alike are found alike. Mean and covariance are re-estimated with
these weights, then the shots are conditioned on. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from flashfm.errors import ModelError
from flashfm.models.device import CPU
from flashfm.models.hierarchical_gp import HierarchicalGP
from flashfm.tasks.config_search import Observations, Shots
from flashfm.tasks.features import ShotScaler

OWN_KINDS = 3
"""Differences beside those of the values: level, shape, and configurations that the training pair was not seen in."""
NEIGHBOURS = 12
"""Training pairs whose farthest sets the bandwidth, so that as many count in a crowd as at its edge."""
DISTINCT = 3
"""Shots for which there are parameters of their own; more are treated as these."""
AT_ONCE, AT_ONCE_ON_GPU = 256, 2048
"""Tasks that are compared with all training pairs at a time."""
_RIDGE = 1e-4


@dataclass(frozen=True, eq=False)
class Likeness:
    """Parameters for 1, 2 and 3 or more shots, all in the logarithm."""

    weight: Float[np.ndarray, "k kind"]
    """Of each squared difference: level, shape, unseen, then each value of `ShotScaler`."""
    own: Float[np.ndarray, " k"]
    """Pairs that the mean over all pairs is worth beside the weighted one."""
    own_covariance: Float[np.ndarray, " k"]
    """Pairs that the covariance over all pairs is worth beside the weighted one."""
    scale: Float[np.ndarray, " k"]
    """Factor on the covariance over all pairs: those alike differ less."""
    fade: Float[np.ndarray, " k"]
    """Bandwidth of the weights, in distances to neighbour number `NEIGHBOURS`."""
    broad: Float[np.ndarray, " k"]
    """Variance of the level, nats squared, added so that the shots set the level."""
    noise: Float[np.ndarray, " k"]
    """Factor on the noise of a measurement."""
    align: Float[np.ndarray, " k"]
    """Logit of the share that the mean of those alike, shifted to the mean of the shots, has in the answer beside the
    conditional mean: noise of one shot tilts the latter, not the former."""

    @classmethod
    def initial(cls, values: int, timed: int) -> Likeness:
        """Where learning starts: `timed` values at the end are shares of the run time, the last one the whole share."""
        weight = np.full((DISTINCT, OWN_KINDS + values), -1.5)
        weight[:, :OWN_KINDS] = (0.0, 2.0, 2.0)
        if timed:
            weight[:, -1] = 2.5
        start = {
            "own": -1.0,
            "own_covariance": 0.0,
            "scale": -1.0,
            "fade": -0.5,
            "broad": -2.0,
            "noise": 0.0,
            "align": -1.0,
        }
        return cls(weight, **{name: np.full(DISTINCT, value) for name, value in start.items()})


class Posterior(NamedTuple):
    """What is known of log run times, of each task at each configuration."""

    mean: Float[np.ndarray, "task config"]
    variance: Float[np.ndarray, "task config"]
    """Noise included."""
    aligned: Float[np.ndarray, "task config"]
    """Mean of those alike, shifted to the mean of the shots; `mean` is between this and the conditional mean."""


class _Moments(NamedTuple):
    """What `LocalProcess` re-estimates from, on its device."""

    mean: Float[Tensor, " config"]
    covariance: Float[Tensor, "config config"]
    profiles: Float[Tensor, "pair config"]
    residual: Float[Tensor, "pattern config config"]
    of_pattern: Float[Tensor, "pair pattern"]
    """1 where a pair has the pattern."""


@dataclass(frozen=True, eq=False)
class LocalProcess:
    """A hierarchical process and the training pairs that it is re-estimated from."""

    gp: HierarchicalGP
    scaler: ShotScaler
    values: Float[np.ndarray, "pair config value"]
    """Standardised values of each training pair's measurements, 0 where missing."""
    known: Float[np.ndarray, "pair config value"]
    """1 where they are not missing."""
    observed: Float[np.ndarray, "pair config"]
    """1 where the pair was observed."""
    likeness: Likeness
    device: torch.device = CPU
    """Where posteriors of shots are computed."""

    @classmethod
    def of(
        cls, gp: HierarchicalGP, scaler: ShotScaler, data: Observations, likeness: Likeness | None = None
    ) -> LocalProcess:
        """Lay out the training pairs that `gp` was fitted on."""
        observed = ~np.isnan(data.log_runtime)
        read = scaler.transform(data.metrics, np.where(observed, data.log_runtime, 0.0))
        values, known = np.split(read, 2, axis=-1)
        known = known * observed[..., None]
        likeness = likeness or Likeness.initial(values.shape[-1], len(scaler.timed))
        values = (values * known).astype(np.float32).astype(np.float64)
        return cls(gp, scaler, values, known, observed.astype(np.float64), likeness)

    def posterior(self, shots: Shots) -> Posterior:
        """What is known of the log run time at every configuration, after K >= 0 shots of each task."""
        if shots.count == 0:
            mean, variance = self.gp.posterior(shots.config, shots.log_runtime)
            return Posterior(mean, variance, mean)
        parameters = _at(self.likeness, shots.count, self.device)
        found = Posterior(*(np.empty((len(shots), len(self.gp.mean))) for _ in Posterior._fields))
        on_cpu = self.device.type == CPU.type
        order, group = self._alike(shots)
        at_once = AT_ONCE if on_cpu else AT_ONCE_ON_GPU
        with torch.inference_mode():
            for start in range(0, len(shots), at_once):
                chosen = order[start : start + at_once]
                part = Shots(shots.config[chosen], shots.log_runtime[chosen], shots.metrics[chosen])
                if on_cpu:
                    distance = self._distances(part, group[chosen], parameters)
                else:
                    distance = self._differences(part) @ parameters["weight"].exp()
                told = self._condition(part, distance, parameters)
                for column, tensor in zip(found, told, strict=True):
                    column[chosen] = tensor.cpu().numpy()
        return found

    def covariance(self, shots: Shots) -> Float[np.ndarray, "config config"]:
        """Posterior covariance over the grid after the shots of one task, without noise."""
        if shots.count == 0:
            return self.gp.covariance
        with torch.inference_mode():
            parameters = _at(self.likeness, shots.count)
            distance = self._distances(shots, np.zeros(1, dtype=np.int64), parameters)
            weight = self._weights(distance, parameters)[0].numpy()
        names = ("own", "own_covariance", "scale", "broad", "noise")
        own, own_covariance, scale, broad, noise = (float(parameters[name].exp()) for name in names)
        mean = (own * self.gp.mean + weight @ self.gp.profiles) / (own + weight.sum())
        shared = own_covariance * scale * self.gp.covariance
        deviation = self.gp.profiles - mean
        residual = np.tensordot(np.bincount(self.gp.pattern, weight, len(self.gp.residual)), self.gp.residual, 1)
        covariance = (shared + (deviation.T * weight) @ deviation + residual) / (own_covariance + weight.sum()) + broad
        at = shots.config[0]
        shot_noise = noise * self.gp.noise * np.eye(at.size)
        gain = np.linalg.solve(covariance[np.ix_(at, at)] + shot_noise, covariance[at])
        return np.asarray(covariance - covariance[:, at] @ gain)

    def to(self, device: torch.device) -> LocalProcess:
        """The same there."""
        return self if device == self.device else replace(self, device=device)

    def learned(self, likeness: Likeness) -> LocalProcess:
        """The same with other likeness."""
        return replace(self, likeness=likeness)

    def extended(self, features: Float[np.ndarray, "new feature"]) -> LocalProcess:
        """Over further configurations too; a training pair's values there are those of the nearest of the grid."""
        distance = ((features[:, None] - self.gp.features[None]) ** 2).sum(axis=-1)
        places = np.concatenate([np.arange(len(self.gp.features)), distance.argmin(axis=1)])
        return replace(
            self,
            gp=self.gp.extended(features),
            values=self.values[:, places],
            known=self.known[:, places],
            observed=self.observed[:, places],
        )

    @cached_property
    def _by_config(self) -> tuple[Float[Tensor, "config pair value"], Float[Tensor, "config pair value"]]:
        """Values and which are known, in single precision: learning spends its time here, and needs no more."""
        arrays = (np.ascontiguousarray(part, dtype=np.float32) for part in self._of_config)
        values, known = (self._there(array) for array in arrays)
        return values, known

    @cached_property
    def _moments(self) -> _Moments:
        gp = self.gp
        with torch.inference_mode(False):  # learning keeps them for gradients
            mean, covariance, profiles, residual, pattern = (
                self._there(array) for array in (gp.mean, gp.covariance, gp.profiles, gp.residual, gp.pattern)
            )
            of_pattern = torch.nn.functional.one_hot(pattern, len(gp.residual)).double()
        return _Moments(mean, covariance, profiles, residual, of_pattern)

    def _there(self, array: Shaped[np.ndarray, ...]) -> Shaped[Tensor, ...]:
        return torch.from_numpy(array).to(self.device)

    @cached_property
    def _of_config(self) -> tuple[Float[np.ndarray, "config pair value"], Float[np.ndarray, "config pair value"]]:
        """Values and which are known, one block of memory for each configuration."""
        values, known = (np.ascontiguousarray(part.swapaxes(0, 1)) for part in (self.values, self.known))
        return values, known

    def _differences(self, shots: Shots) -> Float[Tensor, "task pair kind"]:
        """Mean squared differences between each task's shots and each training pair in the same configurations."""
        values, known = (
            self._there(part) for part in np.split(self.scaler.transform(shots.metrics, shots.log_runtime), 2, axis=-1)
        )
        gap = self._there(shots.log_runtime[:, None] - self.gp.profiles.T[shots.config].transpose(0, 2, 1))
        level = gap.mean(dim=-1, keepdim=True)
        unseen = 1 - self._there(self.observed[:, shots.config].mean(axis=-1).T)
        own = torch.stack([level[..., 0] ** 2, ((gap - level) ** 2).mean(dim=-1), unseen], dim=-1)
        config = self._there(shots.config)
        theirs, seen = (part[config] for part in self._by_config)
        both = seen * known[:, :, None].float()
        squares = (theirs - values[:, :, None].float()).square_().mul_(both)
        apart = (squares.sum(dim=1) / both.sum(dim=1).clamp_(min=1)).double()
        return torch.cat([own, apart], dim=-1)

    def _alike(self, shots: Shots) -> tuple[Int[np.ndarray, " task"], Int[np.ndarray, " task"]]:
        """An order that has tasks with the same configurations and known values together, and their group's number."""
        _, known = np.split(self.scaler.transform(shots.metrics, shots.log_runtime), 2, axis=-1)
        bits = np.packbits(known.reshape(len(shots), -1) > 0, axis=1)
        places = np.ascontiguousarray(shots.config).view(np.uint8)
        keys = np.ascontiguousarray(np.concatenate([places, bits], axis=1))
        _, group = np.unique(keys.view(f"V{keys.shape[1]}")[:, 0], return_inverse=True)
        return np.argsort(group, kind="stable"), group

    def _distances(
        self, shots: Shots, group: Int[np.ndarray, " task"], parameters: dict[str, Tensor]
    ) -> Float[Tensor, "task pair"]:
        """`_differences` weighed and summed up, by one product for all tasks of a group and without any of them."""
        values, known = np.split(self.scaler.transform(shots.metrics, shots.log_runtime), 2, axis=-1)
        theirs, seen = self._of_config
        profiles, weight = self.gp.profiles, np.exp(parameters["weight"].numpy())
        (level, shape, unseen), of_values = weight[:OWN_KINDS], weight[OWN_KINDS:]
        found = np.empty((len(shots), len(profiles)))
        for one in np.unique(group):
            tasks = np.flatnonzero(group == one)
            at, k = shots.config[tasks[0]], shots.count
            both = seen[at] * known[tasks[0], :, None]
            both *= of_values / np.maximum(both.sum(axis=0), 1)
            cross = both * theirs[at]
            own = profiles[:, at]
            mean = own.mean(axis=1)
            off = own - mean[:, None]
            fixed = (cross * theirs[at]).sum(axis=(0, 2)) + shape * (off**2).mean(axis=1)
            fixed += unseen * (1 - self.observed[:, at].mean(axis=1))
            log_runtime = shots.log_runtime[tasks]
            middle = log_runtime.mean(axis=1, keepdims=True)
            apart = log_runtime - middle
            given = values[tasks].reshape(len(tasks), -1)
            read = np.concatenate([given, given**2, apart], axis=1)
            width, pairs = given.shape[1], len(profiles)
            sides = [(-2 * part).transpose(0, 2, 1).reshape(width, pairs) for part in (cross, -0.5 * both)]
            total = read @ np.concatenate([*sides, (-2 * shape / k) * off.T])
            total += fixed
            total += shape * (apart**2).mean(axis=1, keepdims=True)
            gap = middle - mean
            gap *= gap
            gap *= level
            total += gap
            found[tasks] = np.maximum(total, 0.0, out=total)
        return torch.from_numpy(found)

    def _weights(
        self, distance: Float[Tensor, "task pair"], parameters: dict[str, Tensor]
    ) -> Float[Tensor, "task pair"]:
        last = min(NEIGHBOURS, distance.shape[1])
        bandwidth = distance.topk(last, dim=1, largest=False).values[:, -1:] + 1e-9
        score = -0.5 * distance / (bandwidth * parameters["fade"].exp() ** 2)
        return torch.exp(score - score.amax(dim=1, keepdim=True))

    def _condition(
        self, shots: Shots, distance: Float[Tensor, "task pair"], parameters: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "task config"], Float[Tensor, "task config"], Float[Tensor, "task config"]]:
        """Re-estimate mean and covariance with the weights, then condition on the shots; see `Posterior`."""
        config, k = self._there(shots.config), shots.count
        prior_mean, covariance, profiles, residual, with_pattern = self._moments
        names = ("own", "own_covariance", "scale", "broad", "noise")
        own, own_covariance, scale, broad, noise = (parameters[name].exp() for name in names)
        shared = own_covariance * scale * covariance
        weight = self._weights(distance, parameters)
        total = weight.sum(dim=1)
        of_pattern = weight @ with_pattern
        mean = (own * prior_mean + weight @ profiles) / (own + total)[:, None]
        at = (profiles.T[config] - mean.gather(1, config)[..., None]) * weight[:, None]
        rows = shared[config] + at @ profiles - at.sum(dim=-1, keepdim=True) * mean[:, None]
        rows = rows + torch.einsum("tg,gtkc->tkc", of_pattern, residual[:, config])
        squares = weight @ profiles**2 - 2 * mean * (weight @ profiles) + mean**2 * total[:, None]
        diagonal = torch.diagonal(shared) + squares + of_pattern @ torch.diagonal(residual, dim1=1, dim2=2)
        total = own_covariance + total
        rows, diagonal = rows / total[:, None, None] + broad, diagonal / total[:, None] + broad
        noise = noise * self.gp.noise
        identity = torch.eye(k, dtype=torch.float64, device=self.device)
        shots_covariance = rows.gather(2, config[:, None].expand(-1, k, -1)) + noise * identity
        gain = torch.linalg.solve(shots_covariance, rows)
        off = self._there(shots.log_runtime) - mean.gather(1, config)
        conditional, aligned = mean + torch.einsum("tk,tkc->tc", off, gain), mean + off.mean(dim=1, keepdim=True)
        posterior = torch.lerp(conditional, aligned, torch.sigmoid(parameters["align"]))
        return posterior, (diagonal - (rows * gain).sum(dim=1)).clamp(min=0) + noise, aligned


Task = tuple[LocalProcess, Shots, Float[np.ndarray, "_ _"]]
"""A process, shots of pairs that it was not fitted on, and their log run times, NaN where not asked."""


def learn(tasks: Mapping[int, Sequence[Task]], *, shift: float, steps: int, rate: float = 0.15) -> Likeness:
    """Fit the likeness to held-out pairs, by absolute percentage error and a little of the Gaussian likelihood.

    Args:
        tasks: for each K in 1 to `DISTINCT`; a K without any takes the parameters of the next smaller one.
        shift: c in the point exp(mean - c variance).
        steps: of Adam.
        rate: its learning rate.
    """
    start = next((of_k[0][0].likeness for of_k in tasks.values() if of_k), None)
    if start is None:
        raise ModelError("no pair has a configuration beside its shots; a model needs pairs with two or more of them")
    found: dict[int, dict[str, np.ndarray]] = {}
    for k in range(1, DISTINCT + 1):
        found[k] = _learn_one(tasks[k], _at(start, k), shift, steps, rate) if tasks.get(k) else found[k - 1]
    return Likeness(**{field.name: np.stack([found[k][field.name] for k in found]) for field in fields(Likeness)})


def _learn_one(
    tasks: Sequence[Task], start: dict[str, Tensor], shift: float, steps: int, rate: float
) -> dict[str, np.ndarray]:
    device = tasks[0][0].device
    start = {name: value.to(device) for name, value in start.items()}
    parameters = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.Adam(list(parameters.values()), lr=rate)
    prepared = [
        (process, shots, process._differences(shots), process._there(observed)) for process, shots, observed in tasks
    ]
    count = sum(int((~torch.isnan(observed)).sum()) for *_, observed in prepared)
    for _ in range(steps):
        optimiser.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=device)
        for process, shots, differences, observed in prepared:
            mean, variance, _ = process._condition(shots, differences @ parameters["weight"].exp(), parameters)
            known = ~torch.isnan(observed)
            off = mean - observed.nan_to_num()
            percentage = (torch.exp((off - shift * variance).clamp(max=3.0)) - 1).abs()
            likelihood = 0.5 * (off**2 / variance + variance.log())
            total = total + ((percentage + 0.1 * likelihood) * known).sum()
        ridge = sum((value - start[name]).pow(2).sum() for name, value in parameters.items())
        loss = total / count + _RIDGE * ridge
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return {name: value.detach().cpu().numpy() for name, value in parameters.items()}


def _at(likeness: Likeness, k: int, device: torch.device = CPU) -> dict[str, Tensor]:
    i = min(k, DISTINCT) - 1
    return {field.name: torch.as_tensor(getattr(likeness, field.name)[i]).to(device) for field in fields(Likeness)}
