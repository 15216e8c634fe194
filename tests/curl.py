"""Runs a `curl` command line as a document shows it: with curl, or without where there is none."""

import shlex
import shutil
import subprocess
from dataclasses import dataclass

import httpx

__all__ = ["Curled", "curl"]


@dataclass(frozen=True)
class Curled:
    status: int
    body: str


def curl(command: str) -> Curled:
    """`command` is shell text, continuation lines and quotes included."""
    arguments = shlex.split(command.replace("\\\n", " "))
    assert arguments[0] == "curl", command
    return _with_curl(arguments) if shutil.which("curl") else _without_curl(arguments[1:])


def _with_curl(arguments: list[str]) -> Curled:
    quiet = [*arguments, "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]
    done = subprocess.run(quiet, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return Curled(int(status), body)


def _without_curl(arguments: list[str]) -> Curled:
    """The few options that documents use; a slim image has no curl."""
    method, url, body, headers = "", "", None, {"Content-Type": "application/x-www-form-urlencoded"}
    words = iter(arguments)
    for word in words:
        match word:
            case "-X" | "--request":
                method = next(words)
            case "-H" | "--header":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d" | "--data" | "--data-raw":
                body = next(words)
            case "--location" | "-L" | "-s" | "-N":
                pass
            case _:
                url = word
    method = method or ("GET" if body is None else "POST")
    answer = httpx.request(method, url, content=body, headers=headers, timeout=20)
    return Curled(answer.status_code, answer.text)
