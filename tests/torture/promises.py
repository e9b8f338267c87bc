"""What clients were promised, and whether it came true; judged when nothing is owed to anybody any more.

A message is due to a subscription that held from before it was first sent until after it was acknowledged, and not
to one that did not hold at all meanwhile; in between either is right.
"""

from __future__ import annotations

from torture.exact_clients import Client, Interest, Sent


def broken_promises(clients: list[Client], retained: dict[bytes, bytes]) -> list[str]:
    """A sentence for each.

    Args:
        retained: what a new subscriber gets, by topic.
    """
    broken: list[str] = []
    for client in clients:
        broken += client.problems
        for publisher in clients:
            for sent in publisher.sent:
                broken += _judge(client, sent)
        wills = [text for text, count in client.delivered_at_2.items() if text[:4] == b"will" and count > 1]
        broken += [f"{client.name!r} got {text!r} twice" for text in wills]
    for publisher in clients:
        broken += _judge_retained(publisher, retained)
    return broken


def _judge(client: Client, sent: Sent) -> list[str]:
    filters: dict[bytes, list[Interest]] = {}
    for interest in client.interests:
        if interest.topic_filter == sent.topic:
            filters.setdefault(interest.topic_filter, []).append(interest)
    spans = filters.get(sent.topic, [])
    got = client.delivered[sent.payload]
    broken: list[str] = []
    if (
        any(one.granted_at < sent.sent_at and sent.acknowledged_at < one.left_at for one in spans)
        and got == 0
    ):
        broken.append(f"{client.name!r} never got {sent.payload!r} of QoS {sent.qos}")
    if not any(one.asked_at < sent.acknowledged_at and sent.sent_at < one.gone_at for one in spans) and got:
        broken.append(f"{client.name!r} got {sent.payload!r} without a subscription")
    if sent.qos == 2 and client.delivered_at_2[sent.payload] > 1:
        broken.append(f"{client.name!r} got {sent.payload!r} {client.delivered_at_2[sent.payload]} times")
    return broken


def _judge_retained(publisher: Client, retained: dict[bytes, bytes]) -> list[str]:
    kept = [sent for sent in publisher.sent if sent.retain]
    if not kept:
        return []
    found = retained.get(kept[-1].topic)
    if found == kept[-1].payload:
        return []
    return [f"the retained message is {found!r}, and {kept[-1].payload!r} was the last"]
