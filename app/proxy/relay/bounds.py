"""What a vendor may send, at most. Beyond it is a fault of the vendor: its connection is closed, and what had come of
the answer is not used. Pure. `docs/security.md` tells operators the same.

Bodies are measured as they are after decompression.
"""

__all__ = [
    "ANSWER_BYTES_MOST",
    "ANSWER_TOO_LARGE",
    "CHUNKS_MOST",
    "ERROR_BYTES_MOST",
    "ERROR_BYTES_SEARCHED",
    "EVENT_BYTES_MOST",
    "EVENT_LINES_MOST",
    "HEADERS_MOST",
    "HEADERS_TOO_LARGE",
    "HEADER_BYTES_MOST",
    "HELD_BYTES_MOST",
    "PARTS_MOST",
    "STREAM_BYTES_MOST",
    "STREAM_LETTERS_MOST",
    "has_too_many_parts",
]

# As receipts and the operator's pages name the faults; the third is sse.py's "event too large".
ANSWER_TOO_LARGE = "answer too large"
HEADERS_TOO_LARGE = "headers too large"

# A plain answer: the largest ones carry a picture of 4096 by 4096 points in base64, some 25 MiB.
ANSWER_BYTES_MOST = 32 * 1024 * 1024
# The body of a status other than 200: some vendors repeat the request that they refuse, long prompts included.
ERROR_BYTES_MOST = 1024 * 1024
# Of such a body, what is searched for the words that mean "the prompt is too long": they stand at its beginning.
ERROR_BYTES_SEARCHED = 64 * 1024

# An event of a stream: vendors send a whole picture in one, so it may be as large as a plain answer.
EVENT_BYTES_MOST = 32 * 1024 * 1024
# Honest events have one line of data; JSON that is set out over many lines has some thousands.
EVENT_LINES_MOST = 65_536
# Events before the first content: they are kept in memory, and say the role or what a filter found, in some KiB.
HELD_BYTES_MOST = 1024 * 1024
# A whole stream, of which nothing is kept: 128,000 tokens with their twenty likeliest neighbours are some 200 MiB.
STREAM_BYTES_MOST = 512 * 1024 * 1024
# The text of a stream, which is kept until it is settled: four times that of an answer of a million tokens.
STREAM_LETTERS_MOST = 16 * 1024 * 1024

# The head of an answer, and as much again between two pieces of its body or behind the last. Vendors send forty
# headers and 4 KiB; servers refuse requests with more than 8 to 64 KiB of them.
HEADER_BYTES_MOST = 64 * 1024
HEADERS_MOST = 200

# Pieces of a body that are kept one by one: each costs forty bytes beside its own, and a vendor may send millions.
CHUNKS_MOST = 1024

# Objects and lists of one body: each is some eighty bytes in memory, and two on the wire. Likely neighbours of tokens,
# the most detailed that vendors send, are a million in the largest answer.
PARTS_MOST = 2_000_000
_PARTS_COUNTED_FROM = 2 * PARTS_MOST  # bytes: with fewer, it can't have more


def has_too_many_parts(body: bytes) -> bool:
    """Whether a body's JSON has more objects and lists than any honest one. Only large bodies are looked at."""
    return len(body) > _PARTS_COUNTED_FROM and body.count(b"{") + body.count(b"[") > PARTS_MOST
