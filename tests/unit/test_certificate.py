"""Certificates: text both ways, what is refused, and that a secret never shows."""

import traceback
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from grav_actors.errors import ConfigError
from grav_actors.mesh.certificate import Certificate, is_key, parse_certificate

PUBLIC = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
SECRET = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"

keys = st.binary(min_size=32, max_size=32).map(lambda raw: z85.encode(raw).decode())
names = st.just("") | st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@given(keys, names, st.just("") | keys)
def test_certificate_comes_back_the_same(public: str, name: str, secret: str) -> None:
    certificate = Certificate(public, name, secret)

    assert parse_certificate(certificate.text()) == certificate
    assert parse_certificate(certificate.public().text()) == Certificate(public, name)


@given(keys)
def test_every_key_that_zeromq_writes_is_one(key: str) -> None:
    assert is_key(key)


@given(st.text(max_size=60) | st.text("0#%z", min_size=40, max_size=40))
def test_nothing_is_taken_for_a_key_that_zeromq_cannot_read(text: str) -> None:
    if is_key(text):
        assert len(z85.decode(text.encode())) == 32


@pytest.mark.parametrize("value", ["", PUBLIC[:-1], PUBLIC + "0", PUBLIC[:-1] + "~", "#" * 40, PUBLIC.encode(), None])
def test_what_is_no_key_is_known(value: object) -> None:
    assert not is_key(value)


def test_pyzmq_reads_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "node.key_secret"
    file.write_text(Certificate(PUBLIC, "roof", SECRET).text())

    assert zmq.auth.load_certificate(file) == (PUBLIC.encode(), SECRET.encode())


def test_what_pyzmq_writes_is_read(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "roof", {"email": "roof@farm.example"})

    pair = parse_certificate(Path(secret).read_text())
    assert parse_certificate(Path(public).read_text()) == pair.public()
    assert zmq.curve_public(pair.secret_key.encode()).decode() == pair.public_key


def test_quotes_may_be_single_or_missing() -> None:
    text = f"metadata\n  name = roof\n\ncurve\n\tpublic-key='{PUBLIC}'\n    other = 7\n"

    assert parse_certificate(text) == Certificate(PUBLIC, "roof")


def test_name_that_is_none_is_left_aside() -> None:
    assert parse_certificate(f'metadata\n    name = "../roof"\ncurve\n    public-key = "{PUBLIC}"\n').name == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: no `public-key` in a section `curve`"),
        (f'curve\npublic-key = "{PUBLIC}"\n', "2: neither a section nor"),
        (f'    public-key = "{PUBLIC}"\n', "1: neither a section nor"),
        (f'metadata\n    public-key = "{PUBLIC}"\n', "1: no `public-key` in a section `curve`"),
        ('curve\n    public-key = "short"\n', '1: "short" is no key: a public key has 40 characters of Z85'),
        (f'curve\n    public-key = "{PUBLIC}"\n    secret-key = "x{SECRET}"\n', "1: the secret key is no key of 40"),
        (f"# {SECRET}\n{SECRET}\n", "2: neither a section nor"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "1: neither a section nor"),
    ],
)
def test_what_is_no_certificate_is_refused_with_its_line_and_without_secrets(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_certificate(text)

    assert str(refused.value).startswith(error)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_repr_holds_no_secret() -> None:
    assert SECRET not in repr(Certificate(PUBLIC, "roof", SECRET))


def test_what_is_given_away_holds_no_secret() -> None:
    assert SECRET not in Certificate(PUBLIC, "roof", SECRET).public().text()
