"""Tollgate's fault test: whether the books come out right when the processes below them are killed, paused and
restarted under load.

`python -m benchmarks.chaos` starts all it breaks on this machine, breaks it in an order that a seed decides, and then
holds three counts against each other: what the upstream served, what the clients saw, what the receipts say. Like the
benchmark it does not import `app`: it knows the gateway by its public contract and by its processes.
"""
