"""How every figure looks and is saved; what stands in it is the business of the package it is of.

A package of its own, since `training` and `boards` both draw and neither may know the other, and
since `core` is the product's words, which know no picture. It imports `core` and nothing else of
ours; matplotlib (extra `plot`) only inside functions.
"""
