"""A function of an app: called here, it runs in a container."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from functools import update_wrapper, wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from glowplug.client import context
from glowplug.client.serializer import pack
from glowplug.model.errors import DeprecationError, ExecutionError, InvalidError
from glowplug.model.options import FunctionOptions
from glowplug.sdk.dual import P, dual
from glowplug.sdk.feeding import BATCH
from glowplug.sdk.function_call import FunctionCall
from glowplug.sdk.mapping import feed_opener, results, results_async
from glowplug.sdk.notices import warn
from glowplug.sdk.notyet import not_yet
from glowplug.sdk.results import value_of

if TYPE_CHECKING:
    from glowplug.client.session import Call, Run
    from glowplug.sdk.app import App

R = TypeVar("R", covariant=True)
Local = TypeVar("Local", covariant=True)

_DEPLOYED = "only deployed apps can be looked up; import the module and use its functions"
_FIXED = "options are given to the decorator"


class Function(Generic[P, R, Local]):
    """What ``@app.function()`` makes of a function.

    ``f.remote(...)`` runs it in a container and returns its result, ``f.local(...)`` runs it here,
    ``f.spawn(...)`` does not wait, ``f.map(inputs)`` runs many. Each blocking method has an ``.aio`` form.
    """

    def __init__(self, app: App, raw_f: Callable[..., Any], options: FunctionOptions, name: str) -> None:
        update_wrapper(self, raw_f)
        self.app = app
        self.name = name
        self.options = options
        self.plain = raw_f
        self.module: str = raw_f.__module__
        self.qualname: str = raw_f.__qualname__
        yields = inspect.isgeneratorfunction(raw_f) or inspect.isasyncgenfunction(raw_f)
        self.is_generator: bool = yields if options.is_generator is None else options.is_generator
        self.is_async = inspect.iscoroutinefunction(raw_f) or inspect.isasyncgenfunction(raw_f)
        if self.is_generator and not yields:
            self.plain = _as_generator(raw_f)
        self._arguments = f"the arguments of {name}"
        self._bound: tuple[Run, str] | None = None

    # one input

    def _remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it in a container and return its result.

        Raises what the function raised (its remote traceback is the cause), ``FunctionTimeoutError``,
        ``ExecutionError`` when its app does not run, ``InvalidError`` for a generator function.
        """
        if self.is_generator:
            raise self._misused("remote", "remote_gen")
        run, function_id = self._bound or self._bind()
        return value_of(run.remote(function_id, pack((args, kwargs), self._arguments)))

    async def _remote_async(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.is_generator:
            raise self._misused("remote", "remote_gen")
        call = self._call((args, kwargs))
        try:
            return value_of(await call.next_async())
        finally:
            _end(call)

    def _remote_gen(self, *args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
        """Run a generator function in a container and yield its items as they come.

        Leaving the loop early cancels it. Raises like ``remote``; ``InvalidError`` for a function that
        does not yield.
        """
        if not self.is_generator:
            raise self._misused("remote_gen", "remote")
        return self._items((args, kwargs))

    def _remote_gen_async(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, None]:
        if not self.is_generator:
            raise self._misused("remote_gen", "remote")
        return self._items_async((args, kwargs))

    def _spawn(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        """Start it in a container and return at once; the ``FunctionCall`` has the result.

        Raises ``InvalidError`` for a generator function.
        """
        if self.is_generator:
            raise self._misused("spawn", "remote_gen")
        call = self._call((args, kwargs), kept=True)
        return FunctionCall(call.call_id, call)

    async def _spawn_async(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        return self._spawn(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> Local:
        """Run it in this process, as if it were not decorated."""
        return self._plain_or_raise()(*args, **kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Local:
        """Run it in this process, with a warning: ``local`` or ``remote`` say which is meant."""
        text = (
            f"{self.name}(...) runs in this process; write {self.name}.local(...), or {self.name}.remote(...)"
        )
        warn(text + " to run it in a container", DeprecationError)
        return self._plain_or_raise()(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """As in 2023: ``remote``, or ``remote_gen`` of a generator function."""
        new_name = "remote_gen" if self.is_generator else "remote"
        warn(f"{self.name}.call(...) is now {self.name}.{new_name}(...)", DeprecationError)
        return getattr(self, new_name)(*args, **kwargs)

    # many inputs

    def _map(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool | None = None,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Generator[R, None, None]:
        """Run it once for each input and yield the results.

        Several iterators are zipped, one argument from each. Inputs are pulled as results are taken, at
        most 1000 ahead. ``kwargs``: keyword arguments of every input. ``order_outputs=False``: results as
        they come. The first failure is raised and the rest cancelled, or with ``return_exceptions`` is an
        element of the results. Raises ``InvalidError`` for a generator function.

        >>> list(square.map(range(3)))
        [0, 1, 4]
        """
        return self._results(input_iterators, kwargs, order_outputs, return_exceptions)

    def _map_async(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool | None = None,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> AsyncGenerator[R, None]:
        return self._results_async(input_iterators, kwargs, order_outputs, return_exceptions)

    def _starmap(
        self,
        input_iterator: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool | None = None,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Generator[R, None, None]:
        """``map`` for inputs that are tuples of arguments.

        >>> list(power.starmap([(2, 3), (3, 2)]))
        [8, 9]
        """
        return self._results((input_iterator,), kwargs, order_outputs, return_exceptions, unpacked=True)

    def _starmap_async(
        self,
        input_iterator: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool | None = None,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> AsyncGenerator[R, None]:
        return self._results_async((input_iterator,), kwargs, order_outputs, return_exceptions, unpacked=True)

    def _for_each(
        self, *input_iterators: Any, kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        """``map`` for its effects: runs all inputs, returns nothing. Failures are raised unless ignored."""
        run, function_id = self._for_many("for_each")
        opener = feed_opener(input_iterators, kwargs or {}, self._arguments)
        outcome = results(
            run, function_id, opener, ordered=False, return_exceptions=ignore_exceptions, keep_values=False
        )
        for _ in outcome:
            pass

    async def _for_each_async(
        self, *input_iterators: Any, kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        run, function_id = self._for_many("for_each")
        opener = feed_opener(input_iterators, kwargs or {}, self._arguments)
        outcome = results_async(
            run, function_id, opener, ordered=False, return_exceptions=ignore_exceptions, keep_values=False
        )
        async for _ in outcome:
            pass

    def _spawn_map(self, *input_iterators: Any, kwargs: dict[str, Any] | None = None) -> FunctionCall[R]:
        """Start it once for each input and return at once: ``get(index=i)`` and ``iter()`` have the results.

        All inputs are pulled and sent before it returns.
        """
        run, function_id = self._for_many("spawn_map")
        call = run.call(function_id, kept=True)
        rows = list(zip(*input_iterators))
        if not rows:
            raise InvalidError(f"{self.name}.spawn_map: there are no inputs.")
        for start in range(0, len(rows), BATCH):
            call.add([pack((row, kwargs or {}), self._arguments) for row in rows[start : start + BATCH]])
        return FunctionCall(call.call_id, call)

    async def _spawn_map_async(
        self, *input_iterators: Any, kwargs: dict[str, Any] | None = None
    ) -> FunctionCall[R]:
        return self._spawn_map(*input_iterators, kwargs=kwargs)

    remote = dual(_remote, _remote_async)
    remote_gen = dual(_remote_gen, _remote_gen_async)
    spawn = dual(_spawn, _spawn_async)
    map = dual(_map, _map_async)
    starmap = dual(_starmap, _starmap_async)
    for_each = dual(_for_each, _for_each_async)
    spawn_map = dual(_spawn_map, _spawn_map_async)

    # what it is

    @property
    def raw_f(self) -> Callable[P, Local]:
        """The function as it was written."""
        return self._plain_or_raise()

    def get_raw_f(self) -> Callable[P, Local]:
        """The function as it was written."""
        return self._plain_or_raise()

    @property
    def object_id(self) -> str:
        """Its id while its app runs. Raises ``ExecutionError`` otherwise."""
        return (self._bound or self._bind())[1]

    @property
    def web_url(self) -> None:
        """No function has a web address yet."""
        return None

    from_name: Any = not_yet(_DEPLOYED)
    from_id: Any = not_yet(_DEPLOYED)
    lookup: Any = not_yet(_DEPLOYED)
    with_options: Any = not_yet(_FIXED)
    with_concurrency: Any = not_yet(_FIXED)
    with_batching: Any = not_yet(_FIXED)
    keep_warm: Any = not_yet("use min_containers= of the decorator")
    update_autoscaler: Any = not_yet("use min_containers= and max_containers= of the decorator")
    get_current_stats: Any = not_yet("`glowplug app list` shows what runs")
    stats: Any = not_yet("`glowplug app list` shows what runs")
    get_web_url: Any = not_yet("web endpoints come later")
    logs: Any = not_yet("`glowplug run` shows the logs")
    shell: Any = not_yet("containers have no terminal")

    # inside

    def bind(self, run: Run | None) -> None:
        """Point calls to a run of the app, or nowhere."""
        self._bound = None if run is None else (run, run.function_ids[self.name])

    def _bind(self) -> tuple[Run, str]:
        """In a container: the run it belongs to. Elsewhere nothing runs, or ``bind`` had been called."""
        run = context.current_run()
        if run is None:
            raise ExecutionError(
                f"{self.name} cannot be called: {self.app.label} does not run. Call it within "
                "`with app.run():`, or from a local entrypoint started by `glowplug run`."
            )
        function_id = run.function_ids.get(self.name)
        if function_id is None:
            raise ExecutionError(
                f"{self.name} cannot be called from here: the app of this container has no such function. "
                "Add it with app.include(...) where the app is defined."
            )
        self._bound = run, function_id
        return self._bound

    def _call(self, value: tuple[Any, Any], kept: bool = False) -> Call:
        run, function_id = self._bound or self._bind()
        payload = pack(value, self._arguments)
        call = run.call(function_id, kept)
        call.add((payload,))
        return call

    def _items(self, value: tuple[Any, Any]) -> Generator[Any, None, None]:
        call = self._call(value)
        try:
            while True:
                output = call.next()
                if output.status != "item":
                    value_of(output)
                    return
                yield value_of(output)
        finally:
            _end(call)

    async def _items_async(self, value: tuple[Any, Any]) -> AsyncGenerator[Any, None]:
        call = self._call(value)
        try:
            while True:
                output = await call.next_async()
                if output.status != "item":
                    value_of(output)
                    return
                yield value_of(output)
        finally:
            _end(call)

    def _results(
        self,
        iterators: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        ordered: bool | None,
        return_exceptions: bool,
        unpacked: bool = False,
    ) -> Generator[Any, None, None]:
        run, function_id = self._for_many("map")
        opener = feed_opener(iterators, kwargs or {}, self._arguments, unpacked=unpacked)
        in_order = ordered is None or ordered
        return results(run, function_id, opener, ordered=in_order, return_exceptions=return_exceptions)

    def _results_async(
        self,
        iterators: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        ordered: bool | None,
        return_exceptions: bool,
        unpacked: bool = False,
    ) -> AsyncGenerator[Any, None]:
        run, function_id = self._for_many("map")
        opener = feed_opener(iterators, kwargs or {}, self._arguments, unpacked=unpacked)
        in_order = ordered is None or ordered
        return results_async(run, function_id, opener, ordered=in_order, return_exceptions=return_exceptions)

    def _for_many(self, method: str) -> tuple[Run, str]:
        if self.is_generator:
            raise InvalidError(
                f"{self.name}.{method}(...): {self.name} is a generator function, which cannot be mapped. "
                f"Call {self.name}.remote_gen(...) for each input, or return a list."
            )
        return self._bound or self._bind()

    def _misused(self, method: str, instead: str) -> InvalidError:
        kind = "is a generator function" if self.is_generator else "does not yield"
        return InvalidError(f"{self.name}.{method}(...): {self.name} {kind}. Use {self.name}.{instead}(...).")

    def _plain_or_raise(self) -> Callable[..., Any]:
        """The plain function; in a container the import error its image kept, if there is one."""
        image = self.options.image or self.app.image
        kept = getattr(image, "inside_exceptions", None)
        if kept and not context.is_local():
            raise kept[0]
        return self.plain

    def __repr__(self) -> str:
        return f"<Function {self.name} of {self.app.label}>"

    def __reduce__(self) -> Any:
        return _found_again, (self.app.name, self.name, self.module, self.qualname, self.is_generator)


def _as_generator(raw_f: Callable[..., Any]) -> Callable[..., Any]:
    """For ``is_generator=True`` on a function that returns an iterable: one that yields its items."""

    @wraps(raw_f)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        yield from raw_f(*args, **kwargs)

    return generator


def _found_again(
    app_name: str | None, name: str, module: str, qualname: str, is_generator: bool
) -> Function[..., Any, Any]:
    """A function that travelled to another process: the one declared there, else a reference by name."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Function):
        return found
    from glowplug.sdk.app import App

    return Function(App(app_name), _elsewhere(name), FunctionOptions(is_generator=is_generator), name)


def _elsewhere(name: str) -> Callable[..., Any]:
    def absent(*_: Any, **__: Any) -> Any:
        raise ExecutionError(f"{name} is declared in another process; here only remote() calls it.")

    absent.__name__ = absent.__qualname__ = name
    return absent


def _end(call: Call) -> None:
    """Done with a call: what still runs is cancelled."""
    if call.unanswered and not call.run.closed:
        call.cancel()
    call.run.finish_call(call)
