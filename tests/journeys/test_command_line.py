"""The command line beside a running gateway."""

import json
import subprocess
import sys

from tests.gateway import ROOT
from tests.shop import Shop


def test_verify_agrees_with_the_api(shop: Shop) -> None:
    """`tollgate verify --json`: exit 0 and a clean verdict, while the gateway is at work."""
    customer = shop.customer()
    shop.operator.wait_receipt(customer.chat(shop.model(shop.vendor())).headers["x-request-id"])

    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "verify", "--json"],
        cwd=ROOT,
        env=shop.gateway.process_environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["ok"], verdict["drift_nano"]) == (True, 0)
