"""Request fields that a vendor takes money for beside the tokens, or that change what tokens cost or how many there may
be. Their names are known to both planes: operators decide per channel what becomes of each, and the proxy does it."""

from typing import Literal

__all__ = ["HOSTED_TOOLS", "LEFT_OUT_FOR", "PRICED_FIELDS", "Action", "LimitField"]

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
    # More answers than `n` has: vLLM, https://docs.vllm.ai/en/v0.6.0/dev/sampling_params.html, Hugging Face, Gemini
    "best_of": "refuse",
    "use_beam_search": "refuse",
    "num_beams": "refuse",
    "num_return_sequences": "refuse",
    "candidate_count": "refuse",
    # A second bound of the answer, which llama.cpp, Hugging Face and others take for the only one.
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    "n_predict": "refuse",
    "num_predict": "refuse",
    "max_new_tokens": "refuse",
    "max_output_tokens": "refuse",
    "max_tokens_to_sample": "refuse",
    # Any field at all: LiteLLM takes what is in it for the request's own.
    "extra_body": "refuse",
    # A prompt that the vendor keeps: nobody here knows how long it is.
    "previous_response_id": "refuse",
    "conversation": "refuse",
    "cached_content": "refuse",
}

# Providers that refuse the whole request for such a field: it is left out for them, whatever the operator has said, and
# is not priced.
LEFT_OUT_FOR: dict[str, tuple[str, ...]] = {"store": ("groq", "mistral")}
