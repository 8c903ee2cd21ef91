"""Packages: deterministic, valid for their platform, and running where nothing of flashfm is installed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import flashfm
from flashfm.applications.catalogue import real_application
from flashfm.applications.packaging import MARK, Files, PackageOptions, Target, package, write
from flashfm.applications.packaging.sam import ACTIONS, statements, template
from flashfm.applications.packaging.vendor import function_files, requirements
from flashfm.applications.runtime import Application
from flashfm.applications.segments import POOL, REAL, segment_class
from flashfm.applications.segments.aws import new_client
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import PackagingError, SpecError

PLAIN = ApplicationSpec(
    "plain",
    (
        SegmentSpec("sleep", {"sleep_ms": 1}),
        SegmentSpec("file-read", {"file_kb": 4, "files": 2}),
        SegmentSpec("compression", {"file_kb": 4, "level": 6}),
    ),
)
"""Needs the standard library only."""
IMAGES = ApplicationSpec("images", (SegmentSpec("image-rotate", {"side": 40, "images": 1}),))
STORED = ApplicationSpec(
    "0-stored",
    (
        SegmentSpec("s3-read", {"file_kb": 4, "objects": 1}),
        SegmentSpec("dynamodb-write", {"items": 2}),
        SegmentSpec("sleep", {"sleep_ms": 1}),
    ),
)
"""Calls services; its name begins with a digit, which Services of Kubernetes may not."""
MANY = ApplicationSpec("n" * 53, tuple(SegmentSpec(kind, segment_class(kind).example()) for kind in POOL))
SPECS = [PLAIN, IMAGES, STORED, MANY, *(real_application(name) for name in REAL)]
SCHEMA = json.loads((Path(__file__).parent / "kubernetes_schema.json").read_text())


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing but the standard library."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False)
    return str(home / "bin" / "python")


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifests(files: Files) -> dict[str, Any]:
    paths = [path for path in files if path.startswith("manifests/") and "kustomization" not in path]
    return {made["kind"]: made for path in paths for made in [yaml.safe_load(files[path])]}


# -- what every package is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", Target)
def test_equal_input_gives_equal_bytes_in_any_process(target: Target) -> None:
    script = (
        "import hashlib; from flashfm.applications.catalogue import resolve;"
        "from flashfm.applications.packaging import package, Target;"
        f"files = package(resolve('seed:0/0'), Target('{target}'));"
        "print(hashlib.sha256(repr(list(files.items())).encode()).hexdigest())"
    )
    printed = {run(sys.executable, "-c", script, env={**os.environ, "PYTHONHASHSEED": seed}) for seed in ("1", "2")}
    assert len(printed) == 1


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name[:20])
def test_a_package_is_text_that_names_what_it_is_of(spec: ApplicationSpec, target: Target) -> None:
    files = package(spec, target)
    assert json.loads(files[MARK])["digest"] == spec.digest
    for path, content in files.items():
        assert not path.startswith(("/", "."))
        if not path.endswith(".zip"):
            assert isinstance(content.decode(), str)
        if path.endswith(".sh"):
            run("sh", "-n", "-c", content.decode())


@pytest.mark.parametrize("kind", [*POOL, *REAL])
def test_a_function_carries_only_what_it_uses(kind: str) -> None:
    spec = ApplicationSpec("one", (SegmentSpec(kind, segment_class(kind).example()),))
    files = function_files(spec)
    assert ("flashfm/applications/segments/aws.py" in files) == bool(segment_class(kind).services)
    kinds = {path for path in files if Path(path).parent.name in ("segments", "real")}
    assert len(kinds) <= 6
    assert not {path for path in files if "services" in path or "/cli/" in path or "packaging" in path}
    needed = {line.split(">")[0].split("[")[0] for line in requirements(spec)}
    assert needed == set(segment_class(kind).requires)


def test_requirements_carry_the_versions_that_flashfm_declares() -> None:
    assert "pillow>=" in requirements(IMAGES)[0]


def test_the_applications_package_imports_with_the_standard_library_alone(clean_python: str) -> None:
    script = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(Path(flashfm.__file__).parents[1])!r})
import flashfm.applications as root
names = [module.name for module in pkgutil.walk_packages(root.__path__, root.__name__ + ".")]
print(len([importlib.import_module(name) for name in names]))
"""
    assert int(run(clean_python, "-I", "-B", "-W", "error", "-c", script)) > 30


@pytest.mark.parametrize(
    "segment",
    [
        SegmentSpec("rm -rf /", {}),
        SegmentSpec("sleep", {"sleep_ms": "1; rm -rf /"}),
        SegmentSpec("sleep", {"sleep_ms": 1, "$(id)": 1}),
        SegmentSpec("sleep", {"sleep_ms": float("nan")}),
        SegmentSpec("../../etc/passwd", {}),
    ],
)
@pytest.mark.parametrize("target", Target)
def test_a_hostile_spec_is_refused(segment: SegmentSpec, target: Target) -> None:
    with pytest.raises(SpecError):
        package(ApplicationSpec("hostile", (segment,)), target)


@pytest.mark.parametrize(
    "options",
    [
        {"memory_mb": 127},
        {"memory_mb": 10_241},
        {"timeout_s": 0},
        {"cpu_cores": float("nan")},
        {"min_replicas": 3, "max_replicas": 2},
        {"deployment": "$(id)"},
        {"deployment": "UPPER"},
        {"deployment": "d" * 22},
        {"endpoint_url": "http://x\nrm -rf /"},
        {"endpoint_url": "file:///etc/passwd"},
        {"endpoint_url": "http://user:word@host"},
        {"image": "x; rm -rf /"},
        {"image": "-v"},
        {"image": ""},
        {"image": "a" * 300},
    ],
    ids=str,
)
def test_hostile_options_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(PackagingError, match="expected") as raised:
        PackageOptions(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("image", ["flashfm", "flashfm:1", "localhost:5000/a/b_c:v1.2-x", f"x@sha256:{'0' * 64}"])
def test_usual_images_are_taken(image: str) -> None:
    assert PackageOptions(image=image).image == image


# -- writing ---------------------------------------------------------------------------------------------------------


def test_writing_makes_scripts_executable_and_replaces_an_older_package(tmp_path: Path) -> None:
    out = tmp_path / "new" / "package"
    write(package(MANY, Target.SAM), out)
    files = package(PLAIN, Target.OPENWHISK)
    write(files, out)
    written = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in written.items()} == files
    assert stat.S_IMODE(written["deploy.sh"].stat().st_mode) == 0o755
    assert [path.name for path in out.parent.iterdir()] == ["package"]


@pytest.mark.parametrize("mark", [None, "{}", "[", "3"])
def test_directories_of_others_are_left_alone(tmp_path: Path, mark: str | None) -> None:
    (tmp_path / "precious.txt").write_text("kept")
    if mark is not None:
        (tmp_path / MARK).write_text(mark)
    with pytest.raises(PackagingError, match="holds other files"):
        write(package(PLAIN, Target.SAM), tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "kept"


def test_a_file_a_link_and_the_working_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (tmp_path / "file", tmp_path / "link", tmp_path / "file" / "below", Path(), Path("/proc/x")):
        with pytest.raises(PackagingError, match=r"choose (another|a directory)"):
            write({"a": b""}, out)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x"])
def test_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(PackagingError, match="below the output directory"):
        write({path: b""}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_the_older_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "package"
    write(package(PLAIN, Target.SAM), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    kept, calls = Path.write_bytes, iter(range(100))

    def full_disk(self: Path, data: bytes) -> int:
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        return kept(self, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(PackagingError, match="No space left on device"):
        write(package(PLAIN, Target.OPENWHISK), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


# -- OpenWhisk -------------------------------------------------------------------------------------------------------

LAUNCHER = """
import json, sys
from main__ import main
for line in sys.stdin:
    print(json.dumps(main(json.loads(line))))
"""
"""What the Python runtimes of OpenWhisk do with an action, whose `__main__.py` they rename to `main__.py`."""


def unpacked(files: Files, at: Path) -> Path:
    """An action as the runtime has it."""
    write({"action.zip": files["action.zip"]}, at / "zip")
    with zipfile.ZipFile(at / "zip" / "action.zip") as archive:
        archive.extractall(at / "action")
    (at / "action" / "__main__.py").rename(at / "action" / "main__.py")
    (at / "action" / "exec__.py").write_text(LAUNCHER)
    return at / "action"


def test_an_action_runs_in_a_clean_environment(tmp_path: Path, clean_python: str) -> None:
    write(package(PLAIN, Target.OPENWHISK), tmp_path / "out")
    answer = json.loads(run(clean_python, "-I", "-W", "error", tmp_path / "out" / "action.zip", "invoke"))
    here = Application(PLAIN, tmp_path / "here")
    here.provision()
    here.prepare()
    assert answer["results"] == here.invoke()
    assert answer["runtime_ms"] > 0


def test_an_action_keeps_its_instance_between_warm_calls(tmp_path: Path, clean_python: str) -> None:
    action = unpacked(package(PLAIN, Target.OPENWHISK), tmp_path)
    calls = [{}, {"extra": 1}, {"deployment": "b"}, {"deployment": 7}, {"endpoint_url": "no url"}, {}]
    lines = run(clean_python, "exec__.py", cwd=action, input="".join(f"{json.dumps(call)}\n" for call in calls))
    answers = [json.loads(line) for line in lines.splitlines()]
    assert [answer.get("cold") for answer in answers] == [True, False, True, None, None, True]
    assert {tuple(answer["results"]) for answer in answers if "results" in answer} == {tuple(answers[0]["results"])}
    assert answers[3] == {"error": "argument deployment: expected a string, got int"}
    assert answers[4]["error"].startswith("endpoint 'no url': expected http(s)://")


def test_an_action_needs_only_its_requirements(tmp_path: Path, clean_python: str) -> None:
    files = package(IMAGES, Target.OPENWHISK)
    action = unpacked(files, tmp_path)
    assert (action / "requirements.txt").read_bytes() == files["requirements.txt"]
    assert "error" in json.loads(run(clean_python, "exec__.py", cwd=action, input="{}\n"))
    import PIL

    for name in ("PIL", "pillow.libs"):
        if (found := Path(PIL.__file__).parents[1] / name).exists():
            (action / name).symlink_to(found)
    assert len(json.loads(run(clean_python, "exec__.py", cwd=action, input="{}\n"))["results"]) == 1


def test_an_action_without_requirements_asks_for_no_virtual_environment() -> None:
    assert "requirements.txt" not in package(PLAIN, Target.OPENWHISK)


def test_deploying_calls_wsk(tmp_path: Path) -> None:
    options = PackageOptions(memory_mb=256, timeout_s=30, endpoint_url="http://s3:5000", deployment="1e5")
    write(package(STORED, Target.OPENWHISK, options), tmp_path / "out")
    (tmp_path / "bin").mkdir()
    wsk = tmp_path / "bin" / "wsk"
    wsk.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\ncat params.json\n')
    wsk.chmod(0o755)
    path = {**os.environ, "PATH": f"{wsk.parent}:{os.environ['PATH']}", "TIMEOUT_MS": "500"}
    where, *words = run(tmp_path / "out" / "deploy.sh", env=path).splitlines()
    assert where == str(tmp_path / "out")
    expected = (
        "action update 0-stored action.zip --kind python:3.11 --param-file params.json --memory 256 --timeout 500"
    )
    assert words[:12] == expected.split()
    assert json.loads("".join(words[12:])) == {"deployment": "1e5", "endpoint_url": "http://s3:5000"}


@pytest.mark.parametrize("target", [Target.OPENWHISK, Target.SAM, Target.KUBERNETES])
def test_setting_up_invoking_and_tearing_down(tmp_path: Path, aws: EmbeddedAws, target: Target) -> None:
    options = PackageOptions(endpoint_url="http://in-the-cluster:5000", deployment="d-1")
    out = tmp_path / "out"
    write(package(STORED, target, options), out)
    environment = {**os.environ, "PYTHON": sys.executable, "ENDPOINT_URL": aws.endpoint_url}
    s3 = new_client(Application(STORED, tmp_path / "w", endpoint_url=aws.endpoint_url).segments[0].context, "s3")
    run(out / "setup.sh", env=environment)
    assert [bucket["Name"][:5] for bucket in s3.list_buckets()["Buckets"]] == ["fd-1-"]
    if target != Target.KUBERNETES:
        program = [out / "action.zip"] if target == Target.OPENWHISK else [out / "src" / "handler.py"]
        answer = run(sys.executable, *program, "invoke", "--deployment", "d-1", env=environment)
        assert len(json.loads(answer)["results"]) == 3
    run(out / "teardown.sh", env=environment)
    if target == Target.OPENWHISK:
        run(out / "teardown.sh", env=environment)  # twice is no error
    assert s3.list_buckets()["Buckets"] == []
    s3.close()


def test_a_package_without_its_services_says_so_in_one_line(tmp_path: Path) -> None:
    write(package(STORED, Target.OPENWHISK), tmp_path / "out")
    command = [
        sys.executable,
        str(tmp_path / "out" / "action.zip"),
        "provision",
        "--endpoint-url",
        "http://127.0.0.1:9",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1)
    assert done.stderr.startswith("0-stored: s3 at http://127.0.0.1:9: cannot create bucket")


# -- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint_url", [None, "aws", "http://minio.storage.svc:9000"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name[:20])
def test_manifests_are_of_the_kubernetes_api(spec: ApplicationSpec, endpoint_url: str | None) -> None:
    made = manifests(package(spec, Target.KUBERNETES, PackageOptions(endpoint_url=endpoint_url)))
    assert set(made) == {"ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"}
    for manifest in made.values():
        jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    pod = made["Deployment"]["spec"]["template"]
    assert made["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert made["Deployment"]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert "replicas" not in made["Deployment"]["spec"]
    assert made["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == made["Deployment"]["metadata"]["name"]
    assert ApplicationSpec.from_dict(json.loads(made["ConfigMap"]["data"]["spec.json"])) == spec
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert ("--no-provision" in container["args"]) == bool(Application.services(spec) and endpoint_url)


@pytest.mark.parametrize("change", [{"replica": 1}, {"template": {}}, {"selector": {"matchLabels": {}}}])
def test_the_schema_refuses_what_the_api_would(change: dict[str, Any]) -> None:
    made = manifests(package(PLAIN, Target.KUBERNETES))["Deployment"]
    made["spec"].update(change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(made)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")
def test_kubectl_reads_the_manifests(tmp_path: Path) -> None:
    """`kubectl apply --dry-run=client` asks a cluster for its API even so; `kustomize` and `--local` need none."""
    write(package(STORED, Target.KUBERNETES), tmp_path / "out")
    alone = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    built = run("kubectl", "kustomize", tmp_path / "out" / "manifests", env=alone)
    assert len(list(yaml.safe_load_all(built))) == 4
    (tmp_path / "all.yaml").write_text(built)
    read = run("kubectl", "label", "--local", "-f", tmp_path / "all.yaml", "a=b", "-o", "name", env=alone)
    assert len(read.split()) == 4


def test_the_command_of_the_pod_exists_and_needs_only_the_requirements_of_the_image(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = package(PLAIN, Target.KUBERNETES)
    write(files, out)
    needed = files["image/requirements.txt"].decode()
    assert [line.split(">")[0] for line in needed.splitlines()] == ["prometheus-client", "typer"]
    container = manifests(files)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    here = {"/etc/flashfm/spec.json": str(out / "spec.json"), "8080": "0", "0.0.0.0": "127.0.0.1"}
    words = [here.get(word, word) for word in container["args"]]
    script = f"""
import sys
for name in ("numpy", "pandas", "boto3", "moto", "yaml", "PIL", "matplotlib", "pyarrow"):
    sys.modules[name] = None
import flashfm
assert flashfm.__file__.startswith({str(out)!r}), flashfm.__file__
from flashfm.cli import main
main({words!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(out / "image")}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            assert said.startswith("plain answers at http://127.0.0.1:")
            with urllib.request.urlopen(said.split()[3], timeout=60) as answer:
                assert json.load(answer)["results"][0] == 1
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()


def test_pods_with_embedded_services_have_them_installed() -> None:
    lines = package(STORED, Target.KUBERNETES)["image/requirements.txt"].decode()
    assert "moto[server]" in lines
    given = package(STORED, Target.KUBERNETES, PackageOptions(endpoint_url="aws"))["image/requirements.txt"].decode()
    assert "moto" not in given


# -- AWS SAM ---------------------------------------------------------------------------------------------------------


def cfn_lint(*templates: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("cfn-lint")
    return subprocess.run([str(tool), *map(str, templates)], capture_output=True, text=True, timeout=200)


def test_cfn_lint_finds_nothing_in_the_templates(tmp_path: Path) -> None:
    for spec in SPECS:
        (tmp_path / f"{spec.name}.yaml").write_bytes(package(spec, Target.SAM)["template.yaml"])
    done = cfn_lint(*tmp_path.iterdir())
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_cfn_lint_finds_what_is_wrong(tmp_path: Path) -> None:
    broken = template(PLAIN, PackageOptions())
    broken["Resources"]["Function"]["Properties"]["MemorySize"] = 1
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    assert "E3034" in cfn_lint(tmp_path / "broken.yaml").stdout


@pytest.mark.parametrize("kind", [kind for kind in (*POOL, *REAL) if segment_class(kind).services])
def test_a_function_may_do_what_its_segments_do_and_nothing_else(tmp_path: Path, aws: EmbeddedAws, kind: str) -> None:
    """The calls of real runs, as boto3 makes them, against the policy: the same actions, and only granted resources."""
    spec = ApplicationSpec("one", (SegmentSpec(kind, segment_class(kind).example()),))
    deployed = Application(spec, tmp_path, endpoint_url=aws.endpoint_url, deployment="d")
    made: set[tuple[str, str]] = set()

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        tables = [params["TableName"]] if "TableName" in params else list(params.get("RequestItems", {}))
        names = [f"{params['Bucket']}/{params['Key']}"] if service == "s3" else tables
        made.update((f"{service}:{model.name}", name) for name in names)

    deployed.provision()
    try:
        deployed.prepare()
        clients = deployed.segments[0].context.clients
        for client in clients.values():
            client.meta.events.register("provide-client-params.*.*", note)
        for _ in range(3):
            deployed.invoke()
        for client in clients.values():
            client.close()
    finally:
        deployed.remove()
    assert {action for action, _ in made} == set(ACTIONS[kind])
    granted = [
        (action, resource["Fn::Sub"].replace("${Deployment}", "d").rpartition(":")[2].removeprefix("table/"))
        for statement in statements(spec)
        for action in statement["Action"]
        for resource in statement["Resource"]
    ]
    for action, name in made:
        assert [r for a, r in granted if a == action and name.startswith(r.split("*")[0])], (action, name)


def test_a_segment_without_known_actions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ACTIONS, "s3-read")
    with pytest.raises(PackagingError, match="no IAM actions are known for s3-read"):
        package(STORED, Target.SAM)


def test_the_lambda_handler_answers(tmp_path: Path, clean_python: str) -> None:
    write(package(PLAIN, Target.SAM), tmp_path / "out")
    script = "import handler; print(handler.lambda_handler({}, None)['results'][0])"
    assert run(clean_python, "-c", script, cwd=tmp_path / "out" / "src") == "1\n"
