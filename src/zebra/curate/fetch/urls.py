"""Web addresses: parse, normalize, refuse.

Reference: RFC 3986, and the WHATWG URL standard where browsers are more lenient.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urljoin, urlsplit

from zebra.curate.fetch.outcome import FetchFailure

MAX_URL_CHARS = 8_000
"""What RFC 9110 asks servers to support; longer addresses are mostly data."""
MIN_UNPRIVILEGED_PORT = 1024
DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_PATH_SAFE = "%/:@!$&'()*+,;=-._~|[]"
_QUERY_SAFE = _PATH_SAFE + "?^`{}"


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A normalized http or https address."""

    scheme: str
    host: str
    """Lower case, IDNA; an IPv6 address has no brackets."""
    port: int
    path: str
    """Path and query, percent-encoded, starting with a slash."""

    @property
    def origin(self) -> str:
        """Return scheme, host and, unless it is the default, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != DEFAULT_PORTS[self.scheme] else "")

    def __str__(self) -> str:
        return self.origin + self.path


def parse_url(text: str, base: HttpUrl | None = None) -> HttpUrl:
    """Return a normalized address.

    White space around it is removed; `//host/path` is taken as https. What is percent-encoded stays as it is, because
    signed addresses depend on it.

    Args:
        base: The address that redirects to this one, which may then be relative.

    Raises:
        FetchFailure: The address is permanently unusable; the reason says why.
    """
    text = text.strip(" \t\r\n\f")
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() not in DEFAULT_PORTS:
        raise FetchFailure("permanent", "address is not http or https", f"{scheme[1][:20].lower()}:")
    if len(text) > MAX_URL_CHARS:
        raise FetchFailure("permanent", "address is too long", f"{len(text):,} characters")
    if _UNUSABLE.search(text):
        raise FetchFailure("permanent", "malformed address", "control character or unpaired surrogate")
    if base is None and not scheme and not text.startswith("//"):
        raise FetchFailure("permanent", "address is not absolute", text[:80])
    try:
        parts = urlsplit(urljoin(str(base), text) if base else text, "https")
        hostname, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise FetchFailure("permanent", "malformed address", str(error)) from error
    if "@" in parts.netloc:
        raise FetchFailure("permanent", "address with a user name or password")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if port < MIN_UNPRIVILEGED_PORT and port not in DEFAULT_PORTS.values():
        raise FetchFailure("permanent", "port of another service", f"port {port}")  # such as 25, mail
    path = _remove_dot_segments(quote(parts.path, safe=_PATH_SAFE)) or "/"
    query = f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
    return HttpUrl(parts.scheme, _normalize_host(hostname), port, path + query)


def _normalize_host(host: str) -> str:
    """Return a host name in lower-case ASCII, or an IP address in its standard form."""
    try:
        if ":" in host and "%" not in host:
            return str(ip_address(host))
        if not host.isascii():
            import idna  # comes with aiohttp

            host = idna.encode(host, uts46=True).decode()
        host = host.lower().removesuffix(".")
        if _NUMBER.fullmatch(host.rpartition(".")[2]):  # as browsers do: an address, never a name
            return str(ip_address(host))
    except (ValueError, UnicodeError) as error:  # idna.IDNAError is a UnicodeError
        raise FetchFailure("permanent", "malformed address", f"host {host[:80]!r}: {error}") from error
    if not _HOST.fullmatch(host):
        raise FetchFailure("permanent", "malformed address", f"host {host[:80]!r}")
    return host


def _remove_dot_segments(path: str) -> str:
    if "/." not in path and "/%2" not in path:
        return path
    segments: list[str] = []
    names = path.split("/")[1:]
    for position, name in enumerate(names):
        dots = name.lower().replace("%2e", ".")
        if dots == ".." and segments:
            segments.pop()
        if dots not in {".", ".."}:
            segments.append(name)
        elif position == len(names) - 1:
            segments.append("")
    return "/" + "/".join(segments)
