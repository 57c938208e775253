"""Random sequences of pool operations, carried out by SQLAlchemy's own QueuePool.

Prints one sequence a line, as JSON: the pool's settings, and for each step what was done and what was seen after it.
tests/differential.rs does the same to poolwatch's pool and compares. The database is fake, time is fake, and the one
change to QueuePool is stated below.

    python trace.py SEED COUNT
"""

import json
import random
import sys
import types

from sqlalchemy import exc
from sqlalchemy.pool import base, impl

# Fine enough that no two reads are equal, and together far less than the half second between an age and `recycle`.
TICK = 1e-6
START = 1_000_000.0


class World:
    """The fake clock and the fake database of one sequence."""

    def __init__(self):
        self.now = START
        self.opened = 0
        self.pings = 0
        self.live = {}
        self.connect_fails = False
        self.ping = "ok"

    def time(self):
        self.now += TICK
        return self.now

    def connect(self):
        if self.connect_fails:
            raise ConnectionRefusedError("connect refused on order")
        self.opened += 1
        connection = Connection(self, self.opened)
        self.live[connection.id] = connection
        return connection


class Connection:
    """A DBAPI connection."""

    def __init__(self, world, number):
        self.world = world
        self.id = number

    def close(self):
        del self.world.live[self.id]


class PingRefused(Exception):
    """The server is alive and answers a ping with an error."""


class Dialect(base._ConnDialect):
    """The part of a dialect that a pool uses."""

    def _do_ping_w_event(self, connection):
        world = connection.world
        world.pings += 1
        if world.ping == "error":
            raise PingRefused()
        return world.ping == "ok"


class NoEmptySlots(impl.QueuePool):
    """QueuePool, but a slot whose connection is gone is dropped on return instead of being queued as if it were one.

    The deliberate difference: poolwatch shows connections, not slots.
    """

    def _do_return_conn(self, record):
        if record.dbapi_connection is None:
            self._dec_overflow()
        else:
            super()._do_return_conn(record)


def settings(rng):
    """The settings of a sequence; small, so that every limit is met."""
    return {
        "size": rng.choice([0, 1, 1, 2, 3, 3, 5]),
        "max_overflow": rng.choice([-1, 0, 0, 1, 2, 2, 4]),
        "use_lifo": rng.random() < 0.3,
        "pre_ping": rng.random() < 0.6,
        # Halves, and time moves in whole seconds: no age ever equals it.
        "recycle": rng.choice([None, 4.5, 10.5]),
    }


def choose(rng, held):
    """The next step, before it is carried out."""
    kinds = ["checkout"] * 9 + ["advance"]
    if held:
        kinds += ["return"] * 6 + ["invalidate"] + ["disconnect"] * (rng.random() < 0.5)
    kind = rng.choice(kinds)
    if kind == "checkout":
        return {
            "op": kind,
            "connect_fails": rng.random() < 0.12,
            "ping": rng.choice(["ok"] * 8 + ["dead", "error"]),
        }
    if kind == "advance":
        return {"op": kind, "seconds": rng.randint(1, 5)}
    return {"op": kind, "id": rng.choice(sorted(held))}


def checkout(world, pool, held, step):
    """One checkout under the step's orders: what came of it."""
    world.connect_fails = step["connect_fails"]
    world.ping = step["ping"]
    try:
        fairy = pool.connect()
    except exc.TimeoutError as error:
        return {"result": "timeout", "text": error.args[0]}
    except ConnectionRefusedError:
        return {"result": "connect_error"}
    except PingRefused:
        return {"result": "ping_error"}
    number = fairy.dbapi_connection.id
    held[number] = fairy
    return {"result": "ok", "got": number}


def carry_out(world, pool, held, step):
    """Does one step to the real pool."""
    if step["op"] == "checkout":
        return checkout(world, pool, held, step)
    if step["op"] == "advance":
        world.now += step["seconds"]
        return {"result": "ok"}
    fairy = held.pop(step["id"])
    if step["op"] == "return":
        fairy.close()
    elif step["op"] == "invalidate":
        fairy.invalidate()
    else:
        # What the engine does when a statement fails with a disconnect.
        pool._invalidate(fairy, ConnectionResetError())
    return {"result": "ok"}


def sequence(rng):
    """One sequence with everything that was seen."""
    world = World()
    base.time = types.SimpleNamespace(time=world.time)
    config = settings(rng)
    pool = NoEmptySlots(
        world.connect,
        pool_size=config["size"],
        max_overflow=config["max_overflow"],
        timeout=0,
        use_lifo=config["use_lifo"],
        recycle=-1 if config["recycle"] is None else config["recycle"],
        pre_ping=config["pre_ping"],
        reset_on_return=None,
        dialect=Dialect(),
    )
    held, steps = {}, []
    for _ in range(rng.randint(10, 60)):
        step = choose(rng, held)
        step.update(carry_out(world, pool, held, step))
        step.update(
            checkedin=pool.checkedin(),
            overflow=pool.overflow(),
            checkedout=pool.checkedout(),
            open=sorted(world.live),
            pings=world.pings,
        )
        steps.append(step)
    for fairy in held.values():
        fairy.close()
    return {"config": config, "steps": steps}


def main():
    """Reads the seed and the count, prints the sequences."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    for _ in range(count):
        print(json.dumps(sequence(rng)))


if __name__ == "__main__":
    main()
