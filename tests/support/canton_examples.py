"""Every JSON example of the CantonDEX WebSocket API document, word for word, by its heading there."""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "Authentication: Request": """{
  "type": "auth",
  "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9..."
}""",
    "Authentication: Response (Success)": """{
  "type": "auth_response",
  "status": "authenticated",
  "account_id": "acc_1234567890abcdef",
  "message": "Successfully authenticated"
}""",
    "Authentication: Response (Error)": """{
  "type": "auth_response",
  "status": "failed",
  "error_code": "INVALID_TOKEN",
  "error_message": "Token is invalid or expired"
}""",
    "Order Updates Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "orders",
  "account_id": "acc_1234567890abcdef"
}""",
    "Order Updates Stream: Subscription Confirmation": """{
  "type": "subscription_response",
  "channel": "orders",
  "account_id": "acc_1234567890abcdef",
  "status": "subscribed",
  "message": "Now receiving order updates"
}""",
    "Order Updates Stream: Order Created Event": """{
  "type": "order_created",
  "account_id": "acc_1234567890abcdef",
  "order_id": "ord_1234567890abcdef",
  "symbol": "AAPL/USDC",
  "side": "buy",
  "order_type": "limit",
  "quantity": 100,
  "price": 150.50,
  "status": "pending",
  "timestamp": "2024-11-17T16:30:00Z"
}""",
    "Order Updates Stream: Order Updated Event": """{
  "type": "order_updated",
  "account_id": "acc_1234567890abcdef",
  "order_id": "ord_1234567890abcdef",
  "status": "partially_filled",
  "filled": 50,
  "average_fill_price": 150.48,
  "timestamp": "2024-11-17T16:30:15Z"
}""",
    "Order Updates Stream: Order Filled Event": """{
  "type": "order_filled",
  "account_id": "acc_1234567890abcdef",
  "order_id": "ord_1234567890abcdef",
  "quantity": 100,
  "price": 150.48,
  "fill_time": "2024-11-17T16:30:30Z",
  "trade_id": "trd_1234567890abcdef"
}""",
    "Order Updates Stream: Order Cancelled Event": """{
  "type": "order_cancelled",
  "account_id": "acc_1234567890abcdef",
  "order_id": "ord_1234567890abcdef",
  "reason": "user_requested",
  "timestamp": "2024-11-17T16:31:00Z"
}""",
    "Trade Updates Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "trades",
  "account_id": "acc_1234567890abcdef"
}""",
    "Trade Updates Stream: Trade Executed Event": """{
  "type": "trade_executed",
  "account_id": "acc_1234567890abcdef",
  "trade_id": "trd_1234567890abcdef",
  "order_id": "ord_1234567890abcdef",
  "symbol": "AAPL/USDC",
  "side": "buy",
  "quantity": 50,
  "price": 150.48,
  "commission": 7.52,
  "gross_amount": 7524,
  "net_amount": 7516.48,
  "executed_at": "2024-11-17T16:30:30Z"
}""",
    "Trade Updates Stream: Trade Cancelled Event": """{
  "type": "trade_cancelled",
  "trade_id": "trd_1234567890abcdef",
  "reason": "settlement_failed",
  "timestamp": "2024-11-17T16:35:00Z"
}""",
    "Market Data Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "market_data",
  "symbols": ["AAPL/USDC", "GOOGL/USDC"],
  "aggregation": "1s"
}""",
    "Market Data Stream: Price Update Event": """{
  "type": "price_update",
  "symbol": "AAPL/USDC",
  "bid": 150.45,
  "ask": 150.50,
  "mid": 150.475,
  "last_price": 150.48,
  "timestamp": "2024-11-17T16:30:45Z"
}""",
    "Market Data Stream: Order Book Update Event": """{
  "type": "orderbook_update",
  "symbol": "AAPL/USDC",
  "timestamp": "2024-11-17T16:30:45Z",
  "changes": {
    "bids": [
      {"price": 150.45, "quantity": 5000, "action": "update"},
      {"price": 150.40, "quantity": 0, "action": "delete"}
    ],
    "asks": [
      {"price": 150.50, "quantity": 4500, "action": "update"}
    ]
  }
}""",
    "Settlement Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "settlements",
  "account_id": "acc_1234567890abcdef"
}""",
    "Settlement Stream: Settlement Created Event": """{
  "type": "settlement_created",
  "settlement_id": "set_1234567890abcdef",
  "trade_id": "trd_1234567890abcdef",
  "symbol": "AAPL/USDC",
  "quantity": 50,
  "amount": 7524,
  "settlement_date": "2024-11-19T00:00:00Z",
  "timestamp": "2024-11-17T16:30:30Z"
}""",
    "Settlement Stream: Settlement Confirmed Event": """{
  "type": "settlement_confirmed",
  "settlement_id": "set_1234567890abcdef",
  "dvp_transaction_id": "dvp_tx_1234567890",
  "timestamp": "2024-11-17T16:30:45Z"
}""",
    "Settlement Stream: Settlement Failed Event": """{
  "type": "settlement_failed",
  "settlement_id": "set_1234567890abcdef",
  "reason": "insufficient_funds",
  "error_message": "Insufficient cash balance for settlement",
  "timestamp": "2024-11-17T16:35:00Z"
}""",
    "Account Notifications Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "account_notifications",
  "account_id": "acc_1234567890abcdef"
}""",
    "Account Notifications Stream: Balance Updated Event": """{
  "type": "balance_updated",
  "account_id": "acc_1234567890abcdef",
  "total_balance": 975000,
  "available_balance": 825000,
  "reserved_balance": 150000,
  "timestamp": "2024-11-17T16:30:30Z"
}""",
    "Account Notifications Stream: Margin Call Event": """{
  "type": "margin_call",
  "account_id": "acc_1234567890abcdef",
  "current_margin_level": 0.45,
  "warning_level": 0.5,
  "liquidation_level": 0.3,
  "message": "Your margin level is below 50%. Please add funds or reduce positions.",
  "timestamp": "2024-11-17T16:35:00Z"
}""",
    "Account Notifications Stream: Deposit Received Event": """{
  "type": "deposit_received",
  "account_id": "acc_1234567890abcdef",
  "deposit_id": "dep_1234567890abcdef",
  "currency": "USDC",
  "amount": 10000,
  "transaction_hash": "0xabcd1234...",
  "timestamp": "2024-11-17T16:20:00Z"
}""",
    "Account Notifications Stream: Withdrawal Processed Event": """{
  "type": "withdrawal_processed",
  "account_id": "acc_1234567890abcdef",
  "withdrawal_id": "wth_1234567890abcdef",
  "currency": "USDC",
  "amount": 5000,
  "transaction_hash": "0xabcd1234...",
  "timestamp": "2024-11-17T16:25:00Z"
}""",
    "Compliance Events Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "compliance_events"
}""",
    "Compliance Events Stream: Suspicious Activity Detected Event": """{
  "type": "suspicious_activity_detected",
  "event_id": "evt_1234567890abcdef",
  "account_id": "acc_1234567890abcdef",
  "activity_type": "unusual_trading_pattern",
  "severity": "medium",
  "description": "Trader executed 50 orders in 2 minutes (unusual for this account)",
  "timestamp": "2024-11-17T16:35:00Z",
  "action_required": true
}""",
    "Compliance Events Stream: KYC Status Changed Event": """{
  "type": "kyc_status_changed",
  "account_id": "acc_1234567890abcdef",
  "new_status": "approved",
  "previous_status": "pending_review",
  "kyc_tier": "tier_2",
  "timestamp": "2024-11-17T16:40:00Z"
}""",
    "Compliance Events Stream: Large Transaction Alert Event": """{
  "type": "large_transaction_alert",
  "alert_id": "alr_1234567890abcdef",
  "account_id": "acc_1234567890abcdef",
  "transaction_type": "trade",
  "amount": 5000000,
  "threshold": 1000000,
  "timestamp": "2024-11-17T16:45:00Z"
}""",
    "System Health Stream: Subscribe Request": """{
  "type": "subscribe",
  "channel": "system_health"
}""",
    "System Health Stream: System Status Event": """{
  "type": "system_status",
  "status": "operational",
  "all_services_healthy": true,
  "timestamp": "2024-11-17T16:50:00Z"
}""",
    "System Health Stream: Service Degraded Event": """{
  "type": "service_degraded",
  "service": "matching_engine",
  "status": "degraded",
  "message": "Increased latency detected (P99: 5ms)",
  "timestamp": "2024-11-17T16:55:00Z"
}""",
    "System Health Stream: Maintenance Notice Event": """{
  "type": "maintenance_notice",
  "service": "compliance_service",
  "start_time": "2024-11-18T02:00:00Z",
  "end_time": "2024-11-18T03:00:00Z",
  "description": "Database maintenance - full functionality will be unavailable",
  "timestamp": "2024-11-17T17:00:00Z"
}""",
    "Unsubscribe: Unsubscribe Request": """{
  "type": "unsubscribe",
  "channel": "orders",
  "account_id": "acc_1234567890abcdef"
}""",
    "Unsubscribe: Unsubscribe Response": """{
  "type": "unsubscribe_response",
  "channel": "orders",
  "status": "unsubscribed",
  "message": "No longer receiving order updates"
}""",
    "Heartbeat / Keep-Alive: Server Heartbeat": """{
  "type": "ping",
  "timestamp": "2024-11-17T17:05:00Z"
}""",
    "Heartbeat / Keep-Alive: Client Response": """{
  "type": "pong",
  "timestamp": "2024-11-17T17:05:00Z"
}""",
    "Error Handling: Error Message": """{
  "type": "error",
  "code": "SUBSCRIPTION_ERROR",
  "message": "Failed to subscribe to channel",
  "details": {
    "channel": "orders",
    "reason": "insufficient_permissions"
  },
  "timestamp": "2024-11-17T17:10:00Z"
}""",
    "Message Format": """{
  "type": "message_type",
  "timestamp": "2024-11-17T17:00:00Z",
  "...": "other fields specific to message type"
}""",
}
