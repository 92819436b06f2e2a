"""The few kinds of error that are treated differently, each with a stable code that a client can match.

`code` is part of the interface: it never changes once released. `detail` is a sentence for a human and may be reworded.
What is raised for a request or ends a case is sent to clients as it is: it must hold no path, no SQL, no key and no
personal data. What keeps a process from starting, or ends a command, is read by whoever gave it, and may name paths.
"""


class DermQueueError(Exception):
    """Root of every error that DermQueue raises on purpose."""

    def __init__(self, code: str, detail: str):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ImageRejected(DermQueueError):
    """This photograph cannot be analysed, ever; the clinic can act on it by taking another."""


class RequestInvalid(DermQueueError):
    """The client sent something other than an image that is wrong: a field, a cursor, a header."""


class NotAuthenticated(DermQueueError):
    """No key, or a key that is not valid."""


class NotAllowed(DermQueueError):
    """A valid key whose role may not do this."""


class NotFound(DermQueueError):
    """There is no such thing, or it is another clinic's: the two look the same from outside."""


class Conflict(DermQueueError):
    """The request contradicts what has already happened."""


class TooMany(DermQueueError):
    """The caller sends more than is allowed at a time: later, the same request may pass."""


class Unavailable(DermQueueError):
    """Something that we depend on is away for the moment: try again, nothing was lost."""


class ObjectRefused(Unavailable):
    """The object store answers, and refuses what was asked of it: the same may pass for another object."""


class ObjectMissing(DermQueueError):
    """The object store answers, but what the row points to is not there or is not what was stored."""


class ModelUnusable(DermQueueError):
    """The bundle is damaged, or the network gave something that is no probability. A human must look.

    The first is said as the bundle is loaded; the second ends a case.
    """


class ConfigurationInvalid(DermQueueError):
    """A setting, or the state of what it names (a database, a folder, a port), does not let the process start."""


class InputUnusable(DermQueueError):
    """What a command was given cannot be used: images, labels, weights, predictions, a recipe, a folder of a run."""
