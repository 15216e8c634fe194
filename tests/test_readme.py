"""Every command of the README, run as it stands but for the address and the vendor."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours import answers as answers_of_a_vendor
from tests.gateway import ADMIN_KEY, ROOT, Gateway
from tests.servers import Fleet
from tests.upstreams import Street

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
SHOWN_ADDRESS = "http://127.0.0.1:8000"
SHOWN_VENDOR = "https://api.openai.com/v1"
SHOWN_HOOK = "https://example.com/tollgate"


@pytest.fixture
def newcomer(fleet: Fleet) -> Iterator[Gateway]:
    """A first start, so that there is a demo customer."""
    gateway = fleet.new("sqlite")
    gateway.start()
    yield gateway
    gateway.stop()


def test_every_make_command_of_the_readme_exists() -> None:
    """A `make` that the README names is a target, and everything else it shows is run by the test below."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"serve", "test", "check", "bench"} <= named <= targets


def test_every_command_of_the_readme_runs(newcomer: Gateway, street: Street) -> None:
    """In the README's order, with the keys that the first start printed."""
    vendor = street.open(answers_of_a_vendor())
    demo_key = re.findall(r"sk-[0-9A-Za-z]{49}", newcomer.log)[0]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `tollgate` is installed
    environ = {
        **newcomer.process_environ,
        "PATH": path,
        "KEY": demo_key,
        "ADMIN_KEY": ADMIN_KEY,
        "VENDOR_KEY": "vendor-secret-readme",
    }
    answers = []
    for language, block in BLOCKS:
        if block.startswith(("make ", "export ")):
            continue
        text = block.replace(SHOWN_ADDRESS, newcomer.url).replace(SHOWN_VENDOR, vendor.base_url)
        text = text.replace(SHOWN_HOOK, vendor.base_url)
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
        run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        assert '"code":' not in run.stdout, f"{block}\n{run.stdout}"  # every error has one
        answers.append(run.stdout)
    assert "Hello!" in answers[0] and "Hello!" in answers[1]
    assert any('"ok":true' in answer for answer in answers), "the books were verified"
