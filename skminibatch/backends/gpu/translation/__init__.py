"""Formulas of the parts in CUDA C++, translated from their Python source."""
