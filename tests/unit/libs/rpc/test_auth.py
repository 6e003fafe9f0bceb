"""Credentials to principals."""

from __future__ import annotations

import contextvars
from datetime import UTC, datetime, timedelta

import pytest

from libs.errors import InvalidInput, PermissionDenied, Unauthenticated
from libs.rpc.api_keys import new_api_key
from libs.rpc.auth import (
    Audience,
    Authenticator,
    Principal,
    StoredKey,
    authorize,
    current_principal,
    current_tenant,
    set_current_principal,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OPERATOR_KEY, INTERNAL_KEY = "operator-key-0123456789", "internal-key-0123456789"
KEY = new_api_key(lambda size: bytes(range(size)))


class Directory(dict[str, StoredKey]):
    def find(self, key_id: str) -> StoredKey | None:
        return self.get(key_id)


def an_authenticator(
    stored: StoredKey | None, operator_key: str | None = OPERATOR_KEY, internal_key: str | None = INTERNAL_KEY
) -> Authenticator:
    keys = Directory({KEY.key_id: stored} if stored else {})
    return Authenticator(keys=keys, operator_key=operator_key, internal_key=internal_key, clock=lambda: NOW)


def acme(**changes: object) -> StoredKey:
    return StoredKey(**{"tenant_id": "acme", "secret_hash": KEY.secret_hash, **changes})  # type: ignore[arg-type]


def bearer(key: str, **metadata: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **metadata}


def in_own_context(principal: Principal | None) -> str:
    def ask() -> str:
        if principal is not None:
            set_current_principal(principal)
        return current_tenant()

    return contextvars.copy_context().run(ask)


class TestAuthenticate:
    def test_a_tenants_key(self) -> None:
        principal = an_authenticator(acme()).authenticate(bearer(KEY.text))

        assert principal == Principal(Audience.TENANT, "acme", KEY.key_id)

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
    def test_the_scheme_is_case_insensitive(self, scheme: str) -> None:
        principal = an_authenticator(acme()).authenticate({"authorization": f"{scheme} {KEY.text}"})

        assert principal.tenant_id == "acme"

    @pytest.mark.parametrize(("key", "kind"), [(OPERATOR_KEY, Audience.OPERATOR), (INTERNAL_KEY, Audience.INTERNAL)])
    def test_shared_keys_may_name_a_tenant(self, key: str, kind: Audience) -> None:
        authenticator = an_authenticator(None)

        assert authenticator.authenticate(bearer(key)) == Principal(kind)
        assert authenticator.authenticate({**bearer(key), "x-steelyard-tenant": "acme"}) == Principal(kind, "acme")

    @pytest.mark.parametrize("header", [None, "", "Bearer", f"Basic {KEY.text}", KEY.text])
    def test_no_credential(self, header: str | None) -> None:
        metadata = {} if header is None else {"authorization": header}

        with pytest.raises(Unauthenticated) as caught:
            an_authenticator(acme()).authenticate(metadata)

        assert caught.value.reason == "API_KEY_MISSING"

    @pytest.mark.parametrize(
        "key", ["", "x", OPERATOR_KEY[:-1], OPERATOR_KEY + "x", KEY.text + "x", "\u00fc" * 20, "None"]
    )
    def test_a_wrong_credential(self, key: str) -> None:
        with pytest.raises(Unauthenticated) as caught:
            an_authenticator(acme()).authenticate(bearer(key))

        assert caught.value.reason == "API_KEY_INVALID"

    @pytest.mark.parametrize("stored", [None, acme(secret_hash=b"\0" * 32)])
    def test_unknown_id_and_wrong_secret_look_the_same(self, stored: StoredKey | None) -> None:
        with pytest.raises(Unauthenticated) as caught:
            an_authenticator(stored).authenticate(bearer(KEY.text))

        assert (caught.value.reason, caught.value.metadata) == ("API_KEY_INVALID", {})

    @pytest.mark.parametrize(
        "stored", [acme(revoked=True), acme(expires_at=NOW), acme(expires_at=NOW - timedelta(days=1))]
    )
    def test_revoked_and_expired(self, stored: StoredKey) -> None:
        with pytest.raises(Unauthenticated) as caught:
            an_authenticator(stored).authenticate(bearer(KEY.text))

        assert caught.value.reason == "API_KEY_REVOKED"

    def test_a_key_is_good_until_it_expires(self) -> None:
        stored = acme(expires_at=NOW + timedelta(microseconds=1))

        assert an_authenticator(stored).authenticate(bearer(KEY.text)).tenant_id == "acme"

    def test_a_tenant_cannot_name_another(self) -> None:
        authenticator = an_authenticator(acme())

        with pytest.raises(PermissionDenied) as caught:
            authenticator.authenticate({**bearer(KEY.text), "x-steelyard-tenant": "globex"})

        assert caught.value.reason == "TENANT_MISMATCH"
        assert authenticator.authenticate({**bearer(KEY.text), "x-steelyard-tenant": "acme"}).tenant_id == "acme"

    @pytest.mark.parametrize("tenant_id", ["", "Acme", "a,b", "a'b", "-a", "a" * 64])
    def test_a_named_tenant_must_be_a_tenant_id(self, tenant_id: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            an_authenticator(None).authenticate({**bearer(INTERNAL_KEY), "x-steelyard-tenant": tenant_id})

        assert caught.value.violations[0].field == "x-steelyard-tenant"

    def test_a_door_without_key_stays_shut(self) -> None:
        authenticator = an_authenticator(acme(), operator_key=None, internal_key=None)

        for key in (OPERATOR_KEY, INTERNAL_KEY):
            with pytest.raises(Unauthenticated):
                authenticator.authenticate(bearer(key))

    @pytest.mark.parametrize(
        ("operator_key", "internal_key"),
        [("short", INTERNAL_KEY), ("", INTERNAL_KEY), (OPERATOR_KEY, OPERATOR_KEY), (KEY.text, INTERNAL_KEY)],
    )
    def test_refuses_weak_shared_keys(self, operator_key: str, internal_key: str) -> None:
        with pytest.raises(ValueError, match="key") as caught:
            an_authenticator(None, operator_key, internal_key)

        assert OPERATOR_KEY not in str(caught.value)


class TestAuthorize:
    @pytest.mark.parametrize(
        ("kind", "audience"),
        [
            (Audience.TENANT, Audience.TENANT),
            (Audience.OPERATOR, Audience.OPERATOR | Audience.INTERNAL),
            (Audience.INTERNAL, Audience.OPERATOR | Audience.INTERNAL),
        ],
    )
    def test_lets_in_whom_the_audience_names(self, kind: Audience, audience: Audience) -> None:
        authorize(Principal(kind), "test.v1.Service/Method", audience)

    @pytest.mark.parametrize(
        ("kind", "audience"),
        [
            (Audience.TENANT, Audience.OPERATOR | Audience.INTERNAL),
            (Audience.OPERATOR, Audience.TENANT),
            (Audience.INTERNAL, Audience.TENANT | Audience.OPERATOR),
            (Audience.INTERNAL, Audience(0)),
        ],
    )
    def test_keeps_out_all_others(self, kind: Audience, audience: Audience) -> None:
        with pytest.raises(PermissionDenied) as caught:
            authorize(Principal(kind), "test.v1.Service/Method", audience)

        assert (caught.value.reason, caught.value.metadata) == (
            "METHOD_NOT_ALLOWED",
            {"method": "test.v1.Service/Method"},
        )


class TestCurrent:
    def test_tenant_of_a_call(self) -> None:
        assert in_own_context(Principal(Audience.TENANT, "acme", "k")) == "acme"

    def test_nobody_outside_a_call(self) -> None:
        with pytest.raises(Unauthenticated):
            current_principal()
        with pytest.raises(Unauthenticated):
            in_own_context(None)

    def test_no_tenant_named(self) -> None:
        with pytest.raises(PermissionDenied) as caught:
            in_own_context(Principal(Audience.OPERATOR))

        assert caught.value.reason == "TENANT_REQUIRED"
