"""The Kubernetes API, as far as the product asks it. The only room that imports urllib3.

Theory of operation. A failover is as fast as the slowest call in it, and an API server that has died stays
in ``default/kubernetes`` for tens of seconds. So a call goes to an API server's own address, and to another
one as well when no answer has come after a quarter of a second (*hedging*): the first answer counts. Every
write may be sent twice, because it names the version that it replaces (a second one gets 409), or names the
object that it creates. A caller that gets CONFLICT, UNANSWERED or SERVER for a write reads to know.

A thread that waits for one server cannot send to another, so *senders* send: threads with one connection
each. The caller waits for whichever answers first, and never longer than its deadline. A sender whose server
goes on bit by bit is cut by a later call.

    resources   kinds, paths, and documents as far as the door reads them
    account     token and authority of the pod's service account
    servers     the API servers' addresses
    connection  one TLS connection: the only module that imports urllib3
    answers     statuses and documents: what they mean
    senders     threads with a connection each
    hedge       one call to two servers, and which of them comes first
    client      the verbs
    watch       one watch
    follow      list, watch, resume, list anew
"""
