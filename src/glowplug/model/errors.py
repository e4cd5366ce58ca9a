"""Every exception and warning Glowplug raises, by the names scripts already catch (``modal.exception``).

    Exception
     └─ Error                               base of everything raised on purpose
         ├─ InvalidError                    the caller asked for something that cannot be
         │   ├─ ConflictError               … because of what already exists or runs
         │   └─ NoParserAvailable           a parameter's type has no command-line form
         ├─ NotFoundError                   a name or id that does not exist
         ├─ AlreadyExistsError
         ├─ AuthError
         ├─ PermissionDeniedError
         ├─ ResourceExhaustedError          a named limit was reached
         ├─ RequestSizeError                an argument or result over the size limit
         ├─ ExecutionError                  something went wrong while a call ran
         ├─ RemoteError                     the server or a container failed, not the function
         │   └─ ImageBuildError
         ├─ TimeoutError                    not the builtin; see below
         │   ├─ FunctionTimeoutError        an input ran longer than its timeout=
         │   ├─ OutputExpiredError          the result was kept for its retention and is gone
         │   ├─ SandboxTimeoutError
         │   ├─ ExecTimeoutError
         │   ├─ InteractiveTimeoutError
         │   ├─ MountUploadTimeoutError
         │   └─ VolumeUploadTimeoutError
         ├─ SerializationError              a value cannot be pickled
         ├─ DeserializationError            a value cannot be unpickled here
         ├─ ConnectionError                 the server cannot be reached
         ├─ VersionError                    client and server do not speak the same version
         ├─ ServiceError, InternalError, InternalFailure, DataLossError, UnimplementedError
         ├─ ClientClosed
         ├─ LogsFetchError, WorkspaceManagementError
         ├─ FilesystemExecutionError
         ├─ SandboxTerminatedError
         └─ SandboxFilesystemError          └─ …NotFound, DirectoryNotEmpty, IsADirectory, NotADirectory,
                                               Permission, FileTooLarge, PathAlreadyExists
    Exception
     ├─ UserCodeException                   wrapper of older scripts around the function's own exception
     ├─ ModuleNotMountable
     └─ UserWarning                         (so shown by default, in every module)
         ├─ DeprecationError                an old name that still works
         ├─ PendingDeprecationError
         ├─ NotCarriedOutWarning            accepted, but without effect in this version or on owned machines
         ├─ ServerWarning
         └─ AsyncUsageWarning
    BaseException
     └─ InputCancellation                   raised inside a running function whose input was cancelled

``TimeoutError`` is not the builtin one, as in the scripts this serves: ``FunctionCall.get(timeout=)`` that is
merely not ready raises the builtin, and a polling loop around it must not swallow a function's own timeout.

Errors travel between processes by class name; ``error_class`` finds the class again.
"""

from __future__ import annotations


class Error(Exception):
    """Base class of all Glowplug errors."""


class InvalidError(Error):
    """The caller did something that cannot work; the message names the value and the nearest valid one."""


class ConflictError(InvalidError):
    """The request contradicts what already exists or runs."""


class NoParserAvailable(InvalidError):
    """A parameter of an entrypoint has a type the command line cannot express."""


class NotFoundError(Error):
    """A name or an id that does not exist."""


class AlreadyExistsError(Error):
    """A name that is taken."""


class AuthError(Error):
    """Missing or wrong credentials."""


class PermissionDeniedError(Error):
    """Known, but not allowed."""


class ResourceExhaustedError(Error):
    """A limit was reached; the message names it."""


class RequestSizeError(Error):
    """An argument or a result is larger than the limit."""


class ExecutionError(Error):
    """Something went wrong while a call ran or because no app runs."""


class RemoteError(Error):
    """The server or a container failed, not the user's function."""


class ImageBuildError(RemoteError):
    """A step of an image could not be built."""


class TimeoutError(
    Error
):  # the name scripts catch; deliberately not the builtin (see the module's docstring)
    """Base class of timeouts. Not a subclass of the builtin ``TimeoutError``."""


class FunctionTimeoutError(TimeoutError):
    """An input ran longer than its function's ``timeout``."""


class OutputExpiredError(TimeoutError):
    """The output was kept for its retention and is gone."""


class SandboxTimeoutError(TimeoutError):
    """A sandbox ran longer than allowed."""


class ExecTimeoutError(TimeoutError):
    """A process inside a container ran longer than allowed."""


class InteractiveTimeoutError(TimeoutError):
    """No interactive connection to a container came about in time."""


class MountUploadTimeoutError(TimeoutError):
    """Local files did not reach the server in time."""


class VolumeUploadTimeoutError(TimeoutError):
    """Files did not reach a volume in time."""


class SerializationError(Error):
    """A value cannot be pickled; the message names the value."""


class DeserializationError(Error):
    """A value arrived but cannot be unpickled here; the message names what is missing."""


class ConnectionError(Error):  # again the name scripts catch
    """The server cannot be reached. Not a subclass of the builtin ``ConnectionError``."""


class VersionError(Error):
    """Client and server are of versions that do not understand each other."""


class ServiceError(Error):
    """Communication with the server failed."""


class InternalError(Error):
    """A fault of Glowplug's own."""


class InternalFailure(Error):
    """A fault of Glowplug's own after which trying again may help."""


class DataLossError(Error):
    """Stored bytes are missing or damaged."""


class UnimplementedError(Error):
    """The operation exists by name but is not carried out."""


class ClientClosed(Error):
    """The client was used after it was closed."""


class LogsFetchError(Error):
    """Logs cannot be fetched as asked."""


class WorkspaceManagementError(Error):
    """Kept for scripts that catch it; owned machines have no workspaces."""


class FilesystemExecutionError(Error):
    """A file operation inside a container failed."""


class SandboxTerminatedError(Error):
    """The sandbox was ended from outside."""


class SandboxFilesystemError(Error):
    """Base class of failed file operations in a sandbox."""


class SandboxFilesystemNotFoundError(SandboxFilesystemError):
    """No such file or directory in the sandbox."""


class SandboxFilesystemDirectoryNotEmptyError(SandboxFilesystemError):
    """The directory still has entries."""


class SandboxFilesystemIsADirectoryError(SandboxFilesystemError):
    """A file was expected, a directory found."""


class SandboxFilesystemNotADirectoryError(SandboxFilesystemError):
    """A directory was expected, something else found."""


class SandboxFilesystemPermissionError(SandboxFilesystemError):
    """The sandbox's user may not do that."""


class SandboxFilesystemFileTooLargeError(SandboxFilesystemError):
    """The file is larger than one read may return."""


class SandboxFilesystemPathAlreadyExistsError(SandboxFilesystemError):
    """The path exists and must not."""


class UserCodeException(Exception):
    """Wrapper around an exception of the user's function, kept for scripts that catch or unwrap it.

    ``exc`` is the wrapped exception. ``.map(return_exceptions=True)`` yields the exceptions themselves.
    """

    def __init__(self, exc: BaseException | None = None) -> None:
        super().__init__(exc)
        self.exc = exc


class ModuleNotMountable(Exception):
    """A Python module without files of its own."""


class InputCancellation(BaseException):
    """Raised inside a running function whose input was cancelled.

    A ``BaseException``, so that ``except Exception`` around user code (retries, clean-up) lets it through.
    """


class DeprecationError(UserWarning):
    """Warning category of an old name that still works; the message gives the new one."""


class PendingDeprecationError(UserWarning):
    """Warning category of a name that will become an old one."""


class NotCarriedOutWarning(UserWarning):
    """Warning category of something accepted without effect; the message says what runs instead."""


class ServerWarning(UserWarning):
    """Warning that the server sent."""


class AsyncUsageWarning(UserWarning):
    """A blocking call was made on a running event loop; ``.aio`` does not block it."""


BY_NAME: dict[str, type[BaseException]] = {
    name: value
    for name, value in sorted(globals().items())
    if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == __name__
}
"""Every class above by its name, as it travels on the wire."""


def error_class(name: str) -> type[BaseException]:
    """The exception class that travels as ``name``; ``RemoteError`` for a name this version does not know.

    Builtin names (``TimeoutError`` aside, which is ours) are not resolved: the wire carries only our own.
    """
    return BY_NAME.get(name, RemoteError)


def error_from_wire(name: str, message: str) -> BaseException:
    """The exception to raise for an ``error`` output: class by ``name``, text ``message``.

    >>> error_from_wire("FunctionTimeoutError", "f ran longer than 3 s")
    FunctionTimeoutError('f ran longer than 3 s')
    """
    known = BY_NAME.get(name)
    if known is None:
        return RemoteError(f"{name}: {message}" if name else message)
    return known(message)
