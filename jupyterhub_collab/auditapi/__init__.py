"""The way of audit events from a program to the audit service.

A program emits by one call that neither waits nor fails; what is protected it has recorded first.
Events wait in a spool, a folder of the program's own, until the service has them on disk.
"""

from .correlation import correlated, correlation
from .emitter import Emitter
from .recorder import NoRecorder, Recorder

__all__ = ["Emitter", "NoRecorder", "Recorder", "correlated", "correlation"]
