// A chat on Socket.IO, one of several nodes that share a Redis by the adapter for its streams.
"use strict";

const http = require("node:http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-streams-adapter");

async function main() {
  const redis = createClient({ socket: { path: process.argv[2] } });
  await redis.connect();
  const server = http.createServer();
  const chat = new Server(server, {
    adapter: createAdapter(redis),
    transports: ["websocket"],
    // The load does not answer pings.
    pingInterval: 600_000,
  });
  chat.on("connection", (socket) => {
    const room = socket.handshake.query.room;
    const { remoteAddress, remotePort } = socket.request.socket;
    socket.join(room);
    socket.on("say", (text) => chat.to(room).emit("said", `${remoteAddress}:${remotePort}: ${text}`));
  });
  server.listen(0, "127.0.0.1", () => {
    console.log(`listening on port ${server.address().port}`);
  });
}

main();
