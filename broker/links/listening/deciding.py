"""Clients about which somebody else decides (a slow password hash, rules that are being read): each in its turn, also
after it has left.

Two CONNECTs of one client id from one address are decided in the order in which they came, so that the later one takes
over.  One from another address overtakes, or whoever knows a client id could keep its owner out: what it overtook is
closed when it is decided, as taken over.

Invariant: a link is in `_cases` from its CONNECT until it has been decided about or given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from broker.core.engine import Engine
from broker.core.limits import PASSWORD_THREADS_MAX
from broker.links.barrier import barrier
from broker.links.departed import Departed
from broker.links.listening.judgement import Accepted, Judgement, Refused, Slow
from broker.links.listening.turns import Turns
from broker.links.mqtt.admission import admit
from broker.links.mqtt.link import MqttLink
from broker.links.mqtt.succeeding import Hearing
from protocol.mqtt.packets import Connect, ConnectReturnCode

if TYPE_CHECKING:
    from broker.gateway.authentication import Verdict


class Claims:
    """Whose a client id is, where nodes share them."""

    async def claim(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> str:
        """Make it this node's: why that is not possible, or "".  Without a checkpoint, `arrived` must follow."""
        raise NotImplementedError

    def arrived(self, client_id: bytes) -> None:
        """The client was let in, or it had gone."""
        raise NotImplementedError


class Case:
    """One CONNECT that waits.

    Args:
        number: counts CONNECTs.
    """

    def __init__(self, link: MqttLink, packet: Connect, number: int) -> None:
        self.link = link
        self.packet = packet
        self.number = number
        self.client_id = link.door.claimed_id(packet, link.certificate_identity)
        self.address = link.peer.rpartition(":")[0]
        self.is_first = trio.Event()
        """No earlier one of this client id and address is left."""
        self.scope = trio.CancelScope()


class Deciding:
    """All cases of one server.

    Args:
        engine: where clients are admitted.
        nursery: outlives them.
    """

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._nursery = nursery
        self._turns = Turns(PASSWORD_THREADS_MAX, PASSWORD_THREADS_MAX)
        self._cases: dict[MqttLink, Case] = {}
        self._lines: dict[tuple[bytes, str], list[Case]] = {}
        """By client id and address; one who brings no client id stands in none."""
        self._waiting: dict[bytes, int] = {}
        """By client id."""
        self._overtaken: dict[bytes, int] = {}
        """Client ids with cases that a later CONNECT has overtaken: its number."""
        self._numbers = 0
        self._rules_read: trio.Event | None = None
        """Set once the rules are there that whoever comes is to be decided about by."""
        self._entering = trio.Lock()
        self._departed = Departed()
        self._claims: Claims | None = None
        self._settle()

    def share(self, claims: Claims | None) -> None:
        """From now on a client comes in once it is this node's."""
        self._claims = claims
        self._settle()

    def _settle(self) -> None:
        """Tell who lets clients in whether there is anything to ask about one that is not slow."""
        may_wait = self._claims is not None or self._rules_read is not None or len(self._cases) > 0
        self._engine.review.may_wait = may_wait

    def hold(self) -> None:
        """Other rules are being read: decide about nobody who comes, until `go_on`."""
        if self._rules_read is None:
            self._rules_read = trio.Event()
            self._engine.review.is_awaited = True
            self._settle()

    def go_on(self) -> None:
        """The rules in force are those to decide by."""
        if self._rules_read is not None:
            self._rules_read.set()
            self._rules_read = None
            self._engine.review.is_awaited = False
            self._settle()

    def decide(self, link: MqttLink, packet: Connect, is_slow: bool) -> bool:
        """Have this CONNECT wait, if it is slow or must not overtake; False if it need not."""
        self._numbers += 1
        must_wait = is_slow or self._claims is not None or self._rules_read is not None
        if not must_wait and not self._cases:
            return False  # nobody waits, so nobody is overtaken
        case = Case(link, packet, self._numbers)
        if not must_wait and (case.client_id, case.address) not in self._lines:
            self._overtake(case)
            return False
        self._cases[link] = case
        self._settle()
        self._line_up(case)
        self._nursery.start_soon(self._decide, case, is_slow)
        return True

    def closed(self, link: MqttLink) -> None:
        """The connection is over.  What it left counts, where there is not too much of that already."""
        case = self._cases.get(link)
        if case is None:
            return
        if not link.departed or not self._departed.stay(case.address):
            link.departed = False
            link.close("closed its connection.")
            case.scope.cancel()  # if it still waits for its turn; a hash that has begun goes on to its end

    async def _decide(self, case: Case, is_slow: bool) -> None:
        link = case.link
        with barrier(self._engine.counters, link.peer), case.scope:
            try:
                verdict = judgement = None
                if self._rules_read is not None:
                    judgement = await self._by_new_rules(case)
                    is_slow = isinstance(judgement, Slow)
                if is_slow:
                    judgement = None
                    async with self._turns.one(case.address, case.packet.user_name or b""):
                        verdict = await trio.to_thread.run_sync(
                            link.door.verdict_for, case.packet, link.certificate_identity
                        )
                await case.is_first.wait()
                if self._claims is not None and not self._is_overtaken(case):
                    judgement = await self._claim(self._claims, case, verdict)
                with self._engine.turn:
                    try:
                        if self._is_overtaken(case):
                            link.close("disconnected: taken over by another connection.")
                        else:
                            self._admit(case, verdict, judgement)
                    finally:
                        if self._claims is not None and isinstance(judgement, Accepted):
                            self._claims.arrived(judgement.client_id)
            finally:
                self._leave(case)

    def _admit(self, case: Case, verdict: Verdict | None, judgement: Judgement | None) -> None:
        claimed = self._claims is not None
        admit(case.link, case.packet, verdict, in_turn=True, judgement=judgement, is_claimed=claimed)
        if case.link.verdict is not None:
            self._overtake(case)

    async def _by_new_rules(self, case: Case) -> Judgement:
        """What the door says once they are there; one case after the other, as each may be a password to hash."""
        async with self._entering:
            while self._rules_read is not None:
                await self._rules_read.wait()
            link = case.link
            return link.door.judge(case.packet, link.certificate_identity, self._engine.sessions)

    async def _claim(self, claims: Claims, case: Case, verdict: Verdict | None) -> Judgement | None:
        """What the door says, and if it lets the client in, whether the other nodes do."""
        link = case.link
        judgement = link.door.judge(case.packet, link.certificate_identity, self._engine.sessions, verdict)
        if not isinstance(judgement, Accepted):
            return judgement
        # Before the claim, behind which nothing may wait; what comes meanwhile is heard as far as one turn allows.
        await hear_out(self._engine, Hearing(self._engine, judgement.client_id))
        why = await claims.claim(link, case.packet, judgement.client_id, judgement.verdict)
        return Refused(ConnectReturnCode.SERVER_UNAVAILABLE, why) if why else judgement

    def _is_overtaken(self, case: Case) -> bool:
        return self._overtaken.get(case.client_id, 0) > case.number

    def _overtake(self, case: Case) -> None:
        """A client is let in: earlier ones of its id, from elsewhere, may not take over from it any more."""
        if self._waiting.get(case.client_id, 0):
            self._overtaken[case.client_id] = case.number

    def _line_up(self, case: Case) -> None:
        if not case.client_id:
            case.is_first.set()
            return
        self._waiting[case.client_id] = self._waiting.get(case.client_id, 0) + 1
        line = self._lines.setdefault((case.client_id, case.address), [])
        line.append(case)
        if line[0] is case:
            case.is_first.set()

    def _leave(self, case: Case) -> None:
        del self._cases[case.link]
        self._settle()
        if case.link.departed:
            self._departed.leave(case.address)
        if not case.client_id:
            return
        line = self._lines[case.client_id, case.address]
        line.remove(case)
        if line:
            line[0].is_first.set()
        else:
            del self._lines[case.client_id, case.address]
        self._waiting[case.client_id] -= 1
        if not self._waiting[case.client_id]:
            del self._waiting[case.client_id]
            self._overtaken.pop(case.client_id, None)


async def hear_out(engine: Engine, hearing: Hearing) -> None:
    """Take what came to a connection, in turns, until all of it was taken that counts."""
    while True:
        with engine.turn:
            if hearing.go_on() == 0:
                return
        await trio.lowlevel.checkpoint()
