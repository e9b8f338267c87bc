from support.exchange_rows import FILL

from broker.demo.changes import ALL_CHANNELS, MQTT_TOPICS, Change, Key, mqtt_topics, websocket_message


def test_there_are_six_topic_families_and_twelve_channels() -> None:
    assert len(MQTT_TOPICS) == 6
    assert len(set(ALL_CHANNELS)) == 12


def test_fill_goes_to_maker_and_taker_once_although_there_are_two_rows() -> None:
    seen: set[Key] = set()
    rows = [Change("fill_events", {**FILL, "event_idx": index}) for index in (0, 1)]
    topics = [topic for row in rows for topic in mqtt_topics(row, seen)]
    assert topics == ["fill/3/0xa/0", "fill/3/0xb/7"]


def test_next_fill_of_the_same_trade_is_another_fill() -> None:
    seen: set[Key] = set()
    assert list(mqtt_topics(Change("fill_events", FILL), seen))
    assert list(mqtt_topics(Change("fill_events", {**FILL, "sequence_number_for_trade": 1}), seen))


def test_swap_has_the_integrator_before_the_signer() -> None:
    swap = Change("place_swap_order_events", {"market_id": 1, "signing_account": "0x5", "integrator": "0x1"})
    assert list(mqtt_topics(swap, set())) == ["place_swap_order/1/0x1/0x5"]


def test_history_has_no_mqtt_topic() -> None:
    assert list(mqtt_topics(Change("aggregator.user_history_limit", {"market_id": 1}), set())) == []


def test_websocket_message_is_the_row_in_an_envelope_as_postgres_prints_it() -> None:
    change = Change("fill_events", FILL)
    assert websocket_message(change, '{"a":1}') == (
        "fill_event",
        '{"channel" : "fill_event", "payload" : {"a":1}}',
    )


def test_update_is_announced_as_an_updated_limit_order() -> None:
    change = Change("aggregator.user_history", {"remaining_size": 1}, {"market_id": 1, "order_id": 2})
    assert websocket_message(change, "{}")[0] == "updated_limit_order"
