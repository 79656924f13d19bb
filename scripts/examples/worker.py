"""A worker of a task queue that tells a room how its tasks go: python worker.py REDIS_URL QUEUE.

It takes tasks from a list in Redis, as Celery or RQ do, and publishes through the Redis of the chat
servers (syncchat-server --engine REDIS_URL), with no connection to any of them. A task that is run
again says each line once: its nonce is made of the task's id.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import redis

from syncchat import Publisher


def resize(width: int) -> str:
    """A task: the work is only pretended."""
    time.sleep(0.01)
    if width <= 0:
        raise ValueError(f"a width of {width}")
    return f"resized to {width}"


TASKS = {"resize": resize}


def run(task: dict[str, Any], publisher: Publisher) -> None:
    def say(text: str, step: str) -> None:
        nonce = f"{task['id']}-{step}"
        publisher.say(f"{task['id']}: {text}", room=task["room"], nick="worker", nonce=nonce)

    say("started", "start")
    try:
        result = TASKS[task["name"]](**task["arguments"])
    except Exception as exc:  # Whatever a task raises, its room is told.
        say(f"failed: {exc}", "end")
    else:
        say(result, "end")


def main(url: str, queue: str) -> None:
    tasks = redis.Redis.from_url(url, decode_responses=True)
    with Publisher(url) as publisher:
        while True:
            # In a second list until it is done: a worker that is killed loses no task.
            raw = str(tasks.blmove(queue, f"{queue}:running", timeout=0))
            task = json.loads(raw)
            if task["name"] == "quit":
                tasks.lrem(f"{queue}:running", 1, raw)
                return
            run(task, publisher)
            tasks.lrem(f"{queue}:running", 1, raw)


if __name__ == "__main__":
    main(*sys.argv[1:3])
