"""A day of traffic in thirty virtual minutes, through the gateway's own choice of channels: `python -m benchmarks.day`.

The pure parts of `app.proxy.dispatch` run as they are; only time and the vendors are made up. benchmarks/README.md says
what is measured against what.
"""
