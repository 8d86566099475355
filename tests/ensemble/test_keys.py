"""Keys: only the root makes voters and tallies, private keys stay private, and roles are kept apart."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from nvp_agentkit.ensemble import KeyRing, RootOfTrust, init_keys, load_signer
from nvp_agentkit.ensemble.dsse import check, decode, pre_authentication_encoding, seal
from nvp_agentkit.ensemble.keys import certify_key
from nvp_agentkit.errors import InvalidInput, StackError, VerificationFailed


def test_the_signed_bytes_are_those_of_the_dsse_standard():
    """The test vector of the protocol's page."""
    signed = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_making_keys_again_keeps_those_there_are_and_adds_new_ones(tmp_path):
    root = init_keys(tmp_path, ["voter-0", "tally"])
    before = (tmp_path / "voter-0.key").read_bytes()
    assert init_keys(tmp_path, ["voter-0", "voter-1", "tally"]) == root == RootOfTrust.read(tmp_path / "root.pub")
    assert (tmp_path / "voter-0.key").read_bytes() == before
    assert {c.name for c in KeyRing.read(tmp_path).certificates.values()} == {"voter-0", "voter-1", "tally"}


@pytest.mark.parametrize("lost", [["root.pub"], ["voter-0.cert.json"], ["tally.key", "tally.cert.json"]])
def test_making_that_was_interrupted_is_finished_by_the_next(tmp_path, lost):
    """A key is whole or not there, whenever its maker is killed; what it was writing is in the way of nothing."""
    root = init_keys(tmp_path, ["voter-0", "tally"])
    for name in lost:
        (tmp_path / name).unlink()
        (tmp_path / f"{name}.new").write_bytes(b"hal")
    assert init_keys(tmp_path, ["voter-0", "tally"]) == root == RootOfTrust.read(tmp_path / "root.pub")
    assert {load_signer(tmp_path, name).name for name in ("voter-0", "tally")} == {"voter-0", "tally"}
    assert len(KeyRing.read(tmp_path).certificates) == 2


def test_private_keys_are_for_their_owner_alone(key_folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in key_folder.glob("*.key")}
    assert set(modes.values()) == {0o600}
    assert "root.key" in modes


@pytest.mark.parametrize("name", ["", "../voter-0", "root", "voter-x", "voter-0/tally", "champion"])
def test_a_name_that_is_no_role_gets_no_key(tmp_path, name):
    with pytest.raises(InvalidInput, match="key name"):
        init_keys(tmp_path, [name])
    assert not list(tmp_path.glob("*.cert.json"))


def test_a_missing_key_is_named_with_its_remedy(tmp_path):
    with pytest.raises(StackError, match="nvp up"):
        load_signer(tmp_path, "voter-0")


@pytest.mark.parametrize("name", ["root", "voter-0"])
@pytest.mark.parametrize("damage", ["emptied", "passphrase"])
def test_a_key_file_that_cannot_be_read_is_named_with_its_remedy(tmp_path, name, damage):
    init_keys(tmp_path, ["voter-0"])
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / f"{name}.key").write_bytes(b"" if damage == "emptied" else locked)
    with pytest.raises(StackError, match=rf"{name}\.key is no private key.*; put it back from a backup"):
        init_keys(tmp_path, ["voter-1"]) if name == "root" else load_signer(tmp_path, name)


@pytest.mark.parametrize("mixed_up", ["voter-0.key", "voter-0.cert.json"])
def test_a_key_that_its_certificate_does_not_speak_of_signs_nothing(tmp_path, mixed_up):
    init_keys(tmp_path, ["voter-0", "voter-1"])
    shutil.copy(tmp_path / mixed_up.replace("0", "1"), tmp_path / mixed_up)
    with pytest.raises(StackError, match=r"voter-0\.cert\.json is of another key than voter-0\.key; put both back"):
        load_signer(tmp_path, "voter-0")


def test_a_lost_root_is_not_replaced_silently(tmp_path):
    init_keys(tmp_path, ["voter-0"])
    (tmp_path / "root.key").unlink()
    with pytest.raises(StackError, match="put it back"):
        init_keys(tmp_path, ["voter-0", "voter-1"])


def test_a_file_that_is_no_root_key_is_refused(tmp_path):
    (tmp_path / "root.pub").write_text("not a key")
    for path in (tmp_path / "root.pub", tmp_path / "absent.pub"):
        with pytest.raises(VerificationFailed, match="no root key"):
            RootOfTrust.read(path)


def test_a_key_certified_by_another_root_is_refused(tmp_path, key_folder):
    init_keys(tmp_path, ["voter-0"])
    forged = decode((tmp_path / "voter-0.cert.json").read_bytes())
    with pytest.raises(VerificationFailed, match="the root did not certify"):
        KeyRing.of(RootOfTrust.read(key_folder / "root.pub"), [forged])


def test_a_voter_cannot_certify_a_key(key_folder):
    accomplice = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    forged = certify_key(load_signer(key_folder, "voter-0").key, "voter-1", accomplice)
    with pytest.raises(VerificationFailed, match="the root did not certify"):
        KeyRing.of(RootOfTrust.read(key_folder / "root.pub"), [forged])


def test_a_signature_holds_for_one_type_and_one_body_only():
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    envelope = seal(key, "a", b"body")
    assert check(envelope, public, "a") == b"body"
    with pytest.raises(VerificationFailed, match="expected 'b'"):
        check(envelope, public, "b")
    relabelled = envelope.model_copy(update={"payload_type": "b"})
    with pytest.raises(VerificationFailed, match="does not hold"):
        check(relabelled, public, "b")
    misnamed = envelope.signatures[0].model_copy(update={"keyid": f"sha256:{'0' * 64}"})
    with pytest.raises(VerificationFailed, match="signed by key sha256:000"):
        check(envelope.model_copy(update={"signatures": (misnamed,)}), public, "a")


def test_an_envelope_too_large_to_be_ours_is_not_even_parsed():
    with pytest.raises(VerificationFailed, match="limit 4194304"):
        decode(seal(Ed25519PrivateKey.generate(), "a", bytes(4_000_000)).encode())


@pytest.mark.parametrize("raw", [
    b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"payload":"","payloadType":"","signatures":[]}',
    b" " * 5_000_000, "\ud800".encode("utf-8", "surrogatepass"),
], ids=lambda raw: repr(raw[:12]))
def test_bytes_that_are_no_envelope_are_refused(raw):
    with pytest.raises(VerificationFailed):
        decode(raw)


def test_importing_the_ensemble_loads_no_cryptography():
    """An agent's import stays light: signatures are paid for when one is checked."""
    code = "import sys, nvp_agentkit.ensemble; print([m for m in ('cryptography', 'jax', 'redis') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
