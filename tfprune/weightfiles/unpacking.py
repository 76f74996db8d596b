"""What packed data may claim to unpack to, before memory is spent on it."""

from __future__ import annotations

_DEFLATE = 1040  # times its size: it cannot do better, and what claims more is damaged
_PLAUSIBLE = 100  # times: weights of which 99 in 100 are zero come to about half of that
_HARMLESS = 1024**3  # bytes that are unpacked at any ratio up to that of deflate


def require_plausible(what: str, claimed: int, packed: int) -> None:
    """Raise if data claim a size that is damage, or an attack on memory.

    Args:
        what: for the message.
        claimed: bytes after unpacking.
        packed: bytes before.

    Example: `require_plausible("config.json", 10**9, 10**6)` passes, ten times as much does not.

    Raises:
        ValueError: they do.
    """
    packed = max(packed, 1)
    if claimed > _DEFLATE * packed or claimed > max(_HARMLESS, _PLAUSIBLE * packed):
        raise ValueError(f"{what} claims to unpack to {claimed:,} bytes, {packed:,} as packed")
