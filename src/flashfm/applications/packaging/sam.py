"""AWS SAM: a spec in, `template.yaml` and the function's sources out. Text only; nothing is built or deployed here.

The function may use its own buckets and tables, told by the prefix that the deployment's name gives them, and only the
calls that its segments make; creating and deleting them is for `setup.sh` and `teardown.sh`, with the operator's rights.
"""

from __future__ import annotations

from typing import Any

from flashfm.applications.deployment import AWS
from flashfm.applications.handler import DEPLOYMENT
from flashfm.applications.packaging.kubernetes import yaml_bytes
from flashfm.applications.packaging.openwhisk import function_script, spec_json
from flashfm.applications.packaging.options import Files, PackageOptions, script
from flashfm.applications.packaging.vendor import function_files, requirements
from flashfm.applications.runtime import namespace
from flashfm.applications.segments import segment_class
from flashfm.applications.spec import ApplicationSpec

ACTIONS: dict[str, tuple[str, ...]] = {
    "s3-read": ("s3:GetObject",),
    "s3-write": ("s3:PutObject",),
    "s3-stream": ("s3:GetObject", "s3:PutObject"),
    "dynamodb-read": ("dynamodb:Scan",),
    "dynamodb-write": ("dynamodb:PutItem",),
}
"""IAM actions that a segment's `run` needs, by kind; a test compares them with the calls that are made."""

_HANDLER = b'''\
"""An application of flashfm as an AWS Lambda function; on a machine: python3 handler.py provision|remove|invoke --help."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from flashfm.applications.handler import Handler, command
from flashfm.applications.spec import ApplicationSpec

SPEC = ApplicationSpec.from_dict(json.loads((Path(__file__).resolve().parent / "spec.json").read_bytes()))
HANDLER = Handler(SPEC)


def lambda_handler(event, context):
    """Run the application once; what fails is Lambda's to report."""
    return HANDLER.invoke(
        endpoint_url=os.environ.get("FLASHFM_ENDPOINT_URL"), deployment=os.environ.get("FLASHFM_DEPLOYMENT", "0")
    )


if __name__ == "__main__":
    sys.exit(command(SPEC))
'''


def sam(spec: ApplicationSpec, options: PackageOptions) -> Files:
    """The artefacts for AWS SAM: `template.yaml`, `src/` and scripts."""
    source = {"handler.py": _HANDLER, "spec.json": spec_json(spec), **function_files(spec)}
    source["requirements.txt"] = "".join(f"{line}\n" for line in requirements(spec)).encode()
    how = f'src/handler.py --deployment "${{DEPLOYMENT:-{options.deployment}}}"'
    return {
        "template.yaml": yaml_bytes(template(spec, options)),
        **{f"src/{path}": content for path, content in source.items()},
        "deploy.sh": script(
            f"""
# Builds and deploys the stack flashfm-{spec.name}. DEPLOYMENT takes precedence; sam needs credentials and a region.
set -eu
cd "$(dirname "$0")"
sam build
sam deploy --stack-name flashfm-{spec.name} --resolve-s3 --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \\
    --parameter-overrides "Deployment=${{DEPLOYMENT:-{options.deployment}}}" "$@"
"""
        ),
        "undeploy.sh": script(f'set -eu\nsam delete --stack-name flashfm-{spec.name} --no-prompts "$@"'),
        "setup.sh": function_script(spec, "provision", how),
        "teardown.sh": function_script(spec, "remove", how),
    }


def template(spec: ApplicationSpec, options: PackageOptions) -> dict[str, Any]:
    """The SAM template."""
    variables: dict[str, Any] = {"FLASHFM_DEPLOYMENT": {"Ref": "Deployment"}, "OPENBLAS_NUM_THREADS": "1"}
    if options.endpoint_url not in (None, AWS):
        variables["FLASHFM_ENDPOINT_URL"] = options.endpoint_url
    function: dict[str, Any] = {
        "FunctionName": f"flashfm-{spec.name}",
        "Description": f"flashfm {spec.digest[:16]}: {', '.join(part.kind for part in spec.segments)}"[:256],
        "CodeUri": "src/",
        "Handler": "handler.lambda_handler",
        "Runtime": "python3.12",
        "MemorySize": options.memory_mb,
        "Timeout": options.timeout_s,
        "Environment": {"Variables": variables},
    }
    allowed = statements(spec)
    if allowed:
        function["Policies"] = [{"Version": "2012-10-17", "Statement": allowed}]
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"Application {spec.name} of flashfm",
        "Parameters": {
            "Deployment": {
                "Type": "String",
                "Default": options.deployment,
                "AllowedPattern": f"^{DEPLOYMENT.pattern}$",
                "Description": "Prefix of buckets and tables, as given to setup.sh",
            }
        },
        "Resources": {"Function": {"Type": "AWS::Serverless::Function", "Properties": function}},
        "Outputs": {"FunctionArn": {"Description": "The function", "Value": {"Fn::GetAtt": ["Function", "Arn"]}}},
    }


def statements(spec: ApplicationSpec) -> list[dict[str, Any]]:
    """What the function may do: one IAM statement a segment and service, on that segment's buckets or tables only."""
    found = []
    for i, part in enumerate(spec.segments):
        prefix = namespace(spec, i, "${Deployment}")
        actions = ACTIONS.get(part.kind) or tuple(
            f"{service}:{call}" for service, calls in _CALLS.items() if service in segment_class(part.kind).services for call in calls
        )
        for service, resources in (
            ("s3", [f"arn:${{AWS::Partition}}:s3:::{prefix}-*"]),
            ("dynamodb", [f"arn:${{AWS::Partition}}:dynamodb:${{AWS::Region}}:${{AWS::AccountId}}:table/{prefix}-*"]),
        ):
            granted = [action for action in actions if action.startswith(f"{service}:")]
            if granted:
                found.append(
                    {"Effect": "Allow", "Action": granted, "Resource": [{"Fn::Sub": text} for text in resources]}
                )
    return found
