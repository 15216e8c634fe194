"""Commands that would make `cli.py` too long, one file a group. Refuses to be imported by anything but `cli.py`."""
