"""A chat on websockets (asyncio) whose nodes are joined by Redis Pub/Sub, as its documentation
recommends for broadcasts across processes. Usage: websockets_redis.py REDIS_PORT."""

from __future__ import annotations

import asyncio
import json
import sys

from redis.asyncio import Redis
from redis.exceptions import RedisError
from websockets.asyncio.server import ServerConnection, broadcast, serve

CHANNEL = "arena"
CONNECTIONS: set[ServerConnection] = set()


async def follow(redis: Redis) -> None:
    """Broadcast what is published; subscribe again after a break."""
    while True:
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(CHANNEL)
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        broadcast(CONNECTIONS, message["data"].decode())
        except (RedisError, OSError):
            await asyncio.sleep(0.1)


async def main() -> None:
    redis = Redis(port=int(sys.argv[1]), health_check_interval=5)

    async def chat(connection: ServerConnection) -> None:
        CONNECTIONS.add(connection)
        try:
            async for received in connection:
                event = json.loads(received)
                try:
                    # A message is marked after it is published: what fails in between is
                    # published again, and not lost.
                    if not await redis.exists(f"seen:{event['id']}"):
                        await redis.publish(CHANNEL, json.dumps({"seen": event["text"]}))
                        await redis.set(f"seen:{event['id']}", 1, ex=3600)
                except (RedisError, OSError):
                    continue  # No acknowledgement: the client sends it again.
                await connection.send(json.dumps({"acked": event["id"]}))
        finally:
            CONNECTIONS.discard(connection)

    following = asyncio.create_task(follow(redis))
    async with serve(chat, "127.0.0.1", 0, ping_interval=5, ping_timeout=5) as server:
        print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await following


asyncio.run(main())
