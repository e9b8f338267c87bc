// Orders, trades and prices of an account, with the class of CantonDEX's document as it is.
//
//     node canton_orders.ts ws://127.0.0.1:8000/v1/ws TOKEN acc_1000000000000001
//
// Node 22.18 or newer; `rowcast demo --example canton` shows a URL and a token.

import { CantonDEXWebSocket } from "./canton_document.ts";

const [url, token, account] = process.argv.slice(2);

// The class knows one address; ours is another.
const NativeWebSocket = globalThis.WebSocket;
globalThis.WebSocket = class extends NativeWebSocket {
  constructor() {
    super(url);
  }
};

class Printing extends CantonDEXWebSocket {
  onOrderCreated(order) {
    console.log("order", order.order_id, order.side, order.quantity, order.symbol, "at", order.price);
  }
  onOrderUpdated(order) {
    console.log("order", order.order_id, order.status, order.filled);
  }
  onTradeExecuted(trade) {
    console.log("trade", trade.trade_id, trade.quantity, trade.symbol, "at", trade.price);
  }
  onPriceUpdate(price) {
    console.log("price", price.symbol, price.last_price);
  }
}

const client = new Printing(token, account);
client.connect().then(
  () => {
    client.subscribeToOrders();
    client.subscribeToTrades();
    client.subscribeToMarketData(["AAPL/USDC", "GOOGL/USDC"]);
    console.log("connected");
  },
  (error) => {
    console.error(String(error.message ?? error));
    process.exit(1);
  },
);
