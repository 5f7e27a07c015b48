"""Checkpoints: written, checked and read back. Nothing in them is executed.

schema     the fields of a manifest            describe   models and optimisers as JSON, and back
store      one checkpoint, read and written    runs       a folder of checkpoints, the last few kept
files      the bytes, on disk or behind fsspec
"""
