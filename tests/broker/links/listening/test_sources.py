"""What is asked about clients that are not here: the publisher of a retained message, a session that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.peer import connected, subscribed
from support.peer5 import connected5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.gateway.authentication import Rules
from broker.links.listening.door import Door
from broker.links.listening.sources import Sources
from protocol.mqtt.packets import Publish, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY, WILL_DELAY


def door(folder: Path, port: int, acl: str | None, rules: Rules | None = None) -> Door:
    """A listener with an ACL file of its own, or with none."""
    file = None
    if acl is not None:
        file = folder / f"acl-{port}"
        file.write_text(acl)
    security = Security(allow_anonymous=True, acl_file=file)
    return Door(Listener(port=port, security=security), Limits(), connection_messages=False, rules=rules)


def retained(port: int = 1883, user_name: bytes | None = b"user", client_id: bytes = b"id") -> Publication:
    return Publication(b"t", b"x", 1, True, client_id, user_name, port)


USER_WRITES = "user user\ntopic readwrite t\nuser other\ntopic read t\n"


class TestPublishersOfRetainedMessages:
    def test_one_who_may_still_write_is_delivered_and_another_is_not(self, tmp_path: Path) -> None:
        sources = Sources([door(tmp_path, 1883, USER_WRITES)])
        assert sources.may_still_write(retained(user_name=b"user"))
        assert not sources.may_still_write(retained(user_name=b"other"))
        assert not sources.may_still_write(retained(user_name=None))

    def test_patterns_know_the_client_id_of_the_publisher(self, tmp_path: Path) -> None:
        sources = Sources([door(tmp_path, 1883, "pattern write %c\n")])
        assert sources.may_still_write(Publication(b"id", b"x", 1, True, b"id", b"user", 1883))
        assert not sources.may_still_write(retained())

    def test_what_the_broker_and_feeds_published_is_never_withheld(self, tmp_path: Path) -> None:
        sources = Sources([door(tmp_path, 1883, "# nothing is allowed\n")])
        assert sources.may_still_write(Publication(b"t", b"x", 1, True))

    def test_the_rules_of_the_publishers_listener_count(self, tmp_path: Path) -> None:
        sources = Sources([door(tmp_path, 1883, USER_WRITES), door(tmp_path, 1884, "# nothing\n")])
        assert sources.may_still_write(retained(1883))
        assert not sources.may_still_write(retained(1884))

    def test_a_listener_that_is_gone_allows_nothing_where_each_has_its_own_rules(
        self, tmp_path: Path
    ) -> None:
        sources = Sources([door(tmp_path, 1883, USER_WRITES), door(tmp_path, 1884, USER_WRITES)])
        assert not sources.may_still_write(retained(1885))

    def test_rules_that_all_listeners_share_count_for_one_that_is_gone(self, tmp_path: Path) -> None:
        first = door(tmp_path, 1883, USER_WRITES)
        sources = Sources([first, door(tmp_path, 1884, None, first.rules)])
        assert sources.may_still_write(retained(1885))
        assert not sources.may_still_write(retained(1885, b"other"))

    def test_without_rules_or_listeners_nothing_is_withheld(self, tmp_path: Path) -> None:
        assert Sources([]).may_still_write(retained())
        assert Sources([door(tmp_path, 1883, None)]).may_still_write(retained())

    def test_rules_read_again_count_once_forgotten(self, tmp_path: Path) -> None:
        one = door(tmp_path, 1883, USER_WRITES)
        sources = Sources([one])
        assert sources.may_still_write(retained())
        one.rules = door(tmp_path, 1883, "# nothing\n").rules
        sources.forget()
        assert not sources.may_still_write(retained())

    def test_nobody_is_asked_where_no_rule_could_forbid_anything(self, tmp_path: Path) -> None:
        free = door(tmp_path, 1883, None)
        own = door(tmp_path, 1884, None)  # of rules of its own: one that is gone allows nothing then
        ruled = door(tmp_path, 1885, USER_WRITES)
        shared = door(tmp_path, 1886, None, free.rules)
        readers = Security(allow_anonymous=True, anonymous_access="read")
        read_only = Door(Listener(port=1887, security=readers), Limits(), connection_messages=False)
        for doors, asked in (
            ([], False),
            ([free], False),
            ([free, shared], False),
            ([free, own], True),
            ([ruled], True),
            ([read_only], True),
        ):
            engine = Engine()
            Sources(doors).renew(engine)
            assert (engine.may_still_write is not None) == asked, [one.port for one in doors]

    def test_rules_that_come_with_a_reload_are_asked(self, tmp_path: Path) -> None:
        one = door(tmp_path, 1883, None)
        engine = Engine()
        sources = Sources([one])
        sources.renew(engine)
        engine.publish(Publication(b"t", b"x", 1, True, b"id", b"other", 1883))
        one.rules = door(tmp_path, 1884, USER_WRITES).rules
        sources.renew(engine)
        assert subscribed(engine, (b"#", 1)).read() == []

    def test_a_new_subscription_is_spared_what_its_publisher_may_not_write(self, tmp_path: Path) -> None:
        engine = Engine()
        engine.may_still_write = Sources([door(tmp_path, 1883, USER_WRITES)]).may_still_write
        engine.publish(Publication(b"t", b"x", 1, True, b"id", b"other", 1883))
        assert subscribed(engine, (b"#", 1)).read() == []
        engine.publish(Publication(b"t", b"y", 1, True, b"id", b"user", 1883))
        assert subscribed(engine, (b"#", 1), client_id=b"next").read() == [
            Publish(b"t", b"y", 1, True, packet_id=1)
        ]


class TestSessionsThatAreAway:
    def test_they_get_what_the_rules_allow_by_now(self, tmp_path: Path) -> None:
        one = door(tmp_path, 1883, "topic read t\ntopic read u\n")
        engine = Engine()
        peer = connected(engine, b"away", clean=False, door=one)
        peer.send(Subscribe(1, ((b"#", 1),)))
        peer.drop()
        one.rules = door(tmp_path, 1883, "topic read u\n").rules
        Sources([one]).renew(engine)
        engine.trie.restrict(True)
        engine.publish(Publication(b"t", b"x", 1))
        engine.publish(Publication(b"u", b"y", 1))
        back = connected(engine, b"away", clean=False, present=True, door=one)
        assert back.read() == [Publish(b"u", b"y", 1, packet_id=1)]

    @pytest.mark.parametrize("may_come", [True, False])
    def test_the_delayed_will_of_one_who_would_not_be_let_in_any_more_is_not_published(
        self, tmp_path: Path, may_come: bool
    ) -> None:
        one = door(tmp_path, 1883, None)
        engine = Engine()
        listener = subscribed(engine, (b"gone", 0), client_id=b"listener")
        will = Will(b"gone", b"old", 0, False, Properties({WILL_DELAY: 10}))
        expiring = Properties({SESSION_EXPIRY: 60})
        connected5(engine, b"away", will=will, door=one, properties=expiring).drop()
        after = Listener(port=1883, security=Security(allow_anonymous=may_come))
        one.configure(after, Limits(), connection_messages=False)
        Sources([one]).renew(engine)
        engine.now += 11
        engine.expire()
        engine.flush()
        assert len(listener.read()) == may_come

    def test_one_that_came_within_the_process_goes_on_where_listeners_want_a_password(
        self, tmp_path: Path
    ) -> None:
        """By a door of the program's own, which no listener has; what it is sent meanwhile is kept for it."""
        inside = door(tmp_path, 0, None)
        acl = tmp_path / "acl"
        acl.write_text("topic readwrite #\n")
        strict = Listener(port=1883, security=Security(allow_anonymous=False, acl_file=acl))
        engine = Engine()
        away = connected(engine, b"away", clean=False, door=inside)
        away.send(Subscribe(1, ((b"t", 1),)))
        away.drop()
        Sources([Door(strict, Limits(), connection_messages=False)]).renew(engine)
        engine.publish(Publication(b"t", b"x", 1))
        back = connected(engine, b"away", clean=False, present=True, door=inside)
        assert back.read() == [Publish(b"t", b"x", 1, packet_id=1)]
