"""The pod's network as the kernel holds it: the only package that imports pyroute2.

    with open_pod("/run/netns/cni-1234", "net1") as pod:
        parent = pod.parent()
        pod.add(PodRoute(IPv4Network("10.0.0.0/8"), IPv4Address("10.10.1.1"), table=100))

What we put into a pod carries ``proto ROUTE_PROTO``; what does not carry it is read, shown and never
changed (one exception, asked for by name: ``remove_connected``). Adding what is there and removing what is
not are no errors; nothing is ever replaced. Every failure is a ``CniError``, never a netlink error or an
``OSError``.
"""

from .host_links import RememberingKernel
from .links import Parent, host_link, link_by_mac, link_names, set_up
from .namespace import NoNamespace
from .pod import NoInterface, PodNet, clear_pod, open_pod
from .routes import OtherRoute

__all__ = [
    "NoInterface",
    "NoNamespace",
    "OtherRoute",
    "Parent",
    "PodNet",
    "RememberingKernel",
    "clear_pod",
    "host_link",
    "link_by_mac",
    "link_names",
    "open_pod",
    "set_up",
]
