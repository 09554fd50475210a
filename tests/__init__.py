"""The tests mirror ``src/fractionate``.

Shared tools: ``asserts`` (named properties), ``cases`` (graded inputs), ``golden`` (numbers from
published code) and ``reference`` (slow twins).
"""
