"""An authority of the tests' own, and the certificates it issues: for vendors on loopback, and for their clients."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]


class Authority:
    """Trusted by nobody who was not given its `ca_pem`."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the tests' authority")
        anyone = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._blank(self._name, self._key).add_extension(anyone, critical=True)
        self.ca_pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def issue(self, common_name: str) -> str:
        """A certificate for 127.0.0.1 and its key, in one PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._blank(_name(common_name), key).add_extension(here, critical=False)
        issued = certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return (issued + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()

    def server(self, home: Path, *, asks_clients: bool = False, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """What a vendor serves TLS with; one that asks clients wants certificates of this authority from them."""
        file = home / "server.pem"
        file.write_text(self.issue("vendor"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if asks_clients:
            context.load_verify_locations(cadata=self.ca_pem)
            context.verify_mode = ssl.CERT_REQUIRED
        if newest is not None:
            context.maximum_version = newest
        return context

    def _blank(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        blank = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        return blank.not_valid_before(now - day).not_valid_after(now + day)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
