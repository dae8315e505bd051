"""Sessions of carrier protocols: everything but the bytes of one dialect.

`account` is the adapter of one account with its connections, `link` one connection,
`inlet` what comes in over it, `codec` what a protocol has to offer. Simulated centres
share `simulation` (one as a process), `other_end` (its connections), `later`, `ledger`,
`throttle`.
"""
