"""What a cluster of many nodes would send: fan-out and takeover, by simulation.  No broker runs.

    python benchmarks/cluster_scale.py
    python benchmarks/cluster_scale.py --nodes 100 --clients 10000000 --publishes 1000000

Clients are spread over nodes by chance.  Each topic has a number of subscribers (drawn so that its mean is
`--subscribers`, with a long tail); each publish picks a topic.  Counted is how many nodes have to get it, with every
node reading the whole log as Rowcast does now, and with nodes reading only shards in which they have subscribers.
Takeover: a node dies, its clients come to the others within `--reconnect` seconds; each costs requests to the stream of
sessions, and a read of the log from its cursor.

Standard library only; a run of the defaults takes seconds.
"""

from __future__ import annotations

import argparse
import random

REQUESTS_PER_CLAIM = 2
"""Read the record, write it; a will costs two more."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--clients", type=int, default=10_000_000)
    parser.add_argument("--publishes", type=int, default=1_000_000, help="per second, into the cluster")
    parser.add_argument("--subscribers", type=float, default=3.0, help="of a topic, on average")
    parser.add_argument("--shards", type=int, default=64, help="streams that topics are spread over by hash")
    parser.add_argument("--payload", type=int, default=200, help="bytes of a message with its headers")
    parser.add_argument("--reconnect", type=float, default=30.0, help="seconds over which clients come back")
    parser.add_argument("--away", type=float, default=10.0, help="seconds that a client was away")
    parser.add_argument("--sample", type=int, default=200_000, help="publishes that are drawn")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    reached = deliveries = 0
    for _ in range(args.sample):
        # Pareto with shape 1.5 has mean 3 times its minimum: most topics have few subscribers, some very many.
        subscribers = int(draw.paretovariate(1.5) * args.subscribers / 3 + draw.random())
        deliveries += subscribers
        if subscribers < args.nodes:
            reached += len({draw.randrange(args.nodes) for _ in range(subscribers)})
        else:
            reached += round(args.nodes * (1 - (1 - 1 / args.nodes) ** subscribers))
    per_second = args.publishes / args.sample
    all_nodes = args.publishes * args.nodes
    needed = reached * per_second
    megabytes = args.payload / 1e6
    print(f"{args.nodes} nodes, {args.clients:,} clients, {args.publishes:,} publishes/s, seed {args.seed}")
    print(f"deliveries to clients             {deliveries * per_second:14,.0f} /s")
    print("fan-out between nodes")
    print(
        f"  every node reads the whole log  {all_nodes:14,.0f} /s, {args.publishes:,.0f}/s"
        f" and {args.publishes * megabytes:,.0f} MB/s for each node"
    )
    print(
        f"  only where there are subscribers{needed:14,.0f} /s, {needed / args.nodes:,.0f}/s"
        f" and {needed / args.nodes * megabytes:,.0f} MB/s for each node"
    )
    print(f"  each of {args.shards} shards takes {args.publishes / args.shards:17,.0f} /s")
    moving = args.clients / args.nodes
    claims = moving / args.reconnect
    print("a node dies")
    print(f"  clients that move               {moving:14,.0f}, {claims:,.0f}/s for {args.reconnect:g} s")
    print(f"  requests to the records         {claims * REQUESTS_PER_CLAIM:14,.0f} /s")
    scanned = args.publishes * args.away
    print(
        f"  read again from the log         {scanned:14,.0f} messages for each client that reads all of it,"
        f" {scanned / args.shards:,.0f} of one shard"
    )


if __name__ == "__main__":
    main()
