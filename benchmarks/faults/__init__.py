"""Ten upstreams that go through good and bad spells under load, and what the customers notice of it.

`python -m benchmarks.faults` (`make bench-faults`); benchmarks/README.md says what is done and what must hold.
"""
