"""What AMQP is: the specification as data, and the Python that is generated from it."""
