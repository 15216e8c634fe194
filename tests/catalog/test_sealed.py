"""Credentials and shaping, sealed: what an older database holds still opens, and nothing opens in another's place."""

import msgspec
import pytest

from app.base.crypto import Sealer, UnsealError
from app.catalog.records import FieldRules, HeaderRules, Shaping, Tls, VendorLimits
from app.catalog.sealed import open_credentials, open_shaping, seal_credentials, seal_shaping
from tests.proxy.makers import credential

SEALER = Sealer("a key")
SHAPING = Shaping(
    headers=HeaderRules(set={"x-a": "hush"}, drop=("x-b",)),
    params=FieldRules(set={"a.b": [1, None]}, default={"c": {}}),
    proxy="socks5://u:hush@proxy.example:1080",
    tls=Tls(verify=False, ca_pem="hush"),
    http2=True,
)


def test_credentials_come_back_as_they_were() -> None:
    kept = (
        credential("hush", "crd_1", name="main", weight=3, limits=VendorLimits(rpm=5, tpm=6), enabled=False),
        credential("other", "crd_2"),
    )
    sealed = seal_credentials(SEALER, "chn_1", kept)
    assert b"hush" not in sealed
    assert open_credentials(SEALER, "chn_1", sealed) == kept


def test_credentials_from_before_they_had_names_are_known_by_their_place() -> None:
    sealed = SEALER.seal(msgspec.json.encode(["first", "second"]), "chn_1")
    assert open_credentials(SEALER, "chn_1", sealed) == (
        credential("first", "chn_1.0"),
        credential("second", "chn_1.1"),
    )


def test_shaping_comes_back_as_it_was() -> None:
    sealed = seal_shaping(SEALER, "chn_1", SHAPING)
    assert sealed is not None
    assert b"hush" not in sealed
    assert open_shaping(SEALER, "chn_1", sealed) == SHAPING


def test_no_shaping_is_nothing() -> None:
    assert seal_shaping(SEALER, "chn_1", Shaping()) is None
    assert open_shaping(SEALER, "chn_1", None) == Shaping()


def test_what_is_sealed_opens_in_its_own_place_alone() -> None:
    sealed = seal_shaping(SEALER, "chn_1", SHAPING)
    assert sealed is not None
    for wrong in (lambda: open_shaping(SEALER, "chn_2", sealed), lambda: open_credentials(SEALER, "chn_1", sealed)):
        with pytest.raises(UnsealError):
            wrong()
