"""The one place where the client's version is written: that of the Hookline it is released with."""

__version__ = "0.2.0"
