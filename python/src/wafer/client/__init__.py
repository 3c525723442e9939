"""The client: a project in a folder or on a server, for notebooks and programs."""

from .errors import (
    Busy,
    CommandFailed,
    Conflict,
    Error,
    Forbidden,
    FunctionFailed,
    Invalid,
    NotFound,
    NotSupported,
    Rejected,
    ServerFailed,
    TimedOut,
    Unreachable,
)
from .events import PushReport
from .inference import Predictions
from .listing import Listing, Record
from .magic import load_ipython_extension
from .models import Models
from .project import Project, connect, open
from .tables import Table
from .training import CoincidentLabels, TrainingSet
from .transport import Retries, Timeouts
from .vectors import Features, Vector

__all__ = [
    "Busy",
    "CoincidentLabels",
    "CommandFailed",
    "Conflict",
    "Error",
    "Features",
    "Forbidden",
    "FunctionFailed",
    "Invalid",
    "Listing",
    "Models",
    "NotFound",
    "NotSupported",
    "Predictions",
    "Project",
    "PushReport",
    "Record",
    "Rejected",
    "Retries",
    "ServerFailed",
    "Table",
    "TimedOut",
    "Timeouts",
    "TrainingSet",
    "Unreachable",
    "Vector",
    "connect",
    "load_ipython_extension",
    "open",
]
