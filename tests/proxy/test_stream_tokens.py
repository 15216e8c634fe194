"""What a stream counts against its channel's limit of tokens, when it ends early."""

import pytest

from app.base.clock import now_ms
from app.proxy.relay import Relay, StreamCut
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from tests.answers import Answer, Shape
from tests.behaviours import answers
from tests.proxy.makers import body
from tests.proxy.plans import ListedPlan, channel_to
from tests.upstreams import Street


async def test_usage_on_the_way_does_not_hide_tokens_from_a_channels_limit(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor that says one token in every chunk, then breaks off: the tokens are guessed from the text."""
    monkeypatch.delenv("SSL_CERT_DIR")  # the transport wants some certificates, though nothing here speaks TLS
    said = Answer(pieces=("word ",) * 400)
    vendor = street.open(answers(said, Shape(usage="ones"), after=401, then="end"))
    relay = Relay(VendorTransport(), SandboxTransport())
    plan = ListedPlan(channel_to(vendor, 1))
    try:
        live = await relay.open(read_order(body(stream=True), "req_1", now_ms()), plan)
        with pytest.raises(StreamCut):
            while await live.next() is not None:
                live.sent()
        delivered = live.delivered("cut", error="cut off")
        await live.close()
    finally:
        await relay.close()
        street.shut(vendor)
    assert delivered.output == said.text
    assert not delivered.is_usage_final
    assert plan.outcomes["chn_1"].tokens >= 400
