"""What a NATS server and its clients say to each other: the client protocol, and JetStream's requests.  Sans-IO."""
