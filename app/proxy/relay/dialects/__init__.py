"""Wire formats, as pure code: a request is checked and written for a vendor, an answer is read and shown. Nothing here
waits, and nothing here knows a channel."""
