"""Refusals that are about the channel, told from those that are about the request, by what vendors write."""

from typing import Any

import msgspec
import pytest

from app.proxy.relay.channel_faults import channel_fault


def _error(message: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"error": {"message": message, **fields}})


FAULTS = {
    "openai model": (
        404,
        _error("The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"),
        "unknown model",
    ),
    "openai completion model": (
        404,
        _error("This is not a chat model and thus not supported in the v1/chat/completions endpoint."),
        "unknown model",
    ),
    "deepseek": (400, _error("Model Not Exist", type="invalid_request_error"), "unknown model"),
    "vllm": (404, _error("The model `m` does not exist.", type="NotFoundError", code=404), "unknown model"),
    "ollama": (404, _error('model "llama9" not found, try pulling it first'), "unknown model"),
    "mistral": (400, b'{"object":"error","message":"Invalid model: m","type":"invalid_model","code":"1500"}', None),
    "moonshot": (404, _error("Not found the model m or Permission denied"), "unknown model"),
    "openrouter": (400, _error("m is not a valid model ID", code=400), "unknown model"),
    "openrouter endpoints": (404, _error("No endpoints found for m.", code=404), "unknown model"),
    "gemini model": (404, b"[" + _error("models/m is not found for API version v1main") + b"]", "unknown model"),
    "groq": (400, _error("The model `m` has been decommissioned.", code="model_decommissioned"), "unknown model"),
    "azure": (404, _error("The API deployment is gone.", code="DeploymentNotFound"), "unknown model"),
    "litellm": (400, _error("/chat/completions: Invalid model name passed in model=m"), "unknown model"),
    "xai key": (
        400,
        b'{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***. Get one at ..."}',
        "credential refused",
    ),
    "gemini key": (400, _error("API key not valid. Please pass a valid API key."), "credential refused"),
    "gemini reason": (400, _error("No.", details=[{"reason": "API_KEY_INVALID"}]), "credential refused"),
    "no header": (400, b'{"detail": "Missing or invalid Authorization header"}', "credential refused"),
    "organization": (400, _error("No such organization: org-1."), "organization or project not found"),
    "project": (404, _error("Project `proj_1` does not exist"), "organization or project not found"),
    "groq organization": (400, _error("x", code="organization_restricted"), "organization or project not found"),
    "anthropic": (
        400,
        _error("Your credit balance is too low to access the Anthropic API."),
        "account without credit",
    ),
    "openai billing": (400, _error("Billing hard limit has been reached"), "account without credit"),
    "dashscope": (400, _error("Access denied.", code="Arrearage"), "account without credit"),
    "region": (400, _error("User location is not supported for the API use."), "region not served"),
    "html": (404, b"<!DOCTYPE html><title>404</title>", "no such address"),
    "html 400": (400, b"<html>The plain HTTP request was sent to HTTPS port</html>", "no such address"),
    "text": (404, b"404 page not found", "no such address"),
    "empty": (404, b"", "no such address"),
    "fastapi": (404, b'{"detail":"Not Found"}', "no such address"),
    "openai address": (404, _error("Invalid URL (POST /v2/chat/completions)"), "no such address"),
}


@pytest.mark.parametrize("vendor", FAULTS)
def test_a_refusal_of_the_channel_is_known(vendor: str) -> None:
    """Whatever status of a bad request the vendor gives it."""
    status, body, fault = FAULTS[vendor]
    assert channel_fault(status, body) == (fault or "unknown model")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, _error("Image too small")),
        (404, _error("Image too small (see /v1)")),
        (400, _error("The model `m` does not support image input.")),
        (400, _error("Unsupported value: 'temperature' does not support 0.2 with this model.")),
        (400, _error("Tool use with this model is not supported.")),
        (400, _error("Invalid model parameters: top_p and temperature")),
        (400, _error("max_tokens is too large: 5000. This model supports at most 4096.")),
        (400, _error("Invalid 'messages[0].content': string too long.")),
        (404, _error("No such File object: file-123")),
        (400, _error("Missing required parameter: 'messages[0].role'.", code="missing_required_parameter")),
        (422, _error("The model `m` does not exist.")),
        (413, b"<html>413 Request Entity Too Large</html>"),
        (400, b""),
        (400, b"\xff"),
        (400, b"[" * 100_000),
        (400, b"{}"),
    ],
)
def test_a_refusal_of_the_request_stays_the_customers(status: int, body: bytes) -> None:
    """Also where it names the model, and where nobody can read it."""
    assert channel_fault(status, body) is None
