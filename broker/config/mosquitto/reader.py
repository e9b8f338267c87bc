"""Reads mosquitto.conf, and the files it includes, into scopes of values; collects every mistake on the way.

A *scope* is the broker, a listener or a bridge; an option's value goes into the scope that its level names.  What a
value is comes from the table in `options`; the few words that need more than the table have a function in
`special`.  `build` makes a `Config` of the scopes.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from broker.config.files import read_file
from broker.config.mosquitto import values as conf_values
from broker.config.mosquitto.option import Kind, Level, Option, Role
from broker.config.mosquitto.options import OPTIONS, find_option
from broker.config.mosquitto.values import Wrong, not_text
from protocol.mistakes import Mistake, mistake_found_at

MISTAKES_MAX = 1000
"""A file of another kind would otherwise give a mistake for each of its lines; the rest are counted."""

_NO_SUCH_OPTION = "Delete the line, or see docs/mosquitto-conf.md for what may stand there."


class Scope:
    """Values read so far for one thing: the broker, one listener, one bridge."""

    def __init__(self, place: str = "", name: str = "") -> None:
        self.place = place
        self.name = name
        self.values: dict[str, object] = {}
        """By the option's field, or its name where it has none."""

    def __contains__(self, field: str) -> bool:
        return field in self.values


Special = Callable[["Reader", Option, str], None]


class Reader:
    """The state of one reading: what the next line is about, and what has been found."""

    def __init__(self, specials: dict[str, Special]) -> None:
        self._specials = specials
        self.broker = Scope()
        self.listeners: list[Scope] = []
        self.default_listener: Scope | None = None
        self.bridges: list[Scope] = []
        self.plugins: set[str] = set()
        self.listener: Scope | None = None
        self.bridge: Scope | None = None
        self.plugin = False
        self.local_only = True
        self.per_listener_settings = False
        self.security_seen = False
        self.depth = 0
        self.file = ""
        self.line = 0
        self.mistakes: list[Mistake] = []
        self.mistakes_left_out = 0
        self.may_open_doors = False
        """A line that is wrong may have been meant to let clients in."""
        self.places: dict[tuple[str, str], str] = {}
        """Where an option with a value stands, the first one of several."""
        self.warnings: list[str] = []
        self._suggested: dict[str, str] = {}

    @property
    def place(self) -> str:
        """`file:line` of what is being read."""
        return f"{self.file}:{self.line}"

    def read(self, path: Path) -> None:
        """Read one file to its end.  Listener, bridge and plugin end with it; all other settings go on."""
        text = self._text_of(path)
        if text is None:
            return
        outside = (self.file, self.line, self.listener, self.bridge, self.plugin)
        self.file, self.listener, self.bridge, self.plugin = str(path), None, None, False
        for number, line in enumerate(text.split("\n"), 1):
            if line and line[0] not in "#\r":
                self.line = number
                self._take(line.rstrip("\r"))
        self.file, self.line, self.listener, self.bridge, self.plugin = outside

    def _text_of(self, path: Path) -> str | None:
        try:
            return (
                read_file(path, may_be_pipe=not self.file)
                .removeprefix(b"\xef\xbb\xbf")
                .decode("utf-8", "surrogateescape")
            )
        except IsADirectoryError:
            wrong = Wrong(f"Config file '{path}' is a directory.", "Name a file; include_dir takes a folder.")
        except OSError as error:
            wrong = Wrong(f"Unable to open config file '{path}'.", f"{error.strerror}.")
        self.mistake(wrong, self.place if self.file else str(path))
        self.may_open_doors = True
        return None

    def _take(self, line: str) -> None:
        name, _, rest = line.lstrip(" ").partition(" ")
        if not name:
            return
        try:
            option = find_option(name)
            if option is None:
                raise Wrong(f"Unknown configuration variable '{name}'.", self._suggestion(name))
            if (
                "\0" in rest
            ):  # of what is read as text each says so itself; files and addresses can't have one either
                raise not_text()
            special = self._specials.get(option.name) or self._specials.get(option.alias_of)
            if special is not None:
                special(self, option, rest)
            else:
                self.store(self.scope(option), option, read_value(option, rest))
        except Wrong as wrong:
            self.mistake(wrong)
            self.may_open_doors |= _is_about_doors(name)

    def scope(self, option: Option) -> Scope:
        """The scope that the option belongs to here; Wrong where nothing of that kind has been defined above."""
        level = option.level
        if level is Level.SECURITY:
            if not self.per_listener_settings:
                self.security_seen = True
                return self.broker
            level = Level.LISTENER
        if level is Level.BROKER:
            return self.broker
        if level is Level.LISTENER_OR_DEFAULT and self.listener is None:
            self.listener = self.default()
        if level is Level.NAMED_LISTENER and self.listener is self.default_listener:
            raise _needs(option, "a listener", "Put it below a `listener PORT` line.")
        found = self.bridge if level is Level.BRIDGE else self.listener
        if found is None and level is Level.BRIDGE:
            raise _needs(option, "a bridge", "Delete the line: Rowcast has no bridges.")
        if found is None:
            raise _needs(option, "a listener", "Put it below a `listener PORT` line.")
        return found

    def default(self) -> Scope:
        """The default listener, made on first use: port 1883."""
        if self.default_listener is None:
            self.default_listener = Scope(self.place)
            self.default_listener.values["listener.port"] = 1883
            self.listeners.append(self.default_listener)
        return self.default_listener

    def store(self, scope: Scope, option: Option, value: object) -> None:
        """Keep the value, or say what becomes of an option that Rowcast does not honour."""
        key = option.field or option.alias_of or option.name
        if option.once and key in scope:
            raise Wrong(
                f"Duplicate '{option.titled}' value in configuration.", "Delete one of the two lines."
            )
        scope.values[key] = value
        self.places.setdefault((key.rpartition(".")[2], str(value)), self.place)
        if option.role is Role.WITHOUT_EFFECT:
            self.warn(f"The '{option.name}' option has no effect. Found at {self.place}. {option.note}")
        if option.role is Role.REFUSED and option.level is not Level.BRIDGE:
            raise refused(option)

    def mistake(self, wrong: Wrong, place: str = "") -> None:
        """Note a mistake at `place`, or where reading is; those past MISTAKES_MAX are only counted."""
        if len(self.mistakes) < MISTAKES_MAX:
            self.mistakes.append(mistake_found_at(place or self.place, wrong.text, wrong.cure))
        else:
            self.mistakes_left_out += 1

    def warn(self, text: str) -> None:
        """Note something that is no mistake but may surprise; each text once."""
        if text not in self.warnings and len(self.warnings) < MISTAKES_MAX:
            self.warnings.append(text)

    def _suggestion(self, name: str) -> str:
        if name.startswith("#"):
            return "The # of a comment must be the first character of its line."
        if "\t" in name or "=" in name:
            return "Put one space between the name and its value, as `listener 1883`."
        if name not in self._suggested and len(self._suggested) < MISTAKES_MAX:
            close = get_close_matches(name, OPTIONS, 1)
            self._suggested[name] = f"Did you mean `{close[0]}`?" if close else _NO_SUCH_OPTION
        return self._suggested.get(name, _NO_SUCH_OPTION)


def read_value(option: Option, rest: str) -> object:
    """The value as the option's kind says."""
    if option.kind is Kind.BOOLEAN:
        return conf_values.read_boolean(option, rest)
    if option.kind is Kind.INTEGER:
        return conf_values.read_integer(option, rest)
    if option.kind is Kind.TEXT:
        return conf_values.read_text(option, rest)
    if option.kind is Kind.WORD:
        return conf_values.read_choice(option, rest)
    assert option.kind is Kind.ANYTHING, f"{option.name} needs a function of its own"
    return rest


def refused(option: Option, cure: str = "") -> Wrong:
    """The mistake of using an option that is not supported here."""
    return Wrong(f"The '{option.name}' option is not supported.", cure or option.note)


def _is_about_doors(name: str) -> bool:
    """Whether a line of this name, or of the one that is meant, may say who gets in."""
    option = find_option(next(iter(get_close_matches(name, OPTIONS, 1)), name))
    if option is None or option.level is Level.SECURITY or option.field.startswith("tls."):
        return True
    return option.name in _DOORS


_DOORS = (
    "enable_proxy_protocol", "include_dir", "listener", "listener_allow_anonymous", "per_listener_settings", "port",
    "protocol",
)  # fmt: skip


def _needs(option: Option, what: str, cure: str) -> Wrong:
    return Wrong(f"The '{option.name}' option requires {what} to be defined first.", cure)
