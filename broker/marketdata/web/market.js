"use strict";
// Shows one symbol, live.  Prices and sizes stay the texts that came; only what is drawn becomes a number.

const $ = (id) => document.getElementById(id);
const PATH = document.querySelector('meta[name="stream-path"]').content;
const UDF = { "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "2h": "120", "4h": "240",
  "6h": "360", "8h": "480", "12h": "720", "1d": "1D", "1w": "1W", "1M": "1M" };
const query = new URLSearchParams(location.search);
const TRADES_SHOWN = 60;
const LEVELS_SHOWN = 40;

let symbol = query.get("symbol") || "";
let interval = query.get("interval") || "1m";
let intervals = [];
let socket = null;
let attempts = 0;
let book = null;
let trades = [];
let mark = null;
let lastPrice = "";

// --- the book: this is the whole client ----------------------------------------------------------------------------

class Book {
  constructor() { this.seq = 0; this.bids = new Map(); this.asks = new Map(); }
  /** False if a message is missing before this one. */
  take(data) {
    if (data.type === "snapshot") { this.bids.clear(); this.asks.clear(); }
    else if (data.prev !== this.seq) return false;
    for (const side of ["bids", "asks"]) {
      for (const [price, size] of data[side]) {
        if (size === "0") this[side].delete(price); else this[side].set(price, size);
      }
    }
    this.seq = data.seq;
    return true;
  }
  sorted(side) {
    const sign = side === "bids" ? -1 : 1;
    return [...this[side]].sort((a, b) => sign * (Number(a[0]) - Number(b[0])));
  }
}

// --- the chart -----------------------------------------------------------------------------------------------------

const colors = { up: "#26a69a", down: "#ef5350" };
const chart = LightweightCharts.createChart($("chart"), {
  autoSize: true,
  layout: { background: { color: "#151a21" }, textColor: "#7f8a99", fontSize: 11 },
  grid: { vertLines: { color: "#1c222b" }, horzLines: { color: "#1c222b" } },
  rightPriceScale: { borderColor: "#232a34" },
  timeScale: { borderColor: "#232a34", timeVisible: true, secondsVisible: false, rightOffset: 4 },
  crosshair: { mode: LightweightCharts.CrosshairMode.Normal },
});
const candles = chart.addSeries(LightweightCharts.CandlestickSeries, {
  upColor: colors.up, downColor: colors.down, wickUpColor: colors.up, wickDownColor: colors.down, borderVisible: false,
});
const volumes = chart.addSeries(LightweightCharts.HistogramSeries, {
  priceFormat: { type: "volume" }, priceScaleId: "volume", lastValueVisible: false, priceLineVisible: false,
});
volumes.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
candles.priceScale().applyOptions({ scaleMargins: { top: 0.1, bottom: 0.22 } });
let bars = new Map();
let newest = 0;

function shade(bar) { return bar.close >= bar.open ? colors.up + "66" : colors.down + "66"; }

function addBar(bar) {
  bars.set(bar.time, bar);
  if (bar.time < newest) return false; // a correction: all is drawn anew
  newest = bar.time;
  candles.update(bar);
  volumes.update({ time: bar.time, value: bar.volume, color: shade(bar) });
  showBar(bar);
  return true;
}

function drawAll() {
  const all = [...bars.values()].sort((a, b) => a.time - b.time);
  candles.setData(all);
  volumes.setData(all.map((bar) => ({ time: bar.time, value: bar.volume, color: shade(bar) })));
  if (all.length) { newest = all[all.length - 1].time; showBar(all[all.length - 1]); }
}

function showBar(bar) {
  const digits = places(lastPrice);
  const shown = (value) => value.toFixed(digits);
  $("ohlc").textContent =
    `O ${shown(bar.open)}  H ${shown(bar.high)}  L ${shown(bar.low)}  C ${shown(bar.close)}  V ${bar.volume}`;
}

function places(text) { return text.includes(".") ? text.length - text.indexOf(".") - 1 : 0; }

async function loadHistory() {
  const of = `${symbol} ${interval}`;
  const to = Math.floor(Date.now() / 1000) + 60;
  const url = `udf/history?symbol=${encodeURIComponent(symbol)}&resolution=${UDF[interval]}&from=0&to=${to}&countback=500`;
  let found;
  try { found = await (await fetch(url)).json(); } catch { return; }
  if (of !== `${symbol} ${interval}` || found.s !== "ok") return;
  const known = bars; // what came live meanwhile is newer
  bars = new Map();
  found.t.forEach((time, i) => bars.set(time, {
    time, open: found.o[i], high: found.h[i], low: found.l[i], close: found.c[i], volume: found.v[i],
  }));
  for (const [time, bar] of known) bars.set(time, bar);
  drawAll();
}

// --- the stream ----------------------------------------------------------------------------------------------------

function channels() {
  return ["depth", "trades", "ticker", "markprice", `kline_${interval}`].map((kind) => `${symbol}@${kind}`);
}

function send(op, channel) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ op, channel }));
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${PATH}`);
  socket.onopen = () => {
    attempts = 0;
    say("live", true);
    book = new Book();
    channels().forEach((channel) => send("subscribe", channel));
    loadHistory();
  };
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = () => {
    const wait = Math.min(10000, 500 * 2 ** attempts++) * (0.5 + Math.random() / 2);
    say("connection lost, trying again", false);
    setTimeout(connect, wait);
  };
}

function say(text, live) { $("state").textContent = text; $("state").classList.toggle("live", live); }

function take(message) {
  if (!message.event) return;
  const at = message.event.lastIndexOf("@");
  if (message.event.slice(0, at) !== symbol) return;
  const kind = message.event.slice(at + 1), data = message.data;
  if (kind === "depth") {
    if (!book.take(data)) { // can't happen while the server keeps its word; start anew all the same
      send("unsubscribe", message.event);
      book = new Book();
      send("subscribe", message.event);
    }
    wanted.add(drawBook);
  } else if (kind === "trades") {
    trades = [...[...data].reverse(), ...trades].slice(0, TRADES_SHOWN);
    setLast(trades[0].price, trades[0].side);
    wanted.add(drawTrades);
  } else if (kind === "ticker") showTicker(data);
  else if (kind === "markprice") { mark = data; showMark(); }
  else if (kind === `kline_${interval}`) {
    const bar = { time: data.start / 1000, open: +data.open, high: +data.high, low: +data.low, close: +data.close,
      volume: +data.volume };
    if (!addBar(bar)) drawAll();
  }
}

// --- drawing, at most once a frame ---------------------------------------------------------------------------------

const wanted = new Set();
function frame() { for (const draw of wanted) draw(); wanted.clear(); requestAnimationFrame(frame); }

function fill(parent, rows, make) {
  while (parent.childElementCount < rows.length) {
    const row = document.createElement("div");
    row.innerHTML = '<span></span><span></span><span></span><div class="bar"></div>';
    parent.append(row);
  }
  while (parent.childElementCount > rows.length) parent.lastElementChild.remove();
  rows.forEach((row, i) => make(parent.children[i], row));
}

function drawBook() {
  const sides = { asks: book.sorted("asks").slice(0, LEVELS_SHOWN), bids: book.sorted("bids").slice(0, LEVELS_SHOWN) };
  const totals = {};
  for (const side of ["asks", "bids"]) {
    let total = 0;
    totals[side] = sides[side].map(([, size]) => (total += Number(size)));
  }
  const most = Math.max(totals.asks[14] || totals.asks.at(-1) || 0, totals.bids[14] || totals.bids.at(-1) || 0) || 1;
  for (const side of ["asks", "bids"]) {
    const digits = Math.max(0, ...sides[side].map(([, size]) => places(size)));
    fill($(side), sides[side].map((level, i) => [...level, totals[side][i]]), (row, [price, size, total]) => {
      row.className = `row ${side.slice(0, 3)}`;
      row.children[0].textContent = price;
      row.children[1].textContent = size;
      row.children[2].textContent = total.toFixed(Math.min(digits, 4));
      row.children[3].style.width = `${Math.min(100, (100 * total) / most)}%`;
    });
  }
  const ask = sides.asks[0], bid = sides.bids[0];
  if (ask && bid) {
    const digits = Math.max(places(ask[0]), places(bid[0]));
    $("spread").textContent = `spread ${(ask[0] - bid[0]).toFixed(digits)}`;
  }
}

function drawTrades() {
  fill($("trades"), trades, (row, trade) => {
    row.className = `row ${trade.side || ""}`;
    row.children[0].textContent = trade.price;
    row.children[1].textContent = trade.size;
    row.children[2].textContent = new Date(trade.ts).toLocaleTimeString("en-GB");
  });
}

function setLast(price, side) {
  const way = side ? (side === "buy" ? "up" : "down") : "";
  for (const id of ["last", "best"]) { $(id).textContent = price; $(id).className = way; }
  if (price !== lastPrice) {
    const digits = places(price);
    if (digits !== places(lastPrice)) {
      candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    }
    lastPrice = price;
    document.title = `${price} ${symbol}`;
  }
}

function short(text) {
  const value = Number(text);
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)}B` : value >= 1e6 ? `${(value / 1e6).toFixed(2)}M`
    : value >= 1e4 ? Math.round(value).toLocaleString("en-US") : text;
}

function showTicker(data) {
  if (!trades.length) setLast(data.last, "");
  $("change").textContent = data.change_percent === null ? "–" : `${data.change[0] === "-" ? "" : "+"}${data.change_percent}%`;
  $("change").className = data.change[0] === "-" ? "down" : "up";
  $("high").textContent = data.high;
  $("low").textContent = data.low;
  $("volume").textContent = short(data.volume);
  $("turnover").textContent = short(data.quota);
}

function showMark() {
  if (!mark) return;
  $("mark").textContent = mark.mark ?? "–";
  $("mark").className = mark.stale ? "stale" : "";
  $("mark").title = mark.stale ? "an input is old" : "";
  $("index").textContent = mark.index ?? "–";
  const left = mark.next_funding === null ? null : Math.max(0, mark.next_funding - Date.now()) / 1000;
  const clock = left === null ? "–" : [left / 3600, (left / 60) % 60, left % 60]
    .map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
  $("funding").textContent = `${mark.funding === null ? "–" : `${(100 * mark.funding).toFixed(4)}%`} / ${clock}`;
}

// --- what is chosen ------------------------------------------------------------------------------------------------

function forget() {
  book = new Book();
  trades = [];
  bars = new Map();
  newest = 0;
  mark = null;
  lastPrice = "";
  drawAll();
  for (const id of ["asks", "bids", "trades"]) $(id).replaceChildren();
  for (const id of ["last", "best", "change", "mark", "index", "funding", "high", "low", "volume", "turnover"]) {
    $(id).textContent = "–";
  }
}

function choose(newSymbol, newInterval) {
  const before = channels();
  const symbolChanged = newSymbol !== symbol;
  [symbol, interval] = [newSymbol, newInterval];
  const after = channels();
  before.filter((channel) => !after.includes(channel)).forEach((channel) => send("unsubscribe", channel));
  if (symbolChanged) forget(); else { bars = new Map(); newest = 0; drawAll(); }
  after.filter((channel) => !before.includes(channel)).forEach((channel) => send("subscribe", channel));
  history.replaceState(null, "", `?symbol=${encodeURIComponent(symbol)}&interval=${interval}`);
  showChoice();
  loadHistory().then(() => chart.timeScale().fitContent());
}

function showChoice() {
  $("symbol").value = symbol;
  for (const button of $("intervals").children) button.ariaPressed = String(button.textContent === interval);
}

async function start() {
  let found, config;
  try {
    config = await (await fetch("udf/config")).json();
    found = await (await fetch("udf/search?query=&limit=1000")).json();
  } catch { found = []; }
  if (!found.length) { // nothing has been traded yet
    say("waiting for the market", false);
    setTimeout(start, 1000);
    return;
  }
  const names = found.map((one) => one.symbol);
  if (!names.includes(symbol)) symbol = names[0];
  $("symbol").replaceChildren(...names.map((name) => new Option(name, name)));
  intervals = Object.keys(UDF).filter((name) => config.supported_resolutions.includes(UDF[name]));
  if (!intervals.includes(interval)) interval = intervals[0];
  $("intervals").replaceChildren(...intervals.map((name) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.onclick = () => choose(symbol, name);
    return button;
  }));
  $("symbol").onchange = () => choose($("symbol").value, interval);
  showChoice();
  connect();
  setInterval(showMark, 1000);
  frame();
}

start();
