"""Saved runs: what is written, checked and read back. Nothing in them is executed.

schema     what a manifest may hold        describe   models and optimisers as words, and back
store      one checkpoint, read and written    runs   a folder of them, the last k kept
files      where bytes lie: this disk, or what fsspec reaches
"""
