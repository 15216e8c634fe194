"""What a key may do: the models it names, the addresses it may be used from, the doors that open to it."""

import pytest

from app.base.errors import Forbidden
from app.base.guesses import Guesses
from app.base.ids import new_key
from app.base.scopes import Scope
from app.catalog.records import Key
from app.proxy.access import Keyring, check_model
from app.proxy.records import Caller
from tests.proxy.makers import make_key


async def _enter(address: str = "192.0.2.1", scope: Scope = "chat", **fields: object) -> Caller:
    async def find(_digest: bytes, /) -> Key:
        return make_key(**fields)

    return await Keyring(find, 1, Guesses()).enter(new_key(), address, scope)


@pytest.mark.parametrize(
    ("cidrs", "address"),
    [
        (None, "203.0.113.9"),
        (None, "anything"),
        (("203.0.113.9/32",), "203.0.113.9"),
        (("203.0.113.9",), "203.0.113.9"),
        (("10.0.0.0/8", "203.0.113.0/24"), "203.0.113.255"),
        (("0.0.0.0/0",), "198.51.100.1"),
        (("10.0.0.0/8",), "::ffff:10.1.2.3"),
        (("::ffff:10.0.0.0/104",), "10.1.2.3"),
        (("2001:db8::/32",), "2001:db8:ffff::1"),
        (("2001:db8::/32",), "2001:DB8:0:0::1"),
        (("::/0",), "2001:db8::1"),
    ],
)
async def test_addresses_that_are_let_in(cidrs: tuple[str, ...] | None, address: str) -> None:
    """Edges of a network are in it; IPv4 inside IPv6 is the IPv4 that it is."""
    await _enter(address, allowed_cidrs=cidrs)


@pytest.mark.parametrize(
    ("cidrs", "address"),
    [
        ((), "203.0.113.9"),
        (("203.0.113.9/32",), "203.0.113.10"),
        (("203.0.113.0/24",), "203.0.114.0"),
        (("10.0.0.0/8",), "::ffff:11.0.0.1"),
        (("0.0.0.0/0",), "2001:db8::1"),
        (("::/0",), "203.0.113.9"),
        (("2001:db8::/32",), "2001:db9::1"),
        (("0.0.0.0/0",), "not an address"),
        (("0.0.0.0/0",), ""),
    ],
)
async def test_addresses_that_are_kept_out(cidrs: tuple[str, ...], address: str) -> None:
    """An empty list lets nobody in, one family says nothing of the other, and what is no address is outside."""
    with pytest.raises(Forbidden) as refusal:
        await _enter(address, allowed_cidrs=cidrs)
    assert (refusal.value.status, refusal.value.code) == (403, "address_not_allowed")


async def test_models_are_those_the_key_names() -> None:
    """None means every model, a list only those, and an empty list none."""
    check_model(await _enter(models=None), "small")
    check_model(await _enter(models=("small", "large")), "large")
    check_model(await _enter(models=("large", "sm*")), "small")
    for models in ((), ("large",), ("smal",), ("sm*x", "*large*")):
        with pytest.raises(Forbidden) as refusal:
            check_model(await _enter(models=models), "small")
        assert (refusal.value.status, refusal.value.code) == (403, "model_not_allowed")


async def test_scopes_are_those_the_key_names() -> None:
    """None opens every door, a list only those, and an empty list none."""
    await _enter(scope="billing", scopes=None)
    await _enter(scope="billing", scopes=("chat", "billing"))
    for scopes in ((), ("chat",)):
        with pytest.raises(Forbidden) as refusal:
            await _enter(scope="billing", scopes=scopes)
        assert (refusal.value.status, refusal.value.code) == (403, "scope_not_allowed")
        assert "`billing`" in refusal.value.message
