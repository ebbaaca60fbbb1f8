/* The interpreter of the node bundle: CPython, linked statically, that starts quickly and reads no file.
 *
 * It is executed in somebody else's mount namespace, of which nothing is known: there may be no C library, no
 * /proc, no /dev, and no standard library of Python. What it imports is in it (modules.c, and what freeze.py
 * makes). What a runtime calls is `python -IS DIR/floatip`, by the first line of that file. Everything else
 * (`-c`, as the installer compiles the client) is CPython as usual.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <marshal.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

/* Of CPython's two steps of initialization, the first makes built-in types, sys, builtins and the import of
 * built-in and frozen modules; the second standard streams, codecs, the import of files, signal handlers. The
 * client has use for the first only, which is half of the time and a third of the memory that a blocked client
 * holds. (_init_main: "Multi-Phase Initialization Private Provisional API" in CPython's documentation.) */

#if PY_VERSION_HEX >= 0x030D0000
/* Before, the first search for a codec did this; now such a search ends the process if nobody has. */
PyStatus _PyCodec_InitRegistry(PyInterpreterState *);
#endif

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

static int is_client(int argc, char **argv)
{
    return argc == 3 && strcmp(argv[1], "-IS") == 0 && argv[2][0] != '-';
}

static void start(int argc, char **argv, int one_step)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* no locale is read */
    check(Py_PreInitialize(&before));

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.parse_argv = 1;
    config.site_import = 0;
    config._init_main = !one_step;
    /* Nothing is looked for in the file system: where the interpreter is does not matter to it. */
    config.module_search_paths_set = 1;
    wchar_t **places[] = {&config.executable, &config.base_executable, &config.prefix, &config.base_prefix,
                          &config.exec_prefix, &config.base_exec_prefix};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(places); i++)
        check(PyConfig_SetString(&config, places[i], L""));
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

static char *contents(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat about;
    char *text = file && fstat(fileno(file), &about) == 0 ? calloc(1, (size_t)about.st_size + 1) : NULL;
    if (!text || fread(text, 1, (size_t)about.st_size, file) != (size_t)about.st_size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return text;
}

static int nibble(char letter)
{
    return letter <= '9' ? letter - '0' : letter - 'a' + 10;
}

/* In an installed client (cni_floatip/installer/render.py): what the installer writes, the program's source, and
 * the same compiled for one release of CPython. Of 60 KiB the parser is given the first tenth, if that release is ours.
 * Return the compiled program and end the text before the source, or NULL: then the whole is source like any other. */
static PyObject *compiled_part(char *text)
{
    static const char end_of_head[] = "\n# End of what the installer writes.\n", begin[] = "bytes.fromhex(\"";
    char release[64];
    snprintf(release, sizeof release, "\nif sys.hexversion == %d:\n", PY_VERSION_HEX);
    char *head = strstr(text, end_of_head), *found = head ? strstr(head, release) : NULL;
    found = found ? strstr(found, begin) : NULL;
    if (!found)
        return NULL;
    found += strlen(begin);
    size_t digits = strspn(found, "0123456789abcdef"), size = digits / 2;
    if (found[digits] != '"' || digits % 2)
        return NULL;
    for (size_t i = 0; i < size; i++)
        found[i] = (char)(nibble(found[2 * i]) << 4 | nibble(found[2 * i + 1]));
    PyObject *program = PyMarshal_ReadObjectFromString(found, (Py_ssize_t)size);
    if (program && !PyCode_Check(program)) {
        Py_CLEAR(program);
        PyErr_SetString(PyExc_ValueError, "what the installer compiled is no program");
    }
    head[1] = '\0';
    return program;
}

static int execute(PyObject *code, PyObject *names)
{
    PyObject *done = code ? PyEval_EvalCode(code, names, names) : NULL;
    Py_XDECREF(code);
    if (!done) {
        PyErr_Print(); /* which also does what SystemExit asks for */
        return 1;
    }
    Py_DECREF(done);
    return 0;
}

static int run_client(const char *path)
{
    /* As CPython does: a reader that has gone is an error of write(2), not the end of a DEL. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
#if PY_VERSION_HEX >= 0x030D0000
    check(_PyCodec_InitRegistry(PyInterpreterState_Get()));
#endif
    char *text = contents(path);
    PyObject *module = PyImport_AddModule("__main__");
    if (!module)
        return 1;
    PyObject *names = PyModule_GetDict(module), *program = compiled_part(text);
    if (!program && PyErr_Occurred()) {
        PyErr_Print();
        return 1;
    }
    PyObject *code = Py_CompileString(text, path, Py_file_input);
    free(text);
    malloc_trim(0); /* what a parser takes, a client that waits for minutes need not keep */
    int failed = execute(code, names);
    return failed || !program ? failed : execute(program, names);
}

int main(int argc, char **argv)
{
    int one_step = is_client(argc, argv);
    start(argc, argv, one_step);
    return one_step ? run_client(argv[2]) : Py_RunMain();
}
