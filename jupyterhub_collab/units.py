"""Kubernetes quantities to plain integers and back.

CPU is counted in millicores, memory and storage in bytes, both as ``int``.

Notes
-----
Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_BINARY = tuple((suffix, int(_SUFFIXES[suffix])) for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"))
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]{1,2})|([a-zA-Z]{0,2}))")
_MAX = Decimal(2) ** 63 - 1


def to_decimal(quantity: str | int | float) -> Decimal:
    """Value of a non-negative quantity such as ``"500m"``, ``"4Gi"``, ``2`` or ``1.5``.

    Raises
    ------
    ValueError
        Not a quantity, negative, or 2**63 and more.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, (str, int, float)):
        raise ValueError(f"{quantity!r} is not a quantity")
    match = _QUANTITY.fullmatch(str(quantity).strip())
    if match is None or (match[3] or "") not in _SUFFIXES:
        raise ValueError(f"{quantity!r} is not a quantity; write for example 2, 500m, 4Gi or 1.5G")
    number = Decimal(match[1] + (match[2] or "")) * _SUFFIXES[match[3] or ""]
    if number > _MAX:
        raise ValueError(f"{quantity!r} is too large")
    return number


def to_millicores(quantity: str | int | float) -> int:
    """CPU quantity in thousandths of a core, rounded up. Raises ValueError as `to_decimal`."""
    return int((to_decimal(quantity) * 1000).to_integral_value(ROUND_UP))


def to_bytes(quantity: str | int | float) -> int:
    """Memory or storage quantity in bytes, rounded up. Raises ValueError as `to_decimal`."""
    return int(to_decimal(quantity).to_integral_value(ROUND_UP))


def from_millicores(millicores: int) -> str:
    """Canonical CPU quantity, as the API server prints it: ``"2"``, ``"1500m"``."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def from_bytes(size_bytes: int) -> str:
    """Canonical binary quantity, as the API server prints it: ``"4Gi"``, ``"1536Mi"``, ``"5"``."""
    for suffix, factor in _BINARY:
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{suffix}"
    return str(size_bytes)


def human_bytes(size_bytes: int) -> str:
    """For people: ``"1.5 GiB"``. At most one decimal."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.1f}".rstrip("0").rstrip(".") + f" {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def human_cpus(millicores: int) -> str:
    """For people: ``"7.5"``, ``"8"``, ``"0.25"``."""
    return f"{millicores / 1000:.3f}".rstrip("0").rstrip(".")


def human_count(number: str, noun: str) -> str:
    """For people: ``"1 CPU"``, ``"2 CPUs"``, ``"0.5 CPUs"``, ``"0 GPUs"``."""
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"
