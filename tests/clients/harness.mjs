// Drives the JavaScript client from a test: commands in by lines, what it sent and told out by lines.
import { createInterface } from "node:readline";
import { Rowcast } from "../../clients/js/index.js";

Math.random = () => 0;
let socket = null, sent = [], events = [];
class Socket {
  constructor() {
    this.readyState = 0;
    socket = this;
  }
  send(text) { sent.push(text); }
  close() { this.readyState = 3; }
}
const rowcast = new Rowcast("ws://x", { WebSocket: Socket, exactIntegers: true });
const subscriptions = new Map();
const told = (kind) => (value, one) => events.push([one.topic, kind, value]);
const act = {
  subscribe({ topic, since }) {
    subscriptions.set(topic, rowcast.subscribe(topic, {
      since: since ?? undefined, onMessage: told("message"), onState: told("state"), onGap: told("gap"),
    }));
  },
  async open() {
    while (!socket) await new Promise((resolve) => setTimeout(resolve, 0));
    socket.readyState = 1;
    socket.onopen();
  },
  text({ text }) { socket.onmessage({ data: text }); },
  close({ code }) {
    const old = socket;
    socket = null;
    old.readyState = 3;
    old.onclose({ code, reason: "" });
  },
};
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await act[command.act](command);
  const state = [...subscriptions.values()].map((one) => [one.topic, one.at, one.live]);
  process.stdout.write(JSON.stringify({ sent, events, state }) + "\n");
  sent = [];
  events = [];
}
process.exit(0);
