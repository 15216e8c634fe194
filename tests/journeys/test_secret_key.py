"""The key that credentials are sealed with: a wrong one is told at the start, and it can be rotated."""

import subprocess
import sys

from tests.gateway import ROOT, Gateway
from tests.journeys.rough import OpenShop, works

RIGHT = "the secret key of this deployment, 1"
WRONG = "the secret key of another one, and 2"


def start_refused(gateway: Gateway) -> str:
    """What a start that is refused prints; it exits with 1."""
    gateway.start(wait=False)
    assert gateway.process
    assert gateway.process.wait(timeout=30) == 1
    gateway.process = None
    return gateway.log


def test_a_wrong_secret_key_is_told_once_and_ends_the_start(open_shop: OpenShop) -> None:
    """One line that names the variable, and an exit, rather than workers that die one after the other; with the right
    key everything is as it was."""
    shop = open_shop(TOLLGATE_SECRET_KEY=RIGHT, TOLLGATE_WORKERS="1")
    gateway, model = shop.gateway, shop.model(shop.vendor())
    customer = shop.customer()
    gateway.stop()

    gateway.environ["TOLLGATE_SECRET_KEY"] = WRONG
    log = start_refused(gateway)
    assert log.count("TOLLGATE_SECRET_KEY is not the key that this database was sealed with") == 1
    assert "Traceback" not in log
    assert "worker 1 started" not in log
    assert WRONG not in log

    gateway.environ["TOLLGATE_SECRET_KEY"] = RIGHT
    gateway.start()
    assert works(customer, model)
    gateway.stop()


def test_a_data_dir_that_lost_its_secret_says_so(open_shop: OpenShop) -> None:
    """A new one is not taken for the old one, and the error says which file is missed."""
    shop = open_shop(TOLLGATE_WORKERS="1")
    gateway = shop.gateway
    gateway.stop()
    (gateway.data_dir / "secret.key").unlink()
    assert "bring back the secret.key" in start_refused(gateway)


def rotate(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "secrets", "rotate"]
    environ = gateway.process_environ
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_secret_key_is_rotated_while_the_gateway_serves(open_shop: OpenShop) -> None:
    """With both keys, before the rotation and after it, and then without the old one, requests go on."""
    shop = open_shop(TOLLGATE_SECRET_KEY=RIGHT, TOLLGATE_WORKERS="1")
    gateway, vendor = shop.gateway, shop.vendor()
    model, customer = shop.model(vendor), shop.customer()
    assert "TOLLGATE_OLD_SECRET_KEY is not set" in rotate(gateway).stderr
    gateway.stop()

    gateway.environ |= {"TOLLGATE_SECRET_KEY": WRONG, "TOLLGATE_OLD_SECRET_KEY": RIGHT}
    gateway.start()
    assert works(customer, model)
    done = rotate(gateway)
    assert done.returncode == 0, done.stderr
    another = shop.model(vendor)  # the catalogue is read anew
    assert works(customer, model)
    assert works(customer, another)
    gateway.stop()

    gateway.environ["TOLLGATE_OLD_SECRET_KEY"] = ""
    gateway.start()
    assert works(customer, model)
    gateway.stop()
