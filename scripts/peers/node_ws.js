// A chat on Node's ws.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");

const certificate = process.argv[2];
const server = certificate
  ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(certificate) })
  : http.createServer();
const chat = new WebSocketServer({ server, perMessageDeflate: false });
const rooms = new Map();

chat.on("connection", (socket, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room);
  room.add(socket);
  const sender = `${request.socket.remoteAddress}:${request.socket.remotePort}: `;
  const prefix = request.url === "/relay" ? "" : sender;
  socket.on("message", (data) => {
    const text = `${prefix}${data}`;
    for (const member of room) {
      if (member.readyState === WebSocket.OPEN) member.send(text);
    }
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => room.delete(socket));
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on port ${server.address().port}`);
});
