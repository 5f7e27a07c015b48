"""Data for training: opened, checked, cut into partitions, batches and shards."""

from dagtrain.data.batches import BatchPlan, auto_shards
from dagtrain.data.buckets import Buckets
from dagtrain.data.coloured import coloured_digits
from dagtrain.data.columns import Columns
from dagtrain.data.digits import Split, load_digits
from dagtrain.data.features import Category, Features, Number
from dagtrain.data.moments import Moments, moments
from dagtrain.data.open import open_source
from dagtrain.data.source import Source
from dagtrain.data.windows import windows

__all__ = [
    "BatchPlan",
    "Buckets",
    "Category",
    "Columns",
    "Features",
    "Moments",
    "Number",
    "Source",
    "Split",
    "auto_shards",
    "coloured_digits",
    "load_digits",
    "moments",
    "open_source",
    "windows",
]
