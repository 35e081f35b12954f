"""Statements about a run's metric series: thresholds, changes, z-scores, and the windows they are judged on."""
