"""What is left at vendors: read as they say it, kept, and warned of before it is gone."""

from typing import Any

import msgspec
import pytest

from app.base.clock import now_ms
from app.base.database import Database
from app.base.wire import Wire
from app.catalog.channel_events import list_events
from app.catalog.records import Channel, Credential, Shaping, Tls
from app.proxy.relay.balance import BALANCES, Balance, ask_balance, read_balance
from app.warden.balances import Balances, is_low, read_balances
from app.warden.recorder import Recorder
from tests.behaviours import hangs, says
from tests.proxy.makers import credential, make_channel
from tests.upstreams import Behaviour, Street
from tests.warden.houses import Yard

DEEPSEEK = {
    "is_available": True,
    "balance_infos": [
        {"currency": "CNY", "total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"}
    ],
}
MOONSHOT = {"code": 0, "data": {"available_balance": 49.58894, "voucher_balance": 46.58893}, "status": True}

ANSWERS = [
    pytest.param("deepseek", DEEPSEEK, "110.00", "CNY", id="deepseek"),
    pytest.param("moonshot", MOONSHOT, "49.58894", "USD", id="moonshot"),
    pytest.param("moonshot", {"data": {"available_balance": -3}}, "-3", "USD", id="owed"),
    pytest.param("openrouter", {"data": {"limit_remaining": 1e-7}}, "0.0000001", "USD", id="small"),
    pytest.param("openrouter", {"data": {"limit_remaining": None}}, None, None, id="no limit"),
    pytest.param("deepseek", {"balance_infos": []}, None, None, id="none told"),
    pytest.param("deepseek", ["x"], None, None, id="another shape"),
    pytest.param("moonshot", {"data": {"available_balance": "NaN"}}, None, None, id="no number"),
]


@pytest.mark.parametrize(("provider", "body", "amount", "currency"), ANSWERS)
def test_a_vendors_answer_is_read(provider: str, body: Any, amount: str | None, currency: str | None) -> None:
    """To the last digit; what is no balance is an error, not a zero."""
    balance = read_balance(BALANCES[provider], msgspec.json.encode(body))

    assert (balance.amount, balance.currency) == (amount, currency)
    assert (balance.error is None) == (amount is not None)


def test_garbage_is_no_balance() -> None:
    assert read_balance(BALANCES["deepseek"], b"<html>").error


async def test_the_vendor_is_asked_with_the_credential(street: Street) -> None:
    """At its host, where its documents say, whatever path the channel's base URL has."""
    vendor = street.open(says(200, DEEPSEEK))
    channel = make_channel(provider="deepseek", base_url=vendor.base_url)

    balance = await ask_balance(channel, credential("sk-vendor"))

    street.shut(vendor)
    (request,) = vendor.requests
    assert (request.method, request.path) == ("GET", "/user/balance")
    assert request.headers["authorization"] == "Bearer sk-vendor"
    assert (balance.amount, balance.error) == ("110.00", None)


FAULTS: list[Any] = [
    pytest.param(says(401, {"error": "sk-vendor is not known"}), "status 401", id="401"),
    pytest.param(says(302, location="http://127.0.0.1:9/"), "status 302", id="redirect"),
    pytest.param(says(200, b"x" * 100_000), "the answer is too long", id="long"),
]


@pytest.mark.parametrize(("behaviour", "error"), FAULTS)
async def test_what_goes_wrong_is_told_in_our_words(street: Street, behaviour: Behaviour, error: str) -> None:
    vendor = street.open(behaviour)

    balance = await ask_balance(make_channel(provider="deepseek", base_url=vendor.base_url), credential("sk-vendor"))

    street.shut(vendor)
    assert (balance.amount, balance.error) == (None, error)


UNREACHABLE = [
    pytest.param({"provider": "deepseek"}, id="nobody there"),
    pytest.param({"provider": "deepseek", "shaping": Shaping(proxy="socks5://u:secret@127.0.0.1:1")}, id="socks"),
    pytest.param({"provider": "deepseek", "shaping": Shaping(tls=Tls(ca_pem="no pem"))}, id="bad authority"),
    pytest.param({"provider": "openai"}, id="no balance to ask for"),
]


@pytest.mark.parametrize("fields", UNREACHABLE)
async def test_an_unreachable_vendor_is_an_error(street: Street, fields: dict[str, Any]) -> None:
    channel = make_channel(base_url=street.refusing(hangs()).base_url, **fields)

    balance = await ask_balance(channel, credential("sk-vendor"))

    assert balance.error
    assert "secret" not in balance.error


PACES = [
    pytest.param([], False, id="unknown"),
    pytest.param(["10"], False, id="first"),
    pytest.param(["0"], True, id="gone"),
    pytest.param(["-1"], True, id="owed"),
    pytest.param(["10", "6"], False, id="lasts"),
    pytest.param(["10", "4"], True, id="does not last"),
    pytest.param(["10", "20"], False, id="topped up"),
    pytest.param(["30", "2", "22"], True, id="topped up by less than goes in a day"),
]


@pytest.mark.parametrize(("amounts", "low"), PACES)
def test_low_is_what_would_not_last_as_long_again(amounts: list[str], low: bool) -> None:
    assert is_low([(at, amount) for at, amount in enumerate(amounts)]) is low


async def test_it_is_asked_hourly_and_kept(db: Database, wire: Wire, recorder: Recorder) -> None:
    """By one warden after the other: the next knows what the last one asked. Low is told when it becomes so."""
    amounts = iter(["10", "3", "2"])
    asked: list[str] = []
    at_ms = now_ms() - 3 * 3_600_000

    async def ask(_channel: Channel, used: Credential) -> Balance:
        nonlocal at_ms
        asked.append(used.id)
        at_ms += 3_600_000
        return Balance(at_ms=at_ms, amount=next(amounts), currency="CNY")

    yard = Yard(make_channel(provider="deepseek"), make_channel("chn_2", provider="openai"))
    for _ in range(4):
        await Balances(yard.house, wire, recorder, ask).round()

    assert asked == ["crd_1"] * 3
    assert (await read_balances(wire))["chn_1", "crd_1"].amount == "2"
    await recorder.close()
    async with db.read() as reading:
        (event,) = await list_events(reading, limit=10)
    assert (event["kind"], event["reason"]) == ("balance_low", "3 CNY left: less than went in the last day")

    yard.channels.clear()
    await Balances(yard.house, wire, recorder, ask).round()
    assert await read_balances(wire) == {}
