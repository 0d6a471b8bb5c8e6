"""md5, clear-text passwords and API keys: made, recognised, compared."""

from __future__ import annotations

import hashlib
import re

import pytest

from gateway.protocol.passwords import (
    check_api_key,
    check_md5_answer,
    check_password,
    hash_api_key,
    is_md5_verifier,
    looks_like_api_key,
    md5_answer,
    md5_verifier,
    new_api_key,
)
from gateway.protocol.scram import make_verifier

# Written by PostgreSQL 15.18: SET password_encryption = md5; CREATE ROLE ada PASSWORD 'sécrêt'.
MD5_FROM_POSTGRESQL = "md5af0c17ce544b2387951103db7ab8748f"
SALT = b"\x01\x02\xff\x00"


class TestMd5:
    def test_is_what_postgresql_stores(self) -> None:
        assert md5_verifier("sécrêt", "ada") == MD5_FROM_POSTGRESQL

    def test_answer_is_of_the_documented_form(self) -> None:
        """concat('md5', md5(concat(md5(concat(password, username)), random-salt)))"""
        inner = hashlib.md5(b"passwordada").hexdigest()
        expected = b"md5" + hashlib.md5(inner.encode() + SALT).hexdigest().encode()
        assert md5_answer("password", "ada", SALT) == expected

    def test_right_answer(self) -> None:
        assert check_md5_answer(md5_answer("sécrêt", "ada", SALT), MD5_FROM_POSTGRESQL, SALT)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"md5",
            b"\xff",
            MD5_FROM_POSTGRESQL.encode(),  # the stored form is not the answer
            md5_answer("wrong", "ada", SALT),
            md5_answer("sécrêt", "bob", SALT),
            md5_answer("sécrêt", "ada", b"\x01\x02\xff\x01"),
        ],
    )
    def test_wrong_answer(self, answer: bytes) -> None:
        assert not check_md5_answer(answer, MD5_FROM_POSTGRESQL, SALT)

    @pytest.mark.parametrize("verifier", ["", "md5", "md5" + "0" * 31, "md5" + "G" * 32, "plain"])
    def test_no_answer_fits_a_verifier_of_another_form(self, verifier: str) -> None:
        assert not is_md5_verifier(verifier)
        stand_in = b"md5" + hashlib.md5(b"0" * 32 + SALT).hexdigest().encode()
        assert not check_md5_answer(stand_in, verifier, SALT)


class TestClearText:
    @pytest.mark.parametrize("password", ["x", "sécrêt", "a\u00a0b", "bell\x07", "\ud83dx"])
    def test_right_password(self, password: str) -> None:
        assert check_password(password, make_verifier(password, 2).format(), "ada")
        assert check_password(password, md5_verifier(password, "ada"), "ada")

    def test_wrong_password(self) -> None:
        assert not check_password("y", make_verifier("x", 2).format(), "ada")
        assert not check_password("y", md5_verifier("x", "ada"), "ada")
        assert not check_password("x", md5_verifier("x", "ada"), "bob")

    def test_the_stored_form_is_no_password(self) -> None:
        for verifier in (make_verifier("x", 2).format(), md5_verifier("x", "ada")):
            assert not check_password(verifier, verifier, "ada")

    def test_the_empty_password_never_fits(self) -> None:
        assert not check_password("", make_verifier("", 2).format(), "ada")
        assert not check_password("", md5_verifier("", "ada"), "ada")

    @pytest.mark.parametrize(
        "verifier", ["", "x", "md5", "SCRAM-SHA-256$4096:x$y:z", "SCRAM-SHA-256$", "é"]
    )
    def test_a_broken_verifier_fits_nothing(self, verifier: str) -> None:
        assert not check_password("x", verifier, "ada")
        assert not check_password(verifier, verifier, "ada")

    def test_trap_an_unknown_login_costs_the_same_work(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def spy(password: str, salt: bytes, iterations: int) -> None:
            asked.append(iterations)
            raise InterruptedError

        monkeypatch.setattr("gateway.protocol.passwords.derive_keys", spy)
        for verifier in (make_verifier("x").format(), ""):
            with pytest.raises(InterruptedError):
                check_password("x", verifier, "ada")
        assert asked == [4096, 4096]


class TestApiKeys:
    def test_form(self) -> None:
        key, _ = new_api_key()
        assert re.fullmatch(r"gwk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
        assert looks_like_api_key(key)

    def test_no_two_alike(self) -> None:
        keys = {new_api_key()[0] for _ in range(100)}
        assert len({key.split("_")[1] for key in keys}) == 100
        assert len({key.split("_", 2)[2] for key in keys}) == 100

    def test_hash_is_sha256_of_the_whole_key(self) -> None:
        key, stored = new_api_key()
        assert stored == hashlib.sha256(key.encode()).hexdigest() == hash_api_key(key)

    def test_check(self) -> None:
        key, stored = new_api_key()
        assert check_api_key(key, stored)
        assert not check_api_key(key[:-1] + ("A" if key[-1] != "A" else "B"), stored)
        assert not check_api_key(stored, stored)
        assert not check_api_key(key, "")

    @pytest.mark.parametrize(
        "change",
        [
            lambda key: "",
            lambda key: key[1:],
            lambda key: key + "x",
            lambda key: key + "\n",
            lambda key: key.replace("gwk_", "gwk-"),
            lambda key: key[:20],
        ],
    )
    def test_other_passwords_do_not_look_like_one(self, change: object) -> None:
        assert callable(change)
        assert not looks_like_api_key(change(new_api_key()[0]))
