"""Peers that talk nonsense: sessions with bytes changed, left out, doubled and made up, and plain noise.

Whatever comes, nothing is raised, the connection ends at most once and with an error of ours, and every
token comes back when the transport is gone. The decoder is asked by itself as well: it gives a value or a
``DecodeError``.

`python -m tests.protocol.fuzz --sessions 2000000 --values 50000000` goes on for long; a run is repeated by
its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from contextlib import suppress
from time import process_time

from tests.protocol.pair import assert_all_back, of_kind, tokens_in
from tests.protocol.session import CLIENTS_WORDS, ROUNDS, Replay, served
from txamqpx.errors import AMQPError, Closed, DecodeError, LocalProtocolError
from txamqpx.protocol import events
from txamqpx.spec.amqp0_9_1 import METHODS, BasicProperties
from txamqpx.spec.wire import decode_table, encode_table

TABLE = encode_table({"a": [1, 2**40, None, {"b": True}], "c": b"x", "d": 1.5, "e": "é"})
PROPERTIES = BasicProperties(
    headers={"a": {"b": [1]}}, delivery_mode=2, priority=0, expiration="5", message_id="m", user_id="u"
).encode()
ODD = (0, 1, 2, 3, 4, 8, 0x41, 0x7F, 0x80, 0xCE, 0xFE, 0xFF)


class Fuzz:
    """Makes nonsense, and feeds it.

    Args:
        seed: Tells one run from another.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.endings: Counter[str] = Counter()
        #: The most processor time that one input took, in seconds.
        self.slowest = 0.0

    def mutated(self, data: bytes) -> bytes:
        """Return ``data`` with a few things wrong."""
        chance, mutant = self.chance, bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            place = chance.randrange(len(mutant) + 1)
            kind = chance.randrange(6)
            if kind == 0 and place < len(mutant):
                mutant[place] = chance.choice(ODD)
            elif kind == 1 and place < len(mutant):
                mutant[place] ^= 1 << chance.randrange(8)
            elif kind == 2:
                del mutant[place : place + chance.choice((1, 2, 8, 40))]
            elif kind == 3:
                mutant[place:place] = chance.randbytes(chance.choice((1, 4, 8)))
            elif kind == 4:
                mutant[place:place] = mutant[place : place + chance.choice((1, 8, 30))]
            else:
                mutant[place : place + 4] = chance.choice((0, 1, 2**16, 2**31, 2**32 - 1)).to_bytes(4, "big")
        return bytes(mutant)

    def session(self) -> None:
        """Feed one session to a client, or to a server, with one of its rounds gone wrong."""
        began = process_time()
        if self.chance.random() < 0.75:
            self._client()
        else:
            self._server()
        self.slowest = max(self.slowest, process_time() - began)

    def _client(self) -> None:
        replay, refused = Replay(), False
        wrong = self.chance.randrange(len(ROUNDS))
        for number, (act, data) in enumerate(ROUNDS):
            try:
                replay.act(act)
            except (Closed, LocalProtocolError, KeyError):
                refused = True  # what was said before has closed what our side wants to use
            said = self.mutated(data) if number == wrong else data
            replay.hear(said, self._cuts(said))
        ended = of_kind(events.ConnectionEnded, replay.happened)
        replay.lose()
        self._judge(replay.happened, "client", early=bool(ended))
        if refused:
            assert len(set(tokens_in(replay.happened))) == len(tokens_in(replay.happened))
        else:
            assert_all_back(replay.given, replay.happened)

    def _server(self) -> None:
        words = list(CLIENTS_WORDS)
        wrong = self.chance.randrange(len(words))
        words[wrong] = self.mutated(words[wrong])
        try:
            core, happened = served(words, self._cuts(words[wrong]))
        except (Closed, LocalProtocolError):
            return  # the broker of these tests answers what it should not
        early = bool(of_kind(events.ConnectionEnded, happened))
        self._judge(happened + core.connection_lost(), "server", early=early)

    def _judge(self, happened: list[events.Event], role: str, *, early: bool) -> None:
        (ended,) = of_kind(events.ConnectionEnded, happened)
        assert happened[-1] is ended
        assert isinstance(ended.error, AMQPError)
        self.endings[f"{role}: {type(ended.error).__name__}{'' if early else ', with the transport'}"] += 1

    def _cuts(self, data: bytes) -> list[int]:
        return [self.chance.randrange(len(data) + 1) for _ in range(self.chance.choice((0, 0, 1, 5)))]

    def noise(self) -> None:
        """Feed noise to an open client."""
        replay = Replay()
        for act, data in ROUNDS[: self.chance.choice((0, 1, 2))]:
            replay.act(act)
            replay.hear(data, [])
        replay.hear(self.chance.randbytes(self.chance.choice((1, 8, 100))), [])
        replay.lose()
        assert_all_back(replay.given, replay.happened)
        self._judge(replay.happened, "noise", early=False)

    def value(self) -> None:
        """Decode one mutant: a table, properties, or the arguments of some method."""
        began = process_time()
        kind = self.chance.randrange(3)
        with suppress(DecodeError):
            if kind == 0:
                decode_table(self.mutated(TABLE), 0)
            elif kind == 1:
                data = self.mutated(PROPERTIES)
                BasicProperties.decode(data, 0, self.chance.randrange(len(data) + 1))
            else:
                method = self.chance.choice(METHODS)
                data = self.mutated(method().encode()[4:])
                method.decode(data, 0, self.chance.randrange(len(data) + 1))
        self.slowest = max(self.slowest, process_time() - began)


def main(arguments: list[str] | None = None) -> None:
    """Feed, print the seed first and what came of it last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--values", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    fuzz = Fuzz(options.seed)
    for _ in range(options.sessions):
        fuzz.session()
    for _ in range(options.sessions // 4):
        fuzz.noise()
    for _ in range(options.values):
        fuzz.value()
    for ending, count in sorted(fuzz.endings.items()):
        print(f"{count:9,} {ending}")
    print(f"{fuzz.slowest * 1000:9.1f} ms took the slowest", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
