-- The tables behind CantonDEX's channels, and triggers that publish every event of its document; see canton.toml.
--
--     psql "$DATABASE_URL" -f examples/canton.sql
--
-- `canton.publish` says which channel a message is for, so a row need not carry its account in the message.  It tells
-- the feed alone, in its place among what is committed, and of any size; `rowcast feed install` brings what it calls, and
-- until then nothing is told.  The number makes two messages of one transaction differ that say the same: as with
-- NOTIFY, equal ones come once.

create schema canton;

create sequence canton.message_number;

create function canton.publish(channel text, message json) returns void language plpgsql as $$
begin
    if to_regprocedure('rowcast.notify(text, text)') is not null then
        perform rowcast.notify('canton', json_build_object(
            'channel', channel, 'message', message, 'number', nextval('canton.message_number'))::text);
    end if;
end
$$;

-- Times on the wire: UTC, ISO 8601, with Z.
create function canton.iso(moment timestamptz) returns text language sql stable as $$
    select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

-- orders/ACCOUNT --------------------------------------------------------------------------------------------

create table canton.orders (
    order_id           text primary key,
    account_id         text not null,
    symbol             text not null,
    side               text not null,
    order_type         text not null default 'limit',
    quantity           numeric not null,
    price              numeric not null,
    status             text not null default 'pending',
    filled             numeric not null default 0,
    average_fill_price numeric,
    trade_id           text,
    reason             text,
    updated_at         timestamptz not null default now()
);

create function canton.order_event(o canton.orders) returns json language sql stable as $$
    select case o.status
        when 'pending' then json_build_object(
            'type', 'order_created', 'account_id', o.account_id, 'order_id', o.order_id, 'symbol', o.symbol,
            'side', o.side, 'order_type', o.order_type, 'quantity', o.quantity, 'price', o.price,
            'status', o.status, 'timestamp', canton.iso(o.updated_at))
        when 'filled' then json_build_object(
            'type', 'order_filled', 'account_id', o.account_id, 'order_id', o.order_id,
            'quantity', o.quantity, 'price', o.average_fill_price, 'fill_time', canton.iso(o.updated_at),
            'trade_id', o.trade_id)
        when 'cancelled' then json_build_object(
            'type', 'order_cancelled', 'account_id', o.account_id, 'order_id', o.order_id,
            'reason', o.reason, 'timestamp', canton.iso(o.updated_at))
        else json_build_object(
            'type', 'order_updated', 'account_id', o.account_id, 'order_id', o.order_id, 'status', o.status,
            'filled', o.filled, 'average_fill_price', o.average_fill_price,
            'timestamp', canton.iso(o.updated_at))
    end
$$;

create function canton.publish_order() returns trigger language plpgsql as $$
begin
    perform canton.publish('orders/' || new.account_id, canton.order_event(new));
    return null;
end
$$;

create trigger publish after insert or update on canton.orders
    for each row execute function canton.publish_order();

-- trades/ACCOUNT --------------------------------------------------------------------------------------------

create table canton.trades (
    trade_id    text primary key,
    account_id  text not null,
    order_id    text not null,
    symbol      text not null,
    side        text not null,
    quantity    numeric not null,
    price       numeric not null,
    commission  numeric not null,
    status      text not null default 'executed',
    reason      text,
    updated_at  timestamptz not null default now()
);

create function canton.trade_event(t canton.trades) returns json language sql stable as $$
    select case t.status
        when 'cancelled' then json_build_object(
            'type', 'trade_cancelled', 'trade_id', t.trade_id, 'reason', t.reason,
            'timestamp', canton.iso(t.updated_at))
        else json_build_object(
            'type', 'trade_executed', 'account_id', t.account_id, 'trade_id', t.trade_id,
            'order_id', t.order_id, 'symbol', t.symbol, 'side', t.side, 'quantity', t.quantity,
            'price', t.price, 'commission', t.commission,
            'gross_amount', trim_scale(t.quantity * t.price),
            'net_amount', t.quantity * t.price - t.commission,
            'executed_at', canton.iso(t.updated_at))
    end
$$;

create function canton.publish_trade() returns trigger language plpgsql as $$
begin
    perform canton.publish('trades/' || new.account_id, canton.trade_event(new));
    return null;
end
$$;

create trigger publish after insert or update on canton.trades
    for each row execute function canton.publish_trade();

-- market_data/SYMBOL ----------------------------------------------------------------------------------------

create table canton.prices (
    symbol     text primary key,
    bid        numeric not null,
    ask        numeric not null,
    last_price numeric not null,
    updated_at timestamptz not null default now()
);

create function canton.price_event(p canton.prices) returns json language sql stable as $$
    select json_build_object(
        'type', 'price_update', 'symbol', p.symbol, 'bid', p.bid, 'ask', p.ask,
        'mid', trim_scale((p.bid + p.ask) / 2), 'last_price', p.last_price,
        'timestamp', canton.iso(p.updated_at))
$$;

create function canton.publish_price() returns trigger language plpgsql as $$
begin
    perform canton.publish('market_data/' || new.symbol, canton.price_event(new));
    return null;
end
$$;

create trigger publish after insert or update on canton.prices
    for each row execute function canton.publish_price();

create table canton.book_changes (
    change_id  bigint primary key,
    symbol     text not null,
    bids       json not null default '[]',       -- [{"price": ..., "quantity": ..., "action": ...}, ...]
    asks       json not null default '[]',
    changed_at timestamptz not null default now()
);

create function canton.book_event(c canton.book_changes) returns json language sql stable as $$
    select json_build_object(
        'type', 'orderbook_update', 'symbol', c.symbol, 'timestamp', canton.iso(c.changed_at),
        'changes', json_build_object('bids', c.bids, 'asks', c.asks))
$$;

create function canton.publish_book() returns trigger language plpgsql as $$
begin
    perform canton.publish('market_data/' || new.symbol, canton.book_event(new));
    return null;
end
$$;

create trigger publish after insert on canton.book_changes
    for each row execute function canton.publish_book();

-- settlements/ACCOUNT ---------------------------------------------------------------------------------------

create table canton.settlements (
    settlement_id      text primary key,
    account_id         text not null,
    trade_id           text not null,
    symbol             text not null,
    quantity           numeric not null,
    amount             numeric not null,
    settlement_date    timestamptz not null,
    status             text not null default 'created',
    dvp_transaction_id text,
    reason             text,
    error_message      text,
    updated_at         timestamptz not null default now()
);

create function canton.settlement_event(s canton.settlements) returns json language sql stable as $$
    select case s.status
        when 'confirmed' then json_build_object(
            'type', 'settlement_confirmed', 'settlement_id', s.settlement_id,
            'dvp_transaction_id', s.dvp_transaction_id, 'timestamp', canton.iso(s.updated_at))
        when 'failed' then json_build_object(
            'type', 'settlement_failed', 'settlement_id', s.settlement_id, 'reason', s.reason,
            'error_message', s.error_message, 'timestamp', canton.iso(s.updated_at))
        else json_build_object(
            'type', 'settlement_created', 'settlement_id', s.settlement_id, 'trade_id', s.trade_id,
            'symbol', s.symbol, 'quantity', s.quantity, 'amount', s.amount,
            'settlement_date', canton.iso(s.settlement_date), 'timestamp', canton.iso(s.updated_at))
    end
$$;

create function canton.publish_settlement() returns trigger language plpgsql as $$
begin
    perform canton.publish('settlements/' || new.account_id, canton.settlement_event(new));
    return null;
end
$$;

create trigger publish after insert or update on canton.settlements
    for each row execute function canton.publish_settlement();

-- account_notifications/ACCOUNT -----------------------------------------------------------------------------

create table canton.balances (
    account_id        text primary key,
    available_balance numeric not null,
    reserved_balance  numeric not null,
    updated_at        timestamptz not null default now()
);

create function canton.balance_event(b canton.balances) returns json language sql stable as $$
    select json_build_object(
        'type', 'balance_updated', 'account_id', b.account_id,
        'total_balance', b.available_balance + b.reserved_balance,
        'available_balance', b.available_balance, 'reserved_balance', b.reserved_balance,
        'timestamp', canton.iso(b.updated_at))
$$;

create function canton.publish_balance() returns trigger language plpgsql as $$
begin
    perform canton.publish('account_notifications/' || new.account_id, canton.balance_event(new));
    return null;
end
$$;

create trigger publish after insert or update on canton.balances
    for each row execute function canton.publish_balance();

create table canton.margin_calls (
    margin_call_id       bigint primary key,
    account_id           text not null,
    current_margin_level numeric not null,
    warning_level        numeric not null,
    liquidation_level    numeric not null,
    message              text not null,
    called_at            timestamptz not null default now()
);

create function canton.margin_event(m canton.margin_calls) returns json language sql stable as $$
    select json_build_object(
        'type', 'margin_call', 'account_id', m.account_id, 'current_margin_level', m.current_margin_level,
        'warning_level', m.warning_level, 'liquidation_level', m.liquidation_level,
        'message', m.message, 'timestamp', canton.iso(m.called_at))
$$;

create function canton.publish_margin_call() returns trigger language plpgsql as $$
begin
    perform canton.publish('account_notifications/' || new.account_id, canton.margin_event(new));
    return null;
end
$$;

create trigger publish after insert on canton.margin_calls
    for each row execute function canton.publish_margin_call();

create table canton.transfers (
    transfer_id      text primary key,                  -- dep_... or wth_...
    account_id       text not null,
    direction        text not null,                     -- 'deposit' or 'withdrawal'
    currency         text not null,
    amount           numeric not null,
    transaction_hash text not null,
    processed_at     timestamptz not null default now()
);

create function canton.transfer_event(t canton.transfers) returns json language sql stable as $$
    select case t.direction
        when 'deposit' then json_build_object(
            'type', 'deposit_received', 'account_id', t.account_id, 'deposit_id', t.transfer_id,
            'currency', t.currency, 'amount', t.amount, 'transaction_hash', t.transaction_hash,
            'timestamp', canton.iso(t.processed_at))
        else json_build_object(
            'type', 'withdrawal_processed', 'account_id', t.account_id, 'withdrawal_id', t.transfer_id,
            'currency', t.currency, 'amount', t.amount, 'transaction_hash', t.transaction_hash,
            'timestamp', canton.iso(t.processed_at))
    end
$$;

create function canton.publish_transfer() returns trigger language plpgsql as $$
begin
    perform canton.publish('account_notifications/' || new.account_id, canton.transfer_event(new));
    return null;
end
$$;

create trigger publish after insert on canton.transfers
    for each row execute function canton.publish_transfer();

-- compliance_events and system_health: the message is written as it is to be sent ----------------------------

create table canton.announcements (
    announcement_id bigint primary key,
    channel         text not null check (channel in ('compliance_events', 'system_health')),
    message         json not null
);

create function canton.publish_announcement() returns trigger language plpgsql as $$
begin
    perform canton.publish(new.channel, new.message);
    return null;
end
$$;

create trigger publish after insert on canton.announcements
    for each row execute function canton.publish_announcement();
