"""Sessions of carrier protocols: everything but the bytes of one dialect.

`account` is the adapter of one account with its connections, `link` one connection,
`inlet` what comes in over it, `codec` what a protocol has to offer.
"""
