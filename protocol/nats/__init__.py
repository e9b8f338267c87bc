"""What a NATS server and its clients say to each other: the client protocol, and JetStream's requests.  Sans-IO.

Begin with `wire` (the bytes) and `connection` (one connection's state); `jetstream` makes requests and reads answers,
`ordered` reads a stream in order.
"""
