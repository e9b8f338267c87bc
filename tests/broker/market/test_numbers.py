from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.market.numbers import BadValue, Sum, divided, is_less, is_same, parse, percent

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=8)


@given(decimals)
def test_a_decimal_is_kept_to_the_digit_and_written_plainly(value: Decimal) -> None:
    number = parse(format(value, "f"))
    assert Decimal(number.text) == value
    assert number.text == format(value, "f").replace("-0.00000000", "0.00000000")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_whatever_form_the_source_writes_the_text_has_no_exponent(value: Decimal) -> None:
    try:
        number = parse(str(value))
    except BadValue:
        assert len(format(value, "f")) > 30
        return
    assert "E" not in number.text
    assert Decimal(number.text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.",
        ".5",
        "+1",
        "NaN",
        "Infinity",
        "1_000",
        " 1",
        "1 ",
        "0x1",
        "1e",
        "1e+-5",
        "--1",
        "١",
        "1,5",
        "e5",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="not_a_number"):
        parse(text)


@pytest.mark.parametrize("text", ["1e9999999999999999999", "1e99999", "9" * 41, "1e41", "1e-41", "1" * 500])
def test_a_number_that_would_take_forty_digits_is_refused_and_costs_nothing(text: str) -> None:
    with pytest.raises(BadValue, match="number_too_long"):
        parse(text)


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}])
def test_only_texts_are_numbers_so_that_no_float_gets_in(value: object) -> None:
    with pytest.raises(BadValue):
        parse(value)


@given(decimals, decimals)
def test_order_and_equality_are_those_of_the_values(one: Decimal, other: Decimal) -> None:
    a, b = parse(format(one, "f")), parse(format(other.normalize(), "f"))
    assert is_less(a, b) == (one < other)
    assert is_same(a, b) == (one == other)


@given(st.lists(decimals, max_size=20))
def test_a_sum_is_written_as_decimal_writes_it(values: list[Decimal]) -> None:
    total = Sum()
    for value in values:
        number = parse(format(value, "f"))
        total.add(number.units, number.scale)
    assert Decimal(total.text()) == sum(values, Decimal(0))


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**9))
def test_a_quotient_is_rounded_half_to_even(up: int, down: int) -> None:
    assert divided(up, down) == int((Decimal(up) / Decimal(down)).quantize(Decimal(1), "ROUND_HALF_EVEN"))


def test_a_percentage() -> None:
    change = Sum()
    change.add(-5, 1)
    assert percent(change, parse("200.00"), 2) == "-0.25"
