"""The exception of this room."""

from zebra.errors import ZebraError


class StoreError(ZebraError, RuntimeError):
    """A store is missing, damaged, busy, of another model, or cannot take what it was given."""
