"""Settings of `zebra curate` for the addresses of images in a pool of links."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressRules:
    """Which links are dropped before the download; addresses that cannot be downloaded always are."""

    drop_duplicates: bool = True
    """Keep one of several links with the same address and caption (LAION, cc2dataset)."""
    one_caption: bool = False
    """Keep one caption of an address, whatever the order; pages and crawls often have different ones."""
    max_captions: int | None = None
    """Most captions of an address; all are dropped beyond (ALIGN: 1,000)."""

    def __post_init__(self) -> None:
        if self.max_captions is not None and self.max_captions < 1:
            raise ConfigError(f"address.max_captions is {self.max_captions}; it must be at least 1")
