"""The agent's part in elections: the threads that feed the pure core with events and do what it wants.

Theory of operation. ``election`` decides everything; nothing here has a rule of its own. One thread, the
*driver*, has all members of this node: it takes what has happened from a queue, hands it to the members, asks
them what they want, and has it done. It never waits for anything but its queue. Calls are made by other
threads, at most so many of a kind at once (``lanes``), so a slow call of one group delays no other. A call
that is not sent yet is not queued: it is asked for again when there is room, because a want grows old. Right
before a swap or a write is sent the member learns so (``Sent``), and it gets exactly one answer.

The node Lease is renewed by a thread apart (``renewal``), with a client of its own. It writes no log, takes
no lock that an ADD takes, and learns from the driver only whether to renew.

    objects    pods and nodes, as Kubernetes describes them
    pods       which pods of which group this node has claims of
    intake     what is seen outside becomes events
    wishes     what members want becomes calls
    lanes      how many calls of a kind run at once
    api_calls  calls to Kubernetes, and what they mean to a member
    ec2_calls  writes, looks, and roles on disk
    hosts      the second witness: whether a node's kernel answers (probe)
    notices    Events on pods
    followers  watches of this node's pods, of the Leases, and of this node
    polls      reads anew what watches may have missed
    renewal    the thread that renews the node Lease
    driver     the thread with the members
    view       what operations learn of elections
    observer   log lines, metrics, status
    elections  assembles all this
"""
