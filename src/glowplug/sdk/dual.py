"""Methods with two forms: called they block, through ``.aio`` they are awaited.

    result = f.remote(3)
    result = await f.remote.aio(3)

Both forms are written out, next to each other; nothing runs an event loop behind the caller's back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec, Self

    P = ParamSpec("P")
else:
    try:
        from typing import ParamSpec

        P = ParamSpec("P")
    except ImportError:  # Python 3.9
        P = TypeVar("P")

Blocking = TypeVar("Blocking", covariant=True)
Async = TypeVar("Async", covariant=True)
Owner = TypeVar("Owner", contravariant=True)


class Dual(Generic[P, Blocking, Async]):
    """A bound method: call it to block, call ``.aio`` to get what to await or to iterate asynchronously."""

    def __init__(self, blocking: Callable[P, Blocking], asynchronous: Callable[P, Async]) -> None:
        self._blocking = blocking
        self.__wrapped__ = blocking
        self.__doc__ = blocking.__doc__
        self.aio = asynchronous

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Blocking:
        return self._blocking(*args, **kwargs)


class dual(Generic[Owner, P, Blocking, Async]):
    """Declares a method with both forms: ``remote = dual(_remote, _remote_async)``."""

    def __init__(
        self,
        blocking: Callable[Concatenate[Owner, P], Blocking],
        asynchronous: Callable[Concatenate[Owner, P], Async],
    ) -> None:
        self._blocking: Any = blocking
        self._asynchronous: Any = asynchronous
        self.__doc__ = blocking.__doc__
        self.__wrapped__ = blocking

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...

    @overload
    def __get__(self, instance: Owner, owner: Any = None) -> Dual[P, Blocking, Async]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        bound: Any = Dual(self._blocking.__get__(instance), self._asynchronous.__get__(instance))
        # Found in the instance from now on: a call then costs no binding.
        instance.__dict__[self._name] = bound
        return bound
