"""Quantities: to integers and back, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab import units

LARGE = 2**63 - 1


@pytest.mark.parametrize(
    ("quantity", "millicores"),
    [("2", 2000), (2, 2000), ("500m", 500), (0.5, 500), ("1e3", 1_000_000), ("0.0001", 1)],
)
def test_cpu(quantity: str | int | float, millicores: int) -> None:
    assert units.to_millicores(quantity) == millicores


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("4Gi", 4 << 30),
        ("1.5Gi", 3 << 29),
        ("1.5G", 1_500_000_000),
        ("1k", 1000),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1E3", 1000),
        ("100m", 1),  # a tenth of a byte; rounded up, as the API server does
        (".5Ki", 512),
        (0, 0),
    ],
)
def test_bytes(quantity: str | int | float, size: int) -> None:
    assert units.to_bytes(quantity) == size


@pytest.mark.parametrize(
    "quantity",
    [
        *("", "many", "4GiB", "4gi", "-1", "1 Gi", "1_000", "0x10", "inf", "nan", "1e400", "١"),
        *("9" * 30, "8Ei", True, False, -1, float("nan"), float("inf"), float("-inf")),
    ],
)
def test_what_is_no_quantity(quantity: str | int | float) -> None:
    with pytest.raises(ValueError, match=r"quantity|too large"):
        units.to_bytes(quantity)


@pytest.mark.parametrize("thing", [None, [], {}, b"4Gi"])
def test_other_things_are_no_quantities(thing: object) -> None:
    with pytest.raises(ValueError, match="quantity"):
        units.to_decimal(thing)  # type: ignore[arg-type]


@given(st.integers(0, LARGE))
def test_bytes_there_and_back(size: int) -> None:
    text = units.from_bytes(size)
    assert units.to_bytes(text) == size
    assert units.from_bytes(units.to_bytes(text)) == text


@given(st.integers(0, LARGE // 1000))
def test_cpu_there_and_back(millicores: int) -> None:
    assert units.to_millicores(units.from_millicores(millicores)) == millicores


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (4 << 30, "4Gi"), (3 << 29, "1536Mi"), (5, "5"), (1 << 60, "1Ei"), (1025, "1025")],
)
def test_bytes_as_the_api_server_prints_them(size: int, text: str) -> None:
    assert units.from_bytes(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (3 << 29, "1.5 GiB"), (1 << 60, "1048576 TiB")],
)
def test_bytes_for_people(size: int, text: str) -> None:
    assert units.human_bytes(size) == text


@pytest.mark.parametrize(
    ("millicores", "text"), [(7500, "7.5"), (8000, "8"), (250, "0.25"), (0, "0"), (10_000, "10")]
)
def test_cpus_for_people(millicores: int, text: str) -> None:
    assert units.human_cpus(millicores) == text


@pytest.mark.parametrize(
    ("number", "text"), [("1", "1 CPU"), ("2", "2 CPUs"), ("0.5", "0.5 CPUs"), ("0", "0 CPUs")]
)
def test_counts_for_people(number: str, text: str) -> None:
    assert units.human_count(number, "CPU") == text
