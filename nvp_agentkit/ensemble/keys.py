"""Who may vote and who may tally: Ed25519 keys, each named in a certificate that the root key signed.

A folder of keys holds, per name, ``NAME.key`` (private, PEM, mode 0600) and ``NAME.cert.json`` (the root's
DSSE envelope); ``root.key`` and ``root.pub`` stand beside them. A verifier needs ``root.pub`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from nvp_agentkit.embedded.place import write_whole
from nvp_agentkit.ensemble.canonical import canonical_model, to_base64, unbase64
from nvp_agentkit.ensemble.dsse import Envelope, check, decode, keyid_of, seal
from nvp_agentkit.errors import InvalidInput, StackError, VerificationFailed
from nvp_agentkit.messages import Payload

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_TYPE = "application/vnd.nvp.key+json"
ROOT = "root"
NAME = re.compile(r"^(voter|tally)(-[0-9]{1,4})?$")

Role = Literal["voter", "tally"]


class KeyCertificate(Payload):
    """What the root says of a key: whose it is and what it may sign."""

    name: str
    role: Role
    public_key: str


@dataclass(frozen=True)
class RootOfTrust:
    """The deployment's public key: all that a verifier has to trust beforehand."""

    public_key: bytes

    @classmethod
    def read(cls, path: Path) -> RootOfTrust:
        """The root's public key from its PEM file (``root.pub``).

        Raises:
            VerificationFailed: no file, or no Ed25519 public key in it.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise VerificationFailed(f"{path}: no root key to verify with: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise VerificationFailed(f"{path}: {type(key).__name__}, the root key is Ed25519")
        return cls(key.public_bytes_raw())

    def certified(self, envelope: Envelope) -> KeyCertificate:
        """The certificate in ``envelope``, once the root's signature on it holds.

        Raises:
            VerificationFailed: the root did not sign it, or it is no key certificate.
        """
        try:
            return KeyCertificate.model_validate_json(check(envelope, self.public_key, KEY_TYPE))
        except VerificationFailed as error:
            raise VerificationFailed(f"a key the root did not certify: {error}") from error
        except ValidationError as error:
            raise VerificationFailed(f"not a key certificate: {error.error_count()} errors") from error


@dataclass(frozen=True)
class KeyRing:
    """Certified keys by key id, with the envelopes that certify them."""

    envelopes: Mapping[str, Envelope] = field(default_factory=dict)
    certificates: Mapping[str, KeyCertificate] = field(default_factory=dict)

    @classmethod
    def of(cls, root: RootOfTrust, envelopes: Iterable[Envelope]) -> KeyRing:
        """The keys that ``root`` certified.

        Raises:
            VerificationFailed: any one of them it did not.
        """
        known, certificates = {}, {}
        for envelope in envelopes:
            certificate = root.certified(envelope)
            keyid = keyid_of(unbase64(certificate.public_key))
            known[keyid], certificates[keyid] = envelope, certificate
        return cls(known, certificates)

    @classmethod
    def read(cls, folder: Path) -> KeyRing:
        """The keys of a folder that `init_keys` made."""
        envelopes = [decode(path.read_bytes()) for path in sorted(folder.glob("*.cert.json"))]
        return cls.of(RootOfTrust.read(folder / "root.pub"), envelopes)

    def names(self, role: Role) -> list[str]:
        """Who has a key of that role."""
        return sorted(one.name for one in self.certificates.values() if one.role == role)

    def open(self, envelope: Envelope, payload_type: str, role: Role) -> tuple[KeyCertificate, bytes]:
        """Signer and body of ``envelope``.

        Raises:
            VerificationFailed: an unknown key, a key of another role, or a signature that does not hold.
        """
        certificate = self.certificates.get(envelope.keyid)
        if certificate is None:
            raise VerificationFailed(f"key {envelope.keyid} has no certificate of the root")
        if certificate.role != role:
            raise VerificationFailed(f"{certificate.name} is a {certificate.role}, only a {role} may sign this")
        return certificate, check(envelope, unbase64(certificate.public_key), payload_type)


@dataclass(frozen=True)
class Signer:
    """A private key with its name and certificate."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)
    certificate: Envelope = field(repr=False)

    def sign(self, payload_type: str, body: bytes) -> Envelope:
        return seal(self.key, payload_type, body)


def certify_key(root: Ed25519PrivateKey, name: str, public_key: bytes) -> Envelope:
    """The root's word that ``public_key`` belongs to ``name``; the role is the name's first part.

    Raises:
        InvalidInput: a name that is neither voter-N nor tally.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise InvalidInput(f"key name {name!r}: write `tally`, or `voter-0`, `voter-1`, ...")
    role: Role = "voter" if found[1] == "voter" else "tally"
    certificate = KeyCertificate(name=name, role=role, public_key=to_base64(public_key))
    return seal(root, KEY_TYPE, canonical_model(certificate))


def init_keys(folder: Path, names: Iterable[str]) -> RootOfTrust:
    """Make the root key and a certified key for each of ``names``; what is there already is kept.

    Raises:
        StackError: keys without their root; a new root would orphan every certificate it signed. A file that is no key.
        InvalidInput: a name that is neither voter-N nor tally.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "root.key").exists() and any(folder.glob("*.cert.json")):
        raise StackError(f"{folder}: certificates without root.key; put it back, or remove the folder")
    root = _private_key(folder, ROOT)
    public = root.public_key().public_bytes_raw()
    if not (folder / "root.pub").exists():
        write_whole(folder / "root.pub", _public_pem(root), mode=0o644)
    for name in names:
        if not (folder / f"{name}.cert.json").exists():
            if NAME.fullmatch(name) is None:
                raise InvalidInput(f"key name {name!r}: write `tally`, or `voter-0`, `voter-1`, ...")
            key = _private_key(folder, name)
            envelope = certify_key(root, name, key.public_key().public_bytes_raw())
            write_whole(folder / f"{name}.cert.json", envelope.encode(), mode=0o644)
    return RootOfTrust(public)


def load_signer(folder: Path, name: str) -> Signer:
    """The signer ``name`` of a folder that `init_keys` made.

    Raises:
        StackError: it has no such key, or not the one its certificate speaks of: nobody would count what that signs.
        VerificationFailed: its certificate is none.
    """
    path = folder / f"{name}.cert.json"
    if not path.exists() or not (folder / f"{name}.key").exists():
        raise StackError(f"{folder} has no key {name!r}; `nvp up` makes the keys of a stack")
    key, certificate = _private_key(folder, name), decode(path.read_bytes())
    said = RootOfTrust.read(folder / "root.pub").certified(certificate)
    if (said.name, said.public_key) != (name, to_base64(key.public_key().public_bytes_raw())):
        raise StackError(f"{path} is of another key than {name}.key; put both back from one backup")
    return Signer(name, key, certificate)


def _private_key(folder: Path, name: str) -> Ed25519PrivateKey:
    """The private key of ``name``, made at first use; nobody but the owner could read it at any moment."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder / f"{name}.key"
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        write_whole(path, key.private_bytes(pem, pkcs8, serialization.NoEncryption()), mode=0o600)
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a passphrase
        raise StackError(f"{path} is no private key ({error}); put it back from a backup") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise StackError(f"{path} is a {type(loaded).__name__}, keys here are Ed25519; put it back from a backup")
    return loaded


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
