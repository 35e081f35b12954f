"""The one place where Hookline's version is written."""

__version__ = "0.2.0"
