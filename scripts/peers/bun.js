// A chat on Bun, whose server is uWebSockets: each room is a topic.
"use strict";

const certificate = process.argv[2];
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  tls: certificate
    ? { cert: Bun.file(certificate), key: Bun.file(certificate) }
    : undefined,
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    const { address, port } = server.requestIP(request);
    const prefix = room === "/relay" ? "" : `${address}:${port}: `;
    if (server.upgrade(request, { data: { room, prefix } })) return undefined;
    return new Response("This is a WebSocket server.", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    open(socket) {
      socket.subscribe(socket.data.room);
    },
    message(socket, message) {
      server.publish(socket.data.room, `${socket.data.prefix}${message}`);
    },
  },
});
console.log(`listening on port ${server.port}`);
