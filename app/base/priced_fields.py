"""Request fields that a vendor takes money for beside the tokens, or that change what tokens cost. Their names are
known to both planes: operators decide per channel what becomes of each, and the proxy does it."""

from typing import Literal

__all__ = ["HOSTED_TOOLS", "PRICED_FIELDS", "Action", "LimitField"]

# Passed on and priced; left out of the request; or not served by the channel.
Action = Literal["pass", "drop", "refuse"]
# The field in which a vendor reads the bound of an answer.
LimitField = Literal["max_tokens", "max_completion_tokens", "both"]

# Tools that the vendor runs itself go by the name of the field that they are in.
HOSTED_TOOLS = "tools"

# What becomes of each where the operator has not said otherwise. A field that only changes the price is dropped; where
# the answer would be another without it, the request is refused.
PRICED_FIELDS: dict[str, Action] = {
    # OpenAI, https://platform.openai.com/docs/api-reference/chat/create
    "service_tier": "drop",
    "store": "drop",
    "prediction": "drop",  # tokens of it that the answer rejects are charged
    "prompt_cache_retention": "drop",
    "prompt_cache_options": "drop",
    "web_search_options": "refuse",
    "background": "refuse",
    HOSTED_TOOLS: "refuse",
    # Anthropic, https://platform.claude.com/docs/en/api/messages
    "speed": "drop",
    "inference_geo": "drop",
    # xAI, https://docs.x.ai/docs/guides/live-search
    "search_parameters": "refuse",
    # Qwen, https://www.alibabacloud.com/help/en/model-studio/web-search
    "enable_search": "refuse",
    "search_options": "refuse",
    # Z.ai and other compatible vendors
    "web_search": "refuse",
    # OpenRouter, https://openrouter.ai/docs/api-reference/chat-completion
    "plugins": "refuse",
    "provider": "drop",
    "transforms": "drop",
}
