"""Slow twins: every method and optimizer rule once more, as literally as the formulas are written
down.

They import nothing from ``fractionate``, loop over rows in plain Python where that reads best, take
raw float64 logits and leave gradients to autograd. ``test_twins.py`` proves them against numbers
from the authors' own code; the fast implementations are then compared with them on inputs that the
golden files do not contain.

A twin of a row-wise loss returns unweighted component values per row, ``[n]``; of a
batch-relational loss, a scalar.
"""
