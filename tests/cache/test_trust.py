"""Entries of a shared cache: what is sealed comes back, and only what a trusted key has signed is
believed.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.entries import Entry
from cache.envelope import PAYLOAD_TYPE, Envelope, encoded
from cache.errors import FormatError
from cache.oci.digest import ChainID, Digest
from cache.signing import KeyFileError, PrivateKey, PublicKey, read_key_file
from cache.trust import Believed, Doubted, Trust, believed, judge
from tests.cache.sealing import NOW, key_of, sealed, step

KEY, OTHER = PrivateKey.generate(), PrivateKey.generate()
TRUST = Trust((KEY.public,))


def doubt(data: bytes, trust: Trust = TRUST, now: int = NOW) -> str:
    found = judge(data, trust, now)
    assert isinstance(found, Doubted)
    assert found.reason
    return found.code


@pytest.mark.parametrize(
    "entry",
    [
        step(),
        step(layer=None),
        step(expires=NOW + 5),
        Entry("fact", key_of("fact"), NOW, value="digest"),
        Entry("base", key_of("base"), NOW, layers=step().layers, value='{"os":"linux"}'),
    ],
    ids=["step", "test", "expires", "fact", "base"],
)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    found = judge(sealed(entry, KEY), TRUST, NOW)
    assert isinstance(found, Believed)
    assert found.entry == entry
    assert found.signer == KEY.public.id
    assert Entry.from_json(entry.to_json()) == entry


def test_what_is_not_signed_or_signed_by_others_is_not_believed() -> None:
    assert doubt(sealed(step())) == "unsigned"
    assert doubt(sealed(step(), OTHER)) == "foreign"
    assert isinstance(judge(sealed(step(), OTHER, KEY), TRUST, NOW), Believed)
    assert isinstance(judge(sealed(step(), OTHER), Trust(), NOW), Believed), "nothing is asked for"
    assert doubt(sealed(step(), KEY), Trust(())) == "foreign", "nobody is trusted"


def test_a_signature_of_something_else_is_seen() -> None:
    envelope = Envelope.from_json(sealed(step(), KEY))
    forged = replace(envelope, payload=step("another").to_json())
    assert doubt(forged.to_json()) == "altered"
    # The type is signed, too: no other document of the key's can be passed off as an entry.
    assert doubt(replace(envelope, payload_type="text/plain").to_json()) == "altered"
    claimed = replace(envelope, signatures=((KEY.public.id, b"\0" * 64),))
    assert doubt(claimed.to_json()) == "altered"


def test_the_id_of_a_key_is_a_hint_alone() -> None:
    envelope = Envelope.from_json(sealed(step(), KEY))
    renamed = replace(envelope, signatures=(("", envelope.signatures[0][1]),))
    assert isinstance(judge(renamed.to_json(), TRUST, NOW), Believed)


def test_time() -> None:
    old = sealed(step(expires=NOW + 10), KEY)
    assert isinstance(judge(old, TRUST, NOW + 9), Believed)
    assert doubt(old, now=NOW + 10) == "expired"
    aged = Trust((KEY.public,), max_age=60)
    assert isinstance(judge(sealed(step(), KEY), aged, NOW + 60), Believed)
    assert doubt(sealed(step(), KEY), aged, NOW + 61) == "expired"
    assert doubt(sealed(step(created=NOW + 3600), KEY)) == "expired"


def test_an_entry_under_another_key_is_none() -> None:
    data = sealed(step(), KEY)
    assert isinstance(believed(data, key_of("step"), "step", TRUST, NOW), Believed)
    for key, kind in ((key_of("x"), "step"), (key_of("step"), "fact")):
        found = believed(data, key, kind, TRUST, NOW)  # type: ignore[arg-type]
        assert isinstance(found, Doubted)
        assert found.code == "altered"


def test_an_entry_that_contradicts_itself_is_malformed() -> None:
    entry = step()
    assert entry.record is not None
    other = ChainID(Digest.of(b"elsewhere"))
    for wrong in (
        replace(entry, record=replace(entry.record, chain_id=other)),
        replace(entry, layers=()),
        replace(entry, record=None),
        replace(entry, key="../../etc"),
        replace(step(layer=None), layers=entry.layers),
    ):
        assert doubt(sealed(wrong, KEY)) == "malformed"


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps({"payload": value, "signatures": value, "payloadType": value}).encode()
    )
)
def test_anything_is_judged(data: bytes) -> None:
    assert isinstance(judge(data, TRUST, NOW), Doubted)


@given(st.dictionaries(st.sampled_from(("_type", "subject", "predicateType", "predicate")), st.text()))
def test_any_statement_is_read_or_refused(statement: dict[str, str]) -> None:
    with pytest.raises(FormatError):
        Entry.from_json(json.dumps(statement).encode())


def test_openssl_reads_the_keys_and_verifies_what_is_signed(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY.to_pem())
    (tmp_path / "key.pub").write_bytes(KEY.public.to_pem())
    document = json.loads(sealed(step(), KEY))
    payload = base64.b64decode(document["payload"])
    (tmp_path / "message").write_bytes(encoded(PAYLOAD_TYPE, payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pub", "-in", "message"]
    subprocess.run([*verify, "-sigfile", "signature"], cwd=tmp_path, check=True, capture_output=True)
    made = subprocess.run(
        ["openssl", "pkey", "-in", "key", "-pubout"], cwd=tmp_path, check=True, capture_output=True
    )
    assert PublicKey.from_pem(made.stdout) == KEY.public
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "key.pub", "-outform", "DER"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert der.stdout == KEY.public.der


def test_openssl_makes_keys_for_us(tmp_path: Path) -> None:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, capture_output=True)
    key = PrivateKey.from_pem(made.stdout)
    assert key.public.verify(key.sign(b"x"), b"x")
    assert not key.public.verify(key.sign(b"x"), b"y")


def test_a_password_locks_a_key() -> None:
    locked = KEY.to_pem(b"secret")
    assert PrivateKey.from_pem(locked, b"secret").public == KEY.public
    for password in (None, b"wrong"):
        with pytest.raises(KeyFileError):
            PrivateKey.from_pem(locked, password)
    with pytest.raises(KeyFileError):
        PrivateKey.from_pem(KEY.to_pem(), b"secret")


def test_what_is_no_key_is_an_error(tmp_path: Path) -> None:
    rsa = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True).stdout
    for data in (b"", b"nonsense", KEY.to_pem()[:40], rsa):
        with pytest.raises(KeyFileError):
            PrivateKey.from_pem(data)
        with pytest.raises(KeyFileError):
            PublicKey.from_pem(data)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    for name in ("fifo", "large", "missing", "."):
        with pytest.raises(KeyFileError):
            PrivateKey.from_pem(read_key_file(str(tmp_path / name)))
