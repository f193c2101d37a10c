"""How whoever gets a webhook knows that it is ours: an HMAC over the body, in a header.

It must not: read secrets from files.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

SIGNATURE_HEADER: Final = "X-Collab-Signature-256"
DELIVERY_HEADER: Final = "X-Collab-Delivery"
SECRET_BYTES_MIN: Final = 16


def sign(secret: bytes, body: bytes) -> str:
    """Value of the signature header: ``sha256=`` and the HMAC of the body in hex."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
