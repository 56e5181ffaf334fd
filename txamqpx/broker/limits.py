"""How many connections there may be."""

from __future__ import annotations

from collections import Counter

from txamqpx.broker.refusal import Refusal

__all__ = ["Limits"]


class Limits:
    """What a broker's operator allows, and how much of it is in use; a limit that was not set is none."""

    def __init__(self) -> None:
        #: The most connections to a virtual host.
        self.vhost_connections: dict[str, int] = {}
        #: The most connections of a user.
        self.user_connections: dict[str, int] = {}
        self._of_vhosts: Counter[str] = Counter()
        self._of_users: Counter[str] = Counter()

    def admit(self, user: str, vhost: str) -> None:
        """See whether one connection more may be opened.

        Raises:
            Refusal: 530, it may not.
        """
        most = self.vhost_connections.get(vhost)
        if most is not None and self._of_vhosts[vhost] >= most:
            raise Refusal(
                530,
                f"access to vhost '{vhost}' refused for user '{user}': connection limit ({most}) is reached",
            )
        most = self.user_connections.get(user)
        if most is not None and self._of_users[user] >= most:
            raise Refusal(
                530, f"connection refused for user '{user}': user connection limit ({most}) is reached"
            )

    def count(self, user: str, vhost: str, change: int) -> None:
        """Count a connection that was opened, or that is over."""
        self._of_vhosts[vhost] += change
        self._of_users[user] += change
