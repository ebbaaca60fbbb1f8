"""Filters on an ENI by traffic control: classic BPF, in direct action, on the qdisc clsact.

One is on egress, one on ingress (``guard`` says what each drops). The program goes to the kernel with the
filter (``cls_bpf``, ``TCA_BPF_OPS``): netlink and CAP_NET_ADMIN suffice, no bpf(2), no action modules. It
needs ``sch_ingress`` (clsact) and ``cls_bpf``, as the network policies of VPC CNI do. It reads the frame
itself, because a packet socket can set the packet's ``protocol``, by which flower and u32 find headers.

An earlier filter may let a frame pass for good, so that ours does not see it: a filter that we cannot get in
front of (``Placed.behind``), or a tcx program (Linux >= 6.6; Cilium >= 1.16, if the ENI is one of its
devices), which netlink does not show.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import Final

from ...model.values import Link
from .attributes import mac_bytes, pack, unpack
from .rtnetlink import Message, Refused, Rtnetlink

# linux/pkt_sched.h and linux/pkt_cls.h
_CLSACT, _CLSACT_HANDLE, _INGRESS, _EGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2, 0xFFFFFFF3
_OPS_LENGTH, _OPS, _FLAGS, _DIRECT_ACTION = 4, 5, 8, 1
_NEXT_FILTER, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT
_ETH_P_ALL = 0x0300  # in network byte order
FIRST: Final = 1
"""The first priority there is. Cilium's filters (before tcx) have it too; of our kind, they share it."""

HANDLES: Final = (0xF10A7100, 0xF10A7101)
"""These identify a filter as ours. The second serves while a new filter takes over from an old one."""

# linux/filter.h: code, jump if true, jump if false, operand. Beyond the frame's end a load ends the program
# with 0, "pass": such a frame is too short to hold the header that it claims.
_LD_AT, _LDH_AT, _LDB_AT, _LDH_X, _LD_X, _LDX = 0x20, 0x28, 0x30, 0x48, 0x40, 0x01
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_NOT_FOR_METADATA: Final = (
    (_LDX, 0, 0, 0),  # 0: x, what VLAN tags take up
    (_LDH_AT, 0, 0, 12),  # 1: the type of what follows the MAC addresses
    (_JEQ, 2, 0, 0x8100),  # 2: 802.1Q
    (_JEQ, 1, 0, 0x88A8),  # 3: 802.1ad
    (_JEQ, 0, 7, 0x9100),  # 4: its forerunner; -> 12
    (_LDX, 0, 0, 4),  # 5
    (_LDH_AT, 0, 0, 16),  # 6
    (_JEQ, 2, 0, 0x8100),  # 7
    (_JEQ, 1, 0, 0x88A8),  # 8
    (_JEQ, 0, 2, 0x9100),  # 9; -> 12
    (_LDX, 0, 0, 8),  # 10
    (_LDH_AT, 0, 0, 20),  # 11
    (_JEQ, 0, 2, 0x0800),  # 12: IPv4; -> 15
    (_LDH_X, 0, 0, 14 + 16),  # 13
    (_JEQ, 4, 3, 0xA9FE),  # 14: 169.254.0.0/16; -> 19 or 18
    (_JEQ, 0, 2, 0x86DD),  # 15: IPv6; -> 18
    (_LD_X, 0, 0, 14 + 24),  # 16
    (_JEQ, 1, 0, 0xFD000EC2),  # 17: fd00:ec2::/32; -> 19
    (_RET, 0, 0, _NEXT_FILTER),  # 18
    (_RET, 0, 0, _DROP),  # 19
)


def _not_from_itself(mac: str) -> tuple[tuple[int, int, int, int], ...]:
    first, last = struct.unpack("!IH", mac_bytes(mac))
    return (
        (_LDB_AT, 0, 0, 6),  # 0: the first byte of the source MAC
        (_JSET, 5, 0, 0x01),  # 1: a group address; -> 7
        (_LD_AT, 0, 0, 6),  # 2
        (_JEQ, 0, 2, first),  # 3: -> 6
        (_LDH_AT, 0, 0, 10),  # 4
        (_JEQ, 1, 0, last),  # 5: the link's own MAC; -> 7 or 6
        (_RET, 0, 0, _NEXT_FILTER),  # 6
        (_RET, 0, 0, _DROP),  # 7
    )


@dataclass(frozen=True, slots=True)
class _Hook:
    """A hook of a link, and the program that filters its frames."""

    name: str
    parent: int
    program: bytes


def _hooks(link: Link) -> tuple[_Hook, ...]:
    programs = (("egress", _EGRESS, _NOT_FOR_METADATA), ("ingress", _INGRESS, _not_from_itself(link.mac)))
    return tuple(
        _Hook(name, parent, b"".join(_INSTRUCTION.pack(*item) for item in program))
        for name, parent, program in programs
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """The filters in place. ``changed``: something had to be done. ``behind``: whose filter comes first."""

    changed: bool
    behind: str = ""


@dataclass(frozen=True, slots=True)
class _Filter:
    hook: _Hook
    priority: int
    protocol: int
    kind: str
    handle: int
    options: bytes

    @property
    def ours(self) -> bool:
        return self.kind == "bpf" and self.handle in HANDLES

    @property
    def whole(self) -> bool:
        """Whether the filter is ours and does what ours does."""
        return self.ours and self.protocol == _ETH_P_ALL and self.options == self.hook.program

    def __str__(self) -> str:
        return f"{self.kind} filter {self.handle:#x} of priority {self.priority} on {self.hook.name}"


def ensure(kernel: Rtnetlink, link: Link) -> Placed:
    """Put our filters on ``link``, in front of others' where possible. Idempotent.

    ``Refused`` where this kernel cannot. Filters of others stay as they are.
    """
    placed = [_ensure(kernel, link, hook) for hook in _hooks(link)]
    return Placed(any(placed.changed for placed in placed), ", ".join(e.behind for e in placed if e.behind))


def _ensure(kernel: Rtnetlink, link: Link, hook: _Hook) -> Placed:
    changed = False
    for _ in range(3):  # others may change the filters while we do
        there = _filters(kernel, link, hook)
        if there and there[0].whole and not any(item.ours for item in there[1:]):
            return Placed(changed)
        ours = [item for item in there if item.ours]
        if ours and ours[0].whole and ours[0].priority == _priority(there) and not _shares(there):
            return Placed(changed, str(there[0]))
        _take_over(kernel, link, hook, there)
        changed = True
    there = _filters(kernel, link, hook)
    if not any(item.whole for item in there):
        raise Refused(errno.EAGAIN, "another program removes the filter as soon as it is there")
    return Placed(changed, "" if there[0].whole else str(there[0]))


def present(kernel: Rtnetlink, link: Link) -> bool:
    """Whether both of our filters are on ``link`` (they may be behind others')."""
    return all(any(item.whole for item in _filters(kernel, link, hook)) for hook in _hooks(link))


def is_left(kernel: Rtnetlink, link: Link) -> bool:
    """Whether anything of ours is on ``link``, whole or not."""
    return any(item.ours for hook in _hooks(link) for item in _filters(kernel, link, hook))


def remove(kernel: Rtnetlink, link: Link) -> None:
    """Remove our filters. The qdisc stays, because others may use it and an empty one does nothing."""
    for hook in _hooks(link):
        for item in _filters(kernel, link, hook):
            if item.ours:
                _remove(kernel, link, item)


def _filters(kernel: Rtnetlink, link: Link, hook: _Hook) -> list[_Filter]:
    """Return the filters at this hook, in order; only of chain 0, which alone the kernel runs by itself."""
    messages = kernel.dump("filter", index=link.index, parent=hook.parent)
    return [
        _filter(hook, message)
        for message in messages
        if message["index"] == link.index and message["handle"] and not message.get_attr("TCA_CHAIN")
    ]


def _filter(hook: _Hook, message: Message) -> _Filter:
    info, kind = message["info"], message.get_attr("TCA_KIND")
    options = dict(unpack(bytes(message.get_attr("TCA_OPTIONS") or b""))) if kind == "bpf" else {}
    direct = struct.unpack("I", options.get(_FLAGS, bytes(4)))[0] & _DIRECT_ACTION
    program = options.get(_OPS, b"") if direct else b""
    return _Filter(hook, info >> 16, info & 0xFFFF, kind, message["handle"], program)


def _priority(there: list[_Filter]) -> int:
    """Return the first available priority, because one priority has filters of one kind and protocol only."""
    taken = {e.priority for e in there if (e.kind, e.protocol) != ("bpf", _ETH_P_ALL)}
    return next(number for number in range(FIRST, 0x10000) if number not in taken)


def _shares(there: list[_Filter]) -> bool:
    """Whether a filter comes before ours at our own priority, where the newest comes first."""
    ours = next(item for item in there if item.ours)
    return any(item.priority == ours.priority for item in there[: there.index(ours)])


def _take_over(kernel: Rtnetlink, link: Link, hook: _Hook, there: list[_Filter]) -> None:
    """Put a new filter in front, then remove the old, so that there is one at all times."""
    old = [item for item in there if item.ours]
    free = [handle for handle in HANDLES if handle not in {item.handle for item in old}]
    if not free:  # left so by a process that was killed in between
        _remove(kernel, link, old.pop())
        free = [handle for handle in HANDLES if handle not in {item.handle for item in old}]
    _add(kernel, link, hook, _priority(there), free[0])
    for item in old:
        _remove(kernel, link, item)


def _add(kernel: Rtnetlink, link: Link, hook: _Hook, priority: int, handle: int) -> None:
    _add_qdisc(kernel, link)
    options = (
        pack(_OPS_LENGTH, struct.pack("H", len(hook.program) // _INSTRUCTION.size))
        + pack(_OPS, hook.program)
        + pack(_FLAGS, struct.pack("I", _DIRECT_ACTION))
    )
    kernel.create(
        "filter",
        [("TCA_KIND", "bpf"), ("TCA_OPTIONS", options)],
        index=link.index,
        parent=hook.parent,
        handle=handle,
        info=priority << 16 | _ETH_P_ALL,
    )


def _add_qdisc(kernel: Rtnetlink, link: Link) -> None:
    try:
        kernel.create(
            "qdisc", [("TCA_KIND", "clsact")], index=link.index, parent=_CLSACT, handle=_CLSACT_HANDLE
        )
    except Refused as refused:
        if refused.errno != errno.EEXIST:
            raise
        there = {
            message.get_attr("TCA_KIND")
            for message in kernel.dump("qdisc", index=link.index)
            if message["index"] == link.index and message["parent"] == _CLSACT
        }
        if "clsact" not in there:
            other = ", ".join(sorted(there)) or "unknown"
            text = f"the qdisc {other!r} is where clsact belongs: nothing can look at its frames"
            raise Refused(errno.EEXIST, text) from refused


def _remove(kernel: Rtnetlink, link: Link, old: _Filter) -> None:
    try:
        kernel.delete(
            "filter",
            [("TCA_KIND", "bpf")],
            index=link.index,
            parent=old.hook.parent,
            handle=old.handle,
            info=old.priority << 16 | old.protocol,
        )
    except Refused as refused:
        if refused.errno != errno.ENOENT:
            raise
