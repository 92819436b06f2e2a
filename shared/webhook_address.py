"""Where a webhook may point: to the public internet, never to machines of this network (SSRF)."""

import ipaddress
from urllib.parse import urlsplit

from shared.errors import RequestInvalid

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OF_ONE_NETWORK = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))
"""Local by RFC 8215 and RFC 3879, which `is_global` does not know in every version of Python."""


def check_webhook_url(url: str, local_allowed: bool) -> None:
    """Refuse anything but an https URL; where local ones are allowed, also accept http to this machine.

    Raises:
        RequestInvalid: `webhook_url_refused`.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused("This is not a valid URL.") from error
    is_local = local_allowed and parts.scheme == "http" and host in ("localhost", "127.0.0.1")
    if not host or not (parts.scheme == "https" or is_local):
        raise _refused("A webhook's URL must begin with https://.")
    if parts.username is not None or parts.fragment or not all("!" <= sign <= "~" for sign in url):
        raise _refused("A webhook's URL must be plain ASCII, without credentials, fragment or spaces.")


def is_public(address: str) -> bool:
    """Tell whether an IP address is public, also when an IPv6 address wraps an IPv4 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        found = inner or found
    is_local = any(found in network for network in _OF_ONE_NETWORK)
    return found.is_global and not found.is_multicast and not is_local


def _refused(sentence: str) -> RequestInvalid:
    return RequestInvalid("webhook_url_refused", sentence)
