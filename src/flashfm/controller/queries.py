"""What is asked of a Prometheus server for one `Sample`, by source; each query is a template that may be replaced.

Enters: a source's templates and the names of a deployment. Leaves: PromQL. Names come from a cluster and may be
hostile: one that is no Kubernetes name never gets into a query. Templates are the operator's own.

Placeholders are `$namespace`, `$name`, `$container` and `$window`, the time over which rates are taken; `$name_re` and
so on are the same inside a regular expression; `$$` is a dollar sign. A query must come to one series: two are a
contradiction. Those here aggregate replicas of a server's scrapers away, but not the label `cluster`: deployments of
the same name in two clusters are two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from string import Template

from flashfm.controller.web import one_line
from flashfm.errors import BackendError, ControlError

FIGURE = "flashfm_figure"
"""The label that says what a series of an answer is."""
LONGEST = 4096
"""Characters of a template."""
NAMED = ("namespace", "name", "container")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PLACEHOLDERS = {"window", *NAMED, *(f"{name}_re" for name in NAMED)}


@dataclass(frozen=True)
class Queries:
    """One template for each figure of `Sample`; "" where this server does not know it, and the figure stays None.

    Raises:
        ControlError: a template is too long, or holds a placeholder that there is not.
    """

    time_s: str
    """Unix time of the newest scrape of a raw series: one that has died does not get newer."""
    arrived_per_s: str
    served_per_s: str
    """Requests that were not answered 5xx."""
    p99_s: str
    used_cores: str
    used_mib: str
    replicas: str = ""
    ready: str = ""
    cpu_cores: str = ""
    memory_mib: str = ""
    killed: str = ""
    image: str = ""
    """Any value; what runs is the value of the only label of the series."""

    def __post_init__(self) -> None:
        for figure, text in asdict(self).items():
            if not isinstance(text, str) or len(text) > LONGEST:
                raise ControlError(f"queries: {figure}: expected a text of at most {LONGEST} characters")
            template = Template(text)
            if not template.is_valid():
                raise ControlError(f"queries: {figure}: a '$' that begins no placeholder; a dollar sign is '$$'")
            foreign = sorted(set(template.get_identifiers()) - _PLACEHOLDERS)
            if foreign:
                raise ControlError(
                    f"queries: {figure}: no placeholder ${one_line(foreign[0])}; there are"
                    f" {', '.join(f'${name}' for name in sorted(_PLACEHOLDERS))}"
                )

    def replaced(self, by: Mapping[str, str]) -> Queries:
        """The same with some templates of the operator's own, by figure.

        Raises:
            ControlError: no such figure, or no such template.
        """
        figures = [of.name for of in fields(self)]
        foreign = sorted(set(by) - set(figures))
        if foreign:
            raise ControlError(f"queries: no figure {one_line(foreign[0])!r}; there are {', '.join(figures)}")
        return replace(self, **by)

    def promql(self, labels: Mapping[str, str], window_s: float) -> dict[str, str]:
        """What to ask for one deployment, by figure; those that this server does not know are left out.

        Args:
            labels: `namespace`, `name` and `container` of the deployment, as far as the templates ask for them.
            window_s: time over which rates are taken, in seconds.

        Raises:
            BackendError: one of them is no Kubernetes name, or is asked for and not there.
        """
        values = {"window": f"{round(1e3 * window_s)}ms"}
        for key, value in labels.items():
            if not _NAME.fullmatch(value):
                raise BackendError(
                    f"metrics: {one_line(key)} {one_line(value)!r:.80} is no Kubernetes name; expected letters, digits,"
                    " '-', '.' and '_', and no other"
                )
            values |= {key: value, f"{key}_re": value.replace(".", "[.]")}
        try:
            return {figure: Template(text).substitute(values) for figure, text in asdict(self).items() if text}
        except KeyError as missing:
            raise BackendError(f"metrics: the queries ask for ${missing.args[0]}, which is not known here") from None


def together(asked: Mapping[str, str]) -> str:
    """One query for all figures, evaluated at one time; each series says in the label `FIGURE` what it is.

    Args:
        asked: PromQL by figure.
    """
    # the newlines end comments
    return "\nor ".join(
        f'label_replace((\n{text}\n), "{FIGURE}", "{figure}", "", "")' for figure, text in asked.items()
    )


_OBJECT = 'namespace="$namespace", deployment="$name"'
_POD = 'namespace="$namespace", pod=~"${name_re}-[a-z0-9]{1,10}-[a-z0-9]{5}"'
_CONTAINER = f'{_POD}, container="$container"'
_SOUND = 'code!~"5..", status!~"5..", status_code!~"5.."'
_READY = f"max by (cluster) (kube_deployment_status_replicas_ready{{{_OBJECT}}})"
_CPU = f"max by (cluster, namespace, pod) (rate(container_cpu_usage_seconds_total{{{_CONTAINER}}}[$window]))"
_MEMORY = f"container_memory_working_set_bytes{{{_CONTAINER}}}"
_RESTARTED = f"changes(kube_pod_container_status_restarts_total{{{_CONTAINER}}}[$window]) > 0"
_STARVED = f'kube_pod_container_status_last_terminated_reason{{{_CONTAINER}, reason="OOMKilled"}} == 1'


def _rate(counter: str, of: str) -> str:
    return f"sum by (cluster) (rate({counter}{{{of}}}[$window]))"


def _served(counter: str, of: str, sound: str) -> str:
    """0 where there are requests and none was answered well."""
    return f"{_rate(counter, f'{of}, {sound}')} or 0 * {_rate(counter, of)}"


def _limit(resource: str) -> str:
    return f'max by (cluster) (kube_pod_container_resource_limits{{{_CONTAINER}, resource="{resource}"}})'


KUBE = Queries(
    time_s=f"max by (cluster) (timestamp(container_cpu_usage_seconds_total{{{_CONTAINER}}}))",
    arrived_per_s=_rate("http_request_duration_seconds_count", _POD),
    served_per_s=_served("http_request_duration_seconds_count", _POD, _SOUND),
    p99_s="histogram_quantile(0.99, sum by (cluster, le)"
    f" (rate(http_request_duration_seconds_bucket{{{_POD}}}[$window])))",
    # a container that was started again, and a second scraper, have a series of their own
    # of pods that are ready, as HPA counts: those that start use much, and are asked nothing; of all where none is
    used_cores=f"sum by (cluster) ({_CPU} and on (namespace, pod)"
    f' kube_pod_status_ready{{{_POD}, condition="true"}} == 1) or sum by (cluster) ({_CPU})',
    # where no replica is ready, what they held before they died
    used_mib=f"(avg by (cluster) (max by (cluster, namespace, pod) ({_MEMORY}) and on (namespace, pod)"
    f' kube_pod_status_ready{{{_POD}, condition="true"}} == 1)'
    f" or max by (cluster) (max_over_time({_MEMORY}[10m]))) / 2^20",
    replicas=f"max by (cluster) (kube_deployment_status_replicas{{{_OBJECT}}})",
    ready=_READY,
    cpu_cores=_limit("cpu"),
    memory_mib=f"{_limit('memory')} / 2^20",
    killed="count by (cluster) (max by (cluster, namespace, pod)"
    f" ({_RESTARTED} and on (namespace, pod, container) {_STARVED})) or 0 * {_READY}",
    image=f'topk(1, count by (image_id) (kube_pod_container_info{{{_CONTAINER}, image_id!=""}}))',
)
"""kube-state-metrics and cAdvisor; latency and rates from a histogram of the application's own. Pods are those that a
Deployment names; a rolling update's extra ones are among `replicas`; limits are the largest of a pod's."""

_WORKLOAD = 'reporter="destination", destination_workload_namespace="$namespace", destination_workload="$name"'

ISTIO = replace(
    KUBE,
    arrived_per_s=_rate("istio_requests_total", _WORKLOAD),
    served_per_s=_served("istio_requests_total", _WORKLOAD, 'response_code!~"5..|0"'),
    p99_s="histogram_quantile(0.99, sum by (cluster, le)"
    f" (rate(istio_request_duration_milliseconds_bucket{{{_WORKLOAD}}}[$window]))) / 1000",
)
"""As `KUBE`, with latency and rates as the replicas' side-cars see them; Istio counts milliseconds."""

_JOB = 'job="$name"'

LOCAL = Queries(
    time_s=f"max(timestamp(process_cpu_seconds_total{{{_JOB}}}))",
    arrived_per_s=f"sum(rate(http_requests_total{{{_JOB}}}[$window]))",
    served_per_s=f'sum(rate(http_requests_total{{{_JOB}, code!~"5.."}}[$window]))',
    p99_s=f"histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{{{_JOB}}}[$window])))",
    used_cores=f"sum(rate(process_cpu_seconds_total{{{_JOB}}}[$window]))",
    used_mib=f"avg(process_resident_memory_bytes{{{_JOB}}}) / 2^20",
    replicas=f"count(up{{{_JOB}}})",
    ready=f"sum(up{{{_JOB}}})",
    image=f"topk(1, count by (digest) (flashfm_application_info{{{_JOB}}}))",
)
"""Applications that `flashfm apps serve` serves (`applications.server_metrics`), a process a target of the job `$name`;
limits and kills are what whoever started them knows."""

SOURCES: dict[str, Queries] = {"kube": KUBE, "istio": ISTIO, "local": LOCAL}
"""Queries by the name of their source."""
