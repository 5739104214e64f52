"""Public traces that `fetch` knows: where each lies, at a pinned commit, and what its bytes must hash to.

A checksum is pinned where the bytes of the source are known. An entry without one is fetched only when the caller gives
the checksum to expect; an unchecked download is never taken for a trace.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicTrace:
    """One downloadable trace."""

    name: str
    url: str
    file_name: str  # what the download is called
    sha256: str | None  # hex; None: not pinned, the caller must give it
    licence: str
    about: str


def _raw(repository: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


_AUTOTHROTTLE = "Load shape of one hour, counts per second, derived from public traces by microsoft/autothrottle"
_PIPELINE_SETS = ("reconfigurable-ml-pipeline/web-service-datasets", "7404ad6643602943511e75ab3095fb1ccc990fd1")

PUBLIC_TRACES: dict[str, PublicTrace] = {
    entry.name: entry
    for entry in (
        *(
            PublicTrace(
                f"autothrottle-{shape}",
                _raw("microsoft/autothrottle", commit, f"traces/{shape}.txt"),
                f"autothrottle-{shape}.txt",
                sha256,
                "MIT",
                f"{_AUTOTHROTTLE}: {shape}",
            )
            for shape, commit, sha256 in (
                (
                    "diurnal",
                    "d237d7f3d765ee9ab67bcf4aeb626164a87c6bfa",
                    "a7745da131b51eabeb719614aa083aa37062447a5b97c604a71b5bb7cb502133",
                ),
                (
                    "diurnal-2",
                    "9801b9f3580bfbcac1065b57701dcdc965f28732",
                    "9a0284e0d903b581b510b21445c87e05da93bc594ad76e439a04be47f86dac03",
                ),
                (
                    "noisy",
                    "d237d7f3d765ee9ab67bcf4aeb626164a87c6bfa",
                    "9d267e96dfa43ff1a8a6ef4e137e2dea4f5a0461f0a1a140196b579a6a63bd2f",
                ),
                (
                    "bursty",
                    "d237d7f3d765ee9ab67bcf4aeb626164a87c6bfa",
                    "5a803f3758a8f4bf1d7baf5c9dbf9fffe5a02d39e3a25015edc9ad7a62ca6291",
                ),
            )
        ),
        PublicTrace(
            "twitter-2021-08",
            _raw(*_PIPELINE_SETS, "dataset/twitter_trace/workload.tbz2"),
            "twitter-2021-08.tbz2",
            None,
            "none stated",
            "Tweets and deletions of the 1 % stream per second, space-separated integers in a tar archive",
        ),
        PublicTrace(
            "nasa-1995",
            _raw(*_PIPELINE_SETS, "dataset/nasa/workload.tbz2"),
            "nasa-1995.tbz2",
            None,
            "freely redistributable with attribution (Internet Traffic Archive)",
            "Requests per second of NASA's web server, space-separated integers in a tar archive",
        ),
        PublicTrace(
            "worldcup-1998",
            _raw("nimamahmoudi/worldcup98-dataset", "82460213f0d5a86fa57b6d4b0b5f260e606e713b", "invocation_count.csv"),
            "worldcup-1998.csv",
            None,
            "MIT; origin freely redistributable (Internet Traffic Archive)",
            "Requests per minute of the World Cup web site",
        ),
        PublicTrace(
            "azure-llm-2023-conversation",
            _raw(
                "Azure/AzurePublicDataset",
                "b469a113cedca53ddc3bdea71a143dc4b7d8700c",
                "data/AzureLLMInferenceTrace_conv.csv",
            ),
            "azure-llm-2023-conversation.csv",
            None,
            "CC-BY 4.0; cite Patel et al., Splitwise, ISCA 2024",
            "One hour of requests to a conversation service, with token counts",
        ),
        PublicTrace(
            "mooncake-conversation",
            _raw(
                "kvcache-ai/Mooncake",
                "3b5a594133958449a1feaf1c9e0fc1b553e34a28",
                "FAST25-release/traces/conversation_trace.jsonl",
            ),
            "mooncake-conversation.jsonl",
            None,
            "Apache-2.0; cite Qin et al., Mooncake, FAST 2025",
            "One hour of requests to a conversation service, with prefix blocks",
        ),
        PublicTrace(
            "alibaba-genai-2024",
            _raw(
                "alibaba/clusterdata",
                "7a6c496e4f4b6ce6150be8f881cb051bf2abff42",
                "cluster-trace-v2026-GenAI/lora_request_trace.csv",
            ),
            "alibaba-genai-2024.csv",
            None,
            "study and research use with citation; cite Lin et al., SoCC 2025",
            "Image-generation requests of 24 days, with execution times",
        ),
    )
}
