#!/usr/bin/env bash
# UNTESTED in this repository: no machine of ours runs containers. It is what a real cluster alone can show of the
# Kubernetes backend, written down so that somebody who has Docker, kind, kubectl and helm can try it in some minutes.
# Everything else of the backend is tested against a double of the API: tests/controller/test_kubernetes.py and others.
#
#     examples/kind.sh            make a cluster, install all, show the points below
#     examples/kind.sh remove     remove the cluster
#
# What it shows, and how it must come out:
#   1  a real API server takes the CRD's schema, and refuses an object that breaks it
#   2  a namespace of the level `restricted` admits the operator: not root, read-only file system
#   3  the rights of the role are enough: nothing is forbidden in the operator's log
#   4  Shadow changes nothing; Act resizes in place: limits of pods change, their start times and restarts do not
#   5  cgroups of the container have the limits that were set
#   6  a pod whose node has no room is replaced by a rolling patch
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CLUSTER=flashfm NODE=kindest/node:v1.35.0
K="kubectl --context kind-$CLUSTER"
say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

for program in docker kind kubectl helm; do
  command -v "$program" >/dev/null || fail "$program is not installed"
done
if [ "${1:-}" = remove ]; then
  kind delete cluster --name "$CLUSTER"
  exit
fi

say "image and cluster"
docker build -t flashfm:local -f - . <<'DOCKERFILE'
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt \
      --extra-index-url https://download.pytorch.org/whl/cpu '/src[kubernetes]' && rm -rf /src
USER 65532:65532
ENTRYPOINT ["flashfm"]
DOCKERFILE
kind get clusters | grep -qx "$CLUSTER" || kind create cluster --name "$CLUSTER" --image "$NODE"
kind load docker-image flashfm:local --name "$CLUSTER"

say "Prometheus, with kube-state-metrics and cAdvisor"
helm --kube-context "kind-$CLUSTER" upgrade --install prometheus prometheus --wait \
  --repo https://prometheus-community.github.io/helm-charts --namespace monitoring --create-namespace \
  --set alertmanager.enabled=false --set prometheus-pushgateway.enabled=false \
  --set server.global.scrape_interval=10s

say "an application that is served, and a load"
$K create namespace shop --dry-run=client -o yaml | $K apply -f -
$K apply -f - <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '8080'}
    spec:
      containers:
        - name: app
          image: flashfm:local
          args: [apps, serve, 'seed:0/3', --host, 0.0.0.0]
          env: [{name: HOME, value: /tmp}]
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
          resources:
            requests: {cpu: 500m, memory: 512Mi}
            limits: {cpu: 500m, memory: 512Mi}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: load, namespace: shop}
spec:
  selector: {matchLabels: {app: load}}
  template:
    metadata: {labels: {app: load}}
    spec:
      containers:
        - name: load
          image: curlimages/curl
          command: [sh, -c, 'while true; do curl -s -o /dev/null -X POST http://web:8080/; sleep 0.05; done']
YAML
$K -n shop rollout status deployment/web --timeout=5m

say "1  the CRD, and an object that breaks it"
$K apply -f src/flashfm/controller/manifests/crd.yaml
$K wait --for=condition=Established crd/flashautoscalers.flashfm.io --timeout=60s
if sed 's/max: 12}/max: 99}/' src/flashfm/controller/manifests/example.yaml | $K apply -f - ; then
  fail "99 replicas were let in"
fi

say "2  the operator, in a namespace of the level restricted"
$K create namespace flashfm --dry-run=client -o yaml | $K apply -f -
$K label --overwrite namespace flashfm pod-security.kubernetes.io/enforce=restricted
helm --kube-context "kind-$CLUSTER" upgrade --install flashfm deploy/helm/flashfm --namespace flashfm --wait --skip-crds \
  --set image.repository=flashfm --set image.tag=local --set prometheus=http://prometheus-server.monitoring

pods() { $K -n shop get pods -l app=web -o "jsonpath={range .items[*]}{$1}{'\n'}{end}"; }
LIMITS='.spec.containers[0].resources.limits'
STARTED='.metadata.name} {.status.containerStatuses[0].restartCount} {.status.startTime'

say "4  Shadow for two minutes: nothing changes"
before=$(pods "$LIMITS")
$K apply -f src/flashfm/controller/manifests/example.yaml
sleep 120
$K -n shop get fas -o wide
[ "$(pods "$LIMITS")" = "$before" ] || fail "limits changed in Shadow"

say "4  Act: limits change, pods go on"
started=$(pods "$STARTED" | sort)
$K -n shop patch fas web --type merge -p '{"spec": {"mode": "Act", "bounds": {"cpuCores": {"min": 0.7, "max": 2}}}}'
for _ in $(seq 30); do
  sleep 10
  [ "$(pods "$LIMITS")" != "$before" ] && break
done
pods "$LIMITS"
[ "$(pods "$LIMITS")" != "$before" ] || fail "limits did not change within 5 minutes"
while read -r pod restarts at; do
  [ -z "$pod" ] || ! $K -n shop get pod "$pod" >/dev/null 2>&1 || pods "$STARTED" | grep -qx "$pod $restarts $at" ||
    fail "$pod was started anew"
done <<<"$started"

say "5  what the container itself sees"
pod=$($K -n shop get pods -l app=web -o 'jsonpath={.items[0].metadata.name}')
$K -n shop exec "$pod" -- cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max
$K -n shop get pod "$pod" -o 'jsonpath={.status.containerStatuses[0].resources.limits}{"\n"}'

say "3  the operator's log and events: nothing is forbidden"
if $K -n flashfm logs deployment/flashfm | grep -i forbidden; then
  fail "the role lacks something"
fi
$K -n shop get events --field-selector involvedObject.kind=FlashAutoscaler

say "6  more memory than a node has: a resize is Infeasible, and the template is patched"
cat <<'TEXT'
Not driven here, as it depends on the machine. On a node with less than 15 GiB give the object
  bounds: {memoryMib: {min: 15000, max: 15360}}
and expect an event `Settled` that begins "a rolling patch", then a rollout that passes its deadline, since no node has
room, and an event that says that the limits of before are rolled out again. The old pods serve all the while.
TEXT
say "all that was checked came out as it must; remove it with: $0 remove"
