"""Which dialects there are, and in which order a target is shown to them."""

from __future__ import annotations

from broker.config.dialects.canton import Canton
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import DIALECT_KINDS, GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import JwtConfig

JWT = JwtConfig("s")


def test_every_kind_is_known_by_the_name_of_its_table() -> None:
    assert {"econia": Econia, "exchange": Exchange, "canton": Canton, "rowcast": Rowcast} == DIALECT_KINDS


def test_only_those_that_are_set_up_are_there() -> None:
    assert GatewayConfig().dialects == ()
    assert GatewayConfig(canton=Canton(JWT)).dialects == (Canton(JWT),)


def test_a_path_that_is_a_pattern_hides_no_other() -> None:
    """Econia's would take `/rowcast` for a token."""
    config = GatewayConfig(Econia(JWT), Exchange(), Canton(JWT), Rowcast())
    assert [one.name for one in config.dialects] == ["exchange", "canton", "rowcast", "econia"]
    [first] = [one.name for one in config.dialects if one.asked("/rowcast") is not None][:1]
    assert first == "rowcast"
