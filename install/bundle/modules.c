/* The modules written in C that the interpreter has: what the client imports, and what CPython starts with.
 *
 * libpythonX.Y.a has this table in config.o, with three times as many; the linker takes what it meets first.
 */
#include <Python.h>

#define MODULES(X)                                                                                             \
    X(_abc) X(_codecs) X(_collections) X(_functools) X(_imp) X(_io) X(_operator) X(_signal) X(_socket) X(_sre) \
    X(_stat) X(_string) X(_thread) X(_tracemalloc) X(_weakref) X(atexit) X(errno) X(faulthandler) X(gc)        \
    X(itertools) X(posix) X(select) X(time) \
    X(_sha2) /* ours */

#define DECLARED(name) extern PyObject *PyInit_##name(void);
#define LISTED(name) {#name, PyInit_##name},

MODULES(DECLARED)
extern PyObject *PyMarshal_Init(void), *_PyWarnings_Init(void);

struct _inittab _PyImport_Inittab[] = {
    MODULES(LISTED)
    {"_warnings", _PyWarnings_Init},
    {"marshal", PyMarshal_Init},
    {"builtins", NULL}, /* these two are made by hand */
    {"sys", NULL},
    {NULL, NULL},
};
