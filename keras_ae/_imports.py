"""What happens when our modules are imported, or Keras is."""

import contextlib
import importlib
import importlib.util
import sys
import threading
from importlib.abc import Loader, MetaPathFinder


def install(modules: dict[str, str]) -> None:
    """Lets modules be imported by their public names, and models be loaded by Keras.

    Args:
        modules: Where in `keras_ae` a module lives, by its public name.
    """
    _forget(_PublicModules)
    sys.meta_path.insert(0, _PublicModules(modules))
    # So that `keras.saving.load_model` knows the models before one has been named.
    if "keras" in sys.modules:
        importlib.import_module("keras_ae.models")
    else:
        sys.meta_path.insert(0, _Registering())


def _forget(finder):
    """Takes what finds modules out, those of an earlier import of this one too."""
    sys.meta_path[:] = [
        other
        for other in sys.meta_path
        if type(other).__qualname__ != finder.__qualname__
        or type(other).__module__ != __name__
    ]


class _Registering(MetaPathFinder):
    """Imports the models when Keras has been imported, and what of ours imports it.

    A module of ours whose `import keras` is the first one must come to its end before
    the models, which may import it, are imported.
    """

    def __init__(self):
        self.state = threading.local()

    def find_spec(self, name, path=None, target=None):
        if name != "keras" and not name.startswith("keras_ae."):
            return None
        if getattr(self.state, "looking", False):
            return None
        self.state.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.state.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(spec.loader, self.state)
        return spec


class _Watched(Loader):
    """Another's loader; when nothing of ours is being loaded any more, it registers."""

    def __init__(self, loader, state):
        self.loader = loader
        self.state = state

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.state.depth = getattr(self.state, "depth", 0) + 1
        try:
            self.loader.exec_module(module)
        except BaseException:
            self.state.depth -= 1
            # Its own error is what is told.
            with contextlib.suppress(Exception):
                self.register()
            raise
        self.state.depth -= 1
        self.register()

    def register(self):
        if self.state.depth or "keras" not in sys.modules:
            return
        _forget(_Registering)
        importlib.import_module("keras_ae.models")


class _PublicModules(MetaPathFinder, Loader):
    """Finds `import keras_ae.layers` where the module lives, as `keras_ae.layers`."""

    def __init__(self, modules):
        self.modules = modules
        self.specs = {}

    def find_spec(self, name, path=None, target=None):
        package, _, module = name.partition(".")
        if package != "keras_ae" or self.modules.get(module, module) == module:
            return None
        return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec):
        place = self.modules[spec.name.partition(".")[2]]
        module = importlib.import_module(f"keras_ae.{place}")
        self.specs[module] = module.__spec__
        return module

    def exec_module(self, module):
        # It has been given that of its public name.
        module.__spec__ = self.specs[module]
