"""Benchmarks of the product, each with the physical limit measured beside it.

Every module of this folder is one benchmark, found by its name: `mail_out.py` is
`python -m benchmarks mail-out`. What they share lives in `harness/`, what they send
to in `sinks/`. docs/performance.md tells what each of them does.
"""
