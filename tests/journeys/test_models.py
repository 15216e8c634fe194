"""What a customer may ask for: `/v1/models`, narrowed to its key."""

import httpx
import openai
import pytest

from tests.shop import Shop


def test_the_list_shows_what_is_on_sale_with_length_and_description(shop: Shop) -> None:
    """Each model has the dialect's fields, and its context length and description beside them."""
    model = shop.model(shop.vendor(), description="Quick and kind", max_output_tokens=2048)
    customer = shop.customer()

    listed = {entry.id: entry for entry in customer.openai().models.list()}

    entry = listed[model]
    assert entry.object == "model"
    assert isinstance(entry.created, int)
    assert entry.owned_by
    assert (entry.context_length, entry.description) == (128_000, "Quick and kind")
    assert "upstream" not in customer.http.get("/v1/models").text, "the vendor's names stay inside"


def test_one_model_by_name(shop: Shop) -> None:
    """The single view says the same as the list."""
    model = shop.model(shop.vendor(), description="Alone")
    client = shop.customer().openai()

    one = client.models.retrieve(model)

    assert one == next(entry for entry in client.models.list() if entry.id == model)


def test_a_name_with_a_slash_works_everywhere(shop: Shop) -> None:
    """Vendors name models `maker/model`: so may the operator."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    slashed = f"maker/{model}"
    shop.operator.put_model(slashed, prices={"input": "1", "output": "1"})
    shop.channel(vendor, slashed)
    customer = shop.customer()

    assert customer.chat(slashed).json()["model"] == slashed
    assert customer.http.get(f"/v1/models/{slashed}").json()["id"] == slashed


def test_a_key_with_a_list_sees_only_its_models(shop: Shop) -> None:
    """What a key may not use is neither listed nor found."""
    vendor = shop.vendor()
    mine, other = shop.model(vendor), shop.model(vendor)
    client = shop.customer(models=[mine]).openai()

    assert [entry.id for entry in client.models.list()] == [mine]
    assert client.models.retrieve(mine).id == mine
    with pytest.raises((openai.NotFoundError, openai.PermissionDeniedError)):
        client.models.retrieve(other)


def test_an_unknown_model_is_not_found(shop: Shop) -> None:
    """A 404 in the dialect."""
    with pytest.raises(openai.NotFoundError) as missing:
        shop.customer().openai().models.retrieve("no-such-model")

    assert missing.value.code == "model_not_found"


def test_models_need_a_key_and_cost_nothing(shop: Shop) -> None:
    """The list is for customers, credit or not."""
    customer = shop.customer(credit="0")

    assert httpx.get(f"{customer.url}/v1/models").status_code == 401
    assert customer.http.get("/v1/models").status_code == 200
    shop.assert_nothing_charged(customer)


def test_the_address_without_v1_lists_models_too(shop: Shop) -> None:
    """Clients that were given the bare address find everything there."""
    model = shop.model(shop.vendor())
    customer = shop.customer()

    listed = customer.http.get("/models").json()["data"]

    assert model in [entry["id"] for entry in listed]
