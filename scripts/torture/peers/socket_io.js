// A chat on Socket.IO 4 with connection state recovery; on several nodes with the adapter for
// Redis Streams. Usage: node socket_io.js [REDIS_PORT]. Every message has an id, so that one that
// is sent again is stored once, as the documentation of Socket.IO recommends.
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

async function main() {
  const server = http.createServer();
  const options = {
    connectionStateRecovery: { maxDisconnectionDuration: 120_000, skipMiddlewares: true },
    transports: ["websocket"],
    pingInterval: 5_000,
    pingTimeout: 5_000,
  };
  // A message is marked after it is sent: what fails in between is sent again, and not lost.
  let isKnown, mark;
  if (process.argv[2]) {
    const { createClient } = require("redis");
    const { createAdapter } = require("@socket.io/redis-streams-adapter");
    const redis = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
    // Without a listener, a lost connection would end the process.
    redis.on("error", (error) => console.error(`redis: ${error.message}`));
    await redis.connect();
    options.adapter = createAdapter(redis, { maxLen: 1_000_000 });
    isKnown = async (id) => (await redis.exists(`seen:${id}`)) === 1;
    mark = (id) => redis.set(`seen:${id}`, "1", { EX: 3600 });
  } else {
    const seen = new Set();
    isKnown = async (id) => seen.has(id);
    mark = async (id) => seen.add(id);
  }
  const chat = new Server(server, options);
  chat.on("connection", (socket) => {
    socket.join("arena");
    socket.on("say", async (id, text, acknowledge) => {
      try {
        if (!(await isKnown(id))) {
          chat.to("arena").emit("said", text);
          await mark(id);
        }
        acknowledge();
      } catch (error) {
        // No acknowledgement: the client sends it again.
        console.error(`say: ${error.message}`);
      }
    });
  });
  server.listen(0, "127.0.0.1", () => {
    console.log(`listening on port ${server.address().port}`);
  });
}

main();
