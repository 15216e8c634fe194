"""The data plane. The life of a request, one room a step:

1. `access`      the `sk-` key becomes a Caller: a checksum, a hash, the cache of this process
2. `admission`   may it start? every limit and the hold of the worst case, in one Lua call
3. `dispatch`    which channels, in which order: pure, from the snapshot
4. `relay`       the channels are tried in turn until the first content; after it, never another
5. `settlement`  usage becomes an amount; one Lua call ends the hold, charges, and appends the receipt

`door` reads the request and writes the answer; `journey` walks it through the steps and ends every hold.
The budget: 2 Redis round trips, no SQL, 1 upstream call.
"""
