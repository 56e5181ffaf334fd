"""Certificates for the TLS tests: good ones, and one for each way to be wrong."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme

CLIENT_NAME = "svc-orders"
"""The common name of the client's certificate, which EXTERNAL makes the user."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Point to a certificate with its chain, and to its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Point to everything that the TLS tests need; all files are PEM.

    Attributes:
        ca: The authority that both sides trust.
        other_ca: An authority that nobody trusts.
        server: For `localhost` and `127.0.0.1`.
        client: With the common name `CLIENT_NAME`.
        expired: For `localhost`, and no longer valid.
        wrong_name: For a host name that no test connects to.
        untrusted_server: For `localhost`, from the other authority.
        untrusted_client: Like `client`, from the other authority.
    """

    ca: Path
    other_ca: Path
    server: Pair
    client: Pair
    expired: Pair
    wrong_name: Pair
    untrusted_server: Pair
    untrusted_client: Pair


def write_certificates(directory: Path) -> Certificates:
    """Make all certificates anew, and write them into a directory."""
    ca, other = trustme.CA(), trustme.CA()

    def authority(name: str, issuer: trustme.CA) -> Path:
        path = directory / f"{name}.pem"
        issuer.cert_pem.write_to_path(path)
        return path

    def pair(name: str, leaf: trustme.LeafCert) -> Pair:
        written = Pair(directory / f"{name}.pem", directory / f"{name}.key")
        written.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(written.key)
        written.key.chmod(0o600)
        return written

    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return Certificates(
        ca=authority("ca", ca),
        other_ca=authority("other-ca", other),
        server=pair("server", ca.issue_cert("localhost", "127.0.0.1")),
        client=pair("client", ca.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)),
        expired=pair("expired", ca.issue_cert("localhost", "127.0.0.1", not_after=yesterday)),
        wrong_name=pair("wrong-name", ca.issue_cert("elsewhere.example")),
        untrusted_server=pair("untrusted-server", other.issue_cert("localhost", "127.0.0.1")),
        untrusted_client=pair("untrusted-client", other.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)),
    )
