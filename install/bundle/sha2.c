/* Module _sha2 with sha256(data).hexdigest(): by it the client names the DEL that it leaves for an agent.
 *
 * CPython's own is no choice: since 3.12 its code lies in a library that Debian's libpythonX.Y.a is without.
 * FIPS 180-4, sections 4.1.2 to 6.2; it guards nothing, it names files.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))

static void block(uint32_t state[8], const unsigned char *data)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)data[4 * i] << 24 | data[4 * i + 1] << 16 | data[4 * i + 2] << 8 | data[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = ROTR(w[i - 15], 7) ^ ROTR(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = ROTR(w[i - 2], 17) ^ ROTR(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = ROTR(v[4], 6) ^ ROTR(v[4], 11) ^ ROTR(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
        uint32_t s0 = ROTR(v[0], 2) ^ ROTR(v[0], 13) ^ ROTR(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

static void digest(const unsigned char *data, Py_ssize_t length, char hexadecimal[65])
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char last[128] = {0};
    Py_ssize_t whole = length / 64 * 64;
    int rest = (int)(length - whole), end = rest < 56 ? 64 : 128;
    for (Py_ssize_t at = 0; at < whole; at += 64)
        block(state, data + at);
    if (rest)
        memcpy(last, data + whole, rest);
    last[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        last[end - 1 - i] = (unsigned char)((uint64_t)length * 8 >> 8 * i);
    for (int at = 0; at < end; at += 64)
        block(state, last + at);
    for (int i = 0; i < 8; i++)
        sprintf(hexadecimal + 8 * i, "%08x", state[i]);
}

typedef struct {
    PyObject_HEAD
    char hexadecimal[65];
} Digest;

static PyObject *hexdigest(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    return PyUnicode_FromString(((Digest *)self)->hexadecimal);
}

static PyMethodDef digest_methods[] = {{"hexdigest", hexdigest, METH_NOARGS, NULL}, {0}};
static PyTypeObject digest_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sha2.Digest",
    .tp_basicsize = sizeof(Digest),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = digest_methods,
};

static PyObject *sha256(PyObject *module, PyObject *data)
{
    (void)module;
    char *bytes;
    Py_ssize_t length;
    if (PyType_Ready(&digest_type) || PyBytes_AsStringAndSize(data, &bytes, &length))
        return NULL;
    Digest *made = PyObject_New(Digest, &digest_type);
    if (made)
        digest((unsigned char *)bytes, length, made->hexadecimal);
    return (PyObject *)made;
}

static PyMethodDef methods[] = {{"sha256", sha256, METH_O, NULL}, {0}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_sha2", .m_size = -1, .m_methods = methods};

PyObject *PyInit__sha2(void)
{
    return PyModule_Create(&module);
}
