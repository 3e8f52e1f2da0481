"""IP addresses of the public internet, as opposed to the local network (SSRF)."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

NAT64_NETWORK = IPv6Network("64:ff9b::/96")
"""NAT64 prefix: the last four bytes are the IPv4 address (RFC 6052)."""
LOCAL_NAT64_NETWORK = IPv6Network("64:ff9b:1::/48")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet, also if it embeds an IPv4 address.

    >>> is_public("93.184.215.14"), is_public("::ffff:127.0.0.1"), is_public("64:ff9b::a00:1")
    (True, False, False)
    """
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64_NETWORK:
            embedded = IPv4Address(ip.packed[-4:])
        if embedded is not None:
            return is_public(str(embedded))
        if ip.teredo is not None or ip in LOCAL_NAT64_NETWORK or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
