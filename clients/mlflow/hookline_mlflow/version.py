"""The version of this distribution: that of the Hookline it is released with."""

__version__ = "0.2.0"
