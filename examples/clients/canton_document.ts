// The client class of CantonDEX's WebSocket document, word for word; canton_orders.ts uses it.
class CantonDEXWebSocket {
  private ws: WebSocket | null = null;
  private token: string;
  private accountId: string;
  private reconnectAttempts = 0;
  private maxReconnectAttempts = 5;

  constructor(token: string, accountId: string) {
    this.token = token;
    this.accountId = accountId;
  }

  connect(): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        this.ws = new WebSocket('wss://api.cantondex.io/v1/ws');

        this.ws.onopen = () => {
          this.authenticate().then(resolve).catch(reject);
        };

        this.ws.onmessage = (event) => this.handleMessage(JSON.parse(event.data));
        this.ws.onerror = (error) => reject(error);
      } catch (error) {
        reject(error);
      }
    });
  }

  private authenticate(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timeout = setTimeout(() => {
        reject(new Error('Authentication timeout'));
      }, 5000);

      this.send({
        type: 'auth',
        token: this.token
      });

      // Wait for auth response
      const originalOnMessage = this.ws!.onmessage;
      this.ws!.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type === 'auth_response') {
          clearTimeout(timeout);
          this.ws!.onmessage = originalOnMessage;
          if (message.status === 'authenticated') {
            resolve();
          } else {
            reject(new Error(`Authentication failed: ${message.error_message}`));
          }
        }
      };
    });
  }

  subscribeToOrders(): void {
    this.send({
      type: 'subscribe',
      channel: 'orders',
      account_id: this.accountId
    });
  }

  subscribeToTrades(): void {
    this.send({
      type: 'subscribe',
      channel: 'trades',
      account_id: this.accountId
    });
  }

  subscribeToMarketData(symbols: string[]): void {
    this.send({
      type: 'subscribe',
      channel: 'market_data',
      symbols: symbols
    });
  }

  private handleMessage(message: any): void {
    switch (message.type) {
      case 'order_created':
        this.onOrderCreated(message);
        break;
      case 'order_updated':
        this.onOrderUpdated(message);
        break;
      case 'trade_executed':
        this.onTradeExecuted(message);
        break;
      case 'price_update':
        this.onPriceUpdate(message);
        break;
      case 'ping':
        this.sendPong();
        break;
      // Handle other message types...
    }
  }

  private send(message: any): void {
    if (this.ws?.readyState === WebSocket.OPEN) {
      this.ws.send(JSON.stringify(message));
    }
  }

  private sendPong(): void {
    this.send({
      type: 'pong',
      timestamp: new Date().toISOString()
    });
  }

  protected onOrderCreated(order: any): void {}
  protected onOrderUpdated(order: any): void {}
  protected onTradeExecuted(trade: any): void {}
  protected onPriceUpdate(price: any): void {}

  close(): void {
    if (this.ws) {
      this.ws.close();
      this.ws = null;
    }
  }
}

export { CantonDEXWebSocket };
