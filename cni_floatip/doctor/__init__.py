"""``floatipctl doctor``: what would keep a floating IP from working here, said before a pod fails.

    checks    one check, one function: looks, lets ``judge`` judge, says what is fine
    looks     what several checks need to see, seen once: policy, metadata, EC2, agent, links
    audit     EC2 as the doctor asks it; ``host``: the kernel; ``kubernetes``: two daemonsets
    judge/    facts in, findings out; no look anywhere
    catalog   every finding there is: severity, why it matters, what mends it
    side_by_side, view    all checks within one bound; the report for a person or a program

Nothing is changed: not on the node, not in EC2 (dry runs only), not in the cluster. What cannot be seen is a
finding ("not checked", with the reason), and keeps no other check from its work.
"""
