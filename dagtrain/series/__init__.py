"""Series in time: detectors of anomalies, thresholds from normal data, and scores by ranges.

detector = series.RecurrentDetector(width=32).fit(normal)
series.range_scores(true, detector.detect(later))
"""

from dagtrain.series.detectors import AutoencodingDetector, Detector, RecurrentDetector, mean_over_windows
from dagtrain.series.ranges import RangeScores, range_scores, ranges
from dagtrain.series.threshold import tail_threshold

__all__ = [
    "AutoencodingDetector",
    "Detector",
    "RangeScores",
    "RecurrentDetector",
    "mean_over_windows",
    "range_scores",
    "ranges",
    "tail_threshold",
]
