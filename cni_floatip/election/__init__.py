"""Elects one active pod among several that hold the same addresses. Pure: no I/O, and time is an argument.

Theory of operation
-------------------

A *group* is the pods that claim the same destinations with ``activate: ready``. One of them, the *active*,
has the VPC routes; the others are *standbys*. Each node's agent has one ``Member`` for each of its groups.
Members share two kinds of Lease. The group Lease says who holds the group, and changes only when that
changes. The node Lease says that an agent lives, and is renewed twice a second while its node holds any
group. A standby watches the node Lease of its holder, and nothing is renewed for a group: load grows with
active nodes, not with groups.

Kubernetes is the one thing that all members can agree through, and it can be away. EC2 is where the effect
is, and it has no fence: a write that was sent can land minutes later. So the rules guard three things.

*Who holds.* A holding changes by compare-and-swap on the group Lease's uid and resourceVersion, and by
nothing else. It names a pod's uid, because another pod of the same name has yet to become Ready. A holder and
its ``leaseTransitions`` are one holding; a withdrawn offer counts as a new one, because the others' clocks
ran against the old.

*When it may change.* An active that ends, is not Ready, or has lost EC2 *offers*: it stays holder and keeps
the route until somebody takes, so nobody hands over to nobody (``active``, ``reasons``). Cordons and refused
writes are no faults but *levels*. An active with a level offers *softly*, to members of a lower level alone,
for a while, and not twice to the same one unless that changed. A node that is dead offers nothing: its Lease
is silent, by the follower's own clock, while the API answered that follower without a gap; a GET that began
afterwards shows the Lease unchanged; and its host, the second witness, answers no probe (``verdict``). A host
that answers is only without an agent, and has a minute to get it back. In that silence the holder's pod is
read too, and one that ends is as good as offered (``suspicion``, ``taking``). Only a *fit* member takes: its
pod is Ready by a status that is not older than its sandbox, and EC2 answered it last (``fitness``). Of
several the best of the *register* goes first (``rank``, ``register``).

*Who writes.* Only an active that is not offered, and only under a proof: a GET of the group Lease that began
less than a second and a half before the write is sent (``keeping``). So a former active writes at most what
it had in hand, and the new one, which looks often at first, and puts back whatever it does not see as its
own, mends that. An offer first waits for the answers of its own writes, because one that lands after the
successor's would lead to a pod that ends. A standby writes and deletes nothing, not even its own former
route.

What could go on for ever is bounded. A write that is denied, or not answered while reads are, *marks* the
table, and a mark ends by an allowed write, never by time, so each member takes at most once (``routes``,
``outcomes``). Against another writer there is a bucket which a look that shows "ours" does not refill. An
untaken offer is withdrawn for the length of one write when a look shows the route lost, within the same
bounds. Moves other than for a death or an end have a bucket too.

How it is driven
----------------

A ``Member`` is a value. Its driver gives it events (``on``), asks what is due (``wants``), does that, and
gives ``Time`` when ``next_at`` has come; ``events`` has the contract. What all members of a node share is
``Surroundings``; the node's own Lease is a ``Renewal`` (``node``). Every comparison with the present goes
through a ``Clock``, so ``next_at`` is exact. Every duration is in ``Timing``.

Keep when tuning: ``lease`` >= 4 x ``renew``, because one lost renewal is more likely than any other fault; an
agent reconnects to the API within ``lease`` - ``renew``; it is absent in a rollout for less than ``veto``;
``suspicion`` x ``renew`` + a GET < ``api_gap`` x ``renew``; ``soft_offer`` > ``poll`` + the rank delays.
"""
