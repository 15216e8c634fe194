"""Vendors, as data: where they are, how they want the key, and their quirks."""

from collections.abc import Iterable

import msgspec

from app.base.priced_fields import LimitField
from app.catalog.records import Channel
from app.proxy.relay.dialects.openai_usage import OPENAI_RULES, UsageRules

__all__ = ["PROVIDERS", "Provider", "count_like_ours", "endpoint"]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`base_url` is where a channel without one of its own goes."""

    base_url: str | None
    dialect: str = "openai_chat"
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "
    usage_in_streams: bool = True  # takes `stream_options: {"include_usage": true}`
    requires_max_tokens: bool = False
    usage_rules: UsageRules = OPENAI_RULES  # what it counts outside of the whole in which OpenAI counts it
    limit_field: LimitField = "max_tokens"  # where it reads the bound of an answer
    counted_models: tuple[str, ...] = ()  # how its names of models begin whose tokenizer is ours, `o200k_base`
    organization_header: str | None = None  # that of a credential's organisation, where it may have several
    project_header: str | None = None
    refuses: tuple[str, ...] = ()  # fields of OpenAI's, by their paths, for which it refuses the whole request
    is_sandbox: bool = False


# Earlier ones (gpt-4, gpt-4-turbo, gpt-3.5) have `cl100k_base`, whose count of Georgian, Burmese or Kannada is several
# times as large. https://github.com/openai/tiktoken/blob/main/tiktoken/model.py
_O200K = ("gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-oss", "o1", "o3", "o4")
_FINE_TUNED = "ft:"

PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        base_url="https://api.openai.com/v1",
        limit_field="max_completion_tokens",
        counted_models=_O200K,
        organization_header="openai-organization",
        project_header="openai-project",
    ),
    "openai_compatible": Provider(
        base_url=None,
        limit_field="both",  # an engine or a gateway that nobody has named may read either
        organization_header="openai-organization",
        project_header="openai-project",
    ),
    # Qwen's vendor, in its compatible mode. `max_tokens` does not bound what its models think, and earlier models do
    # not read `max_completion_tokens`. https://help.aliyun.com/zh/model-studio/qwen-api-via-openai-chat-completions
    "dashscope": Provider(
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        limit_field="both",
    ),
    "deepseek": Provider(base_url="https://api.deepseek.com/v1"),
    # Total = prompt + tool-use + candidates + thoughts, each apart from the others (its reference, `UsageMetadata`).
    "gemini": Provider(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        usage_rules=UsageRules(
            hides_output=True,
            tool_prompts=("tool_use_prompt_tokens", "tool_use_prompt_token_count", "toolUsePromptTokenCount"),
        ),
    ),
    "groq": Provider(
        base_url="https://api.groq.com/openai/v1",
        limit_field="max_completion_tokens",
        refuses=("prompt_cache_key", "store"),
    ),
    # Knows no field but its own (422 `extra_forbidden`), and sends the usage of a stream unasked.
    "mistral": Provider(
        base_url="https://api.mistral.ai/v1",
        usage_in_streams=False,
        refuses=("max_completion_tokens", "prompt_cache_key", "store", "stream_options"),
    ),
    "moonshot": Provider(base_url="https://api.moonshot.ai/v1"),
    "openrouter": Provider(base_url="https://openrouter.ai/api/v1"),
    "together": Provider(base_url="https://api.together.xyz/v1"),
    # Reasoning is beside `completion_tokens`, and cached tokens are sometimes beside `prompt_tokens`.
    "xai": Provider(
        base_url="https://api.x.ai/v1",
        limit_field="max_completion_tokens",
        usage_rules=UsageRules(hides_output=True, lacks_cached=True),
    ),
    "sandbox": Provider(base_url="sandbox:", counted_models=("",), is_sandbox=True),
}


def count_like_ours(channels: Iterable[Channel], model: str) -> bool:
    """Whether the vendors behind all of these channels count the tokens of this public model with our tokenizer. One
    that is not known to do so may count more."""
    return all(
        channel.models[model].removeprefix(_FINE_TUNED).startswith(PROVIDERS[channel.provider].counted_models)
        for channel in channels
    )


def endpoint(base_url: str) -> str:
    """Where chat completions are: a base URL with no path gets the `/v1` that its owner left out."""
    root = base_url.rstrip("/")
    if root.count("/") == 2:  # scheme://host
        root += "/v1"
    return f"{root}/chat/completions"
