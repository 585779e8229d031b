"""For processes that read motion files: the package lslm without its models.

`lslm` and `lslm.processing` import transformers and all that registers with it: most of the time that a process takes
to start, and a third of its memory. Readers need none of it. After this import both packages run only when something
asks for one of their names; their modules can be imported before.
"""

import importlib.util
import sys


def _postpone(name: str) -> None:
    spec = importlib.util.find_spec(name)
    package = importlib.util.module_from_spec(spec)

    def run(attribute: str):
        if importlib.util.find_spec(f"{name}.{attribute}"):
            raise AttributeError(attribute)  # a module, which the import system looks for next
        del package.__getattr__
        spec.loader.exec_module(package)
        return getattr(package, attribute)

    package.__getattr__ = run
    sys.modules[name] = package


for _name in ("lslm", "lslm.processing"):
    if _name not in sys.modules:
        _postpone(_name)
importlib.import_module("lslm.processing.readers")
