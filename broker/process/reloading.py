"""SIGHUP, and `rowcast ctl reload`: the configuration and its files are read again, and all of it holds, or none.

Long password and ACL files are read a step at a time.  Meanwhile connected clients go on by the rules in force, and
whoever says CONNECT waits for the new ones.  With short files nobody is served in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from broker.cli.check import key_mistakes, rule_mistakes
from broker.config.model import Config, ConfigError, Security
from broker.config.reload import reloaded
from broker.gateway.authentication import Rules, RulesError, load_in_steps
from broker.links.in_turns import in_turns
from broker.links.listening.accept import ListenError

if TYPE_CHECKING:
    from broker.app import App
    from broker.process.logs import Log

logger = logging.getLogger("broker")

ENTRIES: Final = 1_000
"""Of files read before, let go of in one step."""


class Reloading:
    """The configuration of one process.

    Args:
        config: what is in force.
        reread: reads its file again; raises `ConfigError`.
        log: what the configuration says of it is taken over, too.

    Attributes:
        is_due: a signal has come, and is not being obeyed yet.
    """

    def __init__(self, app: App, config: Config, reread: Callable[[], Config], log: Log) -> None:
        self.config = config
        self.is_due = False
        self._app = app
        self._reread = reread
        self._log = log
        self._one_by_one = trio.Lock()
        self._is_waiting = False
        self._is_at_once = False
        """Nothing that was asked for has taken a second step yet."""
        self._holding = 0
        self._can_begin = trio.Event()

    def begin(self) -> None:
        """The broker runs: signals that have come and come from now on can be obeyed."""
        self._can_begin.set()

    def holds_off(self) -> bool:
        """Whether nobody is to be served before what is asked for is done."""
        return self.is_due or self._is_at_once

    async def obey(self) -> None:
        """A signal has come.  Of several that come while one is being obeyed, the last one counts."""
        await self._can_begin.wait()
        self.is_due = False
        if not self._is_waiting:
            self._is_waiting = True
            await self.ask()

    async def ask(self) -> list[str]:
        """Read the configuration again, and take over all of it, or with a mistake nothing; the mistakes."""
        if not self._one_by_one.locked():
            self._is_at_once = True
        with self._logins_held():
            async with self._one_by_one:
                self._is_waiting = False
                self._is_at_once = True
                try:
                    return await self._reload()
                finally:
                    self._is_at_once = False

    @contextmanager
    def _logins_held(self) -> Iterator[None]:
        self._holding += 1
        self._app.server.hold_logins()
        try:
            yield
        finally:
            self._holding -= 1
            if not self._holding:
                self._app.server.let_logins_on()

    async def _reload(self) -> list[str]:
        app = self._app
        try:
            config = reloaded(self.config, self._reread())
            rules = await self._rules(config)
            if mistakes := list(key_mistakes(config)):
                raise ConfigError(*mistakes)
            before = [door.rules for door in app.doors]
            app.reload(config, rules)
        except (ConfigError, ListenError) as error:
            told = list(map(str, error.mistakes if isinstance(error, ConfigError) else [error]))
            for mistake in told:
                logger.error("%s", mistake)
            logger.error("The configuration read before stays in force.")
            self._log.reopen()  # logrotate doesn't care
            return told
        logger.info("Reloading config.")
        self.config = config
        for warning in config.warnings:
            logger.warning("Warning: %s", warning)
        self._log.apply(config.logging)
        app.server.nursery.start_soon(let_go, before)
        return []

    async def _rules(self, config: Config) -> dict[Security, Rules]:
        """What password and ACL files say by now.  Raises: ConfigError."""
        try:
            return await in_turns(load_in_steps(one.security for one in config.listeners), self._let_others)
        except RulesError as error:
            raise ConfigError(*rule_mistakes(config, error)) from None

    def _let_others(self) -> None:
        self._is_at_once = False


async def let_go(rules: list[Rules]) -> None:
    """Forget rules that nobody goes by: those of many users not all at once, which would take a while."""
    parts = [part for one in set(rules) for part in one.parts()]
    rules.clear()
    while parts:
        del parts[-ENTRIES:]
        await trio.lowlevel.checkpoint()
