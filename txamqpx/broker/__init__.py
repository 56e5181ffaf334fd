"""A broker in the process, on the wire what RabbitMQ is."""
