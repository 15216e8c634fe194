"""Step 2: may this request start? The estimate of its worst case is pure; the answer is one Lua call. Refuses to guess:
a wallet that Redis does not have is rebuilt by the ledger before anyone is served."""

from app.proxy.admission.cover import cover
from app.proxy.admission.crowd import Crowd
from app.proxy.admission.desk import AdmissionDesk, BringCounters, WarmWallet
from app.proxy.admission.estimate import bounded, check_media, takes_media
from app.proxy.admission.headers import limit_headers
from app.proxy.admission.rulebook import key_subject

__all__ = [
    "AdmissionDesk",
    "BringCounters",
    "Crowd",
    "WarmWallet",
    "bounded",
    "check_media",
    "cover",
    "key_subject",
    "limit_headers",
    "takes_media",
]
