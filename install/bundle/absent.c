/* What a static program cannot do and the client never does: load shared libraries, ask the name service.
 *
 * Defined here, the C library's own (which would look for shared libraries of exactly its version on the host)
 * are not linked: the file is smaller by a megabyte, and nobody reaches them by mistake.
 */
#include <errno.h>
#include <netdb.h>
#include <grp.h>
#include <stddef.h>

const char *_PyImport_DynLoadFiletab[] = {NULL};
void (*_PyImport_FindSharedFuncptr(const char *prefix, const char *name, const char *path, void *file))(void)
{
    (void)prefix, (void)name, (void)path, (void)file;
    return NULL;
}

#define ABSENT(result, name, arguments, value) \
    result name arguments                      \
    {                                          \
        errno = ENOSYS;                        \
        return value;                          \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"

ABSENT(int, getgrouplist, (const char *user, gid_t group, gid_t *groups, int *count), -1)
ABSENT(int, initgroups, (const char *user, gid_t group), -1)
ABSENT(int, getaddrinfo,
       (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found), EAI_FAIL)
ABSENT(int, getnameinfo,
       (const struct sockaddr *address, socklen_t length, char *host, socklen_t hosts, char *service,
        socklen_t services, int flags),
       EAI_FAIL)
ABSENT(const char *, gai_strerror, (int code), "there is no name service here")
ABSENT(struct protoent *, getprotobyname, (const char *name), NULL)
ABSENT(struct servent *, getservbyname, (const char *name, const char *protocol), NULL)
ABSENT(struct servent *, getservbyport, (int port, const char *protocol), NULL)
void freeaddrinfo(struct addrinfo *found) {}

/* CPython reads these two's result, not what they return. */
int gethostbyname_r(const char *name, struct hostent *found, char *buffer, size_t size, struct hostent **result,
                    int *why)
{
    *result = NULL, *why = NO_RECOVERY;
    return ENOSYS;
}

int gethostbyaddr_r(const void *address, socklen_t length, int family, struct hostent *found, char *buffer, size_t size,
                    struct hostent **result, int *why)
{
    *result = NULL, *why = NO_RECOVERY;
    return ENOSYS;
}
