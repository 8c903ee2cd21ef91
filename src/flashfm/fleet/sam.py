"""Memory sizes as a fragment of an AWS SAM or CloudFormation template.

Enters: logical ids and sizes. Leaves: YAML with `Resources: <id>: Properties: MemorySize: N` and nothing else. To use
it, merge it into the template; yq 4 does, and keeps tags such as `!Ref`
(https://mikefarah.gitbook.io/yq/operators/multiply-merge)::

    yq eval-all 'select(fileIndex == 0) * select(fileIndex == 1)' template.yaml memory.yaml > sized.yaml
    cfn-lint sized.yaml
    sam deploy --template-file sized.yaml

An id that the template lacks becomes a resource without a type, which cfn-lint and CloudFormation refuse. Functions of
several templates take a file of names and a fragment for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import yaml
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.fleet.names import Field, Words

MEMORY = "memory_mb"
SIZES = (MEMORY,)
"""Configuration columns that a patch is made of."""
SMALLEST_MB, LARGEST_MB = 128, 10_240
"""What AWS Lambda has, in MB."""
FIELDS = (Field("resource", "[A-Za-z0-9]{1,255}", "logical id: 1 to 255 letters and digits"),)
HEAD = b"# flashfm: memory sizes for an AWS SAM or CloudFormation template\n"
"""The first line; only a file that begins with it is ever replaced."""
HOW = (
    b"# Merge them: yq eval-all 'select(fileIndex == 0) * select(fileIndex == 1)' template.yaml THIS > sized.yaml\n"
    b"# Check: cfn-lint sized.yaml\n"
)


def check_place(out: Path, head: bytes = HEAD) -> None:
    """Refuse a file that begins otherwise than ours.

    Raises:
        DataError: it does, is no file, or cannot be read.
    """
    if not out.exists():
        return
    if not out.is_file():
        raise DataError(f"{out}: is a directory, expected a file for the patch; choose another name")
    try:
        with out.open("rb") as file:
            begin = file.read(len(head))
    except OSError as error:
        raise DataError(f"{out}: cannot be read: {error.strerror or error}; choose another name") from None
    if begin and begin != head:
        raise DataError(f"{out}: holds something else than such a patch; choose another name, or delete it")


def unfit(sizes: Mapping[str, Float[np.ndarray, " pair"]]) -> Words:
    """Why a configuration is no memory size of AWS Lambda; the empty text where it is one."""
    memory = sizes[MEMORY]
    fine = (memory == np.floor(memory)) & (memory >= SMALLEST_MB) & (memory <= LARGEST_MB)
    return np.where(fine, "", f"no whole number of MB from {SMALLEST_MB} to {LARGEST_MB}").astype(object)


def write(batches: Iterable[list[tuple[dict[str, str | None], dict[str, float]]]], file: IO[bytes]) -> None:
    """Write the fragment, batch by batch."""
    file.write(HEAD + HOW)
    empty = True
    for batch in batches:
        sized = {str(names["resource"]): {"Properties": {"MemorySize": int(size[MEMORY])}} for names, size in batch}
        if sized:
            text: bytes = yaml.dump({"Resources": sized}, Dumper=yaml.CSafeDumper, sort_keys=False, encoding="utf-8")
            file.write(text if empty else text.partition(b"\n")[2])
            empty = False
    if empty:
        file.write(b"Resources: {}\n")
