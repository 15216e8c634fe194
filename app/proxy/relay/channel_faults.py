"""Refusals with the status of a bad request that are about the channel: its address, its credential, its account or its
name of the model. Another channel may serve the same request. Pure.

A fault is told by what vendors write, and by nothing else: a customer may have put the same words into a value that the
vendor quotes. So it says nothing about the channel's next request.

Sources: the vendors' error references, and what their users quote.
"""

import re
from typing import Any

import msgspec

__all__ = ["channel_fault"]

_READ_MOST = 16 * 1024

_CODES = {
    "unknown model": (
        "model_not_found",  # OpenAI, Groq, DashScope
        "invalid_model",  # Mistral
        "model_decommissioned",  # Groq
        "model_not_supported",
        "model_not_available",
        "deploymentnotfound",  # Azure
    ),
    "credential refused": (
        "invalid_api_key",  # OpenAI
        "invalidapikey",  # DashScope
        "api_key_invalid",  # Gemini
        "authentication_error",
        "invalid_authentication_error",  # Moonshot
    ),
    "organization or project not found": (
        *("invalid_organization", "mismatched_organization", "organization_not_found"),
        *("invalid_project", "mismatched_project", "project_not_found"),
        "organization_restricted",  # Groq
    ),
    "account without credit": (
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),  # OpenAI
        "arrearage",  # DashScope
        "insufficient_balance",
    ),
}

# What may stand between a word and what is said of it: a quoted name, or a few words.
_NAME = r"[\s:]*(?:[`'\"\[]?[^\s`'\"]{1,200}[`'\"\],]?\s+)?"
_WORDS = (
    (
        "unknown model",
        re.compile(
            rf"\b(?:model|deployment){_NAME}(?:does not exist|doesn't exist|do not exist|not exist|was not found"
            rf"|could not be found|is not found|not found|has been (?:decommissioned|deprecated|removed|retired)"
            rf"|is not available|is unavailable|is not (?:a )?valid)"
            r"|\b(?:unknown|invalid|no such|unsupported) (?:model|deployment)\b"
            r"(?! (?:config|for|input|output|param|response))"
            rf"|^(?:the )?(?:requested |specified )?model{_NAME}is not supported\W*$"
            r"|\bnot a chat model\b"  # OpenAI
            r"|\bnot found the model\b"  # Moonshot
            r"|\bis not a valid model\b"  # OpenRouter
            r"|\bmodels/\S+ is not found for api version\b"  # Gemini
            r"|\bunable to access model\b"  # Together
            r"|\bno (?:healthy|available) (?:deployments?|channels?|endpoints?)\b"  # gateways
            r"|\bno endpoints found\b"
            r"|\b(?:deployment|resource) (?:for this resource )?(?:does not exist|not found)\b"  # Azure
        ),
    ),
    (
        "credential refused",
        re.compile(
            r"\b(?:incorrect|invalid|missing|expired|no|wrong|malformed) (?:\w+ ){0,2}(?:api[ -]?key|credentials?\b"
            r"|access token|authorization header|bearer token)"
            r"|\b(?:api[ -]?key|access token) (?:is |was )?(?:not valid|invalid|expired|missing|not found|required"
            r"|not provided|has expired|has been (?:revoked|disabled))"
            r"|\bdidn't provide an api key\b|\bauthentication (?:failed|is required)\b"
        ),
    ),
    (
        "organization or project not found",
        re.compile(
            rf"\bno such (?:organi[sz]ation|project|workspace)\b"
            rf"|\b(?:organi[sz]ation|project|workspace){_NAME}(?:not found|was not found|does not exist|is invalid"
            rf"|has been (?:restricted|disabled|suspended|archived))"
        ),
    ),
    (
        "account without credit",
        re.compile(
            r"\bcredit balance is too low\b"  # Anthropic
            r"|\b(?:billing hard limit|spending limit) (?:has been )?reached\b"
            r"|\binsufficient (?:account )?(?:balance|credits?|funds|quota)\b"
            r"|\b(?:balance is not enough|not enough (?:balance|credits))\b"
            r"|\b(?:enable billing|account is (?:not active|in arrears|overdue|suspended|deactivated))\b"
            r"|\baccount is in good standing\b"  # DashScope
        ),
    ),
    ("region not served", re.compile(r"\buser location is not supported\b")),  # Gemini
    ("no such address", re.compile(r"\binvalid url \(post|\bplain http request was sent to https port\b")),
)
_NO_ADDRESS = frozenset({"not found", "404 not found", "404 page not found", "page not found", "resource not found"})
_CODE_NAMES = ("code", "type", "status", "reason")


def channel_fault(status: int, body: bytes) -> str | None:
    """What is wrong with the channel, in a few words of ours; None where the fault is the request's. Only for the
    statuses 400 and 404: 413 and 422 are about the request."""
    if status not in (400, 404):
        return None
    codes, text = _said(body)
    if text is None:  # a web server wrote it, not an API
        return "no such address" if status == 404 or body.lstrip()[:1] == b"<" else None
    for fault, known in _CODES.items():
        if not codes.isdisjoint(known):
            return fault
    words = text.lower()
    for fault, pattern in _WORDS:
        if pattern.search(words) is not None:
            return fault
    return "no such address" if status == 404 and words.strip(" .") in _NO_ADDRESS else None


def _said(body: bytes) -> tuple[frozenset[str], str | None]:
    """Its codes in lower case, and its message; None where there is no message to read."""
    try:
        sent: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset(), None
    if isinstance(sent, list) and sent:  # Gemini
        sent = sent[0]
    if not isinstance(sent, dict):
        return frozenset(), None
    error = sent.get("error")
    places = [each for each in (error, sent) if isinstance(each, dict)]
    codes = {code.lower() for each in places for name in _CODE_NAMES if isinstance(code := each.get(name), str)}
    codes |= _reasons(places)
    texts = [error, *(each.get(name) for each in places for name in ("message", "detail"))]
    text = next((each for each in texts if isinstance(each, str) and each), None)
    return frozenset(codes), None if text is None and not codes else (text or "")[:_READ_MOST]


def _reasons(places: list[dict[str, Any]]) -> set[str]:
    """Those of Google's `details`."""
    details = [part for each in places if isinstance(each.get("details"), list) for part in each["details"]]
    found = (part.get("reason") for part in details if isinstance(part, dict))
    return {reason.lower() for reason in found if isinstance(reason, str)}
