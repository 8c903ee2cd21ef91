"""Campaigns with real processes and no limits, for what does not depend on limits; a module that workers import."""

from __future__ import annotations

from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.measurements.campaign import Campaign
from flashfm.measurements.limits import Backend, Group, Limits, Watchdog
from flashfm.measurements.platforms import Lambda
from flashfm.measurements.sandbox import InvokePlan
from flashfm.records import ResourceConfig


class NoGroup(Group):
    """Puts nothing anywhere."""

    launcher: list[str] = []  # noqa: RUF012  of no process

    def apply(self, limits: Limits) -> None:
        del limits

    def oom_kills(self) -> int:
        return 0

    def child(self, name: str) -> NoGroup:
        del name
        return self

    def remove(self) -> None:
        """Nothing is there."""


class Unlimited(Backend):
    """Works on every machine."""

    name, how = "unlimited", ""

    def available(self) -> str:
        return ""

    def root(self, dog: Watchdog) -> Group:
        del dog
        return NoGroup()


def naps(count: int, ms: int = 5) -> Campaign:
    """Applications that sleep, in two sizes."""
    apps = (ApplicationSpec(f"nap-{i}", (SegmentSpec("sleep", {"sleep_ms": ms}),)) for i in range(count))
    plan = InvokePlan(warmup=0, count=1, at_least=1)
    return Campaign(tuple(apps), Lambda(), (ResourceConfig(128), ResourceConfig(256)), plan, passes=1)
