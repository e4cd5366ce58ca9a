"""An app: a named set of functions that run together."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from glowplug.client.context import is_local
from glowplug.model import checks
from glowplug.model.declared import signature_of
from glowplug.model.errors import DeprecationError, InvalidError, NotCarriedOutWarning
from glowplug.model.image import ImageDefinition
from glowplug.model.options import FunctionOptions
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import VolumeDefinition, check_name
from glowplug.sdk.dual import P, dual
from glowplug.sdk.function import Function
from glowplug.sdk.local_entrypoint import LocalEntrypoint
from glowplug.sdk.mount import Mount
from glowplug.sdk.notices import warn
from glowplug.sdk.notyet import not_yet, warn_ignored
from glowplug.wire.agreed import TYPES_VARIABLE

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    from glowplug.client.session import Client, Run
    from glowplug.sdk.running import AppRun, Running

    Options = ParamSpec("Options")
else:
    Options = TypeVar("Options")

R = TypeVar("R")

_CLASSES = "classes come later; use functions"
_WEB = "web endpoints come later"
_DEPLOYED = "deployed apps come later; use `glowplug run` or `with app.run():`"


class FunctionDecorator(Protocol):
    """What ``@app.function(...)`` returns: it turns a function into a ``Function`` of the same signature."""

    @overload
    def __call__(
        self, raw_f: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Function[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, raw_f: Callable[P, R], /) -> Function[P, R, R]: ...


class FunctionMethod(Protocol[Options]):
    """The type of ``App.function``: with options or directly on a function."""

    @overload
    def __call__(
        self, raw_f: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Function[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, raw_f: Callable[P, R], /) -> Function[P, R, R]: ...

    @overload
    def __call__(self, *args: Options.args, **options: Options.kwargs) -> FunctionDecorator: ...


def _takes_options(declared: Callable[Options, Any]) -> Callable[[Any], FunctionMethod[Options]]:
    """Give a decorator method the options of ``declared`` as its signature."""

    def with_signature(method: Any) -> Any:
        leading = [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("raw_f", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
        ]
        method.__signature__ = signature_of(declared, *leading)  # type: ignore[arg-type]
        return method

    return with_signature


class App:
    """A named set of functions that run together. ``Stub`` is its name of 2023.

    ``name``: shown in lists, 64 characters at most; without one it is called after the script. ``image``,
    ``secrets`` and ``volumes`` hold for every function, beside what the function itself asks for. Images,
    volumes and secrets under further names can be read back as ``app["name"]``, as in 2023.

    >>> app = App("example")
    >>> @app.function(gpu="A10G")
    ... def square(x):
    ...     return x * x
    >>> with app.run():
    ...     square.remote(3)
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        image: ImageDefinition | None = None,
        secrets: Sequence[SecretDefinition] = (),
        volumes: Mapping[Any, VolumeDefinition] | None = None,
        mounts: Sequence[Any] = (),
        include_source: bool | None = None,
        tags: Mapping[str, str] | None = None,
        **blueprint: Any,
    ) -> None:
        if is_local() or os.environ.get(TYPES_VARIABLE):
            from glowplug.client.config import declare_types

            declare_types()
        if name is not None:
            check_name(name, "App")
        for tag, value in blueprint.items():
            if not isinstance(value, (ImageDefinition, VolumeDefinition, SecretDefinition, Function, Mount)):
                raise InvalidError(f"App({tag}={value!r}): there is no such argument.")
        self.name = name
        self.image = checks.image(image)
        self.secrets = checks.secrets(secrets)
        self.mounted_volumes = checks.volumes(volumes)
        self.tags = dict(tags or {})
        self.running: Running | None = None
        self.mounts = checks.mounts(mounts)
        self._functions: dict[str, Function[..., Any, Any]] = {}
        self._entrypoints: dict[str, LocalEntrypoint[..., Any]] = {}
        self._blueprint: dict[str, Any] = dict(blueprint)
        self._unnamed_volumes: dict[int, tuple[VolumeDefinition, str]] = {}
        self._description: str | None = None
        warn_ignored(self.label, include_source=include_source is False)

    # declaring

    @_takes_options(FunctionOptions)
    def function(self, raw_f: Any = None, **options: Any) -> Any:
        """Make a function one that runs in containers: ``@app.function(gpu="A100")``, or ``@app.function``.

        Every option of every version is accepted; docs/compatibility.md lists them with what each does.
        Raises ``InvalidError`` for an unknown or invalid option, a function that is not at the top level
        (unless ``serialized=True``), retries of a generator.
        """
        if raw_f is not None:
            return self._declare(raw_f, options)
        return lambda raw_f: self._declare(raw_f, options)

    def generator(self, raw_f: Any = None, **options: Any) -> Any:
        """As in 2023: ``function`` for one that yields."""
        options["is_generator"] = True
        return self._declare(raw_f, options) if raw_f is not None else self.function(**options)

    @overload
    def local_entrypoint(self, raw_f: Callable[P, R], /) -> LocalEntrypoint[P, R]: ...

    @overload
    def local_entrypoint(
        self, raw_f: None = None, *, name: str | None = None
    ) -> Callable[[Callable[P, R]], LocalEntrypoint[P, R]]: ...

    def local_entrypoint(self, raw_f: Any = None, *, name: str | None = None) -> Any:
        """Make a function one that ``glowplug run`` starts here, its parameters options of the command.

        Parameters are ``str``, ``int``, ``float``, ``bool``, ``datetime``, optional or not, or a ``Literal``;
        one without a default is required. It may be async.

        >>> @app.local_entrypoint()
        ... def main(count: int = 3): ...
        """

        def declare(raw_f: Any) -> LocalEntrypoint[..., Any]:
            if not inspect.isfunction(raw_f):
                raise InvalidError(f"@app.local_entrypoint: {raw_f!r} is not a function.")
            entrypoint = LocalEntrypoint(self, raw_f, name or raw_f.__qualname__)
            self._warn_of_replacement(self._entrypoints.get(entrypoint.name), raw_f, "entrypoints")
            self._entrypoints[entrypoint.name] = entrypoint
            return entrypoint

        return declare if raw_f is None else declare(raw_f)

    def include(self, other_app: App, inherit_tags: bool = True) -> App:
        """Add the functions of another app; running this one then runs them too. Returns this app.

        A function of the same name is replaced, with a warning.
        """
        for function in other_app._functions.values():
            if self._functions.get(function.name) is not function:
                self._warn_of_replacement(self._functions.get(function.name), function.plain, "functions")
            self._functions[function.name] = function
        if inherit_tags:
            self.tags = {**other_app.tags, **self.tags}
        return self

    # running

    def _run(
        self,
        client: Client | None = None,
        stdout: Any = None,
        show_progress: bool | None = None,
        detach: bool = False,
        output_mgr: Any = None,
        *,
        name: str | None = None,
        interactive: bool = False,
        environment_name: str | None = None,
    ) -> AppRun:
        """Run the app for the length of a block: ``with app.run():`` or ``async with app.run():``.

        Functions can be called within. Its end returns when all containers are gone. ``show_progress``: show
        what containers write, else only within ``enable_output()``. ``detach``: the run outlives this
        process. Raises ``InvalidError`` when the app runs already, ``ConnectionError`` when no server can be
        reached, and what the server refuses.
        """
        warn_ignored(
            "app.run()", stdout=stdout, interactive=interactive, environment_name=environment_name, name=name
        )
        from glowplug.sdk.running import AppRun  # a container runs no app

        return AppRun(self, client, show_progress, detach)

    def _run_async(self, *args: Any, **kwargs: Any) -> AppRun:
        return self._run(*args, **kwargs)

    run = dual(_run, _run_async)

    # what it has

    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]:
        """Functions by name, in order of declaration."""
        return dict(self._functions)

    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint[..., Any]]:
        """Local entrypoints by name, in order of declaration."""
        return dict(self._entrypoints)

    @property
    def registered_classes(self) -> dict[str, Any]:
        """Always empty: classes come later."""
        return {}

    @property
    def registered_web_endpoints(self) -> list[str]:
        """Always empty: web endpoints come later."""
        return []

    @property
    def indexed_objects(self) -> dict[str, Any]:
        """Functions and objects given to the app, by name."""
        return {**self._blueprint, **self._functions}

    @property
    def app_id(self) -> str | None:
        """The id of the run, None when the app does not run."""
        running = self.running
        return None if running is None or running.run is None else running.run.app_id

    @property
    def is_interactive(self) -> bool:
        """Always False: containers have no terminal."""
        return False

    @property
    def description(self) -> str | None:
        """What the app is called when it has no name."""
        return self._description or self.name

    def set_description(self, description: str) -> None:
        """Say what the app is called when it has no name."""
        self._description = description

    def is_inside(self, image: Any = None) -> bool:
        """As in 2023: whether this code runs in a container."""
        return not is_local()

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"app {self.name!r}" if self.name else "the app"

    cls: Any = not_yet(_CLASSES)
    server: Any = not_yet(_WEB)
    web_endpoint: Any = not_yet(_WEB)
    webhook: Any = not_yet(_WEB)
    asgi: Any = not_yet(_WEB)
    asgi_app: Any = not_yet(_WEB)
    wsgi: Any = not_yet(_WEB)
    wsgi_app: Any = not_yet(_WEB)
    deploy: Any = not_yet(_DEPLOYED)
    lookup: Any = not_yet(_DEPLOYED)
    serve: Any = not_yet(_DEPLOYED)
    stop: Any = not_yet("a run ends with its block, or with `glowplug app stop`")
    interactive_shell: Any = not_yet("containers have no terminal")
    spawn_sandbox: Any = not_yet("sandboxes come later")

    # objects of 2023: stub["x"] = ..., stub.x

    def __getitem__(self, tag: str) -> Any:
        try:
            return self.indexed_objects[tag]
        except KeyError:
            raise KeyError(f"{self.label} has no {tag!r}") from None

    def __setitem__(self, tag: str, obj: Any) -> None:
        if tag == "image":
            self.image = checks.image(obj)
        self._blueprint[tag] = obj

    if not TYPE_CHECKING:

        def __getattr__(self, tag: str) -> Any:
            state = self.__dict__
            for objects in (state.get("_blueprint", {}), state.get("_functions", {})):
                if tag in objects:
                    return objects[tag]
            # Also reached when a `not_yet` attribute raised; raise that text again.
            declared = type(self).__dict__.get(tag)
            if isinstance(declared, not_yet):
                declared.__get__(self)
            raise AttributeError(f"{state.get('name') or 'the app'!r} has no attribute or function {tag!r}")

    # inside

    def bind(self, run: Run) -> None:
        """Point every function's calls to a run."""
        for function in self._functions.values():
            function.bind(run)

    def unbind(self) -> None:
        """The run is over."""
        self.running = None
        for function in self._functions.values():
            function.bind(None)

    def name_for_volume(self, volume: VolumeDefinition, path: str) -> str:
        """The name under which a volume without one is kept: of this app, after its first mount path."""
        known = self._unnamed_volumes.get(id(volume))
        if known is None:
            cleaned = "".join(letter if letter.isalnum() else "-" for letter in path.strip("/"))
            known = volume, f"{self.name or 'app'}.{cleaned}"[:64]
            self._unnamed_volumes[id(volume)] = known
        return known[1]

    def _declare(self, raw_f: Any, given: dict[str, Any]) -> Function[..., Any, Any]:
        where = f"@app.function of {getattr(raw_f, '__qualname__', repr(raw_f))}"
        if isinstance(raw_f, Function):
            raise InvalidError(f"{where}: it is a function of an app already. Decorate it once.")
        if inspect.isclass(raw_f):
            raise InvalidError(f"{where}: it is a class, and classes come later. Decorate a function.")
        if not inspect.isfunction(raw_f):
            raise InvalidError(f"{where}: it is not a function but {type(raw_f).__name__}. Wrap it in a def.")
        try:
            options = FunctionOptions(**given)
        except InvalidError as error:
            raise InvalidError(f"{where}: {error}") from None
        name = options.name or raw_f.__qualname__.rpartition("<locals>.")[2]
        function: Function[..., Any, Any] = Function(self, raw_f, options, name)
        self._check(function, where)
        self._warn_of_replacement(self._functions.get(name), raw_f, "functions")
        self._functions[name] = function
        for path, volume in {**self.mounted_volumes, **options.mounted_volumes}.items():
            if volume.name is None:  # it finds its name through its app, here and in containers
                volume.belong_to(self.name_for_volume(volume, path))
        for category in (DeprecationError, NotCarriedOutWarning):
            texts = [
                notice.text
                for notice in options.notices
                if notice.category is category and notice.option != "image"  # said once an app, when it runs
            ]
            if texts:
                warn(f"{where}: {'; '.join(texts)}", category)
        return function

    def _check(self, function: Function[..., Any, Any], where: str) -> None:
        nested = "<locals>" in function.qualname or "<lambda>" in function.qualname
        if nested and not function.options.serialized:
            raise InvalidError(
                f"{where}: a container finds a function by its name in its module, and this is not at the "
                "top level. Move it there, or send it by value: @app.function(serialized=True)."
            )
        if function.is_generator and function.options.retries.max_retries:
            raise InvalidError(
                f"{where}: retries= cannot be used for a generator function, whose items may have been used "
                "already. Retry within the function."
            )

    def _warn_of_replacement(self, former: Any, raw_f: Any, kind: str) -> None:
        if former is None:
            return
        before, now = _place(former.__wrapped__), _place(raw_f)
        if before == now or before is None:  # the same line again: a notebook cell, a reloaded module
            return
        name = former.name
        warn(f"{self.label} has two {kind} called {name}: the one at {now} replaces {before}", UserWarning)

    def __repr__(self) -> str:
        return f"App({self.name!r})" if self.name else "App()"

    def __reduce__(self) -> Any:
        """By name: a function sent by value may mention its app."""
        return App, (self.name,)


def _place(raw_f: Any) -> str | None:
    code = getattr(raw_f, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else None
