"""Write as C what the interpreter of the node bundle imports that is written in Python.

    python3 -IS -X no_debug_ranges freeze.py >frozen.c

It takes the place of CPython's own tables (frozen.o, deepfreeze.o), which hold far more and are written to at
each start: with them a client has a megabyte more of memory to itself. Run by the Python that is linked, for
compiled code fits one release only.
"""

import marshal
import sys

# What the client imports, lazily for the most part, and by that everything that these import. Codecs by name,
# for nothing names them but an argument of ``decode``. linecache is where `-c` leaves its text since 3.13.
# (This program itself imports nothing that is more.)
ROOTS = ["json", "encodings.ascii", "encodings.latin_1", "encodings.utf_8_sig"]
for each in [*ROOTS, "linecache"] if sys.version_info >= (3, 13) else ROOTS:
    __import__(each)

LOADER = sys.modules["json"].__spec__.loader
PLACE = LOADER.path[: -len("json/__init__.py")]
BOOTSTRAP = {
    "_frozen_importlib": "importlib._bootstrap",
    "_frozen_importlib_external": "importlib._bootstrap_external",
    "zipimport": "zipimport",
}


def written_in_python():
    """Yield the names of the modules that are there by now and have a source, none by its second name."""
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None) or ""
        if (origin == "frozen" or origin.endswith(".py")) and spec.name == name and name not in BOOTSTRAP:
            yield name


def compiled(name):
    """Return the module's code, without what only a debugger reads, and whether it is a package."""
    is_package = hasattr(sys.modules.get(name), "__path__")
    source = LOADER.get_data(PLACE + name.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
    code = compile(source, f"<frozen {name}>", "exec", dont_inherit=True, optimize=2)
    return marshal.dumps(code), is_package


def put(*lines):
    sys.stdout.writelines(f"{line}\n" for line in lines)


def table(symbol, modules):
    """Put one of CPython's tables of frozen modules."""
    rows = []
    for number, (name, source) in enumerate(modules.items()):
        code, is_package = compiled(source)
        put(f"static const unsigned char {symbol}{number}[] = {{{','.join(map(str, code))}}};")
        row = f'.name = "{name}", .code = {symbol}{number}, .size = {len(code)}, .is_package = {is_package:d}'
        rows.append(f"{{{row}}},")
    put(f"static const struct _frozen {symbol}_modules[] = {{", *rows, "{0}};")
    put(f"const struct _frozen *{symbol} = {symbol}_modules;")


put("#include <Python.h>")
table("_PyImport_FrozenBootstrap", BOOTSTRAP)
table("_PyImport_FrozenStdlib", {name: name for name in written_in_python()})
table("_PyImport_FrozenTest", {})
put("const struct _frozen *PyImport_FrozenModules = NULL;")
# The names that they were compiled under.
put("struct _module_alias { const char *name, *orig; };")
aliases = ",".join(f'{{"{name}", "{source}"}}' for name, source in BOOTSTRAP.items() if name != source)
put(f"static const struct _module_alias aliases[] = {{{aliases}, {{0}}}};")
put("const struct _module_alias *_PyImport_FrozenAliases = aliases;")
# Python 3.11 and 3.12: code that is there as objects already. There is none.
put("int _Py_Deepfreeze_Init(void) { return 0; }", "void _Py_Deepfreeze_Fini(void) {}")
