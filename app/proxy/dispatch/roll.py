"""Which ways there are: those of the catalogue, kept from one reading of it to the next where they lead to the same."""

from collections.abc import Iterable, Iterator

from app.catalog.records import Channel
from app.proxy.dispatch.way import Load, Way, stamp_of

__all__ = ["Roll"]


class _Known:
    """A channel as it was last seen, and its ways, those that are not enabled left out."""

    __slots__ = ("channel", "ways")

    def __init__(self, channel: Channel, ways: tuple[Way, ...]) -> None:
        self.channel = channel
        self.ways = ways


class Roll:
    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._is_reconciled = False

    def ways_of(self, channel: Channel) -> tuple[Way, ...]:
        """Those of a channel as the caller knows it. After the first `reconcile` that alone says what is current: a
        request may have read the catalogue before it, and what such a one learns of what has changed is nothing."""
        known = self._known.get(channel.id)
        if known is not None and known.channel is channel:
            return known.ways
        met = self._meet(channel, known)
        if not self._is_reconciled:
            self._settle(met, known)
        return met.ways

    def reconcile(self, channels: Iterable[Channel]) -> None:
        """The catalogue was read anew. What was learnt stays where an operator has not changed where the way leads."""
        self._is_reconciled = True
        current = {channel.id: channel for channel in channels}
        for gone in self._known.keys() - current.keys():
            for way in self._known.pop(gone).ways:
                way.is_current = False
        for channel in current.values():
            known = self._known.get(channel.id)
            if known is None or known.channel is not channel:
                self._settle(self._meet(channel, known), known)

    def ways(self) -> Iterator[Way]:
        for known in self._known.values():
            yield from known.ways

    def find(self, channel_id: str, credential_id: str | None) -> Iterator[Way]:
        """One way, or all of a channel."""
        known = self._known.get(channel_id)
        for way in known.ways if known else ():
            if credential_id in (None, way.credential.id):
                yield way

    def _meet(self, channel: Channel, known: _Known | None) -> _Known:
        """Its ways: those that are known, where they lead to the same place, and new ones."""
        old = {way.credential.id: way for way in known.ways} if known else {}
        ways = []
        for credential in channel.ways:
            stamp, before = stamp_of(channel, credential), old.get(credential.id)
            if before is None or before.stamp != stamp:
                before = Way(channel, credential, stamp, before.load if before else Load())
            ways.append(before)
        return _Known(channel, tuple(ways))

    def _settle(self, met: _Known, known: _Known | None) -> None:
        """From now on these are the channel's ways."""
        for way in known.ways if known else ():
            way.is_current = False
        credentials = {credential.id: credential for credential in met.channel.ways}
        for way in met.ways:
            way.is_current = True
            way.meet(met.channel, credentials[way.credential.id])
        self._known[met.channel.id] = met
