"""Tollgate's benchmark: what the gateway adds to a request, and whether its books agree with the upstream's
own count.

`python -m benchmarks` starts everything it measures on the loopback interface, runs for a bounded time and
stops it again. The parts do not import `app`: they know the gateway only by its public contract (environment,
HTTP, receipts), so that a figure can not be made better by reaching behind it.
"""
