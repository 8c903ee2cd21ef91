"""The public data sets that flashfm knows: address, licence, citation, SHA-256 and place under `$FLASHFM_DATA`.

Plain records only: nothing is read or fetched here (`sources` does). No data set of others is part of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flashfm.errors import DataError

_GITHUB = "https://github.com"
_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """One public data set, in one file."""

    name: str
    title: str
    kind: Literal["table", "trace"]
    """What it loads as: a MeasurementTable or RateTraces."""
    path: str
    """Where it lies below `$FLASHFM_DATA`, or below the cache."""
    page: str
    """Where people read about it."""
    url: str | None
    """Address of the file itself; None where it has to be got by hand, as `note` says."""
    sha256: str | None
    """Digest of the file; None where the file people get by hand may differ."""
    licence: str
    redistribute: bool
    """Whether the licence lets others pass the file on."""
    citation: str
    note: str = ""
    """How to get it by hand, or what is special about it."""


_SIZELESS = (
    "S. Eismann, L. Bui, J. Grohmann, C. Abad, N. Herbst, S. Kounev: Sizeless: Predicting the Optimal Size of"
    " Serverless Functions. Middleware 2021"
)
_AZURE_2021 = (
    "Y. Zhang, Í. Goiri, G. I. Chaudhry, R. Fonseca, S. Elnikety, C. Delimitrou, R. Bianchini: Faster and Cheaper"
    " Serverless Computing on Harvested Resources. SOSP 2021"
)
_AZURE_2019 = (
    "M. Shahrad et al.: Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud"
    " Provider. USENIX ATC 2020"
)
_AZURE_LLM = (
    "P. Patel, E. Choukse, C. Zhang, A. Shah, Í. Goiri, S. Maleki, R. Bianchini: Splitwise: Efficient Generative LLM"
    " Inference Using Phase Splitting. ISCA 2024"
)
_AZURE = f"{_GITHUB}/Azure/AzurePublicDataset"
_INVITRO = f"{_GITHUB}/vhive-serverless/invitro"
_RATES = "reconfigurable-ml-pipeline/web-service-datasets"

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="cloudbandit",
            title="30 Dask workloads on up to 88 configurations of three clouds: run time, cost, status",
            kind="table",
            path="cloudbandit/multi-cloud-configuration.csv",
            page=f"{_GITHUB}/IBM/multi-cloud-configuration-dataset",
            url=f"{_RAW}/IBM/multi-cloud-configuration-dataset/9380be4a572de8b101ed1eea59279d2f2e567af0"
            "/multi-cloud-configuration.csv",
            sha256="6660f7e6ada40f4fbcf93402a1def96769e90fc384182b488241dc6e26341289",
            licence="Apache-2.0",
            redistribute=True,
            citation="M. Lazuka, T. Parnell, A. Anghel, H. Pozidis: Search-based Methods for Multi-Cloud Configuration."
            " IEEE CLOUD 2022",
        ),
        Source(
            name="sizeless-selfhosted",
            title="30 synthetic functions at 8 memory sizes on a self-hosted platform, with 25 metrics",
            kind="table",
            path="sizeless-selfhosted/processed_training_data.csv",
            page=f"{_GITHUB}/submission-artefacts/sizeless",
            url=f"{_RAW}/submission-artefacts/sizeless/cfca3e1ad6d14144e212e2c06cc58838d892443c"
            "/data/processed_training_data.csv",
            sha256="ef249124022abd889c02b0666d2dae8513f40f9367c286bc096fc7162024eae4",
            licence="none stated",
            redistribute=False,
            citation=f"repository submission-artefacts/sizeless, after {_SIZELESS}",
            note="use it, do not pass it on",
        ),
        Source(
            name="sizeless-original",
            title="2000 synthetic functions at 6 memory sizes on AWS Lambda, with 25 metrics",
            kind="table",
            path="sizeless-original/processed_training_data.csv",
            page="https://codeocean.com/capsule/6066333",
            url=None,
            sha256=None,
            licence="see the capsule",
            redistribute=False,
            citation=_SIZELESS,
            note="it has no public address: open CodeOcean capsule 6066333 in a browser, download its"
            " processed_training_data.csv and pass its path to load_sizeless(PATH), or put it at"
            " $FLASHFM_DATA/sizeless-original/",
        ),
        Source(
            name="azure-functions-2021",
            title="every invocation of some Azure Functions applications for two weeks",
            kind="trace",
            path="traces/AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt",
            page=f"{_AZURE}/blob/master/AzureFunctionsInvocationTrace2021.md",
            url=None,
            sha256=None,
            licence="CC-BY 4.0",
            redistribute=True,
            citation=_AZURE_2021,
            note="it is a RAR archive, which needs its own program: download"
            f" {_AZURE}/raw/master/data/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar, unpack it"
            " (unrar x FILE, or 7z x FILE) and put the .txt file at $FLASHFM_DATA/traces/",
        ),
        Source(
            name="azure-functions-2021-sample",
            title="first 199 invocations of the Azure Functions 2021 trace",
            kind="trace",
            path="traces/AzureFunctionsInvocationTrace2021_sample200.csv",
            page=_INVITRO,
            url=None,
            sha256="d51e9c9ca79872313d94a26b8c52e82fc55855903c92c1f006cfd1a37700673b",
            licence="CC-BY 4.0",
            redistribute=True,
            citation=_AZURE_2021,
            note="from the repository at commit a1df629; its path there is not known for sure, so it is not fetched",
        ),
        Source(
            name="azure-functions-2019-sample",
            title="four functions of the Azure Functions 2019 trace, invocations per minute for a day",
            kind="trace",
            path="traces/azure2019_invocations_sample.csv",
            page=_INVITRO,
            url=None,
            sha256="67b03d37d366eeffa83430a6ca2b26695c7e29ab64138a0d00f0df72a18f6ec8",
            licence="CC-BY 4.0",
            redistribute=True,
            citation=_AZURE_2019,
            note="from the repository at commit a1df629; its path there is not known for sure, so it is not fetched",
        ),
        Source(
            name="azure-llm-conv",
            title="requests to an Azure language-model service, conversation, one hour",
            kind="trace",
            path="traces/AzureLLMInferenceTrace_conv.csv",
            page=f"{_AZURE}/blob/master/AzureLLMInferenceDataset2023.md",
            url=f"{_RAW}/Azure/AzurePublicDataset/b469a11/data/AzureLLMInferenceTrace_conv.csv",
            sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
            licence="CC-BY 4.0",
            redistribute=True,
            citation=_AZURE_LLM,
        ),
        Source(
            name="azure-llm-code",
            title="requests to an Azure language-model service, code completion, one hour",
            kind="trace",
            path="traces/AzureLLMInferenceTrace_code.csv",
            page=f"{_AZURE}/blob/master/AzureLLMInferenceDataset2023.md",
            url=f"{_RAW}/Azure/AzurePublicDataset/b469a11/data/AzureLLMInferenceTrace_code.csv",
            sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
            licence="CC-BY 4.0",
            redistribute=True,
            citation=_AZURE_LLM,
        ),
        Source(
            name="nasa",
            title="NASA web server in 1995, requests per second, 58 days",
            kind="trace",
            path="traces/nasa_workload.tbz2",
            page=f"{_GITHUB}/{_RATES}",
            url=f"{_RAW}/{_RATES}/7404ad6/dataset/nasa/workload.tbz2",
            sha256="7fa62292d993dde1f278eaa039b50860203a86fbc93a8f92150a548191be4ded",
            licence="none stated",
            redistribute=False,
            citation="J. Dumoulin, M. Arlitt, C. Williamson: NASA-HTTP, the Internet Traffic Archive, 1995",
        ),
        Source(
            name="twitter",
            title="a Twitter stream, requests per second, 21 days",
            kind="trace",
            path="traces/twitter_workload.tbz2",
            page=f"{_GITHUB}/{_RATES}",
            url=f"{_RAW}/{_RATES}/7404ad6/dataset/twitter_trace/workload.tbz2",
            sha256="b13052c83c64d169810fe1cfec35cb6b56c96e17c023156a23c9a067e1ac66bd",
            licence="none stated",
            redistribute=False,
            citation=f"repository {_RATES}, from the Twitter stream of the Internet Archive",
        ),
        Source(
            name="aws-elb",
            title="request count of an AWS load balancer, 5-minute bins, 14 days",
            kind="trace",
            path="traces/aws_elb_request_count_8c0756.csv",
            page=f"{_GITHUB}/numenta/NAB",
            url=f"{_RAW}/numenta/NAB/ea702d7/data/realAWSCloudwatch/elb_request_count_8c0756.csv",
            sha256="74c26574a01ca9fb89dddb5021e2e13c3a93eb25dc640438a9acb1ceb00f1021",
            licence="AGPL-3.0 (repository)",
            redistribute=True,
            citation="S. Ahmad, A. Lavin, S. Purdy, Z. Agha: Unsupervised real-time anomaly detection for streaming"
            " data. Neurocomputing 262, 2017",
        ),
    )
}
"""Every public data set by name."""


def source(name: str) -> Source:
    """The public data set called `name`.

    Raises:
        DataError: there is none of that name.
    """
    if name not in SOURCES:
        raise DataError(f"no data set is called {name!r}; expected one of measured, {', '.join(SOURCES)}")
    return SOURCES[name]
