// A datafeed for TradingView's charting library: history by UDF, the rest by the exchange's WebSocket.
//
//     new TradingView.widget({ datafeed: new RowcastDatafeed("http://HOST:PORT", "/exchange-stream"), symbol: "BTCUSDT", … })

class RowcastDatafeed {
  constructor(base, streamPath = "/exchange-stream") {
    this.base = base.replace(/\/$/, "");
    this.stream = this.base.replace(/^http/, "ws") + streamPath;
    this.readers = new Map(); // id -> { channel, onBar, onReset, last }
    this.socket = null;
    this.names = { 1: "1m", 3: "3m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 120: "2h", 240: "4h", 360: "6h", 480: "8h",
      720: "12h", "1D": "1d", D: "1d", "1W": "1w", W: "1w", "1M": "1M", M: "1M" };
  }

  async ask(what, parameters = {}) {
    return (await fetch(`${this.base}/udf/${what}?${new URLSearchParams(parameters)}`)).json();
  }

  async onReady(ready) { ready(await this.ask("config")); }

  async searchSymbols(query, exchange, type, found) { found(await this.ask("search", { query, exchange, type })); }

  async resolveSymbol(symbol, resolved, failed) {
    const found = await this.ask("symbols", { symbol });
    if (found.s === "error") failed(found.errmsg); else resolved(found);
  }

  async getBars(symbol, resolution, { from, to, countBack }, found, failed) {
    const bars = await this.ask("history", { symbol: symbol.ticker, resolution, from, to, countback: countBack });
    if (bars.s === "error") { failed(bars.errmsg); return; }
    if (bars.s === "no_data") { found([], { noData: true }); return; }
    found(bars.t.map((time, i) => ({
      time: time * 1000, open: bars.o[i], high: bars.h[i], low: bars.l[i], close: bars.c[i], volume: bars.v[i],
    })), { noData: false });
  }

  subscribeBars(symbol, resolution, onBar, id, onReset) {
    const channel = `${symbol.ticker}@kline_${this.names[resolution]}`;
    this.readers.set(id, { channel, onBar, onReset, last: 0 });
    if (!this.socket) this.connect(); else this.send("subscribe", channel);
  }

  unsubscribeBars(id) {
    const reader = this.readers.get(id);
    this.readers.delete(id);
    if (reader && ![...this.readers.values()].some((one) => one.channel === reader.channel)) {
      this.send("unsubscribe", reader.channel);
    }
  }

  connect() {
    this.socket = new WebSocket(this.stream);
    this.socket.onopen = () => this.readers.forEach((reader) => this.send("subscribe", reader.channel));
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = () => setTimeout(() => {
      this.readers.forEach((reader) => reader.onReset && reader.onReset()); // bars may have been closed meanwhile
      this.connect();
    }, 1000);
  }

  send(op, channel) {
    if (this.socket && this.socket.readyState === 1) this.socket.send(JSON.stringify({ op, channel }));
  }

  take({ event, data }) {
    if (!event) return;
    for (const reader of this.readers.values()) {
      if (reader.channel !== event) continue;
      const bar = { time: data.start, open: +data.open, high: +data.high, low: +data.low, close: +data.close, volume: +data.volume };
      if (data.start < reader.last) { if (reader.onReset) reader.onReset(); continue; } // a correction of an older bar
      reader.last = data.start;
      reader.onBar(bar);
    }
  }
}

if (typeof module !== "undefined") module.exports = { RowcastDatafeed };
