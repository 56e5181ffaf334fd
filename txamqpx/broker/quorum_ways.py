"""What differs between the quorum queues of the releases."""

from __future__ import annotations

from attrs import frozen

__all__ = ["QuorumWays"]


@frozen
class QuorumWays:
    """One release's ways."""

    #: How often somebody may fail with a message if the queue says nothing; None: any number of times.
    delivery_limit: int | None
    #: Whether a limit below 0 is none.
    negative_is_unlimited: bool
    #: Whether what comes back to a queue without a limit goes to its end, unless its channel has ended.
    requeues_at_the_end: bool
    #: Whether of a channel that has ended the oldest consumer's messages come back first, and not those of
    #: the first tag by name.
    oldest_consumer_first: bool
    #: Whether a message's priority counts.
    priorities: bool
    #: Whether a consumer of a higher priority takes over from a single active one.
    takes_over: bool
    #: Whether a queue can let messages wait that came back.
    retries_later: bool
    #: Whether what is not settled in time comes back, and its consumer is cancelled.
    releases_late: bool
    #: Whether a message's headers tell how often it came back, and not only how often somebody failed.
    tells_returns: bool
    #: Whether who fetches a message hears that nobody has failed yet.
    tells_no_failures: bool
    #: Whether a purge takes dead letters, too, that nobody has taken.
    purges_letters: bool
    #: How a refusal calls such queues.
    called: str
