"""The Redis side of wallets, limits and holds: each `.lua` beside its typed Python face.

Every script runs in one slot: all keys of an account carry its shard's tag, `{s17}:…`.

`{s17}:wallet:<account>`  hash: `b` balance, `h` sum of holds, `f` floor (0, or minus the credit line), `s` number of
                          the last credit applied, `g` when this copy was built (us), `l` lots: parts of the balance
                          that were given away or expire, `id:remaining:expires_ms:promo` each, in spending order; `x`
                          for lots that have expired what those hold who may still spend them (entitled.lua)
`{s17}:use:<subject>`     hash of what a key, an account, or an account's use of a model has used: `r` `t` levels of
                          requests and tokens a minute, in millionths; `at` when they were right (us); and for each
                          counter of a window, such as `usd.day` or `rpd`: settled, `…+` set aside, `…@` its start (ms)
`{s17}:live:<subject>`    zset of its requests in flight, by the end of their lease (ms)
`{s17}:holds`             hash: request -> `<nano> <tokens> <since, us> <trace> <account> <key> <draft of the receipt>`;
                          the trace names the counters that it was counted in (rules.py)
`{s17}:leases`            zset of requests, by the end of their lease (ms)
`{s17}:made_good`         set of requests that were settled without their hold, after Redis had been emptied
`{s17}:debit:<movement>`  what was taken back by it (nano), for a day
`{s17}:receipts`          stream: `r` receipt, `u` what the wallet could not pay, `l` what came out of lots (`?`: the
                          ledger's to say); or `m` movement, `a` what it took, `l`
`{s17}:receipts:rejected` stream: entries of `receipts` that the bookkeeper could not post, charged all the same, each
                          with the `id` that it had there and the class of the `error`
"""
