"""Two brokers, one program: what the embedded broker does, and what RabbitMQ does, word by word."""
