"""Kubernetes: a spec in, an image to build, manifests and the scripts that apply them out. Text only, no cluster.

The image holds the part of flashfm that `flashfm apps serve` runs and needs nothing but PyPI to build. Without an
endpoint each pod embeds its own S3 and DynamoDB; with one, `setup.sh` creates buckets and tables once and pods only use
them.
"""

from __future__ import annotations

from typing import Any

from flashfm import __version__
from flashfm.applications.packaging.artefacts import Files, script, spec_json, yaml_bytes
from flashfm.applications.packaging.options import PackageOptions
from flashfm.applications.packaging.vendor import requirements, server_files
from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec

PORT = 8080
CPU_TARGET_PERCENT = 70
"""Mean CPU utilisation, in percent of the request, that the HorizontalPodAutoscaler aims at."""
DRAIN_S = 25
USER = 65532
"""User and group id of the container: nobody's."""

_DOCKERFILE = f"""\
# docker build -t IMAGE . (in this directory)
FROM python:3.12-slim
COPY requirements.txt /opt/flashfm/
RUN pip install --no-cache-dir -r /opt/flashfm/requirements.txt
COPY flashfm /opt/flashfm/flashfm
ENV PYTHONPATH=/opt/flashfm PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
RUN printf '#!/bin/sh\\nexec python -m flashfm "$@"\\n' >/usr/local/bin/flashfm \\
    && chmod 755 /usr/local/bin/flashfm \\
    && python -m compileall -q /opt/flashfm
USER {USER}:{USER}
EXPOSE {PORT}
ENTRYPOINT ["flashfm"]
"""


def kubernetes(spec: ApplicationSpec, options: PackageOptions) -> Files:
    """The artefacts for Kubernetes: `image/` (a Docker build context), `manifests/`, `spec.json` and scripts."""
    own_services = bool(Application.services(spec)) and options.endpoint_url is None
    needed = requirements(spec, "typer", "prometheus-client", *(["moto"] if own_services else []))
    image = options.image or f"flashfm-{spec.name}:{__version__}"
    manifests = {
        "configmap.yaml": config_map(spec),
        "deployment.yaml": deployment(spec, options, image),
        "service.yaml": service(spec),
        "hpa.yaml": autoscaler(spec, options),
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(manifests),
    }
    return {
        "image/Dockerfile": _DOCKERFILE.encode(),
        "image/requirements.txt": "".join(f"{line}\n" for line in needed).encode(),
        **{f"image/{path}": content for path, content in server_files(spec).items()},
        **{f"manifests/{name}": yaml_bytes(manifest) for name, manifest in manifests.items()},
        "manifests/kustomization.yaml": yaml_bytes(kustomization),
        "spec.json": spec_json(spec),
        "deploy.sh": script(
            f"""
# Builds the image, pushes it where PUSH=1, and applies the manifests to the namespace of kubectl's context.
set -eu
cd "$(dirname "$0")"
docker build -t {image} image
if [ "${{PUSH:-0}}" = 1 ]; then docker push {image}; fi
kubectl apply -k manifests "$@"
"""
        ),
        "undeploy.sh": script('set -eu\ncd "$(dirname "$0")"\nkubectl delete --ignore-not-found -k manifests "$@"'),
        "setup.sh": _services_script(spec, options, "provision"),
        "teardown.sh": _services_script(spec, options, "remove"),
    }


def config_map(spec: ApplicationSpec) -> dict[str, Any]:
    """The spec as a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec),
        "data": {"spec.json": spec_json(spec).decode()},
    }


def deployment(spec: ApplicationSpec, options: PackageOptions, image: str) -> dict[str, Any]:
    """The Deployment. It names no replicas, they are the autoscaler's; requests equal limits (QoS class Guaranteed)."""
    resources = {"cpu": f"{round(1000 * options.cpu_cores)}m", "memory": f"{options.memory_mb}Mi"}
    serve = ["apps", "serve", "/etc/flashfm/spec.json", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - a pod
    serve += ["--drain-s", str(DRAIN_S)]
    if Application.services(spec) and options.endpoint_url is not None:
        serve += ["--endpoint-url", options.endpoint_url, "--deployment", options.deployment, "--no-provision"]
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 5}
    container = {
        "name": "application",
        "image": image,
        "command": ["flashfm"],
        "args": serve,
        "env": [
            {"name": "TMPDIR", "value": "/work"},
            {"name": "HOME", "value": "/work"},
            {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "spec", "mountPath": "/etc/flashfm", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_S + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "spec", "configMap": {"name": _name(spec)}},
            {"name": "work", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT),
        "prometheus.io/path": "/metrics",
        "flashfm/spec-digest": spec.digest[:16],  # a changed spec is a changed pod
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": spec.name}},
            "template": {"metadata": {"labels": _labels(spec), "annotations": annotations}, "spec": pod},
        },
    }


def service(spec: ApplicationSpec) -> dict[str, Any]:
    """The Service: port 80 of the cluster's network."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec),
        "spec": {
            "selector": {"app.kubernetes.io/name": spec.name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def autoscaler(spec: ApplicationSpec, options: PackageOptions) -> dict[str, Any]:
    """The HorizontalPodAutoscaler, on CPU utilisation."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(spec),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": _name(spec)},
            "minReplicas": options.min_replicas,
            "maxReplicas": options.max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": CPU_TARGET_PERCENT},
                    },
                }
            ],
        },
    }


def _services_script(spec: ApplicationSpec, options: PackageOptions, task: str) -> bytes:
    if not Application.services(spec):
        return script(f"# {spec.name} needs no buckets or tables: nothing to {task}.")
    if options.endpoint_url is None:
        return script(f"# Each pod embeds its own S3 and DynamoDB: nothing to {task}.")
    return script(
        f"""
# Does the task "{task}" for the buckets and tables of {spec.name}. PYTHON needs what image/requirements.txt lists;
# ENDPOINT_URL takes precedence, where this machine reaches the services under another address than the pods.
set -eu
cd "$(dirname "$0")"
PYTHONPATH=image "${{PYTHON:-python3}}" -m flashfm apps {task} spec.json \\
    --endpoint-url "${{ENDPOINT_URL:-{options.endpoint_url}}}" --deployment {options.deployment} "$@"
"""
    )


def _name(spec: ApplicationSpec) -> str:
    """Name of all objects: at most 61 characters, and it begins with a letter, as Services ask."""
    return f"flashfm-{spec.name}"


def _labels(spec: ApplicationSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/managed-by": "flashfm"}


def _metadata(spec: ApplicationSpec) -> dict[str, Any]:
    return {"name": _name(spec), "labels": _labels(spec)}
