"""What claims allow: never more than their filters, whatever an account is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.grants import Grants, filled, grants_of
from protocol.mqtt.topics import matches


def test_a_claim_is_one_filter_or_a_list_of_them() -> None:
    claims = {"subscribe": ["orders/{sub}", "price/#"], "publish": "chat/+"}
    assert grants_of(claims, "ada") == Grants((b"orders/ada", b"price/#"), (b"chat/+",))
    assert grants_of({}, "ada") == Grants()


@pytest.mark.parametrize("claim", [None, 7, True, {"a": 1}, [None, 7, ["a"]], [], "", "a/#/b", "a+", "$ws/x"])
def test_what_is_no_filter_allows_nothing(claim: object) -> None:
    assert grants_of({"subscribe": claim, "publish": claim}, "ada") == Grants()


@pytest.mark.parametrize("account", ["", "a/b", "+", "#", "a\0"])
def test_an_account_that_would_change_the_filter_fills_in_nothing(account: str) -> None:
    assert filled(["orders/{sub}", "price/tea"], account) == (b"price/tea",)


@given(account=st.text(max_size=8), owner=st.text(max_size=8))
def test_nobody_gets_what_belongs_to_somebody_else(account: str, owner: str) -> None:
    for granted in filled(["orders/{sub}"], account):
        assert matches(granted, b"orders/" + owner.encode(errors="replace")) is (
            account.encode(errors="replace") == owner.encode(errors="replace")
        )


def test_a_filter_is_granted_if_all_that_it_matches_is() -> None:
    grants = Grants((b"price/+", b"a/#"), (b"chat/+",))
    assert all(grants.may_subscribe(one) for one in (b"price/tea", b"price/+", b"a", b"a/+/c", b"a/#"))
    assert not any(grants.may_subscribe(one) for one in (b"#", b"price/#", b"price", b"+/tea", b"+"))
    assert grants.may_publish(b"chat/7")
    assert not grants.may_publish(b"chat/7/8")
    assert not grants.may_publish(b"price/tea")
