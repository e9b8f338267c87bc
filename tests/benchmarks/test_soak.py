from benchmarks.soak.world import sums_of

EXPOSITION = """\
# TYPE rowcast_messages_dropped counter
# HELP rowcast_messages_dropped Messages not delivered, by reason.
rowcast_messages_dropped_total{reason="acl"} 2
rowcast_messages_dropped_total{reason="queue_full"} 3.0
broker_clients_total 7
# EOF
"""


def test_a_metric_is_the_sum_over_its_labels() -> None:
    assert sums_of(EXPOSITION) == {"rowcast_messages_dropped_total": 5, "broker_clients_total": 7}
