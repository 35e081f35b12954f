"""The one place where Hookline's version is written."""

__version__ = "0.1.0"
