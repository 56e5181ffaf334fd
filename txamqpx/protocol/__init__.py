"""AMQP without I/O: bytes in, events out, in either role.  Knows no Twisted, no clock, no Deferred."""
