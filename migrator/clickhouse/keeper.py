"""The lock's state in Keeper, for databases of several servers: one row of a KeeperMap table in strict mode (experimental).

In strict mode (`keeper_map_strict_mode=1`) an INSERT of a key that exists fails in Keeper ("Node exists"), and an update carries the version of the
node that was read, so that a change in between makes it fail. Without the setting every writer "wins". An update that matches nothing
succeeds, so the state is looked up after each swap: no two swaps write the same state, so finding one's own is proof. (Not finding it isn't:
somebody may have moved on from it already; but nobody moves on from a fresh holder's state.)
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass

from migrator import errors
from migrator.clickhouse import failures
from migrator.clickhouse.lock import FREE, TABLE
from migrator.clickhouse.session import Session, literal, quote

_KEY = "migration"
_STRICT: dict[str, str | int] = {"keeper_map_strict_mode": 1}
_NO_KEEPER_MAP = frozenset({36, 56})
"""KeeperMap is not configured, or no such engine."""


@dataclass
class KeeperRow:
    """A `lock.Cell`: an absent row is a free lock, and so is every state that names no holder."""

    session: Session

    @property
    def _table(self) -> str:
        return f"{quote(self.session.database)}.{TABLE}"

    def prepare(self) -> None:
        """Makes the table on this server; every server's table of this path shows the same rows."""
        path = literal(f"/greylag/{self.session.database}/lock")
        try:
            self.session.command(
                f"CREATE TABLE IF NOT EXISTS {self._table} (name String, state String) ENGINE = KeeperMap({path}) PRIMARY KEY name"
            )
        except failures.Refusal as refusal:
            if refusal.code not in _NO_KEEPER_MAP:
                raise
            raise errors.LockUnavailable(
                f"this server can't keep a lock in Keeper: {refusal}",
                code="no-keeper-map",
                hint="set <keeper_map_path_prefix> in the servers' configuration; runs on a cluster need one lock for all of its servers",
            ) from None

    def read(self) -> tuple[str | None, int]:
        """Returns the state (None when this server has no such table), and this server's clock in milliseconds."""
        try:
            now, states = self.session.row(
                f"SELECT toUnixTimestamp64Milli(now64(3)), (SELECT groupArray(state) FROM {self._table} WHERE name = '{_KEY}')"
            )
        except failures.Refusal as refusal:
            if refusal.code != failures.UNKNOWN_TABLE:
                raise
            return None, 0
        return (str(states[0]) if states else FREE), int(now)

    def swap(self, old: str, new: str) -> bool:
        """Replaces `old` by `new` if it is the state; whether it was."""
        written = f"{new} {secrets.token_hex(6)}" if new == FREE else new  # no two swaps write the same state
        with contextlib.suppress(failures.Refusal):  # another run was first; the state read below tells
            if old == FREE:
                self.session.command(f"INSERT INTO {self._table} VALUES ('{_KEY}', {literal(written)})", _STRICT)
            else:
                change = f"UPDATE state = {literal(written)} WHERE name = '{_KEY}' AND state = {literal(old)}"
                self.session.command(f"ALTER TABLE {self._table} {change}", _STRICT)
        return self.read()[0] == written
