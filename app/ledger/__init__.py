"""Books that prove themselves: journal, receipts, the bookkeeper that posts them from the streams, and verify."""
