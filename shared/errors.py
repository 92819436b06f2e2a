"""The error types, one for each way of handling an error. Every error has a stable code that clients can match.

`code` is part of the interface and never changes once released; `detail` is a sentence for people and may be reworded.
An error that answers a request or ends a case is sent to clients verbatim, so it must contain no path, SQL, key or
personal data. An error that stops a process from starting, or ends a command, is for its operator and may name paths.
"""


class DermQueueError(Exception):
    """Root of every error that DermQueue raises on purpose."""

    def __init__(self, code: str, detail: str):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ImageRejected(DermQueueError):
    """This photograph can never be analysed; the clinic can take another."""


class RequestInvalid(DermQueueError):
    """Something in the request other than the image is invalid: a field, a cursor, a header."""


class NotAuthenticated(DermQueueError):
    """The key is missing or invalid."""


class NotAllowed(DermQueueError):
    """The key is valid, but its role may not do this."""


class NotFound(DermQueueError):
    """It does not exist, or belongs to another clinic: callers cannot tell the two apart."""


class Conflict(DermQueueError):
    """The request conflicts with what has already happened."""


class TooMany(DermQueueError):
    """The caller has reached a limit; the same request may succeed later."""


class Unavailable(DermQueueError):
    """Something that we depend on is temporarily unavailable: retry, nothing was lost."""

    @property
    def reason(self) -> str:
        """What the server, or the way to it, said, in a line for the operator: never for clients. Empty if unknown."""
        cause = self.__cause__
        return "" if cause is None or isinstance(cause, DermQueueError) else first_line(cause)


class ObjectInaccessible(Unavailable):
    """The object store does not fulfil this request; the same one for another object may succeed."""


class ObjectRefused(ObjectInaccessible):
    """The object store answers, but refuses."""


class ObjectTimedOut(ObjectInaccessible):
    """The object store does not answer in time, or its answer breaks off."""


class ObjectMissing(DermQueueError):
    """The object store answers, but the object that a row points to is missing or is not what was stored."""


class ModelUnusable(DermQueueError):
    """The bundle is damaged, or the network's output is not a probability: a person must investigate.

    The first is raised when the bundle is loaded; the second ends a case.
    """


class ConfigurationInvalid(DermQueueError):
    """A setting, or the state of what it names (a database, a folder, a port), prevents the process from starting."""


class InputUnusable(DermQueueError):
    """A command's input cannot be used: images, labels, weights, predictions, a recipe, a run's folder."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error; of SQLAlchemy's, that of the driver, without statement and values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
