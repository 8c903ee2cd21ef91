"""AWS SAM: a spec in, `template.yaml` and the function's sources out. Text only; nothing is built or deployed here.

The function may use its own buckets and tables, told by the prefix that the deployment's name gives them, and only make
the calls that its segments need; creating and deleting is for `setup.sh` and `teardown.sh`, with the operator's rights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from flashfm.applications.deployment import AWS
from flashfm.applications.handler import DEPLOYMENT
from flashfm.applications.packaging.artefacts import Files, function_script, script, spec_json, yaml_bytes
from flashfm.applications.packaging.options import PackageOptions
from flashfm.applications.packaging.vendor import function_files, requirements
from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import PackagingError

ACTIONS: dict[str, tuple[str, ...]] = {
    "s3-read": ("s3:GetObject",),
    "s3-write": ("s3:PutObject",),
    "s3-stream": ("s3:GetObject", "s3:PutObject"),
    "dynamodb-read": ("dynamodb:Scan",),
    "dynamodb-write": ("dynamodb:PutItem",),
    "airline-booking": ("dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:PutItem", "s3:PutObject"),
    "image-recognition": ("s3:GetObject", "dynamodb:PutItem"),
    "event-processing": ("dynamodb:BatchWriteItem", "s3:PutObject"),
    "retail-catalogue": ("dynamodb:Query",),
}
"""IAM actions that a segment's `run` needs, by kind; a test compares them with the calls that are made."""

_HANDLER = b'''\
"""An application of flashfm as a Lambda function; on a machine: python3 handler.py provision|remove|invoke --help."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from flashfm.applications.handler import Handler, command
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import PackagingError

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
    if options.endpoint_url not in (None, AWS):
        how += f' --endpoint-url "${{ENDPOINT_URL:-{options.endpoint_url}}}"'
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
    """What the function may do: one IAM statement a segment and service, on that segment's buckets or tables only.

    Raises:
        PackagingError: a segment calls AWS, and `ACTIONS` does not say how.
    """
    with tempfile.TemporaryDirectory() as nowhere:  # instances make directories
        segments = Application(spec, Path(nowhere), deployment="${Deployment}").segments
    found = []
    for segment in segments:
        if segment.services and segment.kind not in ACTIONS:
            raise PackagingError(
                f"AWS SAM: no IAM actions are known for {segment.kind}; add them to {__name__}.ACTIONS"
            )
        mine = segment.context.namespace
        where = {
            "s3": f"arn:${{AWS::Partition}}:s3:::{mine}-*/*",
            "dynamodb": f"arn:${{AWS::Partition}}:dynamodb:${{AWS::Region}}:${{AWS::AccountId}}:table/{mine}-*",
        }
        for service, resource in where.items():
            granted = [action for action in ACTIONS.get(segment.kind, ()) if action.startswith(f"{service}:")]
            if granted:
                found.append({"Effect": "Allow", "Action": granted, "Resource": [{"Fn::Sub": resource}]})
    return found
