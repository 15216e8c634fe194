"""An offline count of tokens, for usage that the vendor did not send: OpenAI's `o200k_base`, whose vocabulary comes
with the library. Other vendors' counts differ by some per cent, so a receipt says `estimated`.

The library takes a second and some 70 MB to load, so it is loaded at the first need, off the event loop.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bpe_openai

__all__ = ["TOKENS_PER_TEXT", "count_tokens", "count_tokens_sync"]

# What the chat format adds to each message, as OpenAI's cookbook counts it.
TOKENS_PER_TEXT = 4

# The library refuses very long texts; a seam between pieces costs a token at most.
_PIECE_CHARACTERS = 50_000


# One thread: several would each load the library, and count no faster together.
_thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")


async def count_tokens(texts: Iterable[str]) -> int:
    """Tokens of all texts; what looks like a special token in them is plain text."""
    return await asyncio.get_running_loop().run_in_executor(_thread, count_tokens_sync, texts)


def count_tokens_sync(texts: Iterable[str]) -> int:
    encode = _encoding().encode_ordinary
    return sum(
        len(encode(text[start : start + _PIECE_CHARACTERS]))
        for text in texts
        for start in range(0, len(text), _PIECE_CHARACTERS)
    )


@cache
def _encoding() -> "bpe_openai.Encoding":
    import bpe_openai  # noqa: PLC0415 (see above)

    return bpe_openai.get_encoding("o200k_base")
