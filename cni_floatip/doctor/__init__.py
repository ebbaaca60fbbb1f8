"""``floatipctl doctor``: checks node, VPC and cluster for what would keep a floating IP from working.

    checks      one check, one function: reads, lets ``judge`` judge, says what is fine
    probe       reads that several checks share, each done once: policy, metadata, EC2, agent, links
    ec2_reads   the doctor's requests to EC2; ``host``: the kernel; ``kubernetes``: two daemonsets
    judge/      facts in, findings out; no I/O
    catalog     every finding: severity, why it matters, the remedy
    runner, report    all checks within one deadline; the report for a person or a program

The doctor changes nothing: not on the node, not in EC2 (dry runs only), not in the cluster. A failed read is
a finding ("not checked", with the reason), and stops no other check.
"""
