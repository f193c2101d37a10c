"""Where a request to the hub comes from, as nobody who asks can choose it."""

from __future__ import annotations

from typing import Any


def address_of(handler: Any, *, trust_x_real_ip: bool | None = None) -> str:
    """Address of whoever asks.

    X-Real-Ip is what whoever asks wrote there, unless a proxy overwrites it; JupyterHub's own does
    not. So X-Forwarded-For's last entry counts, which the proxy itself wrote, or the one before
    those that ``c.JupyterHub.trusted_downstream_ips`` names.

    Parameters
    ----------
    trust_x_real_ip
        Whether X-Real-Ip comes from a proxy and never from a browser. None: as the hub's
        authenticator has it.
    """
    request = handler.request
    said = request.headers.get("X-Real-Ip")
    if trust_x_real_ip is None:
        trust_x_real_ip = bool(getattr(handler.authenticator, "trust_x_real_ip", False))
    if said is None or trust_x_real_ip:
        return str(request.remote_ip or "")
    context = request.connection.context
    trusted = getattr(context, "trusted_downstream", ())
    forwarded = [a.strip() for a in request.headers.get("X-Forwarded-For", "").split(",")]
    strangers = [address for address in forwarded if address and address not in trusted]
    return strangers[-1] if strangers else str(getattr(context, "_orig_remote_ip", ""))
