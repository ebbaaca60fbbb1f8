"""The agent's part in elections: the threads that feed the pure core with events and do what it wants.

Theory of operation. ``election`` decides everything; nothing here has a rule of its own. One thread, the
*driver*, has all members of this node: it takes what has happened from a queue, hands it to the members, asks
them what they want, and has it done. It never waits for anything but its queue. Calls are made by other
threads, at most so many of a kind at once (``lanes``), so a slow call of one group delays no other. A call
that is not sent yet is not queued: it is asked for again when there is room, because a want grows old. Right
before a swap or a write is sent the member learns so (``Sent``), and it gets exactly one answer.

The node Lease is renewed by a thread apart (``renewal``), with a client of its own. It takes no lock that
another thread holds for longer than a moment, writes no log, and learns from the driver only whether to renew.

    objects    pods and nodes, as Kubernetes describes them
    pods       which pods of which group this node has claims of
    lanes      how many calls of a kind run at once
    api_calls  calls to Kubernetes, and what they mean to a member
    ec2_calls  writes, looks, and roles on disk
    probe      the second witness: whether a host answers
    notices    Events on pods
    followers  watches of this node's pods, of the Leases, and of this node
    renewal    the thread that renews the node Lease
    driver     the thread with the members
    elections  assembles all this; what operations ask of it
"""
