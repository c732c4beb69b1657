"""Who is on the bus: pods by uuid, name, service, process and group, and who receives a type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from grav_actors.bus.gateway import LocalNews, RemoteNames, is_gateway, local_news
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery
from grav_actors.filters import ALL_FILTERS_BYTES, FilterSet
from grav_actors.protocol import WINDOW_BYTES

CACHED_PLANS = 4096
"""Types whose receivers are remembered; at the limit the memory starts anew."""
PLANNED_RECEIVERS = 1 << 20
"""Receivers in all that are remembered: 8 MiB. A type with more is remembered alone."""
REPLAYED_NAMES = 16_384
"""Names that actors had which listened and have left; past it the oldest is forgotten."""


@dataclass(slots=True)
class Group:
    """Receivers that share one mailbox; each message goes to one of them.

    Attributes:
        missing: Members that the bus before this one knew and that have not come back. What is sent again waits
            for them, as one of them may have had it.
    """

    name: str
    mailbox: Mailbox
    members: list[Receiver] = field(default_factory=list)
    missing: set[Receiver] = field(default_factory=set)

    def claimant(self, delivery: Delivery) -> tuple[Receiver | None, int]:
        """Return who had the first message of a delivery from an earlier bus, and for how many that is so."""
        sender = delivery.run.sender.uuid
        seq = delivery.run.seq + delivery.lo
        count = delivery.count
        for member in self.members:
            for first, last in member.claims.get(sender, ()):
                if first <= seq <= last:
                    return member, min(delivery.count, last - seq + 1)
                if first > seq:
                    count = min(count, first - seq)
        return None, count

    @staticmethod
    def choose(takers: Iterable[Receiver], sender: bytes) -> tuple[Receiver | None, bool]:
        """Return the least loaded of the members that take a type, and whether any may ever take it of this sender."""
        best: Receiver | None = None
        best_room = 0
        is_possible = False
        for member in takers:
            if member.uuid == sender:
                continue
            is_possible = True
            # By bytes, too: what waits at one member could return to the group behind what another leaves later.
            has_room = member.mailbox.used_bytes < WINDOW_BYTES
            room = member.room() - member.mailbox.waiting_count if has_room else 0
            if member.route and room > best_room:
                best, best_room = member, room
        return best, is_possible


@dataclass(frozen=True, slots=True)
class Plan:
    """The receivers of one type.

    Attributes:
        takers: The members of each of the groups that take it.
        gateway: The one for other nodes that want it, not among the others.
    """

    receivers: tuple[Receiver, ...]
    groups: tuple[Group, ...]
    takers: dict[str, tuple[Receiver, ...]]
    gateway: Receiver | None = None

    @property
    def size(self) -> int:
        """How many receivers it remembers."""
        return len(self.receivers) + sum(map(len, self.takers.values()))

    @property
    def count(self) -> int:
        """How many pods and groups, and the gateway, receive it."""
        return len(self.receivers) + len(self.groups) + (self.gateway is not None)


class Directory:
    """Tables of the pods, kept in step with one another.

    Attributes:
        gateway: The pod that stands for other nodes, or None.
        news: What it has not been told of the pods here; None until it has asked for that.
        remote: The actors of other nodes.
        filter_bytes: Bytes of the entries of all filters.
    """

    def __init__(self) -> None:
        self.gateway: Receiver | None = None
        self.news: LocalNews | None = None
        self.remote = RemoteNames()
        self.filter_bytes = 0
        self.by_uuid: dict[bytes, Receiver] = {}
        self.by_name: dict[str, Receiver] = {}
        self.groups: dict[str, Group] = {}
        self._by_service: dict[str, list[Receiver]] = {}
        self._by_process: dict[bytes, dict[bytes, Receiver]] = {}
        self._plans: dict[str, Plan] = {}
        self._planned = 0
        self._replayed: OrderedSet[str] = OrderedSet()

    def hand_on(self, old: bytes, new: bytes) -> None:
        """Put the actors of one supervisor under another: its next incarnation, which starts them again."""
        for receiver in self.by_uuid.values():
            if receiver.settings.supervisor == old:
                receiver.settings = replace(receiver.settings, supervisor=new)

    def __iter__(self) -> Iterator[Receiver]:
        return iter(self.by_uuid.values())

    def __len__(self) -> int:
        return len(self.by_uuid)

    def add(self, receiver: Receiver) -> None:
        """Enter a pod; the caller has made sure that its name is free."""
        self.by_uuid[receiver.uuid] = receiver
        if is_gateway(receiver):
            self.gateway = receiver
        self.filter_bytes += receiver.filters.size
        self._by_process.setdefault(receiver.uuid[:8], {})[receiver.uuid] = receiver
        settings = receiver.settings
        if settings.actor:
            self.by_name[receiver.name] = receiver
            # Once per name: an actor that was struck, and is started again, would get what it had as new messages.
            receiver.replayed = receiver.replayed or receiver.name in self._replayed
            if settings.service:
                self._by_service.setdefault(settings.service, []).append(receiver)
        if settings.group:
            group = self.groups.get(settings.group)
            if group is None:
                mailbox = Mailbox(settings.group, settings.mailbox_limit, settings.overflow, settings.stuck_after)
                group = self.groups[settings.group] = Group(settings.group, mailbox)
            group.members.append(receiver)
        if self.news is not None:
            self.news.enter(receiver)
        self._forget_plans(receiver)

    def remove(self, receiver: Receiver) -> Group | None:
        """Strike a pod; return its group if it was the last member."""
        if self.by_uuid.pop(receiver.uuid, None) is not None:
            self.filter_bytes -= receiver.filters.size
        if receiver is self.gateway:
            self.gateway = self.news = None
        elif self.news is not None:
            self.news.leave(receiver)
        process = self._by_process.get(receiver.uuid[:8], {})
        process.pop(receiver.uuid, None)
        if not process:
            self._by_process.pop(receiver.uuid[:8], None)
        settings = receiver.settings
        if settings.actor and self.by_name.get(receiver.name) is receiver:
            del self.by_name[receiver.name]
            if receiver.replayed:
                self._replayed.add(receiver.name)
                if len(self._replayed) > REPLAYED_NAMES:
                    self._replayed.discard(next(iter(self._replayed)))
        instances = self._by_service.get(settings.service)
        if instances and receiver in instances:
            instances.remove(receiver)
            if not instances:
                del self._by_service[settings.service]
        self._forget_plans(receiver)
        group = self.groups.get(settings.group)
        if group is not None and receiver in group.members:
            group.members.remove(receiver)
            group.missing.discard(receiver)
            if not group.members:
                return self.groups.pop(settings.group)
        return None

    def has_room(self, filters: FilterSet, receiver: Receiver | None) -> bool:
        """Return whether the entries of a filter fit in beside all others, in the place of those of a receiver."""
        old = receiver.filters.size if receiver is not None else 0
        return filters.size <= old or self.filter_bytes - old + filters.size <= ALL_FILTERS_BYTES

    def filter(self, receiver: Receiver, filters: FilterSet) -> None:
        """Give a pod another filter."""
        self._forget_plans(receiver)
        if self.news is not None:
            self.news.leave(receiver)
        self.filter_bytes += filters.size - receiver.filters.size
        receiver.filters = filters
        if self.news is not None:
            self.news.enter(receiver)
        self._forget_plans(receiver)

    def begin_news(self) -> None:
        """Have everything told to the gateway."""
        self.news = local_news(self)

    def _forget_plans(self, receiver: Receiver) -> None:
        # No others: with hundreds of pods that come and go each second, all types would be planned anew all the time.
        for message_type in receiver.filters.allowed(self._plans):
            self._planned -= self._plans.pop(message_type).size

    def plan(self, message_type: str) -> Plan:
        """Return the receivers of a published type; the same object until something changes."""
        plan = self._plans.get(message_type)
        if plan is None:
            plan = self._make_plan(message_type)
            self._planned += plan.size
            if len(self._plans) >= CACHED_PLANS or self._planned > PLANNED_RECEIVERS:
                self._plans.clear()
                self._planned = plan.size
            self._plans[message_type] = plan
        return plan

    def _make_plan(self, message_type: str) -> Plan:
        receivers: list[Receiver] = []
        takers: dict[str, list[Receiver]] = {}
        for receiver in self.by_uuid.values():
            if receiver is not self.gateway and receiver.filters.decides(message_type):
                name = receiver.settings.group
                (takers.setdefault(name, []) if name else receivers).append(receiver)
        return Plan(
            tuple(receivers),
            tuple(group for group in self.groups.values() if group.name in takers),
            {name: tuple(members) for name, members in takers.items()},
            self.gateway if self.gateway is not None and self.gateway.filters.decides(message_type) else None,
        )

    def choose(self, group: Group, message_type: str, sender: bytes) -> tuple[Receiver | None, bool]:
        """Return the least loaded member of a group with room for a message, and whether any may ever take it."""
        return group.choose(self.plan(message_type).takers.get(group.name, ()), sender)

    def named(self, name: str) -> Receiver | None:
        """Return the actor of that name, or the next instance of that service in turn."""
        receiver = self.by_name.get(name)
        if receiver is None and (instances := self._by_service.get(name)):
            receiver = instances.pop(0)
            instances.append(receiver)
        return receiver

    def instances(self, name: str) -> list[Receiver]:
        """Return the actor of that name, or every instance of that service."""
        receiver = self.by_name.get(name)
        return list(self._by_service.get(name, ())) if receiver is None else [receiver]

    def has_name(self, name: str) -> bool:
        """Return whether an actor or a service has that name, reachable or not."""
        return name in self.by_name or name in self._by_service

    def stand_in(self, name: str) -> Receiver | None:
        """Return the gateway if an actor of that name may be on another node; whoever has it here goes first."""
        return self.gateway if self.gateway is not None and self.remote.may_have(name) else None

    def is_connected(self, name: str) -> bool:
        """Return whether an actor or an instance of a service of that name can be reached, here or on a peer."""
        receiver = self.by_name.get(name)
        instances = self._by_service.get(name, []) if receiver is None else [receiver]
        if not instances and self.gateway is not None:
            return bool(self.gateway.route) and self.remote.node_of(name) is not None
        return any(instance.route for instance in instances)

    def of_process(self, prefix: bytes) -> list[Receiver]:
        """Return the pods of the process whose ids begin with these 8 bytes."""
        return list(self._by_process.get(prefix, {}).values())
