"""What a channel changes of its requests, and how it reaches its vendor, as operators send and read it.

Values that may be secret are shown as `***`; sent back so, they stay what they are.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from msgspec import UNSET, Meta, UnsetType

from app.base.errors import InvalidField
from app.base.json_path import parse_path
from app.catalog.records import FieldRules, HeaderRules, Shaping, Tls

__all__ = ["MASK", "ShapingFields", "check_shaping", "shaping_of", "show_shaping"]

MASK = "***"

_RULES_MOST = 100
_SIZE_MOST = 256 * 1024
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,200}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
# The transport's own, and those of one connection alone.
_NOT_OURS = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"),
        "upgrade",
    }
)
_CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
# They decide which model answers, how many answers there are and how they come: what is read, and what is paid for.
_FIXED_FIELDS = frozenset({"model", "n", "stream"})
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Pem = Annotated[str, Meta(min_length=1, max_length=100_000)]
Names = Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=_RULES_MOST)]


class HeaderRuleFields(msgspec.Struct, forbid_unknown_fields=True):
    set: Annotated[dict[str, Annotated[str, Meta(max_length=8_000)]], Meta(max_length=_RULES_MOST)] = {}
    default: Annotated[dict[str, Annotated[str, Meta(max_length=8_000)]], Meta(max_length=_RULES_MOST)] = {}
    drop: Names = []


class FieldRuleFields(msgspec.Struct, forbid_unknown_fields=True):
    set: Annotated[dict[str, Any], Meta(max_length=_RULES_MOST)] = {}
    default: Annotated[dict[str, Any], Meta(max_length=_RULES_MOST)] = {}
    drop: Names = []


class TlsFields(msgspec.Struct, forbid_unknown_fields=True):
    verify: bool = True
    ca_pem: Pem | None = None
    identity_pem: Pem | None = None
    min_version: Literal["1.2", "1.3"] | None = None


class ShapingFields(msgspec.Struct, forbid_unknown_fields=True):
    """Each field replaces what it was; null takes it away."""

    headers: HeaderRuleFields | None | UnsetType = UNSET
    params: FieldRuleFields | None | UnsetType = UNSET
    organization: Text | None | UnsetType = UNSET
    project: Text | None | UnsetType = UNSET
    proxy: Annotated[str, Meta(max_length=2_000)] | None | UnsetType = UNSET
    tls: TlsFields | None | UnsetType = UNSET
    http2: bool | None | UnsetType = UNSET


def shaping_of(sent: ShapingFields | None, old: Shaping) -> Shaping:
    """`old`, changed. Raises InvalidField with the path of what can't be."""
    if sent is None:
        return Shaping()
    changes: dict[str, Any] = {}
    if sent.headers is not UNSET:
        changes["headers"] = _headers(sent.headers or HeaderRuleFields(), old.headers)
    if sent.params is not UNSET:
        changes["params"] = _params(sent.params or FieldRuleFields())
    for name in ("organization", "project"):
        if (text := getattr(sent, name)) is not UNSET:
            changes[name] = None if text is None else _header_value(text, f"shaping.{name}")
    if sent.proxy is not UNSET:
        changes["proxy"] = None if sent.proxy is None else _proxy(sent.proxy, old.proxy)
    if sent.tls is not UNSET:
        changes["tls"] = _tls(sent.tls or TlsFields(), old.tls)
    if sent.http2 is not UNSET:
        changes["http2"] = bool(sent.http2)
    shaping = msgspec.structs.replace(old, **changes)
    if len(msgspec.json.encode(shaping)) > _SIZE_MOST:
        raise InvalidField("shaping", f"is larger than {_SIZE_MOST} bytes")
    return shaping


def check_shaping(shaping: Shaping, *, has_credentials: bool) -> None:
    """Raises InvalidField where a rule would take the credentials' place: that is an accident."""
    if not has_credentials:
        return
    for kind in ("set", "default", "drop"):
        for name in getattr(shaping.headers, kind):
            if name in _CREDENTIAL_HEADERS:
                raise InvalidField(_at("headers", kind, name), "carries the channel's credentials, and can't be shaped")


def show_shaping(shaping: Shaping) -> dict[str, Any]:
    headers, tls = shaping.headers, shaping.tls
    return {
        "headers": {
            "set": dict.fromkeys(headers.set, MASK),
            "default": dict.fromkeys(headers.default, MASK),
            "drop": headers.drop,
        },
        "params": msgspec.structs.asdict(shaping.params),
        "organization": shaping.organization,
        "project": shaping.project,
        "proxy": None if shaping.proxy is None else _masked(shaping.proxy),
        "tls": {
            "verify": tls.verify,
            "ca_pem": None if tls.ca_pem is None else MASK,
            "identity_pem": None if tls.identity_pem is None else MASK,
            "min_version": tls.min_version,
        },
        "http2": shaping.http2,
    }


def _at(part: str, kind: str, name: str) -> str:
    return f"shaping.{part}.{kind}[{msgspec.json.encode(name).decode()}]"


def _headers(sent: HeaderRuleFields, old: HeaderRules) -> HeaderRules:
    return HeaderRules(
        set=_header_values(sent.set, "set", old.set),
        default=_header_values(sent.default, "default", old.default),
        drop=_header_names(sent.drop, "drop"),
    )


def _header_values(sent: Mapping[str, str], kind: str, old: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for name, (as_sent, value) in zip(_header_names(sent, kind), sent.items(), strict=True):
        path = _at("headers", kind, as_sent)
        values[name] = old.get(name, MASK) if value == MASK else _header_value(value, path)
        if values[name] == MASK:
            raise InvalidField(path, f"`{MASK}` only stands for a value that is there already")
    return values


def _header_names(sent: Iterable[str], kind: str) -> tuple[str, ...]:
    names: list[str] = []
    for as_sent in sent:
        name, path = as_sent.lower(), _at("headers", kind, as_sent)
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidField(path, "is not a header's name")
        if name in _NOT_OURS:
            raise InvalidField(path, "belongs to the connection, and can't be shaped")
        if name in names:
            raise InvalidField(path, "is there twice")
        names.append(name)
    return tuple(names)


def _header_value(value: str, path: str) -> str:
    if not _HEADER_VALUE.fullmatch(value) or value != value.strip():
        raise InvalidField(path, "must be one line of text that a header can carry, with no space around it")
    return value


def _params(sent: FieldRuleFields) -> FieldRules:
    for kind in ("set", "default", "drop"):
        for path in getattr(sent, kind):
            _check_path(path, _at("params", kind, path))
    return FieldRules(set=sent.set, default=sent.default, drop=tuple(sent.drop))


def _check_path(sent: str, where: str) -> None:
    try:
        path = parse_path(sent)
    except ValueError as error:
        raise InvalidField(where, f"is not a path: {error}") from None
    if not isinstance(path[0], str):
        raise InvalidField(where, "must begin with the name of a field")
    if path[0] in _FIXED_FIELDS or path == ("messages",):
        raise InvalidField(where, f"`{path[0]}` is the customer's, and can't be shaped")


def _proxy(sent: str, old: str | None) -> str:
    """Its password is never said back, in an error neither."""
    try:
        parts = urlsplit(sent)
        is_sound = parts.scheme in _PROXY_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound or not sent.isascii() or not sent.isprintable() or " " in sent:
        raise InvalidField("shaping.proxy", f"must be an address of the kind {', '.join(_PROXY_SCHEMES)}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidField("shaping.proxy", "must have no path and no query")
    if parts.password != MASK:
        return sent
    if old is None or _masked(old) != sent:
        raise InvalidField("shaping.proxy", f"`{MASK}` only stands for the password that is there already")
    return old


def _masked(proxy: str) -> str:
    parts = urlsplit(proxy)
    if parts.password is None:
        return proxy
    user, host = parts.netloc.rpartition("@")[::2]
    return urlunsplit(SplitResult(parts.scheme, f"{user.partition(':')[0]}:{MASK}@{host}", parts.path, "", ""))


def _tls(sent: TlsFields, old: Tls) -> Tls:
    ca_pem = old.ca_pem if sent.ca_pem == MASK else sent.ca_pem
    identity_pem = old.identity_pem if sent.identity_pem == MASK else sent.identity_pem
    if ca_pem is not None:
        _check_authorities(ca_pem)
    if identity_pem is not None:
        _check_identity(identity_pem)
    return Tls(sent.verify, ca_pem, identity_pem, sent.min_version)


def _check_authorities(pem: str) -> None:
    try:
        x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidField("shaping.tls.ca_pem", "must hold certificates in PEM") from None


def _check_identity(pem: str) -> None:
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
        key = load_pem_private_key(pem.encode(), password=None)
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        is_its_own = certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except (ValueError, TypeError):  # TypeError: the key is encrypted
        is_its_own = False
    if not is_its_own:
        raise InvalidField("shaping.tls.identity_pem", "must hold a certificate and its key, unencrypted, in PEM")
