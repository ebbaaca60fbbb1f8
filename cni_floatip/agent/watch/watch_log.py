"""Logs and counts what looks at watched interfaces show: what appeared, vanished, was refused, is too fast.

Each sentence is logged once while it stays true (``WatchedInterface.is_news``), because a look may repeat it.
"""

from __future__ import annotations

from typing import Any

from ...model.claim import Claim
from ...model.values import Attachment
from ...operations.sync_addresses import SyncResult
from ...operations.world import World
from ..observe.recorder import Recorder
from .interface import MOST_TOLD, WatchedInterface


class WatchLog:
    """Logs and counts for the watch. Only the watch's thread may call it."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self._world = world
        self._counts = recorder
        self._explained: set[Attachment] = set()

    def not_followed(self, attachment: Attachment, why: str) -> None:
        """Log once, until ``forget``, why the addresses of an attachment are not followed."""
        if attachment not in self._explained:
            self._explained.add(attachment)
            sentence = f"{attachment}: its addresses are not followed: {why}"
            self._world.log(sentence, "warning", event="not followed", **self._subject(attachment))

    def forget(self, attachment: Attachment) -> None:
        """Log the next reason anew, because the attachment is followed now, or no longer to be."""
        self._explained.discard(attachment)

    def path_is_gone(self, watched: WatchedInterface) -> None:
        """Log that an interface is followed no longer, because its namespace has no path any more."""
        who = watched.attachment
        sentence = f"{who}: {watched.netns} is gone: its addresses are not followed"
        self._world.log(sentence, "warning", event="not followed", **self._subject(who))

    def overrun(self) -> None:
        """Count events that the kernel has dropped."""
        self._counts.watch("overrun")

    def hold_back(self, watched: WatchedInterface, now: float) -> None:
        """Count, and log once, that an interface changes faster than we follow."""
        held_back = watched.allowance.due(now) > now
        if held_back:
            self._counts.watch("limited")
        if watched.begins_limit(held_back, now):
            seconds = self._world.policy.watch_limits.seconds_per_change
            self._world.log(
                f"{watched.attachment}: its addresses change faster than one per {seconds:g} s:"
                " only the latest counts",
                "warning",
            )

    def failure(self, watched: WatchedInterface, error: str) -> None:
        """Log that a look at an interface failed."""
        if watched.is_news("look", error, self._world.clock()):
            sentence = f"{watched.attachment}: cannot read its addresses: {error}"
            self._world.log(sentence, "warning", **self._subject(watched.attachment))

    def result(self, watched: WatchedInterface, result: SyncResult, now: float) -> None:
        """Log and count the result of a look."""
        who, count = watched.attachment, self._counts.watch

        def log(sentence: str, address: object, level: str = "info", event: str = "") -> None:
            self._world.log(sentence, level, event=event, address=str(address), **self._subject(who))

        for interface in result.appeared:
            count("appeared")
            log(f"{who}: {interface.ip} appeared: claimed", interface.ip, event="appeared")
        for interface in result.vanished:
            count("vanished")
            log(f"{who}: {interface.ip} vanished: released after the grace", interface.ip, event="vanished")
        for interface in result.elsewhere:
            message = f"{who}: {interface.ip} was here before, and leads elsewhere: left there"
            log(message, interface.ip, "warning", event="left")
        for ip, why in result.refused.items():
            if watched.is_news(ip, why, now):
                count("refused")
                log(f"{who}: {ip} appeared and is not claimed: {why}", ip, "warning", event="refused")
        for ip, why in result.failed.items():
            if watched.is_news(ip, why, now):
                log(f"{who}: {ip} appeared and is not claimed yet: {why}", ip, "warning")
        if watched.silent and watched.is_news("silent", f"{MOST_TOLD}", now):
            message = (
                f"{who}: {MOST_TOLD} addresses appeared and are not claimed: the log names no more of them"
            )
            self._world.log(message, "warning", event="refused", **self._subject(who))
        limits = self._world.policy.watch_limits
        if result.beyond and watched.is_news("beyond", f"{limits.addresses}", now):
            count("limited")
            first = result.beyond[0].ip
            message = f"{who}: more than {limits.addresses} addresses: {first} is not claimed"
            log(message, first, "warning", event="refused")
        if result.put_off:
            self.hold_back(watched, now)
        if not result.busy and not result.claim_ended:
            still = [
                key for key, holds in {"beyond": result.beyond, "silent": watched.silent}.items() if holds
            ]
            watched.forget([*result.dates, *result.failed, *result.refused, *still], now)

    def _subject(self, attachment: Attachment) -> dict[str, Any]:
        claim = self._world.claims.get(attachment)
        return claim.subject() if isinstance(claim, Claim) else {}
