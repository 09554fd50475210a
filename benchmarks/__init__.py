"""Benchmarks: every one compares contenders that do the same work, in one run, and reports ratios.

Run one from the root of a checkout: ``python -m benchmarks.step``, ``python -m benchmarks.losses``,
``python -m benchmarks.optimizer``. The rivals are the twins in ``tests/reference``. The results of the contenders are
compared before anything is timed; every run is appended to a file in ``benchmarks/results``.
"""
