"""Measures of the house style: each counts one thing in the tree, and `bounds` has the table.

The modules here import the standard library only and never a module of sandboxd, so that any
python3 from 3.11 on can run them, on a tree that does not even work.
"""
