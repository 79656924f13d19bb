// The clients of Socket.IO of a run, in one process: a line of JSON on standard input opens a
// client or has it say something, and a line on standard output tells what a client has seen.
"use strict";

const readline = require("node:readline");
const { io } = require("socket.io-client");

const clients = new Map();

function tell(client, what, text) {
  process.stdout.write(`${JSON.stringify({ client, what, text })}\n`);
}

function open(name, url) {
  const socket = io(url, {
    transports: ["websocket"],
    // Send again what is not acknowledged, in order.
    retries: 1_000,
    ackTimeout: 5_000,
    reconnectionDelay: 500,
    reconnectionDelayMax: 5_000,
    multiplex: false,
  });
  socket.on("connect", () => tell(name, socket.recovered ? "recovered" : "connected"));
  socket.on("said", (text) => tell(name, "seen", text));
  clients.set(name, socket);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { client, url, text } = JSON.parse(line);
  if (url) {
    open(client, url);
    return;
  }
  clients.get(client).emit("say", text, text, (error) => {
    if (!error) {
      tell(client, "acked", text);
    }
  });
}).on("close", () => process.exit(0));
