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
    # Anthropic's, which run beside the tools: https://platform.claude.com/docs/en/agents-and-tools/mcp-connector
    "mcp_servers": "refuse",
    "container": "refuse",
    # Anthropic, https://platform.claude.com/docs/en/api/messages
    "speed": "drop",
    "inference_geo": "drop",
    # xAI, https://docs.x.ai/docs/guides/live-search
    "search_parameters": "refuse",
    "deferred": "refuse",
    # Qwen, https://www.alibabacloud.com/help/en/model-studio/web-search and .../vision, .../qwen-code-interpreter
    "enable_search": "refuse",
    "search_options": "refuse",
    "enable_code_interpreter": "refuse",
    "vl_high_resolution_images": "refuse",  # a picture has up to 16,384 tokens with it
    # Hunyuan, https://cloud.tencent.com/document/product/1729/111007
    "enable_enhancement": "refuse",
    "force_search_enhancement": "refuse",
    # Groq, https://console.groq.com/docs/compound, and Cohere, https://docs.cohere.com/v1/reference/chat
    "compound_custom": "refuse",
    "connectors": "refuse",
    # Z.ai and other compatible vendors
    "web_search": "refuse",
    "enable_web_search": "refuse",
    # OpenRouter, https://openrouter.ai/docs/api-reference/chat-completion
    "plugins": "refuse",
    "provider": "drop",
    "transforms": "drop",
    "preset": "refuse",  # a model, a prompt and settings that the vendor keeps
    # Another model serves, which may be dearer: LiteLLM, https://docs.litellm.ai/docs/proxy/reliability
    "fallbacks": "drop",
    "context_window_fallbacks": "drop",
    "context_window_fallback_dict": "drop",
    "content_policy_fallbacks": "drop",
    "mock_testing_fallbacks": "refuse",
    "mock_testing_context_fallbacks": "refuse",
    "mock_testing_content_policy_fallbacks": "refuse",
    "mock_testing_rate_limit_error": "refuse",
    "mock_response": "refuse",
    "mock_tool_calls": "refuse",
    "mock_timeout": "refuse",
    "mock_delay": "refuse",
    "model_list": "refuse",
    "user_config": "refuse",
    # More answers than `n` has: vLLM, https://docs.vllm.ai/en/v0.6.0/dev/sampling_params.html, Hugging Face, Gemini,
    # llama.cpp (tools/server/README.md)
    "best_of": "refuse",
    "use_beam_search": "refuse",
    "num_beams": "refuse",
    "num_return_sequences": "refuse",
    "candidate_count": "refuse",
    "n_cmpl": "refuse",
    # A second bound of the answer, which llama.cpp, Hugging Face and others take for the only one.
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    "n_predict": "refuse",
    "num_predict": "refuse",
    "max_new_tokens": "refuse",
    "max_length": "refuse",
    "max_output_tokens": "refuse",
    "max_tokens_to_sample": "refuse",
    # Any field at all: LiteLLM takes what is in `extra_body` for the request's own, Ollama what is in `options`, Gemini
    # (https://ai.google.dev/api/generate-content) what is in `generationConfig`. Vercel's gateway has other models in
    # `providerOptions` (https://vercel.com/docs/ai-gateway), Venice a search in its parameters (https://docs.venice.ai).
    "extra_body": "refuse",
    "options": "refuse",
    "generationConfig": "refuse",
    "generation_config": "refuse",
    "model_config": "refuse",
    "providerOptions": "refuse",
    "provider_options": "refuse",
    "venice_parameters": "refuse",
    # A prompt that the vendor keeps: nobody here knows how long it is.
    "previous_response_id": "refuse",
    "conversation": "refuse",
    "cached_content": "refuse",
    "prompt": "refuse",  # https://platform.openai.com/docs/api-reference/responses/create
    "prompt_id": "refuse",
    "input": "refuse",
    # What makes the prompt longer than its bytes: a program that writes it, or how finely media are read. vLLM,
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    "chat_template": "refuse",
    "mm_processor_kwargs": "refuse",
    "media_io_kwargs": "refuse",
    # Searches of one's own data: https://learn.microsoft.com/en-us/azure/ai-foundry/openai/references/on-your-data
    "data_sources": "refuse",
    "dataSources": "refuse",
    "enable_deep_search": "refuse",  # Hunyuan
    # Another address, or parameters in disguise: LiteLLM, SGLang
    "api_base": "refuse",
    "base_url": "refuse",
    "litellm_params": "refuse",
    "sampling_params": "refuse",
    # Media and files beside the messages, which are bounded as parts of these alone. (`documents` are texts: their
    # bytes are counted.)
    "files": "refuse",
    "file_ids": "refuse",
    "vector_store_ids": "refuse",
    "attachments": "refuse",
    "images": "refuse",
    "audios": "refuse",
    "videos": "refuse",
}

# Providers that refuse the whole request for such a field: it is left out for them, whatever the operator has said, and
# is not priced.
LEFT_OUT_FOR: dict[str, tuple[str, ...]] = {"store": ("groq", "mistral")}
