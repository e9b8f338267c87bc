// An order book, kept from an exchange's WebSocket; prints the best bid and ask whenever they change.
//
//     node book.mjs ws://127.0.0.1:6790/exchange-stream BTCUSDT
//
// In Node 22 and in browsers WebSocket is there; in older Nodes, the package ws is used.

export class Book {
  constructor() { this.seq = 0; this.bids = new Map(); this.asks = new Map(); }

  take(data) {
    if (data.type === "snapshot") { this.bids.clear(); this.asks.clear(); }
    else if (data.prev !== this.seq) throw new Error("a message is missing"); // never happens
    for (const side of ["bids", "asks"]) {
      for (const [price, size] of data[side]) {
        if (size === "0") this[side].delete(price); else this[side].set(price, size);
      }
    }
    this.seq = data.seq;
  }

  best() {
    const bids = [...this.bids.keys()].map(Number), asks = [...this.asks.keys()].map(Number);
    return `${bids.length ? Math.max(...bids) : "-"} ${asks.length ? Math.min(...asks) : "-"}`;
  }
}

async function main(url, symbol) {
  const Socket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
  const socket = new Socket(url), book = new Book();
  let shown = "";
  socket.onopen = () => socket.send(JSON.stringify({ op: "subscribe", channel: `${symbol}@depth` }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (!message.event) { console.log(message.result ? "subscribed" : `refused: ${message.msg}`); return; }
    book.take(message.data);
    if (book.best() !== shown) console.log((shown = book.best()));
  };
}

if (globalThis.process?.argv[1]?.endsWith("book.mjs")) main(process.argv[2], process.argv[3]);
